//! What stalls is named, with numbers and since when; what is independent goes on; what heals needs no restart.

use anyhow::Result;
use lattice_tests::sandbox::{Sandbox, condition};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_held_back_stops_only_what_needs_it() -> Result<()> {
    let fault = "cluster=backend,kind=DaemonSet,name=ztunnel,ready=3";
    let sandbox = Sandbox::builder().fault(fault).start().await?;
    let held = sandbox
        .cluster_until("backend", |object| {
            condition(object, "SecretSync")["status"] == "True"
                && condition(object, "Mesh")["reason"] == "DaemonSetNotReady"
                && condition(object, "Mesh")["message"].as_str().is_some_and(|m| m.contains("ztunnel: 3/4"))
        })
        .await?;
    assert_eq!(held["status"]["phase"], "Bootstrapping");
    assert_eq!(condition(&held, "CNI")["status"], "True");
    assert_eq!(condition(&held, "CertManager")["status"], "True");
    let mesh = condition(&held, "Mesh");
    assert_eq!(mesh["status"], "False");
    assert!(mesh["message"].as_str().is_some_and(|m| m.contains("ztunnel: 3/4 nodes ready")), "{mesh}");
    assert_ne!(condition(&held, "PlatformOperator")["status"], "True");
    let pid = sandbox.manager_pid()?;
    sandbox.fault(&["clear", fault]).await?;
    sandbox.phase("backend", "Ready").await?;
    assert_eq!(sandbox.manager_pid()?, pid, "no restart was needed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_falls_ill_after_ready_degrades_and_recovers() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    sandbox.fault(&["set", "cluster=backend,kind=DaemonSet,name=ztunnel,ready=3"]).await?;
    let ill = sandbox.cluster_until("backend", |object| condition(object, "Degraded")["status"] == "True").await?;
    assert_eq!(ill["status"]["phase"], "Ready", "a phase never goes back for health");
    assert!(condition(&ill, "Mesh")["message"].as_str().is_some_and(|m| m.contains("ztunnel: 3/4")), "{ill:#}");
    sandbox.fault(&["clear"]).await?;
    sandbox
        .cluster_until("backend", |object| {
            condition(object, "Degraded")["status"] == "False" && condition(object, "Mesh")["status"] == "True"
        })
        .await?;
    Ok(())
}
