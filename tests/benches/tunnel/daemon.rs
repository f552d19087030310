//! The memory of the agent's own process: idle, with 50 watches, and during a copy of 500 MB.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, AttachParams, ListParams, WatchParams};
use kube::{Client, Config, ResourceExt};
use lattice_protocol::task::{self, Kind};
use lattice_tests::sandbox::{Sandbox, binaries};
use tokio::io::AsyncReadExt;

use crate::{figure, memory_kib};

const WATCHES: usize = 50;
const COPY: usize = 500_000_000;
/// Output that the client holds.
const OUTPUT_BYTES: usize = 1 << 20;
const SETTLE: Duration = Duration::from_secs(5);

/// The agent as it is shipped, where it was built; else the one beside this benchmark.
fn agent() -> Result<(PathBuf, &'static str)> {
    let beside = binaries()?;
    let shipped = beside.parent().context("target")?.join("dist/lattice-agent");
    Ok(if shipped.exists() { (shipped, "dist") } else { (beside.join("lattice-agent"), "release, not dist") })
}

/// A client that goes through the proxy, with Cluster API's credential.
async fn through(sandbox: &Sandbox, name: &str) -> Result<Client> {
    let text = sandbox.cluster_kubeconfig(name).await?;
    let read = kube::config::Kubeconfig::from_yaml(&text)?;
    let mut config = Config::from_custom_kubeconfig(read, &kube::config::KubeConfigOptions::default()).await?;
    config.read_timeout = None;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// The highest resident memory of `pid` while `work` runs, MiB.
async fn highest<T>(pid: &str, work: impl Future<Output = Result<T>>) -> Result<(f64, T)> {
    let mut most: f64 = 0.0;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = work.as_mut() => return Ok((most / 1024.0, done?)),
            _ = tick.tick() => most = most.max(memory_kib(pid, "VmRSS")?),
        }
    }
}

pub(crate) async fn run() -> Result<()> {
    let (agent, profile) = agent()?;
    let folder = tempfile::tempdir()?;
    std::fs::copy(binaries()?.join("lattice-manager"), folder.path().join("lattice-manager"))?;
    std::fs::copy(agent, folder.path().join("lattice-agent"))?;
    let sandbox = Sandbox::builder().binaries(folder.path()).start().await?;
    sandbox.phase("backend", "Ready").await?;
    let pid = sandbox.pid("agent-backend")?.to_string();
    let settle = async {
        tokio::time::sleep(SETTLE).await;
        Ok(())
    };
    let (idle, ()) = highest(&pid, settle).await?;
    figure("agent_mib_idle", idle, &format!("MiB resident, {profile}"));

    let client = through(&sandbox, "backend").await?;
    let mut watching = Vec::new();
    for number in 0..WATCHES {
        let client = client.clone();
        watching.push(task::spawn("bench.watch", Kind::Request, async move {
            let params = WatchParams::default();
            match number % 3 {
                0 => follow(Api::<Node>::all(client), &params).await,
                1 => follow(Api::<Pod>::all(client), &params).await,
                _ => follow(Api::<Namespace>::all(client), &params).await,
            }
        }));
    }
    let settle = async {
        tokio::time::sleep(SETTLE).await;
        Ok(())
    };
    let (watches, ()) = highest(&pid, settle).await?;
    figure("agent_mib_50_watches", watches, &format!("MiB resident, {profile}"));

    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?;
    let pod = pods.iter().find(|pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"));
    let pod = pod.context("a running pod")?;
    let pods = Api::<Pod>::namespaced(client, &pod.namespace().unwrap_or_default());
    let copy = async {
        let container = pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|found| found.name.clone());
        // The client library's own buffer of 1 KiB would be what is measured: two changes of task for each.
        let params = AttachParams::default().stdout(true).stderr(false).max_stdout_buf_size(OUTPUT_BYTES);
        let params = AttachParams { container, ..params };
        let command = ["head", "-c", &COPY.to_string(), "/dev/zero"].map(str::to_owned);
        let mut process = pods.exec(&pod.name_any(), command, &params).await?;
        let mut out = process.stdout().context("its output")?;
        let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
        loop {
            match out.read(&mut buffer).await? {
                0 => return Ok(bytes),
                read => bytes += read,
            }
        }
    };
    let began = tokio::time::Instant::now();
    let (copying, bytes) = highest(&pid, copy).await?;
    anyhow::ensure!(bytes == COPY, "{bytes} bytes came");
    figure("agent_mib_copy_500mb", copying, &format!("MiB resident, {profile}, beside {WATCHES} watches"));
    figure("copy_500mb_seconds", began.elapsed().as_secs_f64(), "s");
    anyhow::ensure!(watching.iter().all(|watch| !watch.is_finished()), "a watch ended during the copy");
    watching.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Watches until the API ends it.
async fn follow<K>(api: Api<K>, params: &WatchParams)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let Ok(events) = api.watch(params, "0").await else { return };
    let mut events = std::pin::pin!(events);
    while events.next().await.is_some() {}
}
