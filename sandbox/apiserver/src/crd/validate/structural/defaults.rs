//! Whether defaults are values that their own schema takes.

use serde_json::Value;

use super::{fields, inner};
use crate::field::FieldError;
use crate::json;
use crate::rules::Rules;
use crate::schema::{crd, prune, validate};

/// Checks the defaults of a schema and of all below it; those of values under free keys are not looked at.
pub(super) fn check(schema: &Value, path: &str, root: bool, out: &mut Vec<FieldError>) {
    if let Some(value) = schema.get("default").filter(|value| !value.is_null()) {
        one(schema, value, &format!("{path}.default"), out);
    }
    if let Some(items) = inner(schema, "items") {
        check(items, &format!("{path}.items"), false, out);
    }
    for (key, field) in fields(schema) {
        let at = format!("{path}.properties[{key}]");
        if root && matches!(key.as_str(), "metadata" | "apiVersion" | "kind") {
            forbidden(field, &at, key, out);
        } else {
            check(field, &at, false, out);
        }
    }
}

/// Nobody defaults what every object has.
fn forbidden(schema: &Value, path: &str, within: &str, out: &mut Vec<FieldError>) {
    if schema.get("default").is_some() {
        out.push(FieldError::forbidden(format!("{path}.default"), format!("must not be set in top-level {within}")));
    }
    for (key, field) in fields(schema) {
        forbidden(field, &format!("{path}.properties[{key}]"), within, out);
    }
}

fn one(schema: &Value, value: &Value, at: &str, out: &mut Vec<FieldError>) {
    let node = crd::compile_plain(schema);
    let mut pruned = value.clone();
    let known = prune::object(&node, &mut pruned, &mut Vec::new()).is_ok();
    if known && !json::same(&pruned, value) {
        out.push(FieldError::invalid(at, value, "must not have unknown fields"));
    }
    let mut errors = validate::object(&node, value, "");
    if errors.is_empty() {
        errors = Rules::compile(schema).check(value, None);
    }
    for mut error in errors {
        error.field = match error.field.as_str() {
            "" | "<nil>" => at.to_owned(),
            inner => format!("{at}.{}", inner.trim_start_matches('.')),
        };
        out.push(error);
    }
}
