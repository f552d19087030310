//! Which columns the tables of each kind have, and what stands in them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::jsonpath;
use crate::json;
use crate::kinds::Resource;
use crate::time;

fn column(name: &str, kind: &str, format: &str, description: &str, priority: i64) -> Value {
    json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority})
}

fn name_column() -> Value {
    column("Name", "string", "name", "The object's name, unique in its namespace.", 0)
}

/// Returns the columns of a kind.
pub(crate) fn of(resource: &Resource) -> Value {
    let mut out = vec![name_column()];
    if let Some(custom) = resource.custom() {
        for own in &custom.columns {
            out.push(column(&own.name, &own.kind, &own.format, &own.description, own.priority));
        }
        return Value::Array(out);
    }
    out.push(column("Created At", "date", "", "When the object was created.", 0));
    Value::Array(out)
}

/// Returns the cells of an object.
pub(crate) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut out = vec![object["metadata"]["name"].clone()];
    if let Some(custom) = resource.custom() {
        for own in &custom.columns {
            out.push(custom_cell(&own.kind, jsonpath::first(object, &own.path), now));
        }
        return out;
    }
    out.push(object["metadata"]["creationTimestamp"].clone());
    out
}

fn custom_cell(kind: &str, value: Option<Value>, now: Timestamp) -> Value {
    let Some(value) = value else { return Value::Null };
    match (kind, &value) {
        ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => value,
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value,
        ("date", Value::String(text)) => age(text, now).into(),
        ("string", Value::String(_)) => value,
        ("string", Value::Null) => Value::Null,
        ("string", other) => json::compact(other).into(),
        _ => Value::Null,
    }
}

/// Says how long ago a time was.
pub(crate) fn age(text: &str, now: Timestamp) -> String {
    text.parse::<Timestamp>().map_or_else(|_| "<invalid>".to_owned(), |since| time::age(since, now))
}
