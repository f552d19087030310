//! Patched objects as errors quote them: what a patch touched has its keys in the order of the alphabet, the rest is
//! written as its types declare it.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::json;
use crate::schema::{Node, Place};

/// Fields of the built-in types in the order in which they are declared.
fn declared() -> &'static HashMap<&'static str, Vec<&'static str>> {
    static DECLARED: OnceLock<HashMap<&'static str, Vec<&'static str>>> = OnceLock::new();
    DECLARED.get_or_init(|| {
        let lines = include_str!("../schema/builtin/numbers.txt").lines();
        let types: HashMap<&str, &str> =
            lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' ')).collect();
        types.keys().map(|name| (*name, fields(&types, name))).collect()
    })
}

fn fields(types: &HashMap<&'static str, &'static str>, name: &str) -> Vec<&'static str> {
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    let mut out = Vec::new();
    for word in types.get(name).copied().unwrap_or_default().split(' ') {
        let field = word.split(':').next().unwrap_or_default();
        match field.strip_prefix('+') {
            Some(inner) if inner != name => out.extend(fields(types, &format!("{package}.{inner}"))),
            _ => out.push(field),
        }
    }
    out
}

/// Writes a patched object of a built-in type.
pub(super) fn patched(node: &Node, live: &Value, new: &Value) -> Value {
    touched(Place::of(node), Some(live), new)
}

fn touched(place: Place<'_>, live: Option<&Value>, new: &Value) -> Value {
    match (live, new) {
        (Some(live), new) if live == new => as_declared(place, new),
        (Some(Value::Object(live)), Value::Object(map)) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let written = |key: &String| match place.field(key) {
                Some(inner) => touched(inner, live.get(key), &map[key]),
                None => map[key].clone(),
            };
            Value::Object(keys.into_iter().map(|key| (key.clone(), written(key))).collect())
        }
        (Some(Value::Array(live)), Value::Array(items)) => {
            let known = |item: &Value| live.contains(item);
            items.iter().map(|item| if known(item) { as_declared(place.items(), item) } else { item.clone() }).collect()
        }
        _ => new.clone(),
    }
}

fn as_declared(place: Place<'_>, value: &Value) -> Value {
    match value {
        Value::Object(map) => match declared().get(place.node.name) {
            Some(order) => {
                let rank = |key: &str| order.iter().position(|known| *known == key).unwrap_or(order.len());
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_by_key(|key| rank(key));
                let inner = |key: &String| place.field(key).map(|inner| as_declared(inner, &map[key]));
                keys.into_iter()
                    .map(|key| (key.clone(), inner(key).unwrap_or_else(|| map[key].clone())))
                    .collect::<Map<_, _>>()
                    .into()
            }
            None => json::sorted(value),
        },
        Value::Array(items) => items.iter().map(|item| as_declared(place.items(), item)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;

    #[test]
    fn what_a_patch_touched_is_sorted_the_rest_is_as_declared() {
        let node = kinds::node_of("v1", "Pod").unwrap();
        let spec = json!({"containers": [{"image": "a", "name": "b"}], "volumes": []});
        let live = json!({"metadata": {"uid": "u", "name": "p"}, "spec": spec});
        let mut new = live.clone();
        new["metadata"]["labels"] = json!("x");
        let text = patched(node, &live, &new).to_string();
        let metadata = r#"{"metadata":{"labels":"x","name":"p","uid":"u"},"#;
        assert_eq!(text, format!(r#"{metadata}"spec":{{"volumes":[],"containers":[{{"name":"b","image":"a"}}]}}}}"#));
    }
}
