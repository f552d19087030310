//! What is wrong with the form of an object, and how requests are told.

use serde_json::Value;

use super::quote;
use crate::field::{FieldError, go};
use crate::json;
use crate::options::FieldValidation;
use crate::schema::Node;
use crate::status::{Status, Target};

/// How what a JSON patch says beyond an operation is told.
pub(crate) const JSON_PATCH: &str = "json patch unknown field ";

/// Why an object could not be read as its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A field has the wrong type.
    Type(String),
    /// Fields that the schema does not have, where that is not allowed.
    Strict(Vec<String>),
}

impl Unreadable {
    fn text(&self) -> String {
        match self {
            Self::Type(text) => text.clone(),
            Self::Strict(all) => format!("strict decoding error: {}", all.join(", ")),
        }
    }

    /// Says it as the answer to a create or replace.
    pub(crate) fn of_body(&self, kind: &str, version: &str) -> Status {
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {}", self.text()))
    }

    /// Says it as the answer to a patch.
    pub(crate) fn of_patch(&self, patched: &Value) -> Status {
        self.of_quoted_patch(json::sorted(patched))
    }

    /// Says it as the answer to a patch of a built-in type.
    pub(crate) fn of_builtin_patch(&self, node: &Node, live: &Value, patched: &Value) -> Status {
        self.of_quoted_patch(quote::patched(node, live, patched))
    }

    fn of_quoted_patch(&self, shown: Value) -> Status {
        let error = FieldError::invalid_text("patch", &json::escaped(&shown), self.text());
        Status::invalid(&Target::new("", ""), "", &[error])
    }
}

impl Unreadable {
    /// Says it as the answer to a strategic merge patch, which quotes the patch alone.
    pub(crate) fn of_strategic_patch(&self, patch: &Value) -> Status {
        let error = FieldError::invalid_text("patch", &go::print(patch), self.text());
        Status::invalid(&Target::new("", ""), "", &[error])
    }
}

/// Lists the paths of all fields of a value, in their order.
pub(super) fn places(value: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    out.push(path.clone());
                    walk(inner, &path, out);
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| walk(item, &format!("{path}[{index}]"), out));
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(value, "", &mut out);
    out
}

/// Tells what is an error already from the path of what came twice.
#[expect(clippy::ptr_arg, reason = "asked of the items of a list of texts")]
pub(super) fn worded(field: &String) -> bool {
    [json::YAML_ERRORS, JSON_PATCH].iter().any(|own| field.starts_with(own))
}

/// Words what came twice, and what the schema does not have.
pub(super) fn listed(duplicates: &[String], unknown: &[String]) -> Vec<String> {
    let twice =
        duplicates.iter().map(|field| if worded(field) { field.clone() } else { format!("duplicate field {field:?}") });
    twice.chain(unknown.iter().map(|field| format!("unknown field {field:?}"))).collect()
}

/// Refuses, or warns of, what was dropped.
pub(super) fn report(
    object: &mut Value,
    found: Vec<String>,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> std::result::Result<(), Unreadable> {
    if object.get("metadata").is_none_or(|meta| !meta.is_object()) {
        json::set(object, &["metadata"], serde_json::json!({}));
    }
    match validation {
        FieldValidation::Strict if !found.is_empty() => Err(Unreadable::Strict(found)),
        FieldValidation::Warn => {
            // A text of several lines fits into no header: each of its lines is told by itself.
            let lines = found.iter().flat_map(|text| text.trim_start_matches(json::YAML_ERRORS).split("\n  "));
            warnings.extend(lines.map(String::from));
            Ok(())
        }
        _ => Ok(()),
    }
}
