//! The old form of the documents: all groups in one, with references to `definitions`.

use serde_json::{Map, Value, json};

use super::{info, of_version};
use crate::kinds::Kinds;

/// Makes the document; clients of today ask for those of single groups.
pub(super) fn of(kinds: &Kinds) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for group in kinds.groups() {
        for (version, _) in kinds.group(&group) {
            let Some((own_paths, Value::Object(schemas))) = of_version(kinds, &group, &version) else { continue };
            definitions.extend(schemas);
            for (path, operations) in own_paths.as_object().into_iter().flatten() {
                paths.insert(path.clone(), path_of(operations));
            }
        }
    }
    let mut definitions = Value::Object(definitions);
    point(&mut definitions);
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions})
}

fn path_of(operations: &Value) -> Value {
    let mut out = Map::new();
    for (method, operation) in operations.as_object().into_iter().flatten() {
        let shown = if method == "parameters" { parameters(operation) } else { operation_of(operation) };
        out.insert(method.clone(), shown);
    }
    Value::Object(out)
}

/// Writes parameters without a schema of their own.
fn parameters(all: &Value) -> Value {
    let flat = |parameter: &Value| {
        let mut parameter = parameter.clone();
        if let Some(Value::Object(schema)) = parameter.as_object_mut().and_then(|map| map.remove("schema")) {
            for (key, value) in schema {
                parameter[key] = value;
            }
        }
        parameter
    };
    all.as_array().into_iter().flatten().map(flat).collect()
}

fn operation_of(operation: &Value) -> Value {
    let mut out = operation.clone();
    let media = |content: &Value| -> Vec<Value> {
        content.as_object().into_iter().flatten().map(|(media, _)| Value::from(media.as_str())).collect()
    };
    let schema = |content: &Value| {
        let mut schema = content.as_object().and_then(|all| all.values().next()).map(|inner| inner["schema"].clone());
        schema.iter_mut().for_each(point);
        schema
    };
    let mut all = parameters(&operation["parameters"]);
    if let Some(body) = operation.get("requestBody") {
        out["consumes"] = media(&body["content"]).into();
        let own = json!({"name": "body", "in": "body", "schema": schema(&body["content"])});
        if let Value::Array(all) = &mut all {
            all.push(own);
        }
    }
    out["produces"] = media(&operation["responses"]["200"]["content"]).into();
    out["schemes"] = json!(["https"]);
    out["parameters"] = all;
    for response in out["responses"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        let content = response.as_object_mut().and_then(|map| map.remove("content"));
        if let Some(schema) = content.as_ref().and_then(schema) {
            response["schema"] = schema;
        }
    }
    if let Value::Object(map) = &mut out {
        map.remove("requestBody");
    }
    out
}

/// Points references at the definitions, and without a wrap around them.
fn point(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(all)) = map.remove("allOf")
                && let Some(target) = all.first().and_then(|first| first.get("$ref"))
            {
                map.insert("$ref".to_owned(), target.clone());
            }
            for (key, inner) in map.iter_mut() {
                match inner {
                    Value::String(target) if key == "$ref" => {
                        *target = target.replace("#/components/schemas/", "#/definitions/");
                    }
                    inner => point(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(point),
        _ => {}
    }
}
