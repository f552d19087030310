//! Strategic merge patch: a merge patch that knows, by the schema, how lists of built-in types merge.

use serde_json::{Map, Value};

use crate::field::go;
use crate::json;
use crate::schema::{Node, Strategic, any};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Why a patch is refused, by how that is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is written wrongly.
    Format(&'static str),
    /// What it says makes no sense for the object.
    Content(&'static str),
    /// Anything else.
    Other(String),
}

type Merged<T> = Result<T, Refusal>;

/// Applies a patch.
///
/// # Errors
/// When a list item that merges by key lacks its key, or a directive is unknown or does not fit.
pub(crate) fn apply(node: &Node, target: &Value, patch: &Map<String, Value>) -> Merged<Value> {
    let empty = Map::new();
    merge(node, target.as_object().unwrap_or(&empty), patch).map(Value::Object)
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> Refusal {
    let shown = go::print(&Value::Object(patch.clone()));
    Refusal::Other(format!("unknown patch type: {} in map: {shown}", go::print(directive)))
}

fn merge(node: &Node, old: &Map<String, Value>, patch: &Map<String, Value>) -> Merged<Map<String, Value>> {
    match patch.get(DIRECTIVE) {
        Some(directive) if directive == "replace" => {
            let mut out = patch.clone();
            out.shift_remove(DIRECTIVE);
            return Ok(out);
        }
        Some(directive) if directive == "delete" => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(other, patch)),
        None => {}
    }
    let mut out = old.clone();
    retain_keys(&mut out, patch)?;
    // Lists with an order are done first, once.
    let ordered = |key: &str| patch.contains_key(&format!("{ORDER}{key}"));
    for (key, order) in patch.iter().filter_map(|(key, order)| Some((key.strip_prefix(ORDER)?, order))) {
        let Value::Array(order) = order else {
            let got = match order {
                Value::Object(_) => "map[string]interface {}",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "int64",
            };
            return Err(Refusal::Other(format!("expected a []interface {{}}, but received a {got}")));
        };
        in_wanted_order(node, &mut out, key, patch.get(key), order)?;
    }
    for (key, value) in patch {
        if key == RETAIN_KEYS || key.starts_with(ORDER) || ordered(key) {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from(&mut out, field, value);
        } else if value.is_null() {
            out.shift_remove(key);
        } else {
            match merge_field(node, key, out.get(key), value)? {
                Some(merged) => out.insert(key.clone(), merged),
                None => out.shift_remove(key),
            };
        }
    }
    Ok(out)
}

/// Drops the fields that a patch does not name among those to be kept.
fn retain_keys(out: &mut Map<String, Value>, patch: &Map<String, Value>) -> Merged<()> {
    let Some(keep) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let refused = Refusal::Format("invalid patch format of retainKeys");
    let Value::Array(keep) = keep else { return Err(refused) };
    let kept = |key: &String| keep.iter().any(|kept| kept == key);
    let directive = |key: &String| key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !kept(key)) {
        return Err(refused);
    }
    out.retain(|key, _| kept(key));
    Ok(())
}

/// Merges a field; `None` where nothing is left of it.
fn merge_field(node: &Node, key: &str, old: Option<&Value>, new: &Value) -> Merged<Option<Value>> {
    let none = Strategic::default();
    let (inner, strategy) = match node.fields.get(key) {
        Some(field) => (field.link.node(), &field.strategic),
        None => (node.values.as_ref().map_or_else(|| any(), |values| values.node()), &none),
    };
    match (old, new) {
        (Some(Value::Object(_)), Value::Object(new)) if strategy.replace => Ok(Some(Value::Object(new.clone()))),
        (Some(Value::Object(old)), Value::Object(new)) => merge(inner, old, new).map(|map| Some(Value::Object(map))),
        (Some(Value::Array(old)), Value::Array(new)) => lists(inner, old, new, strategy).map(|list| Some(list.into())),
        _ => Ok(taken(new)),
    }
}

