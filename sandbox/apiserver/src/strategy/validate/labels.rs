//! Selectors that stand in objects.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::names;

/// Checks a selector of labels.
pub(super) fn selector(selector: &Value, path: &str) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        let at = format!("{path}.matchLabels");
        out.extend(names::qualified(key).into_iter().map(|error| FieldError::invalid_text(at.clone(), key, error)));
        let text = value.as_str().unwrap_or_default();
        out.extend(names::label_value(text).into_iter().map(|error| FieldError::invalid_text(at.clone(), text, error)));
    }
    for (index, expression) in json::list(selector, &["matchExpressions"]).iter().enumerate() {
        requirement(expression, &format!("{path}.matchExpressions[{index}]"), false, &mut out);
    }
    out
}

/// Checks that a requirement has values where its operator needs them, and none where it takes none.
pub(super) fn values(requirement: &Value, at: &str, out: &mut Vec<FieldError>) {
    let values = json::list(requirement, &["values"]);
    match json::text(requirement, &["operator"]) {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            out.push(FieldError::required(format!("{at}.values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            out.push(FieldError::forbidden(format!("{at}.values"), detail));
        }
        _ => {}
    }
}

/// Checks key, operator and values of a requirement; nodes are also selected by what is greater or less (`numbers`).
pub(super) fn requirement(expression: &Value, at: &str, numbers: bool, out: &mut Vec<FieldError>) {
    self::values(expression, at, out);
    let values = json::list(expression, &["values"]);
    match json::text(expression, &["operator"]) {
        "Gt" | "Lt" if numbers && values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            out.push(FieldError::required(format!("{at}.values"), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if numbers => {}
        other => out.push(FieldError::invalid_text(format!("{at}.operator"), other, "not a valid selector operator")),
    }
    let key = json::text(expression, &["key"]);
    let errors = names::qualified(key).into_iter();
    out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.key"), key, error)));
    for (index, value) in values.iter().enumerate() {
        let text = value.as_str().unwrap_or_default();
        let errors = names::label_value(text).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.values[{index}]"), text, error)));
    }
}
