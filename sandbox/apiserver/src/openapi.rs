//! OpenAPI documents, made when they are asked for: one per group and version, and an index of them.

mod paths;
mod schemas;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::http::respond::{self, Answer};
use crate::kinds::{Kinds, join};
use crate::protobuf;
use crate::status::{Result, Status};

/// Answers a path below `/openapi`.
pub(crate) fn answer(kinds: &Kinds, segments: &[&str], accept: &str) -> Result<Answer> {
    match segments {
        ["openapi", "v2"] if accept.contains(protobuf::SWAGGER) => {
            Ok(respond::bytes(protobuf::SWAGGER_ANSWER, protobuf::swagger()))
        }
        ["openapi", "v2"] => Ok(Answer::ok(swagger(kinds))),
        ["openapi", "v3"] => Ok(Answer::raw_json(index(kinds).to_string(), "text/plain; charset=utf-8")),
        ["openapi", "v3", "api", version] => document(kinds, "", version),
        ["openapi", "v3", "apis", group, version] => document(kinds, group, version),
        _ => Err(Status::page_not_found()),
    }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.2"})
}

/// The old form names the kinds and no more; clients of today ask for the new one.
fn swagger(kinds: &Kinds) -> Value {
    let mut definitions = json!({});
    for resource in kinds.all() {
        let name = schemas::name(resource);
        definitions[&name] = json!({
            "type": "object", "x-kubernetes-group-version-kind": [schemas::kind_of(resource)],
        });
    }
    json!({"swagger": "2.0", "info": info(), "paths": {}, "definitions": definitions})
}

fn index(kinds: &Kinds) -> Value {
    let mut paths = json!({});
    for group in kinds.groups() {
        for (version, resources) in kinds.group(&group) {
            let path = match group.as_str() {
                "" => format!("api/{version}"),
                _ => format!("apis/{}", join(&group, &version)),
            };
            let mut hash = Sha256::new();
            hash.update(&path);
            for resource in resources {
                hash.update(&resource.plural);
                if let Some(custom) = resource.custom() {
                    hash.update(&custom.schema);
                }
            }
            let hash: String = crate::names::hex(&hash.finalize());
            paths[&path] = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")});
        }
    }
    json!({"paths": paths})
}

fn document(kinds: &Kinds, group: &str, version: &str) -> Result<Answer> {
    let found = kinds.group(group).into_iter().find(|(known, _)| known == version);
    let (_, resources) = found.ok_or_else(Status::page_not_found)?;
    let document = json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths::of(&resources),
        "components": {"schemas": schemas::of(&resources)},
    });
    Ok(Answer::raw_json(document.to_string(), "application/json"))
}
