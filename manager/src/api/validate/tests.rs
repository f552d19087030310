//! Errors that a person meets, each with its path and cure.

use std::collections::BTreeSet;

use super::{reason_of, validate};
use crate::api::{LatticeCluster, Reason, testing};

fn components() -> BTreeSet<String> {
    ["cilium", "istio", "vmagent"].map(str::to_owned).into()
}

/// The homelab cluster with one value set; the path is a JSON pointer below `spec`.
fn with(sets: &[(&str, serde_json::Value)]) -> LatticeCluster {
    let mut value = serde_json::to_value(testing::homelab()).expect("a cluster is data");
    for (path, new) in sets {
        let (parent, key) = path.rsplit_once('/').expect("a pointer");
        let parent = value.pointer_mut(&format!("/spec{parent}")).expect("the parent is there");
        parent[key] = new.clone();
    }
    serde_json::from_value(value).expect("a cluster")
}

#[track_caller]
fn refused(sets: &[(&str, serde_json::Value)], path: &str, reason: Reason, says: &str) {
    let errors = validate(&with(sets), Some(&testing::provider()), &components());
    let found = errors.iter().find(|error| error.path == path);
    let error = found.unwrap_or_else(|| panic!("nothing said about {path}: {errors:?}"));
    assert_eq!(error.reason, reason, "{error}");
    assert!(error.message.contains(says), "{error} should say {says:?}");
}

#[test]
fn the_homelab_cluster_is_accepted_as_written() {
    assert_eq!(validate(&testing::homelab(), Some(&testing::provider()), &components()), []);
}

#[test]
fn counts_and_sizes_are_checked() {
    let two = serde_json::json!(2);
    let control_plane = "spec.nodes.controlPlane.replicas";
    refused(&[("/nodes/controlPlane/replicas", two)], control_plane, Reason::InvalidSpec, "use 1, 3, 5 or 7");
    let named = serde_json::json!({"name": "m6i.large"});
    refused(
        &[("/nodes/controlPlane/instanceType", named)],
        "spec.nodes.controlPlane.instanceType.name",
        Reason::InvalidSpec,
        "set cores, memoryGib and diskGib",
    );
    let half = serde_json::json!({"cores": 4});
    let path = "spec.nodes.workerPools.default.instanceType";
    refused(&[("/nodes/workerPools/default/instanceType", half)], path, Reason::InvalidSpec, "incomplete");
    let none = serde_json::json!({"instanceType": {"cores": 1, "memoryGib": 1, "diskGib": 10}});
    refused(
        &[("/nodes/workerPools/Bad_Name", none.clone())],
        "spec.nodes.workerPools.Bad_Name",
        Reason::InvalidSpec,
        "lower-case",
    );
    refused(
        &[("/nodes/workerPools/cp", none.clone())],
        "spec.nodes.workerPools.cp",
        Reason::InvalidSpec,
        "another name",
    );
    refused(&[("/nodes/workerPools/x", none)], "spec.nodes.workerPools.x.replicas", Reason::InvalidSpec, "missing");
}

#[test]
fn a_pool_must_fit_into_its_addresses_with_replacements() {
    // 1 + 3 nodes and two replacements: six addresses are enough, five are not.
    let range = |text: &str| vec![("/provider/config/proxmox/ipv4Pool/range", serde_json::json!(text))];
    let six = validate(&with(&range("10.0.1.111-116/24")), Some(&testing::provider()), &components());
    assert_eq!(six, []);
    let path = "spec.provider.config.proxmox.ipv4Pool.range";
    refused(
        &range("10.0.1.111-115/24"),
        path,
        Reason::AddressPoolTooSmall,
        "holds 5 addresses, and 4 nodes with 2 more",
    );
    refused(&range("10.0.1.120-111/24"), path, Reason::InvalidSpec, "lower address first");
    refused(&range("10.0.1.1-120/24"), path, Reason::InvalidSpec, "gateway");
    let endpoint = "spec.provider.config.proxmox.controlPlaneEndpoint";
    refused(&range("10.0.1.105-120/24"), endpoint, Reason::InvalidSpec, "take it out of the range");
}

