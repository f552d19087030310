//! A whole provision is one trace, across the tunnel and across a killed manager.

use std::collections::BTreeMap;

use anyhow::Result;
use lattice_tests::collector::{Collector, Span};
use lattice_tests::sandbox::Sandbox;

async fn provision(kill: bool) -> Result<Vec<Span>> {
    let mut collector = Collector::start().await?;
    let sandbox = Sandbox::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .start()
        .await?;
    if kill {
        sandbox.phase("backend", "Bootstrapping").await?;
        sandbox.replace("manager", "KILL").await?;
    }
    sandbox.phase("backend", "Ready").await?;
    collector
        .until(|spans| {
            spans.iter().any(|span| span.name == "cluster.provision")
                && spans.iter().any(|span| span.name == "component.apply")
        })
        .await
}

/// Checks the tree: one root, everything of the operation below it, each part there.
fn assert_tree(spans: &[Span]) {
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "cluster.provision").collect();
    assert_eq!(roots.len(), 1, "one root: {roots:#?}");
    let root = roots[0];
    assert!(root.parent.is_empty(), "the root has no parent");
    let ours: BTreeMap<&str, &Span> =
        spans.iter().filter(|span| span.trace == root.trace).map(|span| (span.id.as_str(), span)).collect();
    for name in [
        "phase.provisioning",
        "phase.bootstrapping",
        "effect.perform",
        "component.install",
        "component.gate",
        "component.apply",
    ] {
        let of_name: Vec<_> = ours.values().filter(|span| span.name == name).collect();
        assert!(!of_name.is_empty(), "{name} is in the trace of the operation");
        for span in of_name {
            assert!(
                span.parent == root.id || ours.contains_key(span.parent.as_str()) || span.parent.is_empty(),
                "{name} hangs on a span that was never exported"
            );
            assert!(!span.parent.is_empty(), "{name} is below the root");
        }
    }
    assert!(
        ours.values().any(|span| span.service.contains("agent"))
            && ours.values().any(|span| span.service.contains("manager")),
        "both daemons are in the same trace"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_is_one_tree_of_spans() -> Result<()> {
    assert_tree(&provision(false).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_killed_in_the_middle_leaves_no_orphan() -> Result<()> {
    let spans = provision(true).await?;
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "cluster.provision").collect();
    assert_eq!(roots.len(), 1, "whoever ends the operation exports its root");
    let trace = &roots[0].trace;
    assert!(spans.iter().any(|span| &span.trace == trace && span.name == "phase.bootstrapping"));
    Ok(())
}
