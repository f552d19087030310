//! Bad input is refused as early as it can be known, with the field and the cure, and nothing else is made.

use anyhow::Result;
use kube::api::{Patch, PatchParams};
use lattice_tests::sandbox::{Sandbox, condition, lattice_clusters};
use serde_json::Value;

/// Applies the homelab file with `from` replaced by `to`, strictly, as kubectl does.
async fn apply(sandbox: &Sandbox, name: &str, from: &str, to: &str) -> Result<(), String> {
    let text = crate::homelab(name);
    assert!(text.contains(from), "{from} is in the file");
    let object: Value = serde_saphyr::from_str(&text.replace(from, to)).map_err(|error| error.to_string())?;
    let client = sandbox.parent().await.map_err(|error| error.to_string())?;
    let mut params = PatchParams::apply("user");
    params.field_validation = Some(kube::api::ValidationDirective::Strict);
    let result = lattice_clusters(client).patch(name, &params, &Patch::Apply(object)).await;
    result.map(drop).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schema_can_know_is_refused_and_the_rest_waits_with_all_its_errors() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    let refused = [
        ("typo", "replicas: 3", "replica: 3", "replica"),
        ("even", "replicas: 1", "replicas: 2", "odd"),
        ("two", "      proxmox:\n", "      docker: {}\n      proxmox:\n", "config"),
        ("version", "1.32.0", "latest", "version"),
    ];
    for (name, from, to, expected) in refused {
        match apply(&sandbox, name, from, to).await {
            Err(message) => assert!(message.contains(expected), "{name}: {message}"),
            Ok(()) => {
                let object =
                    sandbox.cluster_until(name, |object| condition(object, "Validated")["status"] == "False").await?;
                let message = condition(&object, "Validated")["message"].as_str().unwrap_or_default().to_owned();
                assert!(message.contains(expected), "{name}: {message}");
            }
        }
    }
    apply(&sandbox, "crowded", "replicas: 3", "replicas: 12").await.map_err(anyhow::Error::msg)?;
    let object = sandbox.cluster_until("crowded", |object| condition(object, "Validated")["status"] == "False").await?;
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(condition(&object, "Validated")["reason"], "AddressPoolTooSmall");
    let message = condition(&object, "Validated")["message"].as_str().unwrap_or_default();
    assert!(message.contains("spec.provider.config.proxmox.ipv4Pool.range") && message.contains("10"), "{message}");
    let clusters = sandbox.list("cluster.x-k8s.io/v1beta2", "Cluster", "clusters").await?;
    assert_eq!(clusters.len(), 1, "nothing is made for a cluster that waits");
    Ok(())
}
