//! Measures what a server costs: how fast it starts, what an idle one weighs, how many requests it answers.
//!
//! `cargo bench -p lattice-apiserver --bench server`; figures come out as `figure <name> <value> <unit>`. With
//! `LATTICE_CRDS_DIR` the server is also weighed with all definitions of that folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, ListParams, PostParams, WatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use lattice_apiserver::{ApiServer, Config};
use serde_json::{Value, json};
use tokio::time::Instant;

type Error = Box<dyn std::error::Error>;

/// Objects that the rates are measured with.
const REQUESTS: usize = 5000;
/// Servers in one process, and objects in each.
const INSTANCES: usize = 500;
const OBJECTS: usize = 20;

#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// What the process holds in memory, KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn map(name: &str) -> Result<ConfigMap, Error> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v".repeat(200)}}))?)
}

fn rate(name: &str, count: usize, took: Duration) {
    figure(name, number(count) / took.as_secs_f64(), "per_second");
}

/// Measures a client's requests, one after another.
async fn requests(way: &str, client: Client) -> Result<(), Error> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let name = |what: &str| format!("apiserver_{way}_{what}");
    let begun = Instant::now();
    for n in 0..REQUESTS {
        maps.create(&PostParams::default(), &map(&format!("{way}{n}"))?).await?;
    }
    rate(&name("create"), REQUESTS, begun.elapsed());
    let begun = Instant::now();
    for n in 0..REQUESTS {
        maps.get(&format!("{way}{n}")).await?;
    }
    rate(&name("get"), REQUESTS, begun.elapsed());
    let begun = Instant::now();
    let listed = maps.list(&ListParams::default()).await?.items.len();
    rate(&name("list_objects"), listed, begun.elapsed());
    let begun = Instant::now();
    let seen: Vec<_> = maps.watch(&WatchParams::default(), "0").await?.take(listed).try_collect().await?;
    rate(&name("watch_events"), seen.len(), begun.elapsed());
    Ok(())
}

/// Installs every definition of a folder.
async fn install(client: Client, folder: &Path) -> Result<usize, Error> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
    let definitions: Api<DynamicObject> = Api::all_with(client, &kind);
    let mut count = 0;
    let mut files: Vec<_> = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path)?.filter_map(Result::ok).map(|entry| entry.path()));
            continue;
        }
        if !path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            continue;
        }
        for document in std::fs::read_to_string(&path)?.split("\n---") {
            let Ok(value) = serde_saphyr::from_str::<Value>(document) else { continue };
            if value["kind"] == "CustomResourceDefinition" {
                definitions.create(&PostParams::default(), &serde_json::from_value(value)?).await?;
                count += 1;
            }
        }
    }
    Ok(count)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let before = memory();
    let begun = Instant::now();
    let first = ApiServer::new(Config::default())?;
    let serving = first.serve("127.0.0.1:0".parse()?).await?;
    figure("apiserver_start", begun.elapsed().as_secs_f64() * 1000.0, "ms");
    figure("apiserver_idle_bare", mib(memory().saturating_sub(before)), "MiB");
    let maps: Api<ConfigMap> = Api::default_namespaced(first.client());
    maps.list(&ListParams::default()).await?;
    figure("apiserver_first_answer", begun.elapsed().as_secs_f64() * 1000.0, "ms");
    figure("apiserver_after_first_answer", mib(memory().saturating_sub(before)), "MiB");
    if let Some(folder) = std::env::var_os("LATTICE_CRDS_DIR") {
        let count = install(first.client(), Path::new(&folder)).await?;
        figure("apiserver_definitions", number(count), "count");
        figure("apiserver_idle_with_definitions", mib(memory().saturating_sub(before)), "MiB");
    }
    requests("inprocess", first.client()).await?;
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&first.kubeconfig(&serving.addr())?)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    requests("tls", Client::try_from(config)?).await?;
    drop((maps, serving, first));

    let before = memory();
    let begun = Instant::now();
    let mut servers: Vec<Arc<ApiServer>> = Vec::new();
    for _ in 0..INSTANCES {
        let server = ApiServer::new(Config { controllers: true, ..Config::default() })?;
        let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
        for n in 0..OBJECTS {
            maps.create(&PostParams::default(), &map(&format!("m{n}"))?).await?;
        }
        servers.push(server);
    }
    figure("apiserver_many_instances", number(servers.len()), "count");
    figure("apiserver_many_start_and_fill", begun.elapsed().as_secs_f64(), "s");
    figure("apiserver_many_each", mib(memory().saturating_sub(before)) / number(servers.len()), "MiB");
    Ok(())
}
