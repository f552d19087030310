//! A copy beside watches: neither holds up the other, and no daemon keeps what passes through it.
//!
//! `LATTICE_COPY_MB=500` copies 500 MB each way instead of 8.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use lattice_protocol::task::{self, Kind};
use lattice_tests::sandbox::Sandbox;
use serde_json::json;
use tokio::sync::mpsc;

use crate::people::{Person, master};

const WATCHES: usize = 50;
/// Longest that an event may take beside a copy. Far longer than it takes; a watch behind a copy waits for all of it.
const EVENT_AT_MOST: Duration = Duration::from_secs(20);
/// Longest that one copy may take.
const COPY_AT_MOST: Duration = Duration::from_secs(1_200);
/// How much more memory a daemon may have resident after the copies. One that held them would have all of them.
const MEMORY_KIB_MAX: u64 = 48 << 10;

fn megabytes() -> usize {
    let given = std::env::var_os("LATTICE_COPY_MB").and_then(|value| value.into_string().ok());
    given.and_then(|text| text.parse().ok()).unwrap_or(8)
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

async fn capi(sandbox: &Sandbox) -> Result<Client> {
    let read = Kubeconfig::from_yaml(&sandbox.cluster_kubeconfig("backend").await?)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?)?)
}

/// Makes an object and waits until every watch has told of it.
async fn all_hear(maps: &Api<ConfigMap>, heard: &mut mpsc::Receiver<String>, name: &str) -> Result<()> {
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    maps.create(&PostParams::default(), &map).await?;
    let mut left = WATCHES;
    while left > 0 {
        let told = tokio::time::timeout(EVENT_AT_MOST, heard.recv()).await;
        let told = told.with_context(|| format!("{left} watches have not heard of {name}"))?.context("a watch")?;
        left -= usize::from(told == name);
    }
    Ok(())
}

async fn copy(person: &Person, size: usize) -> Result<()> {
    let folder = person.folder.path();
    let (here, there, back) = (folder.join("large"), "default/store:/tmp/large", folder.join("large-back"));
    // No two blocks are alike, so that one that is lost or doubled shows.
    let block = |number: usize| number.to_le_bytes().repeat(1 << 10);
    let mut content = Vec::with_capacity(size);
    for number in 0..size >> 13 {
        content.extend(block(number));
    }
    std::fs::write(&here, &content)?;
    person.prints_in(COPY_AT_MOST, &["cp", "--retries=0", &here.display().to_string(), there]).await?;
    person.prints_in(COPY_AT_MOST, &["cp", "--retries=0", there, &back.display().to_string()]).await?;
    ensure!(std::fs::read(&back)? == content, "the copy is the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_beside_watches_holds_up_none_and_is_kept_by_nobody() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    let person = master(&sandbox).await?;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: store, namespace: default}\nspec: {containers: [{name: main, \
               image: 'example.com/web:1'}]}\n";
    person.fed(&["apply", "-f", "-"], pod).await?;
    person.prints(&["-n", "default", "wait", "--for=condition=Ready", "pod/store", "--timeout=60s"]).await?;

    let client = capi(&sandbox).await?;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
    let (told, mut heard) = mpsc::channel(WATCHES * 4);
    for _ in 0..WATCHES {
        let mut events = maps.watch(&WatchParams::default(), "0").await?.boxed();
        let told = told.clone();
        drop(task::spawn("test.watch", Kind::Request, async move {
            while let Ok(Some(event)) = events.try_next().await {
                if let WatchEvent::Added(map) = event
                    && told.send(map.metadata.name.unwrap_or_default()).await.is_err()
                {
                    return;
                }
            }
        }));
    }
    drop(told);
    all_hear(&maps, &mut heard, "before").await?;
    let daemons = [sandbox.pid("manager")?, sandbox.pid("agent-backend")?];
    let before = daemons.map(resident_kib);

    let copying = copy(&person, megabytes() << 20);
    let watching = async {
        for number in 0..3 {
            all_hear(&maps, &mut heard, &format!("beside-{number}")).await?;
        }
        anyhow::Ok(())
    };
    let (copied, watched) = tokio::join!(copying, watching);
    copied?;
    watched?;
    all_hear(&maps, &mut heard, "after").await?;
    for (pid, before) in daemons.into_iter().zip(before) {
        let (before, after) = (before?, resident_kib(pid)?);
        assert!(after < before + MEMORY_KIB_MAX, "process {pid}: {before} KiB before, {after} KiB after");
    }
    Ok(())
}
