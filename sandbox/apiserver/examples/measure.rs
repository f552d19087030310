//! Measures what a server costs: how fast it starts, what an idle one weighs, how many requests it answers.
//!
//! `cargo run --release -p lattice-apiserver --example measure -- [INSTANCES] [OBJECTS]`

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchParams};
use lattice_apiserver::{ApiServer, Config};
use serde_json::json;
use tokio::time::Instant;

type Error = Box<dyn std::error::Error>;

/// Objects that the rates are measured with.
const REQUESTS: usize = 5000;

/// What the process holds in memory, KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn map(name: &str) -> Result<ConfigMap, Error> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v".repeat(200)}}))?)
}

fn rate(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (instances, objects) = (numbers.first().copied().unwrap_or(500), numbers.get(1).copied().unwrap_or(20));
    let mut out = std::io::stdout();
    let before = memory();
    let begun = Instant::now();
    let first = ApiServer::new(Config::default())?;
    let _serving = first.serve("127.0.0.1:0".parse()?).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(first.client());
    maps.list(&ListParams::default()).await?;
    writeln!(out, "start to first answer: {:?}", begun.elapsed())?;
    writeln!(out, "first instance: {} KiB", memory() - before)?;

    let begun = Instant::now();
    for n in 0..REQUESTS {
        maps.create(&PostParams::default(), &map(&format!("m{n}"))?).await?;
    }
    writeln!(out, "create: {:.0}/s", rate(REQUESTS, begun.elapsed()))?;
    let begun = Instant::now();
    for n in 0..REQUESTS {
        maps.get(&format!("m{n}")).await?;
    }
    writeln!(out, "get: {:.0}/s", rate(REQUESTS, begun.elapsed()))?;
    let begun = Instant::now();
    maps.list(&ListParams::default()).await?;
    writeln!(out, "list of {REQUESTS}: {:?}", begun.elapsed())?;
    let begun = Instant::now();
    let seen: Vec<_> = maps.watch(&WatchParams::default(), "0").await?.take(REQUESTS).try_collect().await?;
    writeln!(out, "watch: {:.0} events/s", rate(seen.len(), begun.elapsed()))?;
    drop((maps, first));

    let before = memory();
    let begun = Instant::now();
    let mut servers: Vec<Arc<ApiServer>> = Vec::new();
    for _ in 0..instances {
        let server = ApiServer::new(Config { controllers: true, ..Config::default() })?;
        let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
        for n in 0..objects {
            maps.create(&PostParams::default(), &map(&format!("m{n}"))?).await?;
        }
        servers.push(server);
    }
    let each = (memory().saturating_sub(before)) / u64::try_from(instances.max(1))?;
    writeln!(out, "{instances} instances with {objects} objects each: {:?}, {each} KiB each", begun.elapsed())?;
    Ok(())
}