/// Returns what a patch says of something that is not there: without nulls, and without what carries a directive.
fn taken(new: &Value) -> Option<Value> {
    match new {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Some(Value::Object(kept.filter_map(|(key, value)| Some((key.clone(), taken(value)?))).collect()))
        }
        Value::Array(items) => Some(items.iter().filter_map(taken).collect()),
        other => Some(other.clone()),
    }
}

fn lists(node: &Node, old: &[Value], new: &[Value], strategy: &Strategic) -> Merged<Vec<Value>> {
    if !strategy.merge {
        return Ok(new.to_vec());
    }
    let mut all = old.iter().chain(new);
    if all.clone().any(Value::is_array) {
        return Err(Refusal::Content("lists of lists are not supported"));
    }
    let maps = all.clone().any(Value::is_object);
    if maps && !all.all(Value::is_object) {
        let shown = go::print(&Value::Array(vec![old.to_vec().into(), new.to_vec().into()]));
        return Err(Refusal::Other(format!("list element types are not identical: {shown}")));
    }
    let Some(key) = strategy.key.as_ref().filter(|_| maps) else {
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
    let unkeyed =
        |item: &Value| Refusal::Other(format!("map: {} does not contain declared merge key: {key}", go::print(item)));
    let mut kept = old.to_vec();
    let mut plain: Vec<(&Value, &Map<String, Value>)> = Vec::new();
    let mut replace = false;
    for item in new {
        let Value::Object(map) = item else { continue };
        match map.get(DIRECTIVE) {
            None => plain.push((item, map)),
            Some(directive) if directive == "replace" => replace = true,
            Some(directive) if directive == "delete" => {
                let id = map.get(key).ok_or_else(|| unkeyed(item))?;
                kept.retain(|known| !known.get(key).is_some_and(|known| json::same(known, id)));
            }
            Some(directive) if directive == "merge" => {
                return Err(Refusal::Other("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some(other) => return Err(unknown_directive(other, map)),
        }
    }
    if replace {
        return Ok(plain.into_iter().map(|(item, _)| item.clone()).collect());
    }
    let mut patched: Vec<Value> = Vec::new();
    for (item, map) in plain {
        let id = map.get(key).ok_or_else(|| unkeyed(item))?;
        let same = |known: &Value| known.get(key).is_some_and(|known| json::same(known, id));
        let again = patched.iter().position(same);
        let known = match again {
            Some(at) => Some(patched[at].clone()),
            None => kept.iter().find(|known| same(known)).cloned(),
        };
        kept.retain(|known| !same(known));
        let merged = match known.as_ref().and_then(Value::as_object) {
            Some(known) => Value::Object(merge(items, known, map)?),
            None => item.clone(),
        };
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

/// Merges a list and brings the items that an order names into that order; others stay before those that came after
/// them.
fn in_wanted_order(
    node: &Node,
    out: &mut Map<String, Value>,
    field: &str,
    patch: Option<&Value>,
    order: &[Value],
) -> Merged<()> {
    let key = node.fields.get(field).and_then(|field| field.strategic.key.clone());
    let key = key.as_deref();
    let new = patch.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let same = |a: &Value, b: &Value| json::same(&id_of(a, key), &id_of(b, key));
    let mut wanted = order.iter();
    let mut named = new.iter().filter(|item| item.get(DIRECTIVE).is_none());
    if named.any(|item| !wanted.any(|wanted| same(wanted, item))) {
        let (new, order) = (go::print(&new.to_vec().into()), go::print(&order.to_vec().into()));
        return Err(Refusal::Other(format!(
            "The order in patch list:\n{new}\n doesn't match $setElementOrder list:\n{order}\n"
        )));
    }
    let old = out.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(patch) = patch {
        match merge_field(node, field, out.get(field), patch)? {
            Some(merged) => out.insert(field.to_owned(), merged),
            None => out.shift_remove(field),
        };
    }
    let Some(Value::Array(items)) = out.get_mut(field) else { return Ok(()) };
    let rank = |item: &Value| order.iter().position(|wanted| same(wanted, item));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        std::mem::take(items).into_iter().partition(|item| rank(item).is_some());
    named.sort_by_key(|item| rank(item));
    *items = in_order(others, named, &old, key);
    Ok(())
}
