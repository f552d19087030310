//! Validation of custom resources against their schema, in the API's own words.

use serde_json::Value;

use super::{Checks, ListType, Node, Place, Shape, formats};
use crate::field::{FieldError, Problem, go_quote, quote};
use crate::json;

/// Checks an object, its metadata aside.
pub(crate) fn object(node: &Node, value: &Value, path: &str) -> Vec<FieldError> {
    let mut out = Vec::new();
    walk(Place::of(node), value, path, &mut out);
    out.sort_by_key(|error| error.problem == Problem::NotSupported);
    out
}

/// Checks that lists of sets and maps have no item twice.
pub(crate) fn lists(node: &Node, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    lists_in(Place::of(node), value, path, out);
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn walk(place: Place<'_>, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    let node = place.node;
    if value.is_null() {
        if !node.nullable && node.shape != Shape::Any {
            out.push(wrong_type(path, value, shape_name(node.shape)));
        }
        if let Some(checks) = node.checks.as_ref().filter(|checks| !checks.allowed.is_empty()) {
            // Null is none of the values, even where the list has it.
            let listed: Vec<String> = checks.allowed.iter().map(shown).collect();
            let detail = format!("supported values: {}", listed.join(", "));
            out.push(FieldError::not_supported_quoted(path, quote(value), detail));
        }
        return;
    }
    if !fits(node.shape, value) {
        let sized = node.shape == Shape::Integer && value.is_f64() && matches!(node.format.as_str(), "int32" | "int64");
        if sized {
            // Numbers with a fraction are compared with the format that is asked for.
            let detail = format!("{path} in body must be of type {}: \"float64\"", node.format);
            out.push(FieldError::type_invalid(path, "\"float64\"".to_owned(), detail));
        } else {
            out.push(wrong_type(path, value, shape_name(node.shape)));
        }
        if node.shape == Shape::Integer && value.is_number() {
            out.push(unformatted(&node.format, "integer", path));
            if let Some(checks) = &node.checks {
                numbers(checks, value, path, out);
            }
        }
        if let Some(checks) = &node.checks {
            allowed(checks, value, path, out);
        }
        return;
    }
    if let Some(checks) = &node.checks {
        check(checks, value, path, out);
    }
    if !formatted(node, value) {
        let kind = if node.shape == Shape::Integer { "integer" } else { "number" };
        out.push(unformatted(&node.format, kind, path));
    }
    match value {
        Value::Object(map) => {
            for key in node.required.iter().filter(|key| !map.contains_key(*key)) {
                out.push(FieldError::required(join(path, key), ""));
            }
            for (key, item) in map {
                if key == "metadata" && path.is_empty() {
                    continue;
                }
                if let Some(inner) = place.field(key) {
                    let named = node.fields.contains_key(key);
                    let inner_path = if named { join(path, key) } else { format!("{path}.{key}") };
                    walk(inner, item, &inner_path, out);
                }
            }
        }
        Value::Array(items) => {
            let inner = place.items();
            for (index, item) in items.iter().enumerate() {
                walk(inner, item, &format!("{path}[{index}]"), out);
            }
        }
        _ => {}
    }
}

fn fits(shape: Shape, value: &Value) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Object => value.is_object(),
        Shape::Array => value.is_array(),
        Shape::String => value.is_string(),
        Shape::Integer => value.is_i64(),
        Shape::Number => value.is_number(),
        Shape::Boolean => value.is_boolean(),
        Shape::IntOrString => value.is_i64() || value.is_string(),
    }
}

fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Any => "any",
        Shape::Object => "object",
        Shape::Array => "array",
        Shape::String => "string",
        Shape::Integer => "integer",
        Shape::Number => "number",
        Shape::Boolean => "boolean",
        Shape::IntOrString => "integer,string",
    }
}

/// Words a value of the wrong type: the text quotes the type that came.
pub(crate) fn wrong_type(path: &str, value: &Value, wanted: &str) -> FieldError {
    let got = format!("{:?}", json::type_name(value));
    let field = if path.is_empty() { "<nil>" } else { path };
    FieldError::type_invalid(field, got.clone(), format!("{path} in body must be of type {wanted}: {got}"))
}

