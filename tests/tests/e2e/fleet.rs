//! One cluster cannot hurt another.

use anyhow::Result;
use lattice_tests::sandbox::{Sandbox, condition};

#[tokio::test(flavor = "multi_thread")]
async fn nine_clusters_are_ready_beside_a_poisoned_one() -> Result<()> {
    let mut builder = Sandbox::builder().fault("cluster=poisoned,actor=panic");
    let names: Vec<String> = (1..=9).map(|number| format!("edge-{number}")).collect();
    for name in names.iter().map(String::as_str).chain(["poisoned"]) {
        builder = builder.file(&format!("{name}.yaml"), crate::homelab(name));
    }
    let sandbox = builder.start().await?;
    for name in &names {
        sandbox.phase(name, "Ready").await?;
    }
    let poisoned =
        sandbox.cluster_until("poisoned", |object| condition(object, "Ready")["reason"] == "Quarantined").await?;
    assert_eq!(condition(&poisoned, "Ready")["status"], "False");
    Ok(())
}
