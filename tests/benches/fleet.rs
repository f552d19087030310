//! Drives N clusters from Pending to Ready with zero delays and prints what each costs.
//!
//! `cargo bench -p lattice-tests --bench fleet -- [N…]` (default 10 100), after `cargo build --release --bins`.
//! One line each: `figure <name> <value> <unit>`. Compare the figures of different N within one run, not between runs.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use lattice_tests::sandbox::{Sandbox, condition, lattice_clusters};
use tokio::time::Instant;

/// A cluster of one control-plane machine and one worker on the development provider.
fn cluster(number: usize) -> String {
    format!(
        "apiVersion: lattice.dev/v1alpha1
kind: LatticeCluster
metadata: {{name: bench-{number}}}
spec:
  latticeImage: ghcr.io/example/lattice:bench
  providerRef: docker
  provider:
    kubernetes: {{version: \"1.34.0\"}}
    config: {{docker: {{}}}}
  nodes:
    controlPlane: {{replicas: 1, instanceType: {{cores: 2, memoryGib: 4, diskGib: 20}}}}
    workerPools:
      default: {{replicas: 1, instanceType: {{cores: 2, memoryGib: 4, diskGib: 20}}}}
"
    )
}

/// Resident memory of a process, KiB.
fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

/// What one run of `count` clusters cost.
#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
async fn run(count: usize) -> Result<Vec<(String, f64, &'static str)>> {
    let all: String = (0..count).map(|number| format!("---\n{}", cluster(number))).collect();
    let begun = Instant::now();
    let sandbox = Sandbox::builder().arg("--speed").arg("0").file("clusters.yaml", all).start().await?;
    let base_kib = resident_kib(sandbox.manager_pid_soon().await?)?;
    let api = lattice_clusters(sandbox.parent().await?);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    let mut ready = BTreeSet::new();
    let watching = async {
        while ready.len() < count {
            let object = serde_json::to_value(events.try_next().await?.context("the watch ended")?)?;
            if condition(&object, "Ready")["status"] == "True" {
                ready.insert(object["metadata"]["name"].to_string());
            }
        }
        anyhow::Ok(())
    };
    let limit = Duration::from_secs(900);
    tokio::time::timeout(limit, watching)
        .await
        .with_context(|| format!("not all of {count} Ready after {limit:?}"))??;
    let seconds = begun.elapsed().as_secs_f64();
    let kib = resident_kib(sandbox.manager_pid()?)?;
    let each = count as f64;
    Ok(vec![
        (format!("clusters_per_second_{count}"), each / seconds, "clusters/s"),
        (format!("api_requests_per_cluster_{count}"), sandbox.requests().await? as f64 / each, "requests"),
        (format!("api_writes_per_cluster_{count}"), sandbox.writes().await? as f64 / each, "requests"),
        (format!("manager_memory_per_cluster_{count}"), kib.saturating_sub(base_kib) as f64 / each, "KiB"),
    ])
}

#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
#[tokio::main]
async fn main() -> Result<()> {
    let mut counts: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![10, 100];
    }
    for count in counts {
        for (name, value, unit) in run(count).await? {
            println!("figure {name} {value:.2} {unit}");
        }
    }
    Ok(())
}
