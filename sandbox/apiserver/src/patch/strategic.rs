//! Strategic merge patch: a merge patch that knows, by the schema, how lists of built-in types merge.

use serde_json::{Map, Value};

use crate::field::go;
use crate::json;
use crate::schema::{Node, Strategic, any};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Applies a patch.
///
/// # Errors
/// When a list item that merges by key lacks its key, or a directive is unknown.
pub(crate) fn apply(node: &Node, target: &Value, patch: &Map<String, Value>) -> Result<Value, String> {
    let empty = Map::new();
    let old = target.as_object().unwrap_or(&empty);
    merge(node, old, patch, &Strategic::default()).map(Value::Object)
}

fn merge(
    node: &Node,
    old: &Map<String, Value>,
    patch: &Map<String, Value>,
    strategy: &Strategic,
) -> Result<Map<String, Value>, String> {
    match patch.get(DIRECTIVE).and_then(Value::as_str) {
        Some("replace") => {
            let mut out = patch.clone();
            out.shift_remove(DIRECTIVE);
            return Ok(out);
        }
        Some("delete") => return Ok(Map::new()),
        Some("merge") | None => {}
        Some(other) => {
            let shown = go::print(&Value::Object(patch.clone()));
            return Err(format!("unknown patch type: {other} in map: {shown}"));
        }
    }
    if strategy.replace {
        return Ok(patch.clone());
    }
    let mut out = old.clone();
    if let Some(keep) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        out.retain(|key, _| keep.iter().any(|kept| kept == key));
    }
    for (key, value) in patch {
        if key == DIRECTIVE || key == RETAIN_KEYS {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from(&mut out, field, value);
        } else if let Some(field) = key.strip_prefix(ORDER) {
            let list_key = node.fields.get(field).and_then(|field| field.strategic.key.as_deref());
            if !patch.contains_key(field) {
                reorder(&mut out, field, value, list_key);
            }
        } else if value.is_null() {
            out.shift_remove(key);
        } else {
            let merged = merge_field(node, key, out.get(key), value)?;
            out.insert(key.clone(), merged);
        }
        if let Some(order) = patch.get(&format!("{ORDER}{key}")) {
            let list_key = node.fields.get(key).and_then(|field| field.strategic.key.as_deref());
            reorder(&mut out, key, order, list_key);
        }
    }
    Ok(out)
}

fn merge_field(node: &Node, key: &str, old: Option<&Value>, new: &Value) -> Result<Value, String> {
    let none = Strategic::default();
    let (inner, strategy) = match node.fields.get(key) {
        Some(field) => (field.link.node(), &field.strategic),
        None => (node.values.as_ref().map_or_else(|| any(), |values| values.node()), &none),
    };
    let empty = Map::new();
    match (old, new) {
        (old, Value::Object(new)) => {
            let old = old.and_then(Value::as_object).unwrap_or(&empty);
            merge(inner, old, new, strategy).map(Value::Object)
        }
        (old, Value::Array(new)) => {
            let old = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            lists(inner, old, new, strategy).map(Value::Array)
        }
        _ => Ok(new.clone()),
    }
}

fn lists(node: &Node, old: &[Value], new: &[Value], strategy: &Strategic) -> Result<Vec<Value>, String> {
    let directive = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str).map(String::from);
    let plain =
        |items: &[Value]| -> Vec<Value> { items.iter().filter(|item| directive(item).is_none()).cloned().collect() };
    if new.iter().any(|item| directive(item).as_deref() == Some("replace")) || !strategy.merge {
        return Ok(plain(new));
    }
    let Some(key) = &strategy.key else {
        let fresh = new.iter().filter(|item| !old.iter().any(|known| json::same(known, item))).cloned();
        return Ok(fresh.chain(old.iter().cloned()).collect());
    };
    let items = node.items.as_ref().map_or_else(|| any(), |items| items.node());
    let mut kept = old.to_vec();
    let mut fresh = Vec::new();
    for item in new {
        let id = item
            .get(key)
            .ok_or_else(|| format!("map: {} does not contain declared merge key: {key}", go::print(item)))?;
        let same = |known: &Value| known.get(key).is_some_and(|known| json::same(known, id));
        match directive(item).as_deref() {
            Some("delete") => kept.retain(|known| !same(known)),
            _ => {
                let empty = Map::new();
                let patch = item.as_object().unwrap_or(&empty);
                match kept.iter_mut().find(|known| same(known)) {
                    Some(known) => {
                        let old = known.as_object().unwrap_or(&empty);
                        *known = Value::Object(merge(items, old, patch, &Strategic::default())?);
                    }
                    None => fresh.push(Value::Object(merge(items, &empty, patch, &Strategic::default())?)),
                }
            }
        }
    }
    // The order of the patch decides for its items; those it does not name keep their places after new ones.
    fresh.extend(kept);
    Ok(in_patch_order(fresh, new, key))
}

fn in_patch_order(items: Vec<Value>, patch: &[Value], key: &str) -> Vec<Value> {
    let rank = |item: &Value| patch.iter().position(|p| p.get(key).is_some_and(|id| item.get(key) == Some(id)));
    let mut ranked: Vec<Value> = items.iter().filter(|item| rank(item).is_some()).cloned().collect();
    ranked.sort_by_key(|item| rank(item));
    let mut ranked = ranked.into_iter();
    items.into_iter().map(|item| if rank(&item).is_some() { ranked.next().unwrap_or(item) } else { item }).collect()
}

fn delete_from(out: &mut Map<String, Value>, field: &str, gone: &Value) {
    let Some(Value::Array(items)) = out.get_mut(field) else { return };
    let gone = gone.as_array().map_or(&[][..], Vec::as_slice);
    items.retain(|item| !gone.iter().any(|gone| json::same(gone, item)));
    if items.is_empty() {
        out.shift_remove(field);
    }
}

/// Brings the items that an order names into that order; others stay before the next named one.
fn reorder(out: &mut Map<String, Value>, field: &str, order: &Value, key: Option<&str>) {
    let Some(Value::Array(items)) = out.get_mut(field) else { return };
    let order = order.as_array().map_or(&[][..], Vec::as_slice);
    let id = |value: &Value| match key {
        Some(key) => value.get(key).cloned().unwrap_or_default(),
        None => value.clone(),
    };
    let rank = |item: &Value| order.iter().position(|wanted| json::same(&id(wanted), &id(item)));
    let mut named: Vec<Value> = items.iter().filter(|item| rank(item).is_some()).cloned().collect();
    named.sort_by_key(|item| rank(item));
    let mut named = named.into_iter();
    for item in items.iter_mut() {
        if rank(item).is_some()
            && let Some(next) = named.next()
        {
            *item = next;
        }
    }
}
