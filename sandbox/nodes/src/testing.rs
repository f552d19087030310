//! Objects for the tests of this crate.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::meta;
use crate::op::{Object, Op, Plan};

/// Reads an object from JSON.
pub(crate) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a test object")
}

/// A pod of `owner`, ready or not.
pub(crate) fn pod<K: Resource<DynamicType = ()>>(owner: &K, name: &str, ready: bool) -> Pod {
    let mut pod: Pod = object(json!({
        "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")},
        "spec": {"containers": [], "nodeName": "node"},
        "status": {"phase": "Running", "conditions": [{
            "type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }));
    pod.metadata.owner_references = Some(vec![meta::owner_reference(owner)]);
    pod
}

/// A ready node without taints.
pub(crate) fn node(name: &str) -> Arc<Node> {
    Arc::new(object(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })))
}

/// Pods that a plan creates.
pub(crate) fn creates(plan: &Plan) -> Vec<&Pod> {
    fn pod(op: &Op) -> Option<&Pod> {
        match op {
            Op::Create(Object::Pod(pod)) => Some(pod.as_ref()),
            _ => None,
        }
    }
    plan.ops.iter().filter_map(pod).collect()
}

/// Names that a plan deletes.
pub(crate) fn deletes(plan: &Plan) -> Vec<&str> {
    fn name(op: &Op) -> Option<&str> {
        match op {
            Op::Delete { name, .. } => Some(name.name.as_str()),
            _ => None,
        }
    }
    plan.ops.iter().filter_map(name).collect()
}

/// The status that a plan writes.
pub(crate) fn status(plan: &Plan) -> Option<&Object> {
    plan.ops.iter().find_map(|op| match op {
        Op::Status(object) => Some(object),
        _ => None,
    })
}
