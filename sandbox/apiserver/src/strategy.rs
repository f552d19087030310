//! What built-in kinds do beyond their schema: defaults, what the server decides, what may not change.

pub(crate) mod defaults;
pub(crate) mod prepare;
pub(crate) mod validate;

use serde_json::Value;

use crate::json;
use crate::kinds::Resource;

/// Kinds of the core group that count generations.
const GENERATION_CORE: [&str; 3] = ["pods", "podtemplates", "replicationcontrollers"];
/// Other groups' kinds that count no generations.
const NO_GENERATION: [&str; 19] = [
    "leases",
    "events",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "controllerrevisions",
    "csinodes",
    "csidrivers",
    "csistoragecapacities",
    "storageclasses",
    "volumeattachments",
    "runtimeclasses",
    "horizontalpodautoscalers",
    "apiservices",
    "certificatesigningrequests",
    "volumeattributesclasses",
    "ipaddresses",
    "servicecidrs",
];

/// Tells whether a kind counts generations.
pub(crate) fn has_generation(resource: &Resource) -> bool {
    if resource.is_custom() {
        return true;
    }
    match resource.group.as_str() {
        "" => GENERATION_CORE.contains(&resource.plural.as_str()),
        _ => !NO_GENERATION.contains(&resource.plural.as_str()),
    }
}

/// Words warnings about a new object.
pub(crate) fn warnings(resource: &Resource, object: &Value) -> Vec<String> {
    if resource.is("", "Secret") && json::text(object, &["type"]) == "kubernetes.io/tls" {
        let certificate = json::text(object, &["data", "tls.crt"]);
        if !certificate.starts_with("LS0t") {
            return vec!["tls: failed to find any PEM data in certificate input".to_owned()];
        }
    }
    hostname_warning(resource, crate::meta::name(object)).into_iter().collect()
}

/// Warns of names that make no names of hosts.
fn hostname_warning(resource: &Resource, name: &str) -> Option<String> {
    let used = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => "the Pod's hostname",
        ("", "replicationcontrollers") | ("apps", "deployments" | "replicasets") | ("batch", "jobs" | "cronjobs") => {
            "Pod names and hostnames"
        }
        _ => return None,
    };
    let wrong = crate::names::label(name);
    let why = "which can result in surprising behavior; a DNS label is recommended";
    (!wrong.is_empty()).then(|| format!("metadata.name: this is used in {used}, {why}: [{}]", wrong.join(" ")))
}
