//! A component's values: the catalog's, with those of the spec in their place.

use serde_json::{Map, Value};

use super::Error;

/// Puts `wanted` in place of what is in `values`. A field that the catalog does not have is refused: it would be
/// ignored, and whoever wrote it would not know.
pub(super) fn merge(component: &str, values: &mut Value, wanted: &Value) -> Result<(), Error> {
    merge_at(component, values, wanted, &mut String::new())
}

fn merge_at(component: &str, values: &mut Value, wanted: &Value, path: &mut String) -> Result<(), Error> {
    let refuse = |path: &str, problem: String| {
        Err(Error::Value { component: component.to_owned(), path: path.to_owned(), problem })
    };
    match (values, wanted) {
        (Value::Object(fields), Value::Object(wanted)) => {
            for (key, value) in wanted {
                let length = path.len();
                path.push('/');
                path.push_str(key);
                let Some(field) = fields.get_mut(key) else {
                    return refuse(path, format!("no such value; there are {}", names(fields)));
                };
                merge_at(component, field, value, path)?;
                path.truncate(length);
            }
            Ok(())
        }
        // An optional value of the catalog is null and takes anything; null gives any value back to the component.
        (values, wanted) if kind(values) == kind(wanted) || values.is_null() || wanted.is_null() => {
            *values = wanted.clone();
            Ok(())
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
