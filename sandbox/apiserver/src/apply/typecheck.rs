//! Whether an applied object fits its schema, in the words in which the real server refuses it.

use serde_json::Value;

use super::fieldset::item_step;
use crate::field::go;
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
    let mut expected = |what: &str, got: String| errors.push(format!("{path}: expected {what}, got {got}"));
    let whole = || format!("&value.valueUnstructured{{Value:{}}}", go::syntax(value));
    match (node.shape, value) {
        (Shape::Object | Shape::Any, Value::Object(_)) => objects(place, value, path, errors),
        (Shape::Array, Value::Array(items)) => lists(place, items, path, errors),
        (_, Value::Null)
        | (Shape::String, Value::String(_))
        | (Shape::Integer | Shape::Number, Value::Number(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::IntOrString | Shape::Any, _) => {}
        (Shape::Object, _) => expected("map", format!("&{{{}}}", go::print(value))),
        (Shape::Array, _) => expected("list", format!("&{{{}}}", go::print(value))),
        (Shape::String, Value::Number(_)) if node.format == "quantity" => {}
        (Shape::String, _) => expected("string", whole()),
        (Shape::Integer | Shape::Number, _) => expected("numeric (int or float)", go::type_name(value).to_owned()),
        (Shape::Boolean, _) => expected("boolean", format!("&{{{}}}", go::print(value))),
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
            ListType::Set | ListType::Map(_) => match (unkeyed(place, item), item_step(place, item)) {
                (None, Some(step)) => (format!("{path}{}", shown_step(&step)), Some(step)),
                (why, _) => {
                    errors.push(format!("{path}: element {index}: {}", why.unwrap_or_default()));
                    continue;
                }
            },
        };
        if let Some(step) = step {
            if seen.contains(&step) {
                errors.push(format!("{path}: duplicate entries for key {}", shown_step(&step)));
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

/// Says why an item of a list cannot be told from others.
fn unkeyed(place: Place<'_>, item: &Value) -> Option<String> {
    let ListType::Map(keys) = place.list() else { return None };
    let map = match item {
        Value::Object(map) => map,
        Value::Null => return Some("associative list with keys may not have a null element".to_owned()),
        _ => return Some("associative list with keys may not have non-map elements".to_owned()),
    };
    let items = place.items();
    let has_default = |key: &str| items.node.fields.get(key).is_some_and(|field| field.key_left_out().is_some());
    // An item without some of its keys is told by those it has.
    let told = keys.iter().any(|key| map.contains_key(key) || has_default(key));
    (!told).then(|| {
        let shown: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for \
             any key fields)",
            shown.join(" ")
        )
    })
}
