//! What schemas say about values through `allOf`, `anyOf`, `oneOf` and `not`: it may restrict and not describe.

use serde_json::{Value, json};

use super::{fields, flag, inner};
use crate::field::FieldError;
use crate::json;

/// What may not stand inside, and how the error says so.
const FORBIDDEN: [(&str, &str); 12] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
];

/// Tells whether this is how an integer or text is written: the one place where types may be named.
fn two_types(any_of: Option<&Value>) -> bool {
    any_of == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

/// Checks what a schema says about its values.
pub(super) fn check(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    let two = flag(schema, "x-kubernetes-int-or-string");
    let skip_any = two && two_types(schema.get("anyOf"));
    let skip_first = two && two_types(json::list(schema, &["allOf"]).first().and_then(|first| first.get("anyOf")));
    values(schema, path, skip_any, skip_first, out);
}

fn values(schema: &Value, path: &str, skip_any: bool, skip_first: bool, out: &mut Vec<FieldError>) {
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && skip_any {
            continue;
        }
        for (index, part) in json::list(schema, &[key]).iter().enumerate() {
            nested(part, &format!("{path}.{key}[{index}]"), key == "allOf" && index == 0 && skip_first, out);
        }
    }
    if let Some(part) = inner(schema, "not") {
        nested(part, &format!("{path}.not"), false, out);
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && regex::Regex::new(pattern).is_err()
    {
        let detail = format!("must be a valid regular expression, but isn't: error parsing regexp: {}", wrong(pattern));
        out.push(FieldError::invalid_text(format!("{path}.pattern"), pattern, detail));
    }
}

fn nested(part: &Value, path: &str, skip_any: bool, out: &mut Vec<FieldError>) {
    values(part, path, skip_any, false, out);
    if let Some(items) = inner(part, "items") {
        nested(items, &format!("{path}.items"), false, out);
    }
    for (key, field) in fields(part) {
        nested(field, &format!("{path}.properties[{key}]"), false, out);
    }
    for (key, detail) in FORBIDDEN {
        let set = match part.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        if set {
            out.push(FieldError::forbidden(format!("{path}.{key}"), detail));
        }
    }
    if !json::list(part, &["x-kubernetes-validations"]).is_empty() {
        let detail = "must be empty to be structural";
        out.push(FieldError::forbidden(format!("{path}.x-kubernetes-validations"), detail));
    }
    if fields(part).any(|(key, _)| key == "metadata") {
        let detail = "must not be specified in a nested context";
        out.push(FieldError::forbidden(format!("{path}.properties[metadata]"), detail));
    }
}

/// Checks that whatever is restricted is described, too.
pub(super) fn completeness(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    complete_values(schema, Some(schema), path, path, out);
}

fn complete_values(part: &Value, schema: Option<&Value>, at: &str, from: &str, out: &mut Vec<FieldError>) {
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in json::list(part, &[key]).iter().enumerate() {
            complete(inner, schema, at, &format!("{from}.{key}[{index}]"), out);
        }
    }
    if let Some(not) = inner(part, "not") {
        complete(not, schema, at, &format!("{from}.not"), out);
    }
}

fn complete(part: &Value, schema: Option<&Value>, at: &str, from: &str, out: &mut Vec<FieldError>) {
    let Some(schema) = schema else {
        out.push(FieldError::required(at, format!("because it is defined in {from}")));
        return;
    };
    complete_values(part, Some(schema), at, from, out);
    if let Some(items) = inner(part, "items") {
        complete(items, inner(schema, "items"), &format!("{at}.items"), &format!("{from}.items"), out);
    }
    for (key, field) in fields(part) {
        let step = format!(".properties[{key}]");
        let described = schema.get("properties").and_then(|fields| fields.get(key));
        complete(field, described, &format!("{at}{step}"), &format!("{from}{step}"), out);
    }
}

/// Says what is wrong with a pattern, in the words of the engine that the real server uses.
fn wrong(pattern: &str) -> String {
    let opened = pattern.matches('(').count();
    let closed = pattern.matches(')').count();
    let unfinished = pattern.rfind('[').filter(|at| !pattern[*at..].contains(']'));
    if let Some(at) = unfinished {
        format!("missing closing ]: `{}`", &pattern[at..])
    } else if pattern.contains("(?=") || pattern.contains("(?!") || pattern.contains("(?<") {
        let at = pattern.find("(?").unwrap_or(0);
        let length = if pattern[at..].starts_with("(?<") { 4 } else { 3 };
        format!("invalid or unsupported Perl syntax: `{}`", pattern.get(at..at + length).unwrap_or(&pattern[at..]))
    } else if opened > closed {
        format!("missing closing ): `{pattern}`")
    } else if closed > opened {
        format!("unexpected ): `{pattern}`")
    } else if pattern.ends_with('\\') {
        "trailing backslash at end of expression: ``".to_owned()
    } else if pattern.starts_with(['*', '+', '?']) {
        format!("missing argument to repetition operator: `{}`", &pattern[..1])
    } else if let Some(at) = ["**", "++", "*+", "+*"].iter().find_map(|twice| pattern.find(twice)) {
        format!("invalid nested repetition operator: `{}`", pattern.get(at..at + 2).unwrap_or_default())
    } else {
        format!("invalid or unsupported Perl syntax: `{pattern}`")
    }
}
