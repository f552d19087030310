//! How lists and maps are merged, and what their items must be for it.

use serde_json::Value;

use super::{all, inner};
use crate::field::FieldError;
use crate::json;

const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_TYPE: &str = "x-kubernetes-map-type";
const KEYS: &str = "x-kubernetes-list-map-keys";

/// Checks a schema and all below it.
pub(super) fn check(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    typed(schema, path, MAP_TYPE, "object", &["atomic", "granular"], out);
    if !typed(schema, path, LIST_TYPE, "array", &["atomic", "set", "map"], out) {
        set_items(schema, path, out);
    }
    let kind = schema.get(LIST_TYPE).and_then(Value::as_str);
    if !json::list(schema, &[KEYS]).is_empty() && kind != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        let field = format!("{path}.{LIST_TYPE}");
        out.push(match kind {
            None => FieldError::required(field, detail),
            Some(kind) => FieldError::invalid_text(field, kind, detail),
        });
    }
    if kind == Some("map") {
        map(schema, path, out);
    }
    if let Some(kind) = kind.filter(|kind| matches!(*kind, "set" | "map"))
        && inner(schema, "items").is_some_and(|items| super::flag(items, "nullable"))
    {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        out.push(FieldError::forbidden(format!("{path}.items.nullable"), detail));
    }
    for (at, inner) in all(schema, path) {
        check(inner, &at, out);
    }
}

/// Checks that only lists have a list type, and only objects a map type. Answers whether that is wrong.
fn typed(schema: &Value, path: &str, key: &str, wanted: &str, known: &[&str], out: &mut Vec<FieldError>) -> bool {
    let Some(own) = schema.get(key).and_then(Value::as_str) else { return false };
    let kind = json::text(schema, &["type"]);
    let wrong = kind != wanted;
    if wrong {
        let detail = format!("must be {wanted} if {key} is specified");
        out.push(if kind.is_empty() {
            FieldError::required(format!("{path}.type"), detail)
        } else {
            FieldError::invalid_text(format!("{path}.type"), kind, detail)
        });
    }
    if !known.contains(&own) {
        out.push(FieldError::not_supported(format!("{path}.{key}"), &Value::from(own), known));
    }
    wrong
}

/// What a set holds is compared as a whole.
fn set_items(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    if json::text(schema, &[LIST_TYPE]) != "set" {
        return;
    }
    let Some(items) = inner(schema, "items") else { return };
    let own = items.get(LIST_TYPE).cloned().unwrap_or_default();
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    match json::text(items, &["type"]) {
        "array" if !own.is_null() && own != "atomic" => {
            out.push(FieldError::invalid(format!("{path}.items.{LIST_TYPE}"), &own, detail));
        }
        "object" if json::text(items, &[MAP_TYPE]) != "atomic" => {
            out.push(FieldError::invalid(format!("{path}.items.{MAP_TYPE}"), &own, detail));
        }
        _ => {}
    }
}

fn map(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    let keys = json::list(schema, &[KEYS]);
    let field = format!("{path}.{KEYS}");
    if keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        out.push(FieldError::required(field.clone(), detail));
    }
    let Some(items) = inner(schema, "items") else {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        out.push(FieldError::required(format!("{path}.items"), detail));
        return;
    };
    let kind = json::text(items, &["type"]);
    if kind != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        out.push(FieldError::invalid_text(format!("{path}.items.type"), kind, detail));
    }
    for (index, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        let at = format!("{path}.items.properties[{key}]");
        let described = items.get("properties").and_then(|fields| fields.get(key));
        if kind == "object" {
            if described.is_some_and(|field| matches!(json::text(field, &["type"]), "array" | "object")) {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                out.push(FieldError::invalid_text(format!("{at}.type"), kind, detail));
            }
            if described.is_none() {
                let detail = "entries must all be names of item properties";
                out.push(FieldError::invalid(field.clone(), &Value::from(keys), detail));
            }
            if keys[..index].iter().any(|earlier| earlier == key) {
                let detail = "must not contain duplicate entries";
                out.push(FieldError::invalid(field.clone(), &Value::from(keys), detail));
            }
        }
        let Some(described) = described else { continue };
        let required = json::list(items, &["required"]).iter().any(|name| name == key);
        if !required && described.get("default").is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                          property";
            out.push(FieldError::required(format!("{at}.default"), detail));
        }
        if super::flag(described, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            out.push(FieldError::forbidden(format!("{at}.nullable"), detail));
        }
    }
}
