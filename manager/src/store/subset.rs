//! Whether a live object already is what we would apply.

use serde_json::Value;

/// Whether every field of `wanted` is in `live` with the same value. Lists must be equal in length and order, except
/// that the items of a list may carry more fields in `live` (defaults). Absent, `null`, `{}` and `[]` are alike, as
/// they are to the API server once it has pruned and defaulted.
pub(super) fn holds(wanted: &Value, live: Option<&Value>) -> bool {
    match (wanted, live) {
        (wanted, None) => is_empty(wanted),
        (Value::Object(wanted), Some(Value::Object(live))) => {
            wanted.iter().all(|(key, value)| holds(value, live.get(key)))
        }
        (Value::Array(wanted), Some(Value::Array(live))) => {
            wanted.len() == live.len() && wanted.iter().zip(live).all(|(wanted, live)| holds(wanted, Some(live)))
        }
        (wanted, Some(live)) => wanted == live || (is_empty(wanted) && is_empty(live)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(expected: bool, wanted: Value, live: Value) {
        assert_eq!(holds(&wanted, Some(&live)), expected, "{wanted} in {live}");
    }

    #[test]
    fn defaults_of_the_api_server_are_no_difference() {
        check(true, json!({"a": 1}), json!({"a": 1, "b": 2}));
        check(true, json!({"list": [{"name": "x"}]}), json!({"list": [{"name": "x", "mode": 420}]}));
        check(true, json!({"labels": {}, "gone": null}), json!({}));
    }

    #[test]
    fn a_changed_missing_or_reordered_value_is_a_difference() {
        check(false, json!({"a": 1}), json!({"a": 2}));
        check(false, json!({"a": {"b": "x"}}), json!({"a": {}}));
        check(false, json!({"list": [1, 2]}), json!({"list": [2, 1]}));
        check(false, json!({"list": [1]}), json!({"list": [1, 2]}));
        check(false, json!({"a": "1"}), json!({"a": 1}));
    }
}
