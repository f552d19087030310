//! Deleting leaves nothing, at whatever point it begins; the same file again gives the same objects.

use anyhow::Result;
use kube::api::{DeleteParams, Patch, PatchParams};
use lattice_tests::sandbox::{Sandbox, lattice_clusters};
use serde_json::Value;

use crate::made::made;

async fn delete_and_look(sandbox: &Sandbox, uid: &str) -> Result<()> {
    lattice_clusters(sandbox.parent().await?).delete("backend", &DeleteParams::default()).await?;
    let mut deleting = false;
    sandbox
        .cluster_until("backend", |object| {
            deleting |= object["status"]["phase"] == "Deleting";
            object.is_null()
        })
        .await?;
    assert!(deleting, "the phase Deleting is seen");
    for (version, kind, plural) in [
        ("cluster.x-k8s.io/v1beta2", "Cluster", "clusters"),
        ("cluster.x-k8s.io/v1beta2", "Machine", "machines"),
        ("cluster.x-k8s.io/v1beta2", "MachineDeployment", "machinedeployments"),
        ("controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlane", "kubeadmcontrolplanes"),
        ("infrastructure.cluster.x-k8s.io/v1alpha2", "ProxmoxCluster", "proxmoxclusters"),
        ("infrastructure.cluster.x-k8s.io/v1alpha2", "ProxmoxMachine", "proxmoxmachines"),
    ] {
        let left: Vec<_> = sandbox.list(version, kind, plural).await?.into_iter().map(|o| o.metadata.name).collect();
        assert!(left.is_empty(), "{kind} left: {left:?}");
    }
    let secrets: Vec<_> =
        sandbox.list("v1", "Secret", "secrets").await?.into_iter().filter_map(|secret| secret.metadata.name).collect();
    assert!(!secrets.iter().any(|name| name.contains(uid) || name.starts_with("backend-")), "left: {secrets:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_cluster_is_deleted_whole_and_can_come_again() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    let ready = sandbox.phase("backend", "Ready").await?;
    let uid = ready["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let first = made(&sandbox, "backend").await?;
    delete_and_look(&sandbox, &uid).await?;
    let again: Value = serde_saphyr::from_str(crate::HOMELAB)?;
    lattice_clusters(sandbox.parent().await?)
        .patch("backend", &PatchParams::apply("user"), &Patch::Apply(again))
        .await?;
    let second = sandbox.phase("backend", "Ready").await?;
    assert_ne!(second["metadata"]["uid"], ready["metadata"]["uid"]);
    assert_eq!(second["status"]["nodes"], ready["status"]["nodes"]);
    assert_eq!(made(&sandbox, "backend").await?, first, "the same file gives the same objects");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_still_provisioning_is_deleted_whole() -> Result<()> {
    let sandbox = Sandbox::builder().fault("cluster=backend,infrastructure=stall").start().await?;
    let half = sandbox.phase("backend", "Provisioning").await?;
    let uid = half["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    delete_and_look(&sandbox, &uid).await
}
