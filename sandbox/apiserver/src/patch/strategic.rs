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
                reorder(&mut out, old, field, value, list_key);
            }
        } else if value.is_null() {
            out.shift_remove(key);
        } else {
            let merged = merge_field(node, key, out.get(key), value)?;
            out.insert(key.clone(), merged);
        }
        if let Some(order) = patch.get(&format!("{ORDER}{key}")) {
            let list_key = node.fields.get(key).and_then(|field| field.strategic.key.as_deref());
            reorder(&mut out, old, key, order, list_key);
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
        let named = |item: &Value| new.iter().any(|known| json::same(known, item));
        let mut patched: Vec<Value> = Vec::new();
        for item in new {
            if !patched.contains(item) {
                patched.push(item.clone());
            }
        }
        let kept = old.iter().filter(|item| !named(item)).cloned().collect();
        return Ok(in_order(kept, patched, old, None));
    };
    let items = node.items.as_ref().map_or_else(|| any(), |items| items.node());
    let mut kept = old.to_vec();
    let mut patched: Vec<Value> = Vec::new();
    for item in new {
        let id = item
            .get(key)
            .ok_or_else(|| format!("map: {} does not contain declared merge key: {key}", go::print(item)))?;
        let same = |known: &Value| known.get(key).is_some_and(|known| json::same(known, id));
        if directive(item).as_deref() == Some("delete") {
            kept.retain(|known| !same(known));
            patched.retain(|known| !same(known));
            continue;
        }
        let empty = Map::new();
        let patch = item.as_object().unwrap_or(&empty);
        let again = patched.iter().position(same);
        let known = match again {
            Some(at) => Some(patched[at].clone()),
            None => kept.iter().find(|known| same(known)).cloned(),
        };
        kept.retain(|known| !same(known));
        let known = known.as_ref().and_then(Value::as_object).unwrap_or(&empty);
        let merged = Value::Object(merge(items, known, patch, &Strategic::default())?);
        match again {
            Some(at) => patched[at] = merged,
            None => patched.push(merged),
        }
    }
    Ok(in_order(kept, patched, old, Some(key)))
}

/// Puts what a patch does not name among what it names: an item stays before those that came after it.
fn in_order(kept: Vec<Value>, patched: Vec<Value>, old: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |item: &Value| old.iter().position(|known| json::same(&id_of(known, key), &id_of(item, key)));
    let mut out = Vec::with_capacity(kept.len() + patched.len());
    let (mut kept, mut patched) = (kept.into_iter().peekable(), patched.into_iter().peekable());
    while let (Some(left), Some(right)) = (kept.peek(), patched.peek()) {
        let first = place(left).zip(place(right)).is_some_and(|(left, right)| left < right);
        out.extend(if first { kept.next() } else { patched.next() });
    }
    out.extend(kept);
    out.extend(patched);
    out
}

/// Returns what tells an item of a list from others.
fn id_of(item: &Value, key: Option<&str>) -> Value {
    match key {
        Some(key) => item.get(key).cloned().unwrap_or_default(),
        None => item.clone(),
    }
}

fn delete_from(out: &mut Map<String, Value>, field: &str, gone: &Value) {
    let Some(Value::Array(items)) = out.get_mut(field) else { return };
    let gone = gone.as_array().map_or(&[][..], Vec::as_slice);
    items.retain(|item| !gone.iter().any(|gone| json::same(gone, item)));
    if items.is_empty() {
        out.shift_remove(field);
    }
}

/// Brings the items that an order names into that order; others stay before those that came after them.
fn reorder(out: &mut Map<String, Value>, old: &Map<String, Value>, field: &str, order: &Value, key: Option<&str>) {
    let Some(Value::Array(items)) = out.get_mut(field) else { return };
    let order = order.as_array().map_or(&[][..], Vec::as_slice);
    let old = old.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let rank = |item: &Value| order.iter().position(|wanted| json::same(&id_of(wanted, key), &id_of(item, key)));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        std::mem::take(items).into_iter().partition(|item| rank(item).is_some());
    named.sort_by_key(|item| rank(item));
    *items = in_order(others, named, old, key);
}
