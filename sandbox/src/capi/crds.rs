//! Small CustomResourceDefinitions of the kinds: names, versions, columns and status; any field is kept.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::kind::Kind;

/// The definitions, as an API server takes them.
pub fn all() -> Vec<CustomResourceDefinition> {
    Kind::all().into_iter().filter_map(|kind| serde_json::from_value(definition(kind)).ok()).collect()
}

fn definition(kind: Kind) -> Value {
    let singular = kind.name().to_ascii_lowercase();
    let mut version = json!({
        "name": kind.version(), "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {
            "type": "object",
            "description": format!("{} as the sandbox simulates it; any field is kept.", kind.name()),
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "status": status_schema(),
            },
        }},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns(kind),
    });
    if matches!(kind, Kind::ControlPlane | Kind::Deployment | Kind::Set) {
        version["subresources"]["scale"] = json!({
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        });
    }
    let mut names = json!({
        "plural": format!("{singular}s"), "singular": singular, "kind": kind.name(),
        "listKind": format!("{}List", kind.name()), "categories": ["cluster-api"],
    });
    if let Some(short) = short_name(kind) {
        names["shortNames"] = json!([short]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{singular}s.{}", kind.group()),
            "labels": {
                "cluster.x-k8s.io/v1beta2": kind.version(),
                "clusterctl.cluster.x-k8s.io": "",
            },
            "annotations": {"sandbox.lattice.dev/simulated": "true"},
        },
        "spec": {"group": kind.group(), "scope": "Namespaced", "names": names, "versions": [version]},
    })
}

fn status_schema() -> Value {
    json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"conditions": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object", "required": ["type", "status"],
                "properties": {
                    "type": {"type": "string"}, "status": {"type": "string"}, "reason": {"type": "string"},
                    "message": {"type": "string"}, "observedGeneration": {"type": "integer", "format": "int64"},
                    "lastTransitionTime": {"type": "string", "format": "date-time"},
                },
            },
        }},
    })
}

fn short_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Cluster => Some("cl"),
        Kind::ControlPlane => Some("kcp"),
        Kind::Deployment => Some("md"),
        Kind::Set => Some("ms"),
        Kind::Machine => Some("ma"),
        Kind::HealthCheck => Some("mhc"),
        _ => None,
    }
}

/// Columns of `kubectl get`: name, type, path.
fn columns(kind: Kind) -> Value {
    const AVAILABLE: (&str, &str, &str) =
        ("Available", "string", ".status.conditions[?(@.type==\"Available\")].status");
    const READY: (&str, &str, &str) = ("Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status");
    let counters = [
        ("Desired", "integer", ".spec.replicas"),
        ("Current", "integer", ".status.replicas"),
        ("Ready", "integer", ".status.readyReplicas"),
        ("Available", "integer", ".status.availableReplicas"),
        ("Up-to-date", "integer", ".status.upToDateReplicas"),
    ];
    let cluster = ("Cluster", "string", ".spec.clusterName");
    let label = ("Cluster", "string", ".metadata.labels['cluster\\.x-k8s\\.io/cluster-name']");
    let mut list = match kind {
        Kind::Cluster => vec![
            AVAILABLE,
            ("CP Desired", "integer", ".status.controlPlane.desiredReplicas"),
            ("CP Available", "integer", ".status.controlPlane.availableReplicas"),
            ("W Desired", "integer", ".status.workers.desiredReplicas"),
            ("W Available", "integer", ".status.workers.availableReplicas"),
            ("Phase", "string", ".status.phase"),
        ],
        Kind::ControlPlane => {
            let mut list =
                vec![label, AVAILABLE, ("Initialized", "boolean", ".status.initialization.controlPlaneInitialized")];
            list.extend(counters.iter().filter(|column| column.0 != "Available"));
            list.push(("Version", "string", ".status.version"));
            list
        }
        Kind::Deployment => {
            let mut list = vec![cluster, AVAILABLE];
            list.extend(counters.iter().filter(|column| column.0 != "Available"));
            list.push(("Phase", "string", ".status.phase"));
            list.push(("Version", "string", ".spec.template.spec.version"));
            list
        }
        Kind::Set => {
            let mut list = vec![cluster];
            list.extend(counters);
            list.push(("Version", "string", ".spec.template.spec.version"));
            list
        }
        Kind::Machine => vec![
            cluster,
            ("Node Name", "string", ".status.nodeRef.name"),
            READY,
            AVAILABLE,
            ("Phase", "string", ".status.phase"),
            ("Version", "string", ".spec.version"),
        ],
        Kind::HealthCheck => vec![
            cluster,
            ("Expected Machines", "integer", ".status.expectedMachines"),
            ("Current Healthy", "integer", ".status.currentHealthy"),
        ],
        Kind::Bootstrap => vec![label, ("Data secret created", "boolean", ".status.initialization.dataSecretCreated")],
        Kind::InfraCluster(_) => vec![
            label,
            ("Provisioned", "boolean", ".status.initialization.provisioned"),
            ("Endpoint", "string", ".spec.controlPlaneEndpoint.host"),
        ],
        Kind::InfraMachine(_) => vec![
            label,
            ("Provisioned", "boolean", ".status.initialization.provisioned"),
            READY,
            ("Provider ID", "string", ".spec.providerID"),
        ],
        Kind::BootstrapTemplate | Kind::InfraTemplate(_) => vec![label],
    };
    list.push(("Age", "date", ".metadata.creationTimestamp"));
    let column = |(name, kind, path): &(&str, &str, &str)| json!({"name": name, "type": kind, "jsonPath": path});
    list.iter().map(column).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_definition_that_reads_back() {
        assert_eq!(all().len(), Kind::all().len());
    }
}
