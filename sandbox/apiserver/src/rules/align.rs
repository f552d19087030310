//! Which item of a list was which before: items of lists with keys are the same where their keys are, and sets are
//! the same in any order.

use serde_json::Value;

use crate::json;

/// A new and an old object whose lists with keys have their common items at the same places.
#[derive(Debug)]
pub(super) struct Aligned {
    pub(super) new: Value,
    pub(super) old: Value,
    /// For the path of each list that was reordered: where its items were given.
    moved: Vec<(String, Vec<usize>)>,
}

impl Aligned {
    /// Returns a path as it was given.
    pub(super) fn given(&self, path: &str) -> String {
        let mut out = String::new();
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('[') {
            out.push_str(before);
            let (index, tail) = after.split_once(']').unwrap_or((after, ""));
            let order = self.moved.iter().find(|(list, _)| *list == out).map(|(_, order)| order);
            let place = index.parse::<usize>().ok().and_then(|index| order?.get(index));
            let place = place.map_or_else(|| index.to_owned(), ToString::to_string);
            out.extend(["[", &place, "]"]);
            rest = tail;
        }
        out + rest
    }
}

/// Aligns two objects; nothing where all items are at their places already.
pub(super) fn align(schema: &Value, new: &Value, old: &Value) -> Option<Aligned> {
    let mut out = Aligned { new: new.clone(), old: old.clone(), moved: Vec::new() };
    let mut changed = false;
    walk(schema, &mut out.new, &mut out.old, "", &mut out.moved, &mut changed);
    changed.then_some(out)
}

/// Tells whether two sets have the same members in another order.
fn same_members(new: &[Value], old: &[Value]) -> bool {
    new != old && new.len() == old.len() && new.iter().all(|item| old.contains(item))
}

fn walk(
    schema: &Value,
    new: &mut Value,
    old: &mut Value,
    path: &str,
    moved: &mut Vec<(String, Vec<usize>)>,
    changed: &mut bool,
) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            for (key, item) in new.iter_mut() {
                let Some(before) = old.get_mut(key) else { continue };
                let inner = schema.get("properties").and_then(|fields| fields.get(key));
                let Some(inner) = inner.or_else(|| schema.get("additionalProperties")) else { continue };
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(inner, item, before, &at, moved, changed);
            }
        }
        (Value::Array(new), Value::Array(old)) => {
            let Some(items) = schema.get("items") else { return };
            let keys = json::list(schema, &["x-kubernetes-list-map-keys"]);
            if json::text(schema, &["x-kubernetes-list-type"]) == "map" && !keys.is_empty() {
                let before = old.clone();
                let order = bring_together(keys, new, old);
                *changed |= *old != before || order.iter().enumerate().any(|(index, place)| index != *place);
                moved.push((path.to_owned(), order));
            }
            if json::text(schema, &["x-kubernetes-list-type"]) == "set" && same_members(new, old) {
                old.clone_from(new);
                *changed = true;
            }
            for (index, item) in new.iter_mut().enumerate() {
                if let Some(before) = old.get_mut(index) {
                    // Inner lists are named by the place at which the item was given.
                    let given = moved.iter().rev().find(|(list, _)| list == path);
                    let given = given.and_then(|(_, order)| order.get(index)).copied().unwrap_or(index);
                    walk(items, item, before, &format!("{path}[{given}]"), moved, changed);
                }
            }
        }
        _ => {}
    }
}

/// Puts items that both lists have first, in the order of the new one, and drops what only the old one has. Answers
/// where each new item was.
fn bring_together(keys: &[Value], new: &mut Vec<Value>, old: &mut Vec<Value>) -> Vec<usize> {
    let key = |item: &Value| -> Vec<Value> {
        keys.iter().filter_map(Value::as_str).map(|key| item.get(key).cloned().unwrap_or_default()).collect()
    };
    let known: Vec<Option<usize>> =
        new.iter().map(|item| old.iter().position(|before| key(before) == key(item))).collect();
    let mut order: Vec<usize> = (0..new.len()).collect();
    order.sort_by_key(|place| known.get(*place).copied().flatten().is_none());
    let olds: Vec<Value> =
        order.iter().filter_map(|place| old.get(known.get(*place).copied().flatten()?).cloned()).collect();
    let news: Vec<Value> = order.iter().filter_map(|place| new.get(*place).cloned()).collect();
    *new = news;
    *old = olds;
    order
}

/// Writes a path as errors do: keys of maps stand in brackets.
pub(super) fn shown(schema: &Value, path: &str) -> String {
    let mut here = Some(schema);
    let mut out = String::new();
    for step in path.split('.') {
        let (name, index) = step.split_once('[').map_or((step, ""), |(name, _)| (name, &step[name.len()..]));
        let field = here.and_then(|schema| schema.get("properties")?.get(name));
        let values = here.and_then(|schema| schema.get("additionalProperties")).filter(|values| values.is_object());
        match (field, values) {
            (None, Some(values)) => {
                out.extend(["[", name, "]"]);
                here = Some(values);
            }
            (field, _) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
                here = field;
            }
        }
        out.push_str(index);
        for _ in 0..index.matches('[').count() {
            here = here.and_then(|schema| schema.get("items"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_with_keys_meet_their_former_selves() {
        let list = json!({
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"properties": {"k": {}, "v": {}}},
        });
        let schema = json!({"properties": {"l": list, "m": {"additionalProperties": {"type": "integer"}}}});
        let new = json!({"l": [{"k": "b", "v": 1}, {"k": "a", "v": 3}]});
        let old = json!({"l": [{"k": "a", "v": 2}]});
        let aligned = align(&schema, &new, &old).unwrap();
        assert_eq!(aligned.new["l"][0], json!({"k": "a", "v": 3}));
        assert_eq!(aligned.given("l[0].v"), "l[1].v");
        // An old list that alone was in another order, or that lost all its items, is aligned too.
        let old = json!({"l": [{"k": "a", "v": 2}, {"k": "b", "v": 5}]});
        assert_eq!(align(&schema, &new, &old).unwrap().old["l"][0], json!({"k": "b", "v": 5}));
        let new = json!({"l": [{"k": "z", "v": 1}]});
        assert_eq!(align(&schema, &new, &old).unwrap().old["l"], json!([]));
        assert_eq!(shown(&schema, "m.x"), "m[x]");
        assert_eq!(shown(&schema, "l[1].v"), "l[1].v");
    }

    #[test]
    fn a_set_is_the_same_in_any_order() {
        let schema = json!({"properties": {"s": {"type": "array", "x-kubernetes-list-type": "set", "items": {}}}});
        let new = json!({"s": ["b", "a"]});
        assert_eq!(align(&schema, &new, &json!({"s": ["a", "b"]})).unwrap().old, new);
        assert!(align(&schema, &new, &json!({"s": ["a", "c"]})).is_none());
    }
}