#[test]
fn networks_must_not_overlap() {
    let network = |pods: &str, services: &str| {
        vec![("/provider/kubernetes/clusterNetwork", serde_json::json!({"podCidr": pods, "serviceCidr": services}))]
    };
    let path = "spec.provider.kubernetes.clusterNetwork";
    refused(&network("10.96.0.0/12", "10.96.0.0/16"), path, Reason::NetworkOverlap, "choose networks");
    refused(&network("10.0.0.0/8", "172.16.0.0/16"), &format!("{path}.podCidr"), Reason::NetworkOverlap, "10.0.1.0/24");
    refused(
        &network("10.244.0.1/16", "10.96.0.0/16"),
        &format!("{path}.podCidr"),
        Reason::InvalidSpec,
        "10.244.0.0/16",
    );
}

#[test]
fn exactly_one_provider_that_matches() {
    let config = "spec.provider.config";
    let docker = serde_json::json!({});
    refused(&[("/provider/config/docker", docker.clone())], config, Reason::InvalidSpec, "keep the one that matches");
    refused(&[("/provider/config", serde_json::json!({}))], config, Reason::InvalidSpec, "exactly one");
    refused(
        &[("/provider/config", serde_json::json!({"docker": {}}))],
        config,
        Reason::ProviderMismatch,
        "InfraProvider proxmox is of type proxmox",
    );
}

#[test]
fn versions_outside_the_matrix_are_refused_with_the_matrix() {
    let path = "spec.provider.kubernetes.version";
    let version = |text: &str| vec![("/provider/kubernetes/version", serde_json::json!(text))];
    refused(&version("1.30.4"), path, Reason::VersionNotSupported, "1.31.x to 1.36.x");
    refused(&version("1.32"), path, Reason::InvalidSpec, "1.32.0");
}

#[test]
fn features_without_their_settings_are_refused() {
    let on = serde_json::json!({"enabled": true});
    refused(&[("/monitoring", on.clone())], "spec.monitoring.remoteWriteUrl", Reason::InvalidSpec, "required");
    refused(&[("/backups", on)], "spec.backups.location", Reason::InvalidSpec, "required");
}

#[test]
fn work_that_does_not_exist_yet_is_named_by_its_path() {
    let cases = [
        ("/provider/kubernetes/bootstrap", serde_json::json!("rke2"), "spec.provider.kubernetes.bootstrap"),
        ("/ownership", serde_json::json!({"mode": "self"}), "spec.ownership.mode"),
        ("/deletion", serde_json::json!({"policy": "Orphan"}), "spec.deletion.policy"),
        ("/backups", serde_json::json!({"enabled": true}), "spec.backups.enabled"),
        ("/backups", serde_json::json!({"schedule": "0 3 * * *"}), "spec.backups.schedule"),
        ("/secretStore", serde_json::json!({"name": "vault", "spec": {}}), "spec.secretStore"),
        ("/parentConfig", serde_json::json!({}), "spec.parentConfig"),
        ("/nodes/workerPools/default/min", serde_json::json!(1), "spec.nodes.workerPools.default.min"),
        (
            "/nodes/workerPools/default/failureDomain",
            serde_json::json!("a"),
            "spec.nodes.workerPools.default.failureDomain",
        ),
        ("/provider/config", serde_json::json!({"aws": {"region": "eu"}}), "spec.provider.config.aws"),
        (
            "/monitoring",
            serde_json::json!({"credentialsSecretRef": {"name": "x"}}),
            "spec.monitoring.credentialsSecretRef",
        ),
    ];
    for (pointer, value, path) in cases {
        refused(&[(pointer, value)], path, Reason::NotYetSupported, "not supported by this version");
    }
}

#[test]
fn unknown_components_are_refused_with_those_that_exist() {
    let given = serde_json::json!({"calico": {"enabled": true}});
    refused(&[("/components", given)], "spec.components.calico", Reason::InvalidSpec, "cilium, istio, vmagent");
}

#[test]
fn all_errors_come_at_once() {
    let cluster = with(&[
        ("/nodes/controlPlane/replicas", serde_json::json!(4)),
        ("/provider/kubernetes/version", serde_json::json!("1.40.0")),
        ("/provider/config/proxmox/ipv4Pool/range", serde_json::json!("10.0.1.111-112/24")),
        ("/ownership", serde_json::json!({"mode": "self"})),
    ]);
    let errors = validate(&cluster, Some(&testing::provider()), &components());
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert_eq!(reason_of(&errors), Reason::InvalidSpec);
    assert_eq!(reason_of(&errors[..1]), errors[0].reason);
}

#[test]
fn names_are_checked() {
    let mut cluster = testing::homelab();
    cluster.metadata.name = Some("system".to_owned());
    let errors = validate(&cluster, None, &components());
    assert!(errors.iter().any(|error| error.path == "metadata.name"), "{errors:?}");
}
