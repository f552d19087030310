//! Whether a schema is structural: every field has a type, and what the server cannot check is left out.

use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::json;
use crate::schema::{Node, crd, validate};

/// What a schema describes; errors are worded by it.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Root,
    Field,
    Items,
}

/// Checks a schema.
pub(super) fn check(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    if json::text(schema, &["type"]) != "object" && !json::text(schema, &["type"]).is_empty() {
        out.push(FieldError::invalid_text(
            format!("{path}.type"),
            json::text(schema, &["type"]),
            "must be object at the root",
        ));
    }
    if let Some(metadata) = json::at(schema, &["properties", "metadata"]) {
        let fields = metadata.get("properties").and_then(Value::as_object);
        let more = fields.into_iter().flatten().any(|(key, _)| !matches!(key.as_str(), "name" | "generateName"));
        if more {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            out.push(FieldError::forbidden(format!("{path}.properties[metadata]"), detail));
        }
    }
    walk(schema, path, Role::Root, out);
}

fn walk(schema: &Value, path: &str, role: Role, out: &mut Vec<FieldError>) {
    let kind = json::text(schema, &["type"]);
    let flag = |key: &str| schema.get(key).is_some_and(|set| *set == true);
    let free = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    if kind.is_empty() && !free {
        let of = match role {
            Role::Root => "at the root",
            Role::Field => "for specified object fields",
            Role::Items => "for specified array items",
        };
        out.push(FieldError::required(format!("{path}.type"), format!("must not be empty {of}")));
    }
    if flag("uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        out.push(FieldError::forbidden(format!("{path}.uniqueItems"), detail));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && regex::Regex::new(pattern).is_err()
    {
        let detail = format!("must be a valid regular expression, but isn't: error parsing regexp: {}", wrong(pattern));
        out.push(FieldError::invalid_text(format!("{path}.pattern"), pattern, detail));
    }
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        let detail = "additionalProperties cannot be set to false";
        out.push(FieldError::forbidden(format!("{path}.additionalProperties"), detail));
    }
    let fields = schema.get("properties").and_then(Value::as_object);
    if fields.is_some_and(|fields| !fields.is_empty())
        && schema.get("additionalProperties").is_some_and(|v| !v.is_null())
    {
        let detail = "additionalProperties and properties are mutual exclusive";
        out.push(FieldError::forbidden(format!("{path}.additionalProperties"), detail));
    }
    default(schema, path, out);
    list(schema, path, out);
    for (key, inner) in fields.into_iter().flatten() {
        if role == Role::Root && key == "metadata" {
            continue;
        }
        walk(inner, &format!("{path}.properties[{key}]"), Role::Field, out);
    }
    if let Some(inner) = schema.get("items").filter(|items| items.is_object()) {
        walk(inner, &format!("{path}.items"), Role::Items, out);
    }
    if let Some(inner) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        walk(inner, &format!("{path}.additionalProperties"), Role::Field, out);
    }
    if kind == "array" && schema.get("items").is_none() {
        out.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
}

/// Says what is wrong with a pattern, in the words of the engine that the real server uses.
fn wrong(pattern: &str) -> String {
    let opened = pattern.matches('(').count();
    let closed = pattern.matches(')').count();
    if opened > closed {
        format!("missing closing ): `{pattern}`")
    } else if closed > opened {
        format!("unexpected ): `{pattern}`")
    } else if pattern.contains('[') && !pattern.contains(']') {
        format!("missing closing ]: `{pattern}`")
    } else if pattern.starts_with(['*', '+', '?']) {
        format!("missing argument to repetition operator: `{}`", &pattern[..1])
    } else {
        format!("invalid or unsupported Perl syntax: `{pattern}`")
    }
}

fn default(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    let Some(value) = schema.get("default") else { return };
    let node = crd::compile_plain(schema);
    for mut error in validate::object(&node, value, "") {
        error.field = if error.field.is_empty() || error.field == "<nil>" {
            format!("{path}.default")
        } else {
            format!("{path}.default.{}", error.field)
        };
        out.push(error);
    }
    let _: &Node = &node;
}

fn list(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    let kind = json::text(schema, &["x-kubernetes-list-type"]);
    let keys = json::list(schema, &["x-kubernetes-list-map-keys"]);
    if !matches!(kind, "" | "atomic" | "set" | "map") {
        let known = ["atomic", "map", "set"];
        out.push(FieldError::not_supported(format!("{path}.x-kubernetes-list-type"), &Value::from(kind), &known));
    }
    if kind != "map" {
        return;
    }
    if keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        out.push(FieldError::required(format!("{path}.x-kubernetes-list-map-keys"), detail));
    }
    let empty = Map::new();
    let items = schema.get("items").unwrap_or(&Value::Null);
    let fields = items.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    for (index, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        let Some(field) = fields.get(key) else {
            let detail = "entries must all be names of item properties";
            out.push(FieldError::invalid_text(format!("{path}.x-kubernetes-list-map-keys[{index}]"), key, detail));
            continue;
        };
        let required = json::list(items, &["required"]).iter().any(|name| name == key);
        if !required && field.get("default").is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                          property";
            out.push(FieldError::required(format!("{path}.items.properties[{key}].default"), detail));
        }
    }
}
