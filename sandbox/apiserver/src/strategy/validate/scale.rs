//! What the `scale` subresource of a custom resource reads has to be there in the right form.

use serde_json::Value;

use crate::field::{FieldError, go};
use crate::kinds::custom::Custom;

/// Checks the counts and the selector of an object; writes of status look at the status alone.
pub(super) fn check(custom: &Custom, object: &Value, subresource: &str) -> Vec<FieldError> {
    let Some(scale) = &custom.scale else { return Vec::new() };
    let mut out = Vec::new();
    if subresource != "status" {
        count(object, &scale.spec, &mut out);
    }
    count(object, &scale.status, &mut out);
    if let Some(path) = &scale.selector {
        match at(object, path) {
            Err(why) => out.push(FieldError::invalid_text(shown(path), "", why)),
            Ok(None | Some(Value::String(_))) => {}
            Ok(Some(other)) => out.push(FieldError::invalid_text(shown(path), "", mistyped(path, other, "string"))),
        }
    }
    out
}

fn shown(path: &[String]) -> String {
    format!(".{}", path.join("."))
}

fn mistyped(path: &[String], value: &Value, wanted: &str) -> String {
    let (text, kind) = (go::print(value), go::type_name(value));
    format!("{} accessor error: {text} is of the type {kind}, expected {wanted}", shown(path))
}

/// Finds what is at a path, or says which step is no object.
fn at<'a>(object: &'a Value, path: &[String]) -> Result<Option<&'a Value>, String> {
    let mut here = object;
    for step in path {
        let Value::Object(map) = here else { return Err(mistyped(path, here, "map[string]interface{}")) };
        match map.get(step) {
            Some(inner) => here = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

fn count(object: &Value, path: &[String], out: &mut Vec<FieldError>) {
    let mut fail = |value: i64, why: String| out.push(FieldError::invalid(shown(path), &Value::from(value), why));
    match at(object, path) {
        Err(why) => fail(0, why),
        Ok(None) => {}
        Ok(Some(value)) => match value.as_i64() {
            None => fail(0, mistyped(path, value, "int64")),
            Some(number @ ..0) => fail(number, "should be a non-negative integer".to_owned()),
            Some(number) if i32::try_from(number).is_err() => {
                fail(number, format!("should be less than or equal to {}", i32::MAX));
            }
            Some(_) => {}
        },
    }
}
