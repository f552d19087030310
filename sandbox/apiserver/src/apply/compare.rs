//! What changed between two objects, as sets of fields.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fieldset::{FieldSet, item_step};
use crate::json;
use crate::schema::{ListType, Place};

/// The fields that differ between two objects.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Comparison {
    /// Leaves out fields (and all below them).
    pub(crate) fn without(&self, other: &FieldSet) -> Self {
        Self {
            added: self.added.without(other),
            modified: self.modified.without(other),
            removed: self.removed.without(other),
        }
    }
}

/// Compares two objects of one schema.
pub(crate) fn compare(place: Place<'_>, old: &Value, new: &Value) -> Comparison {
    let mut out = Comparison::default();
    let mut path = Vec::new();
    walk(place, Some(old), Some(new), &mut path, &mut out);
    for set in [&mut out.added, &mut out.modified, &mut out.removed] {
        set.own = false;
        set.trim();
    }
    out
}

fn mark(set: &mut FieldSet, path: &[String]) {
    path.iter().fold(set, |set, step| set.below(step.clone())).own = true;
}

fn leaf(old: Option<&Value>, new: Option<&Value>, path: &[String], out: &mut Comparison) {
    match (old, new) {
        (None, Some(_)) => mark(&mut out.added, path),
        (Some(_), None) => mark(&mut out.removed, path),
        (Some(old), Some(new)) if !json::same(old, new) => mark(&mut out.modified, path),
        _ => {}
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn walk(place: Place<'_>, old: Option<&Value>, new: Option<&Value>, path: &mut Vec<String>, out: &mut Comparison) {
    let shape = |value: Option<&Value>| match value {
        None | Some(Value::Null) => None,
        Some(value) => Some((value.is_object(), value.is_array())),
    };
    let (was, is) = (shape(old), shape(new));
    let mixed = was.is_some() && is.is_some() && was != is;
    let kind = is.or(was);
    match kind {
        _ if mixed => leaf(old, new, path, out),
        Some((true, _)) if !(place.atomic() || is_empty(old) && is_empty(new)) => {
            objects(place, old, new, path, out);
            whole(old, new, path, out);
        }
        Some((_, true)) if *place.list() != ListType::Atomic && !(is_empty(old) && is_empty(new)) => {
            lists(place, old, new, path, out);
            whole(old, new, path, out);
        }
        _ => leaf(old, new, path, out),
    }
}

/// Marks a branch that came or went as a whole.
fn whole(old: Option<&Value>, new: Option<&Value>, path: &[String], out: &mut Comparison) {
    match (old, new) {
        (None, Some(_)) => mark(&mut out.added, path),
        (Some(_), None) => mark(&mut out.removed, path),
        _ => {}
    }
}

fn objects(place: Place<'_>, old: Option<&Value>, new: Option<&Value>, path: &mut Vec<String>, out: &mut Comparison) {
    let fields = |value: Option<&Value>| -> Vec<String> {
        value.and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    let keys: BTreeSet<String> = fields(old).into_iter().chain(fields(new)).collect();
    for key in keys {
        let inner = place.field(&key).unwrap_or_else(|| Place::of(crate::kinds::anything()));
        path.push(format!("f:{key}"));
        walk(inner, old.and_then(|v| v.get(&key)), new.and_then(|v| v.get(&key)), path, out);
        path.pop();
    }
}

fn lists(place: Place<'_>, old: Option<&Value>, new: Option<&Value>, path: &mut Vec<String>, out: &mut Comparison) {
    let index = |value: Option<&Value>| -> Vec<(String, Value)> {
        let items = value.and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| Some((item_step(place, item)?, item.clone()))).collect()
    };
    let (old, new) = (index(old), index(new));
    let find = |list: &[(String, Value)], step: &str| -> Vec<Value> {
        list.iter().filter(|(s, _)| s == step).map(|(_, v)| v.clone()).collect()
    };
    let steps: BTreeSet<&String> = old.iter().chain(&new).map(|(step, _)| step).collect();
    for step in steps {
        path.push(step.clone());
        // Items that cannot be told apart are owned as one.
        match (find(&old, step).as_slice(), find(&new, step).as_slice()) {
            (was @ [_, _, ..], is @ [_, _, ..]) => {
                if was.len() != is.len() || !was.iter().zip(is).all(|(was, is)| json::same(was, is)) {
                    mark(&mut out.modified, path);
                }
            }
            ([_, _, ..], is) => {
                if let [is] = is {
                    walk(place.items(), None, Some(is), path, out);
                }
                mark(&mut out.removed, path);
            }
            (was, [_, _, ..]) => {
                if let [was] = was {
                    walk(place.items(), Some(was), None, path, out);
                }
                mark(&mut out.added, path);
            }
            (was, is) => walk(place.items(), was.first(), is.first(), path, out),
        }
        path.pop();
    }
}
