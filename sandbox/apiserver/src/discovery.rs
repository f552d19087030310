//! What the server says it serves.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::http::respond::Answer;
use crate::kinds::{Kinds, Resource, is_builtin_group, join};
use crate::status::{Result, Status};

/// The version that the server says it is: the one whose behaviour it has.
const VERSION: &str = "v1.36.2";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// Answers `/api`; the server is reached where the request came.
pub(crate) fn core_versions(host: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    })
}

/// Answers where the keys are that tokens are signed with.
pub(crate) fn issuer(issuer: &str, host: &str) -> Value {
    json!({
        "issuer": issuer, "jwks_uri": format!("https://{host}/openid/v1/jwks"),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

/// Lists the paths that the server answers.
pub(crate) fn paths(kinds: &Kinds) -> Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/version",
    ]
    .map(String::from)
    .into();
    paths.extend(crate::http::health::paths());
    for group in kinds.groups().into_iter().filter(|group| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(kinds.group(&group).into_iter().map(|(version, _)| format!("/apis/{group}/{version}")));
    }
    paths.sort();
    json!({"paths": paths})
}

fn group_value(kinds: &Kinds, group: &str) -> Value {
    let versions: Vec<Value> = kinds
        .group(group)
        .iter()
        .map(|(version, _)| json!({"groupVersion": join(group, version), "version": version}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    json!({"name": group, "versions": versions, "preferredVersion": preferred})
}

/// Answers `/apis`.
pub(crate) fn groups(kinds: &Kinds) -> Value {
    let groups: Vec<Value> =
        kinds.groups().iter().filter(|group| !group.is_empty()).map(|group| group_value(kinds, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// Answers `/apis/<group>`.
pub(crate) fn group(kinds: &Kinds, group: &str) -> Result<Value> {
    if kinds.group(group).is_empty() {
        return Err(Status::page_not_found());
    }
    let mut out = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Value::Object(out), Value::Object(value)) = (&mut out, group_value(kinds, group)) {
        out.extend(value);
    }
    Ok(out)
}

/// Answers `/apis/<group>/<version>` and `/api/v1`.
pub(crate) fn resources(kinds: &Kinds, group: &str, version: &str) -> Result<Value> {
    let found = kinds.group(group).into_iter().find(|(known, _)| known == version);
    let Some((_, list)) = found else {
        return Err(if is_builtin_group(group) { Status::no_resource() } else { Status::page_not_found() });
    };
    let mut out = Vec::new();
    for resource in &list {
        out.push(resource_value(resource));
        out.extend(resource.subresources.iter().map(|sub| {
            let mut value = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced,
            });
            if let Some((group, version)) = &sub.group_version {
                value["group"] = group.as_str().into();
                value["version"] = version.as_str().into();
            }
            value["kind"] = sub.kind.as_str().into();
            value["verbs"] = sub.verbs.clone().into();
            value
        }));
    }
    let mut answer = json!({"kind": "APIResourceList"});
    if !group.is_empty() {
        answer["apiVersion"] = "v1".into();
    }
    answer["groupVersion"] = join(group, version).into();
    answer["resources"] = Value::Array(out);
    Ok(answer)
}

fn resource_value(resource: &Resource) -> Value {
    let mut value = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": verbs(resource),
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        value["categories"] = resource.categories.clone().into();
    }
    if resource.allows("list") && resource.plural != "componentstatuses" {
        value["storageVersionHash"] = storage_hash(resource).into();
    }
    value
}

/// What may still be done to objects whose definition is going.
const TERMINATING_VERBS: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];

fn verbs(resource: &Resource) -> Vec<String> {
    match resource.custom() {
        Some(custom) if custom.terminating => TERMINATING_VERBS.map(String::from).into(),
        _ => resource.verbs.clone(),
    }
}

/// Tells by a hash as which kind objects are stored: some are stored as another version's, or another group's.
fn storage_hash(resource: &Resource) -> String {
    use base64::Engine as _;
    let (group, version) = match resource.kind.as_str() {
        "CustomResourceDefinition" | "MutatingAdmissionPolicy" | "MutatingAdmissionPolicyBinding"
            if !resource.is_custom() =>
        {
            (resource.group.as_str(), "v1beta1")
        }
        "HorizontalPodAutoscaler" if !resource.is_custom() => (resource.group.as_str(), "v2"),
        "Event" if !resource.is_custom() => ("", "v1"),
        _ => (resource.group.as_str(), resource.version.as_str()),
    };
    let text = format!("{group}/{version}/{}", resource.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(text)[..8])
}

fn aggregated_group(kinds: &Kinds, group: &str) -> Value {
    let versions: Vec<Value> = kinds
        .group(group)
        .iter()
        .map(|(version, resources)| {
            let list: Vec<Value> = resources.iter().map(|resource| aggregated_resource(resource)).collect();
            json!({"version": version, "resources": list, "freshness": "Current"})
        })
        .collect();
    let meta = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": meta, "versions": versions})
}

fn aggregated_resource(resource: &Resource) -> Value {
    // A built-in kind of the resource's own group and version stands by itself.
    let own =
        |group: &str, version: &str| !resource.is_custom() && group == resource.group && version == resource.version;
    let kind = |group: &str, version: &str, kind: &str| {
        let (group, version) = if own(group, version) { ("", "") } else { (group, version) };
        json!({"group": group, "version": version, "kind": kind})
    };
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource),
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        value["categories"] = resource.categories.clone().into();
    }
    let subs: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            let (group, version) = match &sub.group_version {
                Some((group, version)) => (group.as_str(), version.as_str()),
                None => (resource.group.as_str(), resource.version.as_str()),
            };
            json!({"subresource": sub.name, "responseKind": kind(group, version, &sub.kind), "verbs": sub.verbs})
        })
        .collect();
    if !subs.is_empty() {
        value["subresources"] = Value::Array(subs);
    }
    value
}

/// Answers `/api` or `/apis` in the aggregated form, or that the client has it already.
pub(crate) fn aggregated(kinds: &Kinds, core: bool, known: &str) -> Answer {
    let groups: Vec<Value> = kinds
        .groups()
        .iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| aggregated_group(kinds, group))
        .collect();
    let value = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": groups,
    });
    let text = value.to_string();
    let hash: String = crate::names::hex(&Sha256::digest(&text));
    let etag = format!("\"{hash}\"");
    if known == etag {
        let response = crate::http::respond::not_modified(&etag);
        return Answer::Ready(Box::new(response));
    }
    let headers = vec![("etag", etag), ("vary", "Accept".to_owned())];
    Answer::Text { code: 200, content_type: AGGREGATED, text, headers }
}

/// Answers a path below a group that no resource serves.
pub(crate) fn no_resource(group: &str) -> Status {
    if is_builtin_group(group) { Status::no_resource() } else { Status::page_not_found() }
}
