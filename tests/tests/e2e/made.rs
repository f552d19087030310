//! What was made for a cluster, in a form that two runs can be compared by.

use std::collections::BTreeSet;

use anyhow::Result;
use lattice_tests::sandbox::Sandbox;
use serde_json::Value;

/// The kinds whose objects are compared.
const KINDS: [(&str, &str, &str); 7] = [
    ("cluster.x-k8s.io/v1beta2", "Cluster", "clusters"),
    ("cluster.x-k8s.io/v1beta2", "MachineDeployment", "machinedeployments"),
    ("cluster.x-k8s.io/v1beta2", "MachineHealthCheck", "machinehealthchecks"),
    ("controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlane", "kubeadmcontrolplanes"),
    ("bootstrap.cluster.x-k8s.io/v1beta2", "KubeadmConfigTemplate", "kubeadmconfigtemplates"),
    ("infrastructure.cluster.x-k8s.io/v1alpha2", "ProxmoxMachineTemplate", "proxmoxmachinetemplates"),
    ("v1", "Secret", "secrets"),
];

/// What the manager has made in the parent for a cluster: kind, name and spec, the cluster's UID apart.
pub(crate) async fn made(sandbox: &Sandbox, cluster: &str) -> Result<BTreeSet<String>> {
    let uid = sandbox.cluster(cluster).await?.metadata.uid.unwrap_or_default();
    let mut all = BTreeSet::new();
    for (version, kind, plural) in KINDS {
        for object in sandbox.list(version, kind, plural).await? {
            let name = object.metadata.name.clone().unwrap_or_default();
            // Secrets that the simulated Cluster API makes carry the random names of their machines.
            let owned = object.metadata.owner_references.iter().flatten().any(|o| o.kind == "KubeadmConfig");
            if !owned && !name.starts_with("lattice-identity-") {
                let spec = object.data.get("spec").unwrap_or(&Value::Null).to_string().replace(&uid, "<uid>");
                all.insert(format!("{kind} {name} {spec}"));
            }
        }
    }
    Ok(all)
}
