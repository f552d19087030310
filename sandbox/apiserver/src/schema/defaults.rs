//! Defaults of custom resources, and the nulls that they replace.

use serde_json::{Map, Value};

use super::Node;

/// Fills in what the schema defaults, where the parent object is there.
pub(crate) fn apply(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, field) in &node.fields {
                let inner = field.link.node();
                let Some(default) = &inner.default else { continue };
                let absent = match map.get(key) {
                    None => true,
                    Some(Value::Null) => !inner.nullable,
                    Some(_) => false,
                };
                if absent {
                    map.insert(key.clone(), default.clone());
                }
            }
            for (key, item) in map.iter_mut() {
                if let Some(inner) = inner(node, key) {
                    if let (Value::Null, false, Some(default)) = (&*item, inner.nullable, &inner.default) {
                        *item = default.clone();
                    }
                    apply(inner, item);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = &node.items {
                for item in items.iter_mut() {
                    apply(inner.node(), item);
                }
            }
        }
        _ => {}
    }
}

/// Drops nulls of fields that may not be null and have no default.
pub(crate) fn drop_nulls(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, item| !item.is_null() || keeps_null(node, key));
            for (key, item) in map.iter_mut() {
                if let Some(inner) = inner(node, key) {
                    drop_nulls(inner, item);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = &node.items {
                for item in items.iter_mut() {
                    drop_nulls(inner.node(), item);
                }
            }
        }
        _ => {}
    }
}

fn keeps_null(node: &Node, key: &str) -> bool {
    match node.fields.get(key) {
        Some(field) => field.link.node().nullable,
        None => node.values.as_ref().map_or(node.preserve, |values| values.node().nullable),
    }
}

fn inner<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match node.fields.get(key) {
        Some(field) => Some(field.link.node()),
        None => node.values.as_ref().map(super::Link::node),
    }
}

/// Fills in the keys of list-map items, without which they cannot be told apart.
pub(crate) fn list_keys(items: &Node, keys: &[String], item: &mut Map<String, Value>) {
    for key in keys {
        if !item.contains_key(key)
            && let Some(default) = items.fields.get(key).and_then(super::Field::key_left_out)
        {
            item.insert(key.clone(), default);
        }
    }
}