fn says(path: &str, value: &Value, rule: &str) -> FieldError {
    // An integer that only a float holds is shown as one.
    let float = value.as_f64().filter(|_| value.is_u64() && !value.is_i64()).map(Value::from);
    FieldError::invalid(path, float.as_ref().unwrap_or(value), format!("{path} in body {rule}"))
}

fn plain_number(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { number.to_string() }
}

/// Tells whether a number fits into the format that its schema names.
fn formatted(node: &Node, value: &Value) -> bool {
    match (node.shape, node.format.as_str()) {
        (Shape::Integer, "int32") => value.as_i64().is_some_and(|whole| i32::try_from(whole).is_ok()),
        (Shape::Number, "float") => value.as_f64().is_none_or(|number| number.abs() <= f64::from(f32::MAX)),
        _ => true,
    }
}

/// Words a number that does not fit into its format; the error names no field.
fn unformatted(format: &str, kind: &str, path: &str) -> FieldError {
    let format = match format {
        "" => "(default format)".to_owned(),
        format => format!("with format {format}"),
    };
    FieldError::invalid_text("<nil>", "", format!("Checked value must be of type {kind} {format} in {path}"))
}

/// Quotes one of the values that are allowed.
fn shown(allowed: &Value) -> String {
    go_quote(&allowed.as_str().map_or_else(|| json::compact(allowed), String::from))
}

fn allowed(checks: &Checks, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    if !checks.allowed.is_empty() && !checks.allowed.iter().any(|allowed| json::same(allowed, value)) {
        let listed: Vec<String> = checks.allowed.iter().map(shown).collect();
        let detail = format!("supported values: {}", listed.join(", "));
        out.push(FieldError::not_supported_quoted(path, quote(value), detail));
    }
}

fn check(checks: &Checks, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    allowed(checks, value, path, out);
    match value {
        Value::Number(_) => numbers(checks, value, path, out),
        Value::String(text) => texts(checks, value, text, path, out),
        Value::Array(items) => {
            sizes(items.len(), checks.items_min, checks.items_max, "items", path, out);
        }
        Value::Object(map) => {
            sizes(map.len(), checks.properties_min, checks.properties_max, "properties", path, out);
        }
        _ => {}
    }
    nested(checks, value, path, out);
    composed(checks, value, path, out);
}

fn numbers(checks: &Checks, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    if let Some(max) = checks.maximum {
        let limit = plain_number(max);
        if checks.exclusive_maximum && number >= max {
            out.push(says(path, value, &format!("should be less than {limit}")));
        } else if number > max {
            out.push(says(path, value, &format!("should be less than or equal to {limit}")));
        }
    }
    if let Some(min) = checks.minimum {
        let limit = plain_number(min);
        if checks.exclusive_minimum && number <= min {
            out.push(says(path, value, &format!("should be greater than {limit}")));
        } else if number < min {
            out.push(says(path, value, &format!("should be greater than or equal to {limit}")));
        }
    }
    if let Some(factor) = checks.multiple_of.filter(|factor| *factor != 0.0) {
        // Whole numbers are told exactly: a float no longer has all of a large one.
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        let whole = (factor.fract() == 0.0 && factor.abs() < 9e15).then_some(factor as i64);
        let fits = match value.as_i64().zip(whole) {
            Some((number, factor)) => number.checked_rem(factor).is_none_or(|rest| rest == 0),
            None => ((number / factor) - (number / factor).round()).abs() <= 1e-9,
        };
        if !fits {
            out.push(says(path, value, &format!("should be a multiple of {}", plain_number(factor))));
        }
    }
}

fn texts(checks: &Checks, value: &Value, text: &str, path: &str, out: &mut Vec<FieldError>) {
    out.extend(misfit(checks, value, text, path));
    if !checks.format.is_empty() && formats::check(&checks.format, text) == Some(false) {
        let quoted = quote(value);
        let detail = format!("{path} in body must be of type {}: {quoted}", checks.format);
        out.push(FieldError::type_invalid(path, quoted, detail));
    }
}

