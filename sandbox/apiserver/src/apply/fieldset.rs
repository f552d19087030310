//! Sets of fields, in memory and in the form of `fieldsV1`.
//!
//! A step of a path is kept as `fieldsV1` writes it: `f:name`, `k:{"key":"value"}`, `v:"value"`, `i:0`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::schema::{ListType, Place, defaults};

/// A set of fields: whether the field itself is in it, and which fields below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    pub(crate) own: bool,
    pub(crate) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Reads `fieldsV1`.
    pub(crate) fn parse(value: &Value) -> Self {
        let mut out = Self { own: false, children: BTreeMap::new() };
        for (step, inner) in value.as_object().into_iter().flatten() {
            if step == "." {
                out.own = true;
            } else {
                let mut child = Self::parse(inner);
                child.own |= child.children.is_empty();
                out.children.insert(canonical(step), child);
            }
        }
        out
    }

    /// Writes `fieldsV1`.
    pub(crate) fn to_value(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            map.insert(step.clone(), child.to_value());
        }
        Value::Object(map)
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.children.values().all(Self::is_empty)
    }

    /// Returns the set below a step, made where it is not there.
    pub(crate) fn below(&mut self, step: String) -> &mut Self {
        self.children.entry(step).or_default()
    }

    /// Drops branches that hold nothing.
    pub(crate) fn trim(&mut self) {
        self.children.values_mut().for_each(Self::trim);
        self.children.retain(|_, child| !child.is_empty());
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.own |= other.own;
        for (step, theirs) in &other.children {
            let merged = match out.children.get(step) {
                Some(ours) => ours.union(theirs),
                None => theirs.clone(),
            };
            out.children.insert(step.clone(), merged);
        }
        out
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut out = Self { own: self.own && other.own, children: BTreeMap::new() };
        for (step, ours) in &self.children {
            if let Some(theirs) = other.children.get(step) {
                out.children.insert(step.clone(), ours.intersection(theirs));
            }
        }
        out.trim();
        out
    }

    /// Leaves out the fields of another set; fields below them stay.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let mut out = Self { own: self.own && !other.own, children: BTreeMap::new() };
        for (step, ours) in &self.children {
            let left = match other.children.get(step) {
                Some(theirs) => ours.difference(theirs),
                None => ours.clone(),
            };
            out.children.insert(step.clone(), left);
        }
        out.trim();
        out
    }

    /// Leaves out the fields of another set and all fields below them.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut out = Self { own: self.own && !other.own, children: BTreeMap::new() };
        for (step, ours) in &self.children {
            match other.children.get(step) {
                Some(theirs) if theirs.own => {}
                Some(theirs) => {
                    out.children.insert(step.clone(), ours.without(theirs));
                }
                None => {
                    out.children.insert(step.clone(), ours.clone());
                }
            }
        }
        out.trim();
        out
    }

    /// Adds the struct fields under which fields of the set are.
    pub(crate) fn with_named_fields(&self, place: Place<'_>) -> Self {
        let mut out = Self { own: self.own, children: BTreeMap::new() };
        for (step, child) in &self.children {
            let (inner, named) = descend(place, step);
            let mut child = child.with_named_fields(inner);
            child.own |= named && !child.children.is_empty();
            out.children.insert(step.clone(), child);
        }
        out
    }

    /// Lists the paths as conflicts name them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, path: &str, out: &mut Vec<String>) {
        if self.own {
            out.push(path.to_owned());
        }
        for (step, child) in &self.children {
            child.collect(&format!("{path}{}", shown(step)), out);
        }
    }

    /// Makes a set of paths of struct fields, for the fields that the server resets.
    pub(crate) fn of_paths(paths: &[&[&str]]) -> Self {
        let mut out = Self::default();
        for path in paths {
            path.iter().fold(&mut out, |set, key| set.below(format!("f:{key}"))).own = true;
        }
        out
    }
}

/// Finds the schema below a step, and whether the step is a named field.
pub(crate) fn descend<'a>(place: Place<'a>, step: &str) -> (Place<'a>, bool) {
    match step.split_once(':') {
        Some(("f", key)) => {
            let inner = place.field(key).unwrap_or_else(|| Place::of(crate::kinds::anything()));
            (inner, place.node.fields.contains_key(key))
        }
        _ => (place.items(), false),
    }
}

/// Brings a step that came from elsewhere into the form that is compared here.
fn canonical(step: &str) -> String {
    match step.split_once(':') {
        Some((kind @ ("k" | "v"), text)) => match serde_json::from_str::<Value>(text) {
            Ok(value) => format!("{kind}:{}", sorted(&value)),
            Err(_) => step.to_owned(),
        },
        _ => step.to_owned(),
    }
}

/// Writes a value as JSON with sorted keys.
pub(crate) fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            serde_json::to_string(&sorted).unwrap_or_default()
        }
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn shown(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", key)) => format!(".{key}"),
        Some(("k", text)) => match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(keys)) => {
                let parts: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", parts.join(","))
            }
            _ => step.to_owned(),
        },
        Some(("v", text)) => format!("[={text}]"),
        Some(("i", index)) => format!("[{index}]"),
        _ => step.to_owned(),
    }
}

/// Makes the step of a list item; `None` where the item lacks a key.
pub(crate) fn item_step(place: Place<'_>, item: &Value) -> Option<String> {
    match place.list() {
        ListType::Set => Some(format!("v:{}", sorted(item))),
        ListType::Map(keys) => {
            let mut map = Map::new();
            let mut full = item.as_object()?.clone();
            defaults::list_keys(place.items().node, keys, &mut full);
            for key in keys {
                if let Some(value) = full.get(key) {
                    map.insert(key.clone(), value.clone());
                }
            }
            (!map.is_empty()).then(|| format!("k:{}", sorted(&Value::Object(map))))
        }
        ListType::Atomic => None,
    }
}

/// Returns the fields of an applied object.
pub(crate) fn of_applied(place: Place<'_>, value: &Value) -> FieldSet {
    let mut out = FieldSet::default();
    collect(place, value, &mut out);
    out
}

fn collect(place: Place<'_>, value: &Value, set: &mut FieldSet) {
    match value {
        Value::Object(_) if place.atomic() => set.own = true,
        Value::Object(map) => {
            for (key, item) in map {
                let named = place.node.fields.contains_key(key);
                let inner = place.field(key).unwrap_or_else(|| Place::of(crate::kinds::anything()));
                let child = set.below(format!("f:{key}"));
                collect(inner, item, child);
                let empty = item.is_null() || item.as_object().is_some_and(Map::is_empty);
                child.own |= empty || !named;
            }
        }
        Value::Array(_) if *place.list() == ListType::Atomic => set.own = true,
        Value::Array(items) => {
            for item in items {
                if let Some(step) = item_step(place, item) {
                    let child = set.below(step);
                    collect(place.items(), item, child);
                    child.own = true;
                }
            }
        }
        Value::Null => {}
        _ => set.own = true,
    }
    set.trim();
}
