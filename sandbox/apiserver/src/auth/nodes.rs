//! What kubelets may: the rules of nodes, and what is about pods of theirs.

use super::User;
use super::rbac::{self, Attributes, Decision};
use crate::core::Core;
use crate::json;
use crate::meta;

const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const ROLE: &str = "system:node";

/// Decides for a node; users that are none get no answer.
pub(super) fn decide(core: &Core, user: &User, wanted: &Attributes) -> Option<Decision> {
    let node = user.name.strip_prefix(PREFIX).filter(|_| user.groups.iter().any(|group| group == GROUP))?;
    let no = |reason: String| Some(Decision { allowed: false, reason });
    let reads = matches!(wanted.verb.as_str(), "get" | "list" | "watch");
    match (wanted.group.as_str(), wanted.resource.as_str()) {
        ("", "secrets" | "configmaps" | "persistentvolumeclaims" | "persistentvolumes")
            if wanted.subresource.is_empty() =>
        {
            if !reads {
                return no("can only read resources of this type".to_owned());
            }
            if wanted.name.is_empty() {
                return no("No Object name found".to_owned());
            }
            if used(core, node, wanted) {
                return Some(Decision { allowed: true, reason: String::new() });
            }
            no(format!("no relationship found between node '{node}' and this object"))
        }
        ("", "pods") if matches!(wanted.verb.as_str(), "list" | "watch") && wanted.subresource.is_empty() => {
            if wanted.node == node {
                return Some(Decision { allowed: true, reason: String::new() });
            }
            no("can only list/watch pods with spec.nodeName field selector".to_owned())
        }
        ("", "nodes") if matches!(wanted.verb.as_str(), "list" | "watch") && wanted.name != node => {
            no(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "nodes") if wanted.verb == "get" && wanted.subresource.is_empty() && wanted.name != node => {
            no(format!("node '{node}' cannot read '{}', only its own Node object", wanted.name))
        }
        _ => {
            let role = core.builtin("rbac.authorization.k8s.io/clusterroles", "", ROLE)?;
            let allowed = json::list(&role, &["rules"]).iter().any(|rule| rbac::covers(rule, wanted));
            Some(Decision { allowed, reason: String::new() })
        }
    }
}

/// Tells whether a pod of the node uses an object.
fn used(core: &Core, node: &str, wanted: &Attributes) -> bool {
    let key = match wanted.resource.as_str() {
        "secrets" => ["secretName", "secretRef", "secretKeyRef"],
        "configmaps" => ["configMap", "configMapRef", "configMapKeyRef"],
        _ => ["claimName", "volumeName", ""],
    };
    let quoted = serde_json::to_string(&wanted.name).unwrap_or_default();
    core.builtin_list("pods", &wanted.namespace)
        .iter()
        .filter(|pod| json::text(pod, &["spec", "nodeName"]) == node && !meta::name(pod).is_empty())
        .any(|pod| {
            let text = pod["spec"].to_string();
            text.contains(&quoted) && key.iter().any(|key| !key.is_empty() && text.contains(key))
        })
}
