//! JSON patch (RFC 6902) with the liberties that the real server takes: `replace` of a missing key adds it, `test` of a
//! missing path against null holds, negative indices count from the end.

use serde_json::Value;

use crate::json;

/// A patch that does not fit; the real server does not say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// Applies all operations, or answers that one does not fit.
pub(crate) fn apply(target: &mut Value, operations: &[Value]) -> Result<(), Refused> {
    operations.iter().try_for_each(|operation| one(target, operation))
}

fn one(target: &mut Value, operation: &Value) -> Result<(), Refused> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let path = steps(text("path").ok_or(Refused)?)?;
    // What is left out is null.
    let value = operation.get("value").cloned().unwrap_or_default();
    match text("op").ok_or(Refused)? {
        "add" => add(target, &path, value),
        "remove" => remove(target, &path).map(|_| ()),
        "replace" if path.is_empty() => replace(target, &path, operation.get("value").cloned().ok_or(Refused)?),
        "replace" => replace(target, &path, value),
        "move" => {
            let from = steps(text("from").ok_or(Refused)?)?;
            let taken = remove(target, &from)?;
            add(target, &path, taken)
        }
        "copy" => {
            let from = steps(text("from").ok_or(Refused)?)?;
            let copied = look(target, &from)?.cloned().unwrap_or_default();
            add(target, &path, copied)
        }
        "test" => test(target, &path, operation.get("value").unwrap_or(&Value::Null)),
        _ => Err(Refused),
    }
}

fn steps(pointer: &str) -> Result<Vec<String>, Refused> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    // What stands before the first slash counts for nothing.
    let (_, rest) = pointer.split_once('/').ok_or(Refused)?;
    Ok(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

fn index(step: &str, length: usize) -> Option<usize> {
    let number: i64 = step.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    usize::try_from(if number < 0 { number + length } else { number }).ok()
}

fn find<'a>(target: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(target, |value, step| match value {
        Value::Object(map) => map.get(step),
        Value::Array(items) => items.get(index(step, items.len())?),
        _ => None,
    })
}

/// Looks for a value that may be missing from its object; its object, or its place in a list, may not.
fn look<'a>(target: &'a Value, path: &[String]) -> Result<Option<&'a Value>, Refused> {
    let (last, parent) = path.split_last().ok_or(Refused)?;
    match find(target, parent).ok_or(Refused)? {
        Value::Object(map) => Ok(map.get(last)),
        Value::Array(items) => items.get(index(last, items.len()).ok_or(Refused)?).map(Some).ok_or(Refused),
        _ => Err(Refused),
    }
}

fn find_mut<'a>(target: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(target, |value, step| match value {
        Value::Object(map) => map.get_mut(step),
        Value::Array(items) => {
            let at = index(step, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    })
}

fn add(target: &mut Value, path: &[String], value: Value) -> Result<(), Refused> {
    // The whole object cannot be put into itself.
    let (last, parent) = path.split_last().ok_or(Refused)?;
    match find_mut(target, parent).ok_or(Refused)? {
        Value::Object(map) => {
            map.insert(last.clone(), value);
            Ok(())
        }
        Value::Array(items) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Value::Array(items) => {
            // One past the end is a place to add at, so negative indices count from there.
            let at = index(last, items.len() + usize::from(last.starts_with('-'))).ok_or(Refused)?;
            if at > items.len() {
                return Err(Refused);
            }
            items.insert(at, value);
            Ok(())
        }
        _ => Err(Refused),
    }
}

fn remove(target: &mut Value, path: &[String]) -> Result<Value, Refused> {
    let (last, parent) = path.split_last().ok_or(Refused)?;
    match find_mut(target, parent).ok_or(Refused)? {
        Value::Object(map) => map.shift_remove(last).ok_or(Refused),
        Value::Array(items) => {
            let at = index(last, items.len()).filter(|at| *at < items.len()).ok_or(Refused)?;
            Ok(items.remove(at))
        }
        _ => Err(Refused),
    }
}

fn replace(target: &mut Value, path: &[String], value: Value) -> Result<(), Refused> {
    let Some((last, parent)) = path.split_last() else {
        *target = value;
        return Ok(());
    };
    match find_mut(target, parent).ok_or(Refused)? {
        Value::Object(map) => {
            map.insert(last.clone(), value);
            Ok(())
        }
        Value::Array(items) => {
            let at = index(last, items.len()).ok_or(Refused)?;
            *items.get_mut(at).ok_or(Refused)? = value;
            Ok(())
        }
        _ => Err(Refused),
    }
}

fn test(target: &Value, path: &[String], expected: &Value) -> Result<(), Refused> {
    let found = if path.is_empty() { Some(target) } else { look(target, path)? };
    let holds = match found {
        // Whole numbers and those with a fraction of zero are written differently, so they differ.
        Some(Value::Number(number)) => expected.as_number().is_some_and(|wanted| number == wanted),
        Some(value) => json::same(value, expected),
        None => expected.is_null(),
    };
    if holds { Ok(()) } else { Err(Refused) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn patched(mut target: Value, operations: Value, expected: Option<Value>) {
        let result = apply(&mut target, operations.as_array().unwrap()).ok().map(|()| target);
        assert_eq!(result, expected, "{operations}");
    }

    #[test]
    fn operations_do_what_the_real_server_does() {
        let list = json!({"l": [1, 2]});
        patched(list.clone(), json!([{"op": "add", "path": "/l/-", "value": 3}]), Some(json!({"l": [1, 2, 3]})));
        patched(list.clone(), json!([{"op": "add", "path": "/l/0", "value": 0}]), Some(json!({"l": [0, 1, 2]})));
        patched(list.clone(), json!([{"op": "add", "path": "/l/9", "value": 0}]), None);
        patched(list.clone(), json!([{"op": "remove", "path": "/l/-1"}]), Some(json!({"l": [1]})));
        patched(
            list.clone(),
            json!([{"op": "replace", "path": "/new", "value": 1}]),
            Some(json!({"l": [1, 2], "new": 1})),
        );
        patched(list.clone(), json!([{"op": "test", "path": "/none", "value": null}]), Some(list.clone()));
        patched(list.clone(), json!([{"op": "test", "path": "/none", "value": 1}]), None);
        patched(list, json!([{"op": "frob", "path": "/l"}]), None);
    }
}
