//! Whether an object in the cluster still is what we made it, and what to do when it is not. Pure.
//!
//! A live object has more fields than were asked for: defaults, status, what controllers add. So it is **projected** onto
//! the shape of what was asked for, and the projection is compared by its hash with the one taken right after our own
//! write. Values that the server writes in another form than we did (quantities, defaults inside lists) are thus no drift.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::v1::IgnoredField;
use serde_json::{Map, Value};

use super::object::Key;

/// A field that is contested this often …
const CONTESTS_MAX: usize = 3;

/// … within this time is left alone. Shorter fights on for ever; longer gives up on what a person did by hand twice.
const CONTESTS_WITHIN: Duration = Duration::from_mins(10);

/// Reduces `live` to the fields that `desired` has. `None` where the live object lacks one.
pub fn project(desired: &Value, live: &Value) -> Value {
    match (desired, live) {
        (Value::Object(wanted), Value::Object(found)) => Value::Object(
            wanted
                .iter()
                .filter(|(_, wanted)| !is_nothing(wanted))
                .map(|(name, wanted)| (name.clone(), project(wanted, found.get(name).unwrap_or(&Value::Null))))
                .collect(),
        ),
        (Value::Array(wanted), Value::Array(found)) => project_list(wanted, found),
        _ => live.clone(),
    }
}

fn project_list(wanted: &[Value], found: &[Value]) -> Value {
    if wanted.iter().all(|item| name_of(item).is_some()) {
        // Items with names merge: what others add beside ours is theirs.
        let of = |name| found.iter().find(|item| name_of(item) == name).unwrap_or(&Value::Null);
        return wanted.iter().map(|item| project(item, of(name_of(item)))).collect();
    }
    let projected = found.iter().enumerate().map(|(at, item)| match wanted.get(at) {
        Some(wanted) => project(wanted, item),
        None => item.clone(),
    });
    projected.collect()
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("name").and_then(Value::as_str)
}

/// Null and empty values: the server does not keep them.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A field that differs from what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where it is: `spec.replicas`, `metadata.labels[app.kubernetes.io/name]`.
    pub path: String,
    /// The live object has no such field.
    pub missing: bool,
}

/// Fields of `live` that differ from `desired`. Best effort, for reports.
pub fn differences(desired: &Value, live: &Value) -> Vec<Difference> {
    let mut paths = Vec::new();
    differ(desired, live, "", &mut paths);
    paths
}

fn differ(desired: &Value, live: &Value, at: &str, paths: &mut Vec<Difference>) {
    match (desired, live) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, wanted) in wanted.iter().filter(|(_, wanted)| !is_nothing(wanted)) {
                let below = match at {
                    "" => name.clone(),
                    // Names with dots (labels, annotations) are written like items.
                    _ if name.contains(['.', '[']) => format!("{at}[{name}]"),
                    _ => format!("{at}.{name}"),
                };
                differ(wanted, found.get(name).unwrap_or(&Value::Null), &below, paths);
            }
        }
        (Value::Array(wanted), Value::Array(found)) => {
            for (place, item) in wanted.iter().enumerate() {
                let name = name_of(item);
                let same = found.iter().find(|other| name.is_some() && name_of(other) == name).or(found.get(place));
                let below = format!("{at}[{}]", name.map_or_else(|| place.to_string(), str::to_owned));
                differ(item, same.unwrap_or(&Value::Null), &below, paths);
            }
        }
        // The server leaves out what is as good as absent.
        (Value::Bool(false), Value::Null) => {}
        (Value::String(text), Value::Null) if text.is_empty() => {}
        (Value::Number(number), Value::Null) if number.as_f64() == Some(0.0) => {}
        (wanted, found) if wanted != found => {
            paths.push(Difference { path: at.to_owned(), missing: found.is_null() });
        }
        _ => {}
    }
}

/// Takes the ignored fields out of an object, for hashing or for a write that must leave them alone.
pub fn without_ignored(key: &Key, value: &mut Value, ignored: &[IgnoredField]) {
    for field in ignored.iter().filter(|field| applies(field, key)) {
        remove(value, &segments(&field.pointer));
    }
}

/// Takes out of what is to be written those ignored fields that somebody set to another value: they are theirs.
pub fn yield_ignored(key: &Key, desired: &mut Value, live: &Value, ignored: &[IgnoredField]) {
    for field in ignored.iter().filter(|field| applies(field, key)) {
        yield_at(desired, live, &segments(&field.pointer));
    }
}

fn applies(field: &IgnoredField, key: &Key) -> bool {
    field.kind == key.kind && (field.name.is_empty() || field.name == key.name)
}

