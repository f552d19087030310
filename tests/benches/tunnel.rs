//! What the tunnel costs, each figure beside its baseline of the same run.
//!
//! `cargo bench -p lattice-tests --bench tunnel`, after `cargo build --release --bins`; the agent's memory is that of
//! `target/dist/lattice-agent` where it was built (`cargo build --profile dist -p lattice-agent`). One line each:
//! `figure <name> <value> <unit>`. Compare figures within a run: a busy machine moves them all.

#[path = "tunnel/daemon.rs"]
mod daemon;
#[path = "tunnel/fleet.rs"]
mod fleet;
#[path = "tunnel/flood.rs"]
mod flood;
#[path = "tunnel/flow.rs"]
mod flow;
#[path = "tunnel/handshake.rs"]
mod handshake;
#[path = "tunnel/small.rs"]
mod small;

use anyhow::Result;

/// One line of the result.
#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// A number given as `--name=7`.
pub fn option(name: &str) -> Option<u64> {
    std::env::args().find_map(|arg| arg.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// CPU time of this process so far, seconds.
pub fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    // utime and stime, in hundredths of a second.
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// A line of a process's status, KiB.
pub fn memory_kib(pid: &str, line: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.split_whitespace().next());
    Ok(found.unwrap_or("0").parse()?)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    if std::env::args().any(|arg| arg == "--agents") {
        return fleet::agents().await;
    }
    if std::env::args().any(|arg| arg == "--flood") {
        return flood::flood().await;
    }
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    if wanted("flow") {
        flow::run().await?;
    }
    if wanted("handshake") {
        handshake::run().await?;
    }
    if wanted("fleet") {
        fleet::run().await?;
    }
    if wanted("flood") {
        flood::run().await?;
    }
    if wanted("daemon") {
        daemon::run().await?;
    }
    Ok(())
}
