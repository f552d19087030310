//! OpenAPI documents, made when they are asked for: one per group and version, and an index of them.

mod paths;
mod schemas;
mod swagger;

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::http::respond::{self, Answer};
use crate::kinds::{Kinds, Resource, is_builtin_group, join};
use crate::protobuf;
use crate::status::{Result, Status};

/// Answers a path below `/openapi`.
pub(crate) fn answer(kinds: &Kinds, segments: &[&str], accept: &str) -> Result<Answer> {
    match segments {
        ["openapi", "v2"] if accept.contains(protobuf::SWAGGER) => {
            Ok(respond::bytes(protobuf::SWAGGER_ANSWER, protobuf::swagger()))
        }
        ["openapi", "v2"] => Ok(Answer::ok(swagger::of(kinds))),
        ["openapi", "v3"] => Ok(Answer::raw_json(index(kinds).to_string(), "text/plain; charset=utf-8")),
        ["openapi", "v3", path @ ..] => document(kinds, path)
            .map(|document| Answer::raw_json(document.to_string(), "application/json"))
            .ok_or_else(Status::page_not_found),
        _ => Err(Status::page_not_found()),
    }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.2"})
}

/// Lists the documents with their hashes; those of a kind's group and version change with it.
fn index(kinds: &Kinds) -> Value {
    let mut out = json!({});
    let mut add = |path: &str, of: &[Arc<Resource>]| {
        let mut hash = Sha512::new();
        hash.update(path);
        for resource in of {
            hash.update(&resource.plural);
            if let Some(custom) = resource.custom() {
                hash.update(&custom.schema);
            }
        }
        let hash = crate::names::hex(&hash.finalize());
        out[path] = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")});
    };
    for path in ["api", "apis", "version"] {
        add(path, &[]);
    }
    for group in kinds.groups() {
        if !group.is_empty() && is_builtin_group(&group) {
            add(&format!("apis/{group}"), &[]);
        }
        for (version, resources) in kinds.group(&group) {
            let path = match group.as_str() {
                "" => format!("api/{version}"),
                _ => format!("apis/{}", join(&group, &version)),
            };
            add(&path, &resources);
        }
    }
    json!({"paths": out})
}

/// Makes the document of a path of the index.
fn document(kinds: &Kinds, path: &[&str]) -> Option<Value> {
    let whole = |paths: Value, schemas: Value, version: &str| {
        json!({
            "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": version}, "paths": paths,
            "components": {"schemas": schemas},
        })
    };
    let about = |path: &str, tag: &str, id: &str, kind: &str| {
        Some(whole(paths::root(path, tag, id, kind), schemas::meta(kind), "1.36"))
    };
    match path {
        ["api"] => about("/api/", "core", "getCoreAPIVersions", "APIVersions"),
        ["apis"] => about("/apis/", "apis", "getAPIVersions", "APIGroupList"),
        ["version"] => about("/version/", "version", "getCodeVersion", "APIVersions"),
        ["apis", group] if is_builtin_group(group) => {
            let id = format!("get{}APIGroup", paths::camel(group, true));
            about(&format!("/apis/{group}/"), &paths::camel(group, false), &id, "APIGroup")
        }
        ["api", version] => of_version(kinds, "", version).map(|(paths, schemas)| whole(paths, schemas, "1.36")),
        ["apis", group, version] => {
            let shown = if is_builtin_group(group) { "1.36" } else { "v0.1.0" };
            let title = if is_builtin_group(group) { "Kubernetes" } else { "Kubernetes CRD Swagger" };
            let (paths, schemas) = of_version(kinds, group, version)?;
            let mut out = whole(paths, schemas, shown);
            out["info"]["title"] = title.into();
            Some(out)
        }
        _ => None,
    }
}

/// Returns the paths and schemas of a group's version.
fn of_version(kinds: &Kinds, group: &str, version: &str) -> Option<(Value, Value)> {
    let (_, resources) = kinds.group(group).into_iter().find(|(known, _)| known == version)?;
    let mut paths = paths::of(&resources);
    if !resources.iter().any(|resource| resource.is_custom()) {
        let (path, place) = match group {
            "" => (format!("/api/{version}/"), "core"),
            group => (format!("/apis/{group}/{version}/"), group),
        };
        let upper = paths::camel(version, true);
        let id = format!("get{}{upper}APIResources", paths::camel(place, true));
        let tag = format!("{}_{version}", paths::camel(place, false));
        paths[&path] = paths::root(&path, &tag, &id, "APIResourceList")[&path].take();
    }
    Some((paths, schemas::of(&resources)))
}
