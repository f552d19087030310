//! The objects that every cluster begins with.

mod roles;

use serde_json::{Value, json};

use crate::core::Core;
use crate::json;
use crate::store::Key;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// Makes what is not there yet.
pub(crate) fn make(core: &Core) {
    let now = core.now();
    for name in NAMESPACES {
        put(
            core,
            "namespaces",
            "",
            name,
            json!({
                "kind": "Namespace", "apiVersion": "v1",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}, "managedFields": [{
                    "manager": "kube-apiserver", "operation": "Update", "apiVersion": "v1", "time": now,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}},
                }]},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            }),
            &now,
        );
    }
    roles::make(core, &now);
    for (name, value, text) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        put(
            core,
            "scheduling.k8s.io/priorityclasses",
            "",
            name,
            json!({
                "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {
                    "name": name, "generation": 1, "managedFields": [{
                        "manager": "kube-apiserver", "operation": "Update", "apiVersion": "scheduling.k8s.io/v1",
                        "time": now, "fieldsType": "FieldsV1",
                        "fieldsV1": {"f:description": {}, "f:preemptionPolicy": {}, "f:value": {}},
                    }],
                },
                "value": value, "description": text, "preemptionPolicy": "PreemptLowerPriority",
            }),
            &now,
        );
    }
    put(
        core,
        "configmaps",
        "kube-system",
        "extension-apiserver-authentication",
        json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": {"client-ca-file": core.ca},
        }),
        &now,
    );
    put(
        core,
        "services",
        "default",
        "kubernetes",
        json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}],
                "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "type": "ClusterIP", "sessionAffinity": "None",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster"},
            "status": {"loadBalancer": {}},
        }),
        &now,
    );
}

fn put(core: &Core, storage: &str, namespace: &str, name: &str, mut object: Value, now: &str) {
    let key = Key::new(namespace, name);
    if core.store.get(storage, &key).is_some() {
        return;
    }
    json::set(&mut object, &["metadata", "uid"], uuid::Uuid::new_v4().to_string().into());
    json::set(&mut object, &["metadata", "creationTimestamp"], now.into());
    let _ = core.store.create(storage, key, object);
}
