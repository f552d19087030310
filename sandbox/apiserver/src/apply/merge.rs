//! Merging an applied object into the one that is there, and taking fields out again.

use serde_json::{Map, Value};

use super::fieldset::{FieldSet, item_step};
use crate::schema::{ListType, Place};

/// Merges an applied value over the one that is there.
pub(crate) fn merge(place: Place<'_>, live: &Value, applied: &Value) -> Value {
    match (live, applied) {
        (Value::Object(old), Value::Object(new)) if !place.atomic() => {
            let mut out = old.clone();
            for (key, item) in new {
                let inner = place.field(key).unwrap_or_else(|| Place::of(crate::kinds::anything()));
                let merged = match old.get(key) {
                    Some(old) => merge(inner, old, item),
                    None => item.clone(),
                };
                out.insert(key.clone(), merged);
            }
            Value::Object(out)
        }
        (Value::Array(old), Value::Array(new)) if *place.list() != ListType::Atomic => lists(place, old, new),
        // Null says nothing about what a map or list holds.
        (Value::Object(old), Value::Null) if !old.is_empty() && !place.atomic() => live.clone(),
        (Value::Array(old), Value::Null) if !old.is_empty() && *place.list() != ListType::Atomic => live.clone(),
        _ => applied.clone(),
    }
}

/// Merges lists whose items have an identity: the applied order decides for its items, others keep their neighbours.
fn lists(place: Place<'_>, old: &[Value], new: &[Value]) -> Value {
    let steps = |items: &[Value]| -> Vec<(String, Value)> {
        items.iter().filter_map(|item| Some((item_step(place, item)?, item.clone()))).collect()
    };
    let (left, right) = (steps(old), steps(new));
    let find = |list: &[(String, Value)], step: &str| list.iter().find(|(s, _)| s == step).map(|(_, v)| v.clone());
    let mut shared: std::collections::VecDeque<&String> =
        right.iter().map(|(step, _)| step).filter(|step| find(&left, step).is_some()).collect();
    let mut next = shared.pop_front();
    let mut taken: Vec<&String> = Vec::new();
    let mut out = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((old_step, old_item)), Some((new_step, new_item))) = (left.get(l), right.get(r)) {
            if old_step == new_step {
                out.push(merge(place.items(), old_item, new_item));
                taken.push(new_step);
                (l, r) = (l + 1, r + 1);
                next = shared.pop_front();
                continue;
            }
            if find(&right, old_step).is_some() && next.is_some_and(|next| next != old_step) {
                l += 1;
                continue;
            }
        }
        if let Some((step, item)) = left.get(l) {
            if find(&right, step).is_none() {
                out.push(item.clone());
                l += 1;
                continue;
            }
            if taken.contains(&step) {
                l += 1;
            }
        }
        if let Some((step, item)) = right.get(r) {
            out.push(match find(&left, step) {
                Some(old) => merge(place.items(), &old, item),
                None => item.clone(),
            });
            taken.push(step);
            r += 1;
            if next == Some(step) {
                next = shared.pop_front();
            }
        }
    }
    Value::Array(out)
}

/// Takes fields out of a value; what is left empty by it becomes null.
pub(crate) fn remove(place: Place<'_>, value: &Value, set: &FieldSet) -> Value {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut out = Map::new();
            for (key, item) in map {
                let kept = match set.children.get(&format!("f:{key}")) {
                    Some(child) if child.own => continue,
                    Some(child) => {
                        let inner = place.field(key).unwrap_or_else(|| Place::of(crate::kinds::anything()));
                        remove(inner, item, child)
                    }
                    None => item.clone(),
                };
                // A list that lost its last item goes, a map that lost its last field stays.
                if !(kept.is_null() && item.is_array()) {
                    out.insert(key.clone(), kept);
                }
            }
            Value::Object(out)
        }
        Value::Array(items) if !items.is_empty() && *place.list() != ListType::Atomic => {
            let mut out = Vec::new();
            for item in items {
                let child = item_step(place, item).and_then(|step| set.children.get(&step));
                match child {
                    Some(child) if child.own => {}
                    Some(child) => out.push(remove(place.items(), item, child)),
                    None => out.push(item.clone()),
                }
            }
            if out.is_empty() { Value::Null } else { Value::Array(out) }
        }
        other => other.clone(),
    }
}