/// Says what is wrong with the characters of a text: the first that is.
fn misfit(checks: &Checks, value: &Value, text: &str, path: &str) -> Option<FieldError> {
    let length = text.chars().count() as u64;
    if let Some(max) = checks.length_max.filter(|max| length > *max) {
        return Some(FieldError::too_long(path, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    if let Some(min) = checks.length_min.filter(|min| length < *min) {
        return Some(says(path, value, &format!("should be at least {min} chars long")));
    }
    match &checks.pattern {
        Some((pattern, Some(regex))) if !regex.is_match(text) => {
            Some(says(path, value, &format!("should match '{pattern}'")))
        }
        _ => None,
    }
}

fn sizes(length: usize, min: Option<u64>, max: Option<u64>, what: &str, path: &str, out: &mut Vec<FieldError>) {
    let count = length as u64;
    if let Some(max) = max.filter(|max| count > *max) {
        out.push(FieldError::too_many(path, length, max));
    }
    if let Some(min) = min.filter(|min| count < *min) {
        out.push(says(path, &Value::from(count), &format!("should have at least {min} {what}")));
    }
}

fn nested(checks: &Checks, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    if let Some(shape) = checks.shape.filter(|shape| !fits(*shape, value)) {
        out.push(wrong_type(path, value, shape_name(shape)));
    }
    if let Value::Object(map) = value {
        for key in checks.required.iter().filter(|key| !map.contains_key(*key)) {
            out.push(FieldError::required(join(path, key), ""));
        }
        for (key, item) in map {
            if let Some(inner) = checks.fields.get(key).or(checks.values.as_deref()) {
                check(inner, item, &join(path, key), out);
            }
        }
    }
    if let (Value::Array(items), Some(inner)) = (value, &checks.items) {
        for (index, item) in items.iter().enumerate() {
            check(inner, item, &format!("{path}[{index}]"), out);
        }
    }
}

fn holds(checks: &Checks, value: &Value, path: &str) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    check(checks, value, path, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn composed(checks: &Checks, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    let fail = |rule: &str| FieldError::invalid("<nil>", &Value::String(String::new()), format!("{path:?} {rule}"));
    if !checks.any_of.is_empty() {
        let failed: Vec<_> = checks.any_of.iter().map(|part| holds(part, value, path)).collect();
        if failed.iter().all(Result::is_err) {
            out.push(fail("must validate at least one schema (anyOf)"));
            out.extend(closest(failed));
        }
    }
    if !checks.one_of.is_empty() {
        let tried: Vec<_> = checks.one_of.iter().map(|part| holds(part, value, path)).collect();
        match tried.iter().filter(|result| result.is_ok()).count() {
            1 => {}
            0 => {
                out.push(fail("must validate one and only one schema (oneOf). Found none valid"));
                out.extend(closest(tried));
            }
            count => out.push(fail(&format!(
                "must validate one and only one schema (oneOf). Found {count} valid alternatives"
            ))),
        }
    }
    let mut refused = 0;
    for part in &checks.all_of {
        if let Err(errors) = holds(part, value, path) {
            refused += 1;
            out.extend(errors);
        }
    }
    if refused > 0 {
        let none = if refused == checks.all_of.len() { ". None validated" } else { "" };
        out.push(fail(&format!("must validate all the schemas (allOf){none}")));
    }
    if checks.not.as_ref().is_some_and(|part| holds(part, value, path).is_ok()) {
        out.push(fail("must not validate the schema (not)"));
    }
}

fn closest(tried: Vec<Result<(), Vec<FieldError>>>) -> Vec<FieldError> {
    tried.into_iter().filter_map(Result::err).min_by_key(Vec::len).unwrap_or_default()
}

fn lists_in(place: Place<'_>, value: &Value, path: &str, out: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (key, item) in map {
                if key == "metadata" && path.is_empty() {
                    continue;
                }
                if let Some(inner) = place.field(key) {
                    lists_in(inner, item, &join(path, key), out);
                }
            }
        }
        Value::Array(items) => {
            let mut seen: Vec<Value> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let at = format!("{path}[{index}]");
                let key = match place.list() {
                    ListType::Atomic => None,
                    ListType::Set => Some(item.clone()),
                    ListType::Map(keys) => {
                        Some(keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect())
                    }
                };
                if let Some(key) = key {
                    if seen.iter().any(|known| json::same(known, &key)) {
                        out.push(FieldError::duplicate(at.clone(), &key));
                    } else {
                        seen.push(key);
                    }
                }
                lists_in(place.items(), item, &at, out);
            }
        }
        _ => {}
    }
}
