//! Whole resources within custom resources: they say what they are, and have metadata like others.

use serde_json::Value;

use super::{Node, Place};
use crate::field::FieldError;
use crate::json;
use crate::{meta, names};

/// Checks all embedded resources of an object.
pub(crate) fn check(node: &Node, object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    walk(Place::of(node), object, "", &mut out);
    out
}

fn walk(place: Place<'_>, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if place.node.embedded && !path.is_empty() {
                one(value, path, out);
            }
            for (key, item) in map {
                if key == "metadata" && (path.is_empty() || place.node.embedded) {
                    continue;
                }
                if let Some(inner) = place.field(key) {
                    walk(inner, item, &super::validate::join(path, key), out);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(place.items(), item, &format!("{path}[{index}]"), out);
            }
        }
        _ => {}
    }
}

fn one(object: &Value, path: &str, out: &mut Vec<FieldError>) {
    let version = json::text(object, &["apiVersion"]);
    if version.is_empty() {
        out.push(FieldError::required(format!("{path}.apiVersion"), ""));
    } else if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        out.push(FieldError::invalid_text(format!("{path}.apiVersion"), version, detail));
    }
    let kind = json::text(object, &["kind"]);
    if kind.is_empty() {
        out.push(FieldError::required(format!("{path}.kind"), ""));
    } else {
        let errors = names::label_1035(&kind.to_lowercase()).into_iter();
        let worded = |error| format!("may have mixed case, but should otherwise match: {error}");
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{path}.kind"), kind, worded(error))));
    }
    if let Some(labels) = json::at(object, &["metadata", "labels"]).and_then(Value::as_object) {
        out.extend(meta::labels_at(&format!("{path}.metadata.labels"), labels));
    }
}
