//! Whether an applied object fits its schema, in the words in which the real server refuses it.

use serde_json::Value;

use super::fieldset::item_step;
use crate::schema::{ListType, Place, Shape};

/// Checks an applied object; answers what is wrong with it.
pub(crate) fn check(place: Place<'_>, value: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(place, value, "", &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn walk(place: Place<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    let node = place.node;
    let mut expected = |what: &str| errors.push(format!("{path}: expected {what}, got {}", shown(value)));
    match (node.shape, value) {
        (Shape::Object | Shape::Any, Value::Object(_)) => objects(place, value, path, errors),
        (Shape::Array, Value::Array(items)) => lists(place, items, path, errors),
        (_, Value::Null)
        | (Shape::String, Value::String(_))
        | (Shape::Integer | Shape::Number, Value::Number(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::IntOrString | Shape::Any, _) => {}
        (Shape::Object, _) => expected("map"),
        (Shape::Array, _) => expected("list"),
        (Shape::String, Value::Number(_)) if node.format == "quantity" => {}
        (Shape::String, _) => expected("string"),
        (Shape::Integer | Shape::Number, _) => expected("numeric (int or float)"),
        (Shape::Boolean, _) => expected("boolean"),
    }
}

fn objects(place: Place<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    for (key, item) in value.as_object().into_iter().flatten() {
        let at = format!("{path}.{key}");
        match place.field(key) {
            Some(inner) => walk(inner, item, &at, errors),
            None => errors.push(format!("{at}: field not declared in schema")),
        }
    }
}

fn lists(place: Place<'_>, items: &[Value], path: &str, errors: &mut Vec<String>) {
    let mut seen: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let (at, step) = match place.list() {
            ListType::Atomic => (format!("{path}[{index}]"), None),
            ListType::Set | ListType::Map(_) => match item_step(place, item) {
                Some(step) => (format!("{path}{}", shown_step(&step)), Some(step)),
                None => {
                    errors.push(format!(
                        "{path}: element {index}: associative list with keys has an element that \
                                         omits key field and doesn't have default value"
                    ));
                    continue;
                }
            },
        };
        if let Some(step) = step {
            if seen.contains(&step) {
                errors.push(format!("{path}: duplicate entries for key {}", shown_step(&step)));
                continue;
            }
            seen.push(step);
        }
        walk(place.items(), item, &at, errors);
    }
}

fn shown_step(step: &str) -> String {
    let set = super::fieldset::FieldSet {
        own: false,
        children: [(step.to_owned(), super::fieldset::FieldSet { own: true, ..Default::default() })].into(),
    };
    set.paths().concat()
}

fn shown(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}
