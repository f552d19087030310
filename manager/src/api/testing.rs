//! The homelab cluster and its provider, for tests.

use jiff::Timestamp;
use serde_json::json;

use super::{InfraProvider, LatticeCluster};

/// The homelab cluster, exactly as a user wrote it.
pub(crate) const HOMELAB: &str = r#"
apiVersion: lattice.dev/v1alpha1
kind: LatticeCluster
metadata:
  name: backend
  labels: {lattice.dev/environment: homelab, lattice.dev/role: backend}
spec:
  latticeImage: "ghcr.io/evan-hines-js/lattice:latest"
  providerRef: proxmox
  provider:
    kubernetes: {version: "1.32.0", bootstrap: kubeadm}
    config:
      proxmox:
        sourceNode: "poweredge-lg"
        templateId: 9000
        controlPlaneEndpoint: "10.0.1.110"
        bridge: "vmbr1"
        ipv4Pool: {range: "10.0.1.111-120/24", gateway: "10.0.1.1"}
  nodes:
    controlPlane:
      replicas: 1
      instanceType: {cores: 4, memoryGib: 16, diskGib: 50}
    workerPools:
      default:
        replicas: 3
        instanceType: {cores: 12, memoryGib: 64, diskGib: 250}
  services: true
  monitoring: {enabled: false}
  backups: {enabled: false}
"#;

/// Its uid.
pub(crate) const UID: &str = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab";

pub(crate) fn homelab() -> LatticeCluster {
    let mut cluster: LatticeCluster = serde_saphyr::from_str(HOMELAB).expect("the homelab cluster reads");
    cluster.metadata.uid = Some(UID.to_owned());
    cluster.metadata.generation = Some(1);
    cluster.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(start()));
    cluster
}

pub(crate) fn start() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().expect("a time")
}

pub(crate) fn provider() -> InfraProvider {
    serde_json::from_value(json!({
        "apiVersion": "lattice.dev/v1alpha1", "kind": "InfraProvider", "metadata": {"name": "proxmox"},
        "spec": {"type": "proxmox", "credentialsSecretRef": {"name": "pve", "namespace": "lattice-system"}}
    }))
    .expect("a provider")
}
