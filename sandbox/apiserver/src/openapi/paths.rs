//! The paths of a document: which verbs each takes and what they are about.

use std::sync::Arc;

use serde_json::{Value, json};

use super::schemas;
use crate::kinds::{Resource, join};

/// Returns the paths of resources.
pub(super) fn of(resources: &[Arc<Resource>]) -> Value {
    let mut out = json!({});
    for resource in resources {
        let root = match resource.group.as_str() {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{}", join(group, &resource.version)),
        };
        let scoped = if resource.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
        let collection = format!("{scoped}/{}", resource.plural);
        if resource.namespaced && resource.allows("list") {
            out[format!("{root}/{}", resource.plural)] = json!({"get": operation(resource, "list", "list")});
        }
        let mut all = json!({});
        for (verb, method, action) in
            [("list", "get", "list"), ("create", "post", "post"), ("deletecollection", "delete", "deletecollection")]
        {
            if resource.allows(verb) {
                all[method] = operation(resource, verb, action);
            }
        }
        out[&collection] = all;
        let mut one = json!({});
        for (verb, method, action) in [
            ("get", "get", "get"),
            ("update", "put", "put"),
            ("patch", "patch", "patch"),
            ("delete", "delete", "delete"),
        ] {
            if resource.allows(verb) {
                one[method] = operation(resource, verb, action);
            }
        }
        if one.as_object().is_some_and(|map| !map.is_empty()) {
            out[format!("{collection}/{{name}}")] = one;
        }
        for sub in &resource.subresources {
            let mut below = json!({});
            for (verb, method) in [("get", "get"), ("create", "post"), ("update", "put"), ("patch", "patch")] {
                if sub.verbs.iter().any(|known| known == verb) {
                    below[method] = operation(resource, verb, method);
                }
            }
            out[format!("{collection}/{{name}}/{}", sub.name)] = below;
        }
    }
    out
}

fn parameter(name: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn operation(resource: &Resource, verb: &str, action: &str) -> Value {
    let mut parameters = vec![parameter("pretty", "string")];
    match verb {
        "create" | "update" => {
            parameters.extend(["dryRun", "fieldManager", "fieldValidation"].map(|name| parameter(name, "string")));
        }
        "patch" => {
            parameters.extend(["dryRun", "fieldManager", "fieldValidation"].map(|name| parameter(name, "string")));
            parameters.push(parameter("force", "boolean"));
        }
        "list" => {
            parameters.extend(
                ["labelSelector", "fieldSelector", "continue", "resourceVersion"].map(|name| parameter(name, "string")),
            );
            parameters.push(parameter("limit", "integer"));
            parameters.push(parameter("watch", "boolean"));
        }
        "delete" | "deletecollection" => {
            parameters.extend(["dryRun", "propagationPolicy"].map(|name| parameter(name, "string")));
        }
        _ => {}
    }
    let reference = json!({"$ref": format!("#/components/schemas/{}", schemas::name(resource))});
    let mut out = json!({
        "tags": [format!("{}_{}", resource.group.split('.').next().unwrap_or_default(), resource.version)],
        "operationId": format!("{verb}{}{}", resource.group.replace('.', ""), resource.kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": schemas::kind_of(resource),
    });
    let bodies: &[&str] = match verb {
        "create" | "update" => &["application/json", "application/yaml"],
        "patch" => &[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
            // `kubectl` sends custom kinds a strategic patch where this names one.
            "application/strategic-merge-patch+json",
        ],
        _ => &[],
    };
    let bodies = if resource.is_custom() { bodies.get(..3).unwrap_or(bodies) } else { bodies };
    if !bodies.is_empty() {
        let mut content = json!({});
        for media in bodies {
            content[*media] = json!({"schema": reference});
        }
        out["requestBody"] = json!({"content": content, "required": true});
    }
    out
}
