//! A component's values: the catalog's, with those of the spec in their place.

use serde_json::{Map, Value};

use super::Error;

/// Puts `wanted` in place of what is in `values`. A field that the catalog does not have is refused: it would be
/// ignored, and whoever wrote it would not know.
pub(super) fn merge(component: &str, values: &mut Value, wanted: &Value) -> Result<(), Error> {
    let mut errors = Vec::new();
    merge_at(values, wanted, &mut String::new(), &mut |path, problem| {
        errors.push(Error::Value { component: component.to_owned(), path: path.to_owned(), problem });
    });
    if errors.is_empty() { Ok(()) } else { Err(Error::all(errors)) }
}

fn merge_at(values: &mut Value, wanted: &Value, path: &mut String, refuse: &mut impl FnMut(&str, String)) {
    match (values, wanted) {
        (Value::Object(fields), Value::Object(wanted)) => {
            for (key, value) in wanted {
                let length = path.len();
                path.push('/');
                path.push_str(key);
                match fields.get_mut(key) {
                    Some(field) => merge_at(field, value, path, refuse),
                    None => refuse(path, format!("no such value; there are {}", names(fields))),
                }
                path.truncate(length);
            }
        }
        // An optional value of the catalog is null and takes anything; null gives any value back to the component.
        (values, wanted) if kind(values) == kind(wanted) || values.is_null() || wanted.is_null() => {
            *values = wanted.clone();
        }
        (values, wanted) => refuse(path, format!("is {} and must be {}", kind(wanted), kind(values))),
    }
}

fn names(fields: &Map<String, Value>) -> String {
    if fields.is_empty() { "none".to_owned() } else { fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ") }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
