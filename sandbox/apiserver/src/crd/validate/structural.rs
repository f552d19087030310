//! Whether a schema is structural: every field has a type, what holds for values names only fields that are there, and
//! what the server cannot check is left out.

mod defaults;
mod lists;
mod nested;

use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::json;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Fields that the real type has and the server refuses.
const UNSUPPORTED: [&str; 6] = ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

/// What a schema describes; errors are worded by it.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Root,
    Field,
    Items,
}

/// Checks a schema. Answers whether its rules can be looked at.
pub(super) fn check(schema: &Value, path: &str, out: &mut Vec<FieldError>) -> bool {
    let mut found = Vec::new();
    invariants(schema, path, Role::Root, &mut found);
    nested::completeness(schema, path, &mut found);
    if found.is_empty() {
        defaults::check(schema, path, true, &mut found);
    }
    let structural = found.is_empty();
    let shape = found.len();
    openapi(schema, path, true, &mut found);
    lists::check(schema, path, &mut found);
    let sound = structural && found.len() == shape;
    out.append(&mut found);
    sound
}

/// Reads a switch of a schema.
fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some_and(|set| *set == true)
}

/// Returns the fields that a schema describes.
fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// Returns the schema under a key, where there is one.
fn inner<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get(key).filter(|inner| inner.is_object())
}

fn invariants(schema: &Value, path: &str, role: Role, out: &mut Vec<FieldError>) {
    let kind = json::text(schema, &["type"]);
    if kind == "array" && schema.get("items").is_none() {
        out.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    if let Some(items) = inner(schema, "items") {
        invariants(items, &format!("{path}.items"), Role::Items, out);
    }
    for (key, field) in fields(schema) {
        // Root metadata is checked below: it may say no more than what names look like.
        if role != Role::Root || key != "metadata" {
            invariants(field, &format!("{path}.properties[{key}]"), Role::Field, out);
        }
    }
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if let Some(values) = schema.get("additionalProperties").filter(|values| !values.is_null()) {
        if role == Role::Root {
            out.push(FieldError::forbidden(format!("{path}.additionalProperties"), "must not be used at the root"));
        }
        if values.is_object() {
            invariants(values, &format!("{path}.additionalProperties"), Role::Field, out);
        }
        if embedded {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            out.push(FieldError::forbidden(format!("{path}.additionalProperties"), detail));
        }
    }
    extensions(schema, path, out);
    nested::check(schema, path, out);
    type_of(schema, path, role, out);
    if role == Role::Root || embedded {
        object_fields(schema, path, role, out);
    }
    if embedded && !flag(schema, "x-kubernetes-preserve-unknown-fields") && fields(schema).next().is_none() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        out.push(FieldError::required(format!("{path}.properties"), detail));
    }
}

/// A value of one of two types is not free, nor a whole resource.
fn extensions(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, key) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            out.push(FieldError::invalid(format!("{path}.{key}"), &Value::Bool(true), detail));
        }
    }
}

fn type_of(schema: &Value, path: &str, role: Role, out: &mut Vec<FieldError>) {
    let kind = json::text(schema, &["type"]);
    let field = format!("{path}.type");
    let free = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    if flag(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        out.push(if kind.is_empty() {
            FieldError::required(field, detail)
        } else {
            FieldError::invalid_text(field, kind, detail)
        });
    } else if kind.is_empty() && !free && schema.get("$ref").is_none_or(Value::is_null) {
        let of = match role {
            Role::Root => "at the root",
            Role::Field => "for specified object fields",
            Role::Items => "for specified array items",
        };
        out.push(FieldError::required(field, format!("must not be empty {of}")));
    } else if role == Role::Root && !kind.is_empty() && kind != "object" {
        out.push(FieldError::invalid_text(field, kind, "must be object at the root"));
    }
}

/// What a whole object has anyway cannot be described otherwise.
fn object_fields(schema: &Value, path: &str, role: Role, out: &mut Vec<FieldError>) {
    let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
    for (key, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(field) = known.get(key) else { continue };
        let kind = json::text(field, &["type"]);
        if kind != wanted {
            let detail = format!("must be {wanted}");
            out.push(FieldError::invalid_text(format!("{path}.properties[{key}].type"), kind, detail));
        }
    }
    let Some(metadata) = known.get("metadata").filter(|_| role == Role::Root) else { return };
    let empty = Map::new();
    let described = metadata.as_object().unwrap_or(&empty);
    let more = described.keys().any(|key| !matches!(key.as_str(), "type" | "properties" | "default"))
        || fields(metadata).any(|(key, _)| !matches!(key.as_str(), "name" | "generateName"));
    if more {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        out.push(FieldError::forbidden(format!("{path}.properties[metadata]"), detail));
    }
}

/// Checks what holds for every schema, wherever it stands.
fn openapi(schema: &Value, path: &str, root: bool, out: &mut Vec<FieldError>) {
    let kind = json::text(schema, &["type"]);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        out.push(FieldError::not_supported(format!("{path}.type"), &Value::from(kind), &TYPES));
    }
    for key in UNSUPPORTED.iter().filter(|key| schema.get(**key).is_some_and(|value| !value.is_null())) {
        out.push(FieldError::forbidden(format!("{path}.{key}"), format!("{key} is not supported")));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        let detail = "items must be a schema object and not an array";
        out.push(FieldError::forbidden(format!("{path}.items"), detail));
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        out.push(FieldError::forbidden(format!("{path}.type"), detail));
    }
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        out.push(FieldError::forbidden(format!("{path}.uniqueItems"), detail));
    }
    if root && flag(schema, "nullable") {
        out.push(FieldError::forbidden(format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
    let values = schema.get("additionalProperties").filter(|values| !values.is_null() && **values != true);
    if values.is_some() && fields(schema).next().is_some() {
        let detail = "additionalProperties and properties are mutual exclusive";
        out.push(FieldError::forbidden(format!("{path}.additionalProperties"), detail));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let detail = "must be true or undefined";
        out.push(FieldError::invalid(
            format!("{path}.x-kubernetes-preserve-unknown-fields"),
            &Value::Bool(false),
            detail,
        ));
    }
    for (at, inner) in all(schema, path) {
        openapi(inner, &at, false, out);
    }
}

/// Returns every schema right below one, with its path.
fn all<'a>(schema: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let mut out: Vec<(String, &Value)> = Vec::new();
    for key in ["items", "additionalProperties", "not"] {
        out.extend(inner(schema, key).map(|found| (format!("{path}.{key}"), found)));
    }
    out.extend(fields(schema).map(|(key, field)| (format!("{path}.properties[{key}]"), field)));
    for key in ["allOf", "anyOf", "oneOf"] {
        let parts = json::list(schema, &[key]).iter().enumerate();
        out.extend(parts.map(|(index, part)| (format!("{path}.{key}[{index}]"), part)));
    }
    out
}
