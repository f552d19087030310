//! Fields whose work does not exist yet: said, never silently ignored.

use std::collections::BTreeSet;

use super::Errors;
use crate::api::Reason;
use crate::api::cluster::{DeletionPolicy, KubernetesBootstrap, LatticeClusterSpec, OwnershipMode};

pub(super) fn check(spec: &LatticeClusterSpec, components: &BTreeSet<String>, errors: &mut Errors) {
    let mut later = |path: String, what: &str| {
        errors.add(path, Reason::NotYetSupported, format!("{what} is not supported by this version: remove the field"));
    };
    if spec.provider.config.aws.is_some() {
        later("spec.provider.config.aws".into(), "AWS");
    }
    match spec.provider.kubernetes.bootstrap {
        KubernetesBootstrap::Kubeadm => {}
        KubernetesBootstrap::Rke2 => {
            later("spec.provider.kubernetes.bootstrap".into(), "bootstrap with rke2 (use kubeadm)");
        }
        KubernetesBootstrap::K3s => {
            later("spec.provider.kubernetes.bootstrap".into(), "bootstrap with k3s (use kubeadm)");
        }
    }
    for (name, pool) in &spec.nodes.worker_pools {
        let path = |field: &str| format!("spec.nodes.workerPools.{name}.{field}");
        if pool.min.is_some() {
            later(path("min"), "autoscaling (use replicas)");
        }
        if pool.max.is_some() {
            later(path("max"), "autoscaling (use replicas)");
        }
        if pool.failure_domain.is_some() {
            later(path("failureDomain"), "a failure domain on this provider");
        }
    }
    if spec.secret_store.is_some() {
        later("spec.secretStore".into(), "a ClusterSecretStore");
    }
    if spec.monitoring.credentials_secret_ref.is_some() {
        later("spec.monitoring.credentialsSecretRef".into(), "remote write with credentials");
    }
    if spec.backups.enabled {
        later("spec.backups.enabled".into(), "backup");
    }
    if spec.backups.location.is_some() {
        later("spec.backups.location".into(), "backup");
    }
    if spec.backups.schedule.is_some() {
        later("spec.backups.schedule".into(), "backup");
    }
    if spec.parent_config.is_some() {
        later("spec.parentConfig".into(), "a child that is a parent itself");
    }
    match spec.ownership.mode {
        OwnershipMode::Parent => {}
        OwnershipMode::Itself => later("spec.ownership.mode".into(), "self (handing the cluster its own reins)"),
    }
    match spec.deletion.policy {
        DeletionPolicy::Delete => {}
        DeletionPolicy::Orphan => later("spec.deletion.policy".into(), "Orphan"),
    }
    overrides(spec, components, errors);
}

/// Names are checked here; versions and values are the catalog's to judge.
fn overrides(spec: &LatticeClusterSpec, components: &BTreeSet<String>, errors: &mut Errors) {
    for name in spec.components.keys().filter(|name| !components.contains(*name)) {
        let known: Vec<&str> = components.iter().map(String::as_str).collect();
        errors.add(
            format!("spec.components.{name}"),
            Reason::InvalidSpec,
            format!("no component of this name: use one of {}", known.join(", ")),
        );
    }
}