/// Splits a JSON pointer (RFC 6901).
fn segments(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

fn remove(value: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    match value {
        Value::Array(items) if first == "*" => items.iter_mut().for_each(|item| remove(item, rest)),
        Value::Array(items) => {
            if let Some(item) = first.parse().ok().and_then(|at: usize| items.get_mut(at)) {
                remove(item, rest);
            }
        }
        Value::Object(fields) if rest.is_empty() => drop(fields.remove(first)),
        Value::Object(fields) => {
            if let Some(below) = fields.get_mut(first) {
                remove(below, rest);
            }
        }
        _ => {}
    }
}

fn yield_at(desired: &mut Value, live: &Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    match desired {
        Value::Array(items) => {
            let found = live.as_array().map(Vec::as_slice).unwrap_or_default();
            for (at, item) in items.iter_mut().enumerate() {
                if first == "*" || first.parse() == Ok(at) {
                    let named = found.iter().find(|other| name_of(item).is_some() && name_of(other) == name_of(item));
                    yield_at(item, named.or(found.get(at)).unwrap_or(&Value::Null), rest);
                }
            }
        }
        Value::Object(fields) => {
            let found = live.get(first).unwrap_or(&Value::Null);
            if !rest.is_empty() {
                if let Some(below) = fields.get_mut(first) {
                    yield_at(below, found, rest);
                }
            } else if !found.is_null() && fields.get(first).is_some_and(|wanted| wanted != found) {
                fields.remove(first);
            }
        }
        _ => {}
    }
}

/// Takes a contested field out of what is to be written. `path` is one of [`differences`].
pub fn leave_alone(desired: &mut Value, path: &str) {
    let mut at = desired;
    let parts = split(path);
    let Some((last, before)) = parts.split_last() else { return };
    for part in before {
        let Some(next) = step(at, part) else { return };
        at = next;
    }
    if let (Part::Field(name) | Part::Item(name), Value::Object(fields)) = (last, at) {
        fields.remove(*name);
    }
}

/// A step of a path.
enum Part<'a> {
    Field(&'a str),
    Item(&'a str),
}

fn step<'a>(at: &'a mut Value, part: &Part<'_>) -> Option<&'a mut Value> {
    match (part, at) {
        (Part::Field(name) | Part::Item(name), Value::Object(fields)) => fields.get_mut(*name),
        (Part::Item(item), Value::Array(items)) => {
            let named = items.iter().position(|other| name_of(other) == Some(item));
            items.get_mut(named.or_else(|| item.parse().ok())?)
        }
        _ => None,
    }
}

fn split(path: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (item, after) = inside.split_once(']').unwrap_or((inside, ""));
            parts.push(Part::Item(item));
            rest = after.strip_prefix('.').unwrap_or(after);
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            parts.push(Part::Field(&rest[..end]));
            rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
        }
    }
    parts
}

/// Names who last wrote the field at `path`, other than `own`, as `metadata.managedFields` tells it.
pub fn rival(live: &Value, path: &str, own: &str) -> Option<String> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?;
    let others = entries.iter().filter(|entry| entry["manager"].as_str() != Some(own));
    let mut owners: Vec<_> = others.filter(|entry| owns(&entry["fieldsV1"], &split(path))).collect();
    owners.sort_by_key(|entry| entry["time"].as_str().unwrap_or_default().to_owned());
    owners.last().and_then(|entry| entry["manager"].as_str()).map(str::to_owned)
}

/// Whether a `fieldsV1` tree holds the path, or ends above it: owning a whole list or map owns what is in it.
fn owns(fields: &Value, path: &[Part<'_>]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    let Some(tree) = fields.as_object() else { return false };
    if tree.keys().all(|key| key == ".") {
        return true;
    }
    match first {
        Part::Field(name) => tree.get(&format!("f:{name}")).is_some_and(|below| owns(below, rest)),
        Part::Item(item) => {
            let key = format!("k:{{\"name\":\"{item}\"");
            let field = format!("f:{item}");
            tree.iter().any(|(name, below)| (name.starts_with(&key) || *name == field) && owns(below, rest))
        }
    }
}

/// Counts who fights us over what.
#[derive(Clone, Debug, Default)]
pub struct Contests(BTreeMap<(Key, String), Contest>);

#[derive(Clone, Debug, Default)]
struct Contest {
    seen: VecDeque<Timestamp>,
    rival: String,
    lost: bool,
}

impl Contests {
    /// Notes that `rival` changed a field. True if it is to be put back, false if it is left alone from now on.
    pub fn note(&mut self, key: &Key, path: &str, rival: Option<String>, now: Timestamp) -> bool {
        let contest = self.0.entry((key.clone(), path.to_owned())).or_default();
        let recent = |seen: &Timestamp| now.duration_since(*seen).unsigned_abs() < CONTESTS_WITHIN;
        contest.seen.retain(recent);
        contest.seen.push_back(now);
        contest.rival = rival.unwrap_or_else(|| "an unknown manager".to_owned());
        contest.lost |= contest.seen.len() >= CONTESTS_MAX;
        !contest.lost
    }

    /// Fields of an object that are left alone.
    pub fn lost<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |((of, _), contest)| of == key && contest.lost).map(|((_, path), _)| path.as_str())
    }

    /// What is left alone, for the report: `Deployment istio-system/istiod spec.replicas (kube-controller-manager)`.
    pub fn describe(&self) -> Option<String> {
        let lost = self.0.iter().filter(|(_, contest)| contest.lost);
        let said: Vec<_> = lost
            .map(|((key, path), contest)| match path.as_str() {
                "" => format!("{key} ({})", contest.rival),
                path => format!("{key} {path} ({})", contest.rival),
            })
            .collect();
        (!said.is_empty()).then(|| format!("left alone, contested: {}", said.join(", ")))
    }
}

/// What an object without any field looks like; stands for one that is gone.
pub fn nothing() -> Value {
    Value::Object(Map::new())
}

#[cfg(test)]
mod tests;
