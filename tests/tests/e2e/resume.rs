//! A sandbox that was stopped goes on where it was.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use lattice_tests::sandbox::{Sandbox, condition};

/// Kinds of the parent whose objects must be the very same ones.
const KINDS: [(&str, &str, &str); 5] = [
    ("lattice.dev/v1alpha1", "LatticeCluster", "latticeclusters"),
    ("cluster.x-k8s.io/v1beta2", "Cluster", "clusters"),
    ("cluster.x-k8s.io/v1beta2", "MachineSet", "machinesets"),
    ("cluster.x-k8s.io/v1beta2", "Machine", "machines"),
    ("v1", "Secret", "secrets"),
];

/// Names and uids of what is there, on the parent and in the cluster.
async fn identities(sandbox: &Sandbox) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for (version, kind, plural) in KINDS {
        for object in sandbox.list(version, kind, plural).await? {
            all.insert(format!("{kind} {} {}", object.name_any(), object.uid().unwrap_or_default()));
        }
    }
    let child = sandbox.child("backend").await?;
    macro_rules! of_child {
        ($kind:ty) => {
            for object in Api::<$kind>::all(child.clone()).list(&ListParams::default()).await? {
                all.insert(format!("child {} {}", object.name_any(), object.uid().unwrap_or_default()));
            }
        };
    }
    of_child!(Node);
    of_child!(Pod);
    of_child!(Secret);
    Ok(all)
}

/// Waits until the manager runs and its agent can be reached.
async fn up(sandbox: &Sandbox) -> Result<()> {
    sandbox.manager_pid_soon().await?;
    sandbox.connected("backend").await?;
    sandbox.cluster_until("backend", |object| condition(object, "Ready")["status"] == "True").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_sandbox_goes_on_with_the_same_objects_and_comes_to_rest() -> Result<()> {
    let mut sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    up(&sandbox).await?;
    sandbox.fault(&["set", "cluster=backend,kind=DaemonSet,name=nothing,ready=1"]).await?;
    let before = identities(&sandbox).await?;
    // Ctrl-C, then no chance to say goodbye.
    for signal in ["INT", "KILL"] {
        sandbox.start_again(signal).await?;
        up(&sandbox).await?;
        let after = identities(&sandbox).await?;
        let differs: Vec<_> = before.symmetric_difference(&after).collect();
        assert!(differs.is_empty(), "after {signal}: {differs:#?}");
    }
    sandbox.fault(&["clear", "cluster=backend,kind=DaemonSet,name=nothing,ready=1"]).await?;
    let log = std::fs::read_to_string(sandbox.state().join("logs/agent-backend.log"))?;
    assert_eq!(
        log.lines().filter(|line| line.contains("enrolled expires=")).count(),
        1,
        "the agent keeps its identity"
    );
    // At rest within a while: five seconds in a row without a write.
    let (mut last, mut quiet) = (sandbox.writes().await?, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    for _ in 0..120 {
        tick.tick().await;
        let now = sandbox.writes().await?;
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        if quiet == 10 {
            return Ok(());
        }
    }
    anyhow::bail!("still writing after a minute: {:#?}", sandbox.written().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_is_stopped_on_its_way_arrives_all_the_same() -> Result<()> {
    let mut sandbox = Sandbox::builder().start().await?;
    for (phase, signal) in [("Provisioning", "INT"), ("Bootstrapping", "KILL")] {
        sandbox.phase("backend", phase).await?;
        sandbox.start_again(signal).await?;
    }
    sandbox.phase("backend", "Ready").await?;
    up(&sandbox).await?;
    let machines = sandbox.list("cluster.x-k8s.io/v1beta2", "Machine", "machines").await?;
    assert_eq!(machines.len(), 4, "no machine is made twice");
    Ok(())
}
