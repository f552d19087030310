//! Numbers and shares.

use serde_json::Value;

use crate::field::FieldError;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                       regex used for validation is '[0-9]+%')";

fn percent(text: &str) -> Option<u64> {
    text.strip_suffix('%')
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
}

/// Checks a count that may be a share.
pub(super) fn count_or_percent(value: Option<&Value>, field: &str, out: &mut Vec<FieldError>) {
    match value {
        Some(Value::String(text)) if percent(text).is_none() => {
            out.push(FieldError::invalid_text(field, text, PERCENT));
        }
        Some(value @ Value::Number(number)) if number.as_i64() < Some(0) => {
            out.push(FieldError::invalid(field, value, "must be greater than or equal to 0"));
        }
        _ => {}
    }
}

/// Checks that a share is no more than all.
pub(super) fn at_most_all(value: Option<&Value>, field: &str, out: &mut Vec<FieldError>) {
    if let Some(Value::String(text)) = value
        && percent(text).is_some_and(|share| share > 100)
    {
        out.push(FieldError::invalid_text(field, text, "must not be greater than 100%"));
    }
}

/// Checks the number of a port.
pub(super) fn port(value: i64, field: impl Into<String>, out: &mut Vec<FieldError>) {
    if !(1..=65535).contains(&value) {
        out.push(FieldError::invalid(field, &Value::from(value), "must be between 1 and 65535, inclusive"));
    }
}

/// Checks the name of a port.
pub(super) fn port_name(name: &str, field: &str, out: &mut Vec<FieldError>) {
    let mut say = |detail: &str| out.push(FieldError::invalid_text(field, name, detail));
    if name.len() > 15 {
        say("must be no more than 15 characters");
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        say("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        say("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        say("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        say("must not begin or end with a hyphen");
    }
}
