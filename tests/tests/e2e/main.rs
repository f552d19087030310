//! The built binaries in the sandbox, looked at from outside: what a user does, and what a user sees.

mod api_alone;
mod bad_input;
mod deletion;
mod explained;
mod faults;
mod fleet;
mod made;
mod ready;
mod restart;
mod resume;
mod telemetry;

/// The homelab example, as a user wrote it, under another name.
fn homelab(name: &str) -> String {
    HOMELAB.replace("name: backend", &format!("name: {name}"))
}

/// A user's real file.
const HOMELAB: &str = r#"apiVersion: lattice.dev/v1alpha1
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
