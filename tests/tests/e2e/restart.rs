//! Killing a daemon at any moment loses nothing and doubles nothing.

use std::time::Duration;

use anyhow::Result;
use lattice_tests::sandbox::{Sandbox, condition};

use crate::made::made;

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_manager_again_and_again_changes_nothing_in_the_end() -> Result<()> {
    let calm = Sandbox::builder().start().await?;
    calm.phase("backend", "Ready").await?;
    let expected = made(&calm, "backend").await?;
    drop(calm);

    let sandbox = Sandbox::builder().start().await?;
    let mut phases: Vec<String> = Vec::new();
    let mut kills = 0;
    // One kill at each of the first states that become visible, whatever they are.
    loop {
        let mut changes = 0;
        let seen = sandbox
            .cluster_until("backend", |object| {
                let phase = object["status"]["phase"].as_str().unwrap_or_default().to_owned();
                if !phase.is_empty() && phases.last() != Some(&phase) {
                    phases.push(phase);
                }
                changes += 1;
                changes == 4 || condition(object, "Ready")["status"] == "True"
            })
            .await?;
        if condition(&seen, "Ready")["status"] == "True" || kills == 8 {
            break;
        }
        sandbox.replace("manager", "KILL").await?;
        kills += 1;
    }
    let ready = sandbox
        .cluster_until("backend", |object| {
            let phase = object["status"]["phase"].as_str().unwrap_or_default().to_owned();
            if !phase.is_empty() && phases.last() != Some(&phase) {
                phases.push(phase);
            }
            condition(object, "Ready")["status"] == "True"
        })
        .await?;
    assert!(kills >= 3, "the manager was killed {kills} times only");
    assert_eq!(phases, ["Pending", "Provisioning", "Bootstrapping", "Ready"], "a phase is resumed, not repeated");
    assert_eq!(ready["status"]["agent"]["connected"], true);
    let found = made(&sandbox, "backend").await?;
    let differs: Vec<_> = found.symmetric_difference(&expected).collect();
    assert!(differs.is_empty(), "nothing is made twice, nothing is missing: {differs:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_steady_state_writes_nothing() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    settle(&sandbox).await?;
    let before = sandbox.written().await?;
    let old = sandbox.cluster("backend").await?;
    sandbox.replace("manager", "KILL").await?;
    // Back when its agent can be reached again through the proxy.
    sandbox.connected("backend").await?;
    settle(&sandbox).await?;
    assert_eq!(sandbox.written().await?, before, "a restart writes nothing");
    assert_eq!(sandbox.cluster("backend").await?.metadata.resource_version, old.metadata.resource_version);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_comes_back() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    sandbox.replace("agent-backend", "KILL").await?;
    sandbox.connected("backend").await?;
    sandbox
        .cluster_until("backend", |object| {
            condition(object, "AgentConnected")["status"] == "True"
                && condition(object, "Ready")["status"] == "True"
                && object["status"]["phase"] == "Ready"
        })
        .await?;
    Ok(())
}

/// Waits until no write has come for three seconds.
async fn settle(sandbox: &Sandbox) -> Result<()> {
    let (mut before, mut quiet) = (sandbox.writes().await?, 0);
    while quiet < 6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = sandbox.writes().await?;
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(())
}
