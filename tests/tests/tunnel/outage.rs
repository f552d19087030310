//! What a client sees while manager or agent is killed or stopped: the truth, or an error; never an empty list.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, AttachParams, ListParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use lattice_protocol::task::{self, Kind};
use lattice_tests::sandbox::{PATIENCE, Sandbox, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Asks for all nodes again and again.
struct Asking {
    stop: Arc<AtomicBool>,
    right: Arc<AtomicUsize>,
    wrong: Arc<std::sync::Mutex<Vec<String>>>,
    unauthorized: Arc<AtomicUsize>,
}

/// A client with Cluster API's credential, through the proxy.
pub(crate) async fn capi(sandbox: &Sandbox) -> Result<Client> {
    let read = Kubeconfig::from_yaml(&sandbox.cluster_kubeconfig("backend").await?)?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    Ok(Client::try_from(config)?)
}

/// A pod that runs.
pub(crate) async fn running_pod(client: &Client) -> Result<(Api<Pod>, String)> {
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?.items;
    let running = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let pod = pods.iter().find(running).context("a pod that runs")?;
    Ok((Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default()), pod.name_any()))
}

/// A program in a pod that waits for input; the task ends when its reader hears of the end.
async fn waiting_program(client: &Client) -> Result<JoinHandle<()>> {
    let (pods, name) = running_pod(client).await?;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.exec(&name, ["cat"], &params).await?;
    let (mut stdin, mut stdout) = (process.stdin().context("stdin")?, process.stdout().context("stdout")?);
    stdin.write_all(b"hello").await?;
    let mut heard = [0; 5];
    tokio::time::timeout(Duration::from_secs(10), stdout.read_exact(&mut heard)).await??;
    Ok(task::spawn("test.exec", Kind::Request, async move {
        // Its output alone does not tell: the client library leaves it open when the connection breaks.
        drop(process.join().await);
        drop((stdin, stdout));
    }))
}

impl Asking {
    fn start(client: &Client, nodes: usize) -> Self {
        let asking =
            Self { stop: Arc::default(), right: Arc::default(), wrong: Arc::default(), unauthorized: Arc::default() };
        for _ in 0..4 {
            let api = Api::<Node>::all(client.clone());
            let (stop, right) = (asking.stop.clone(), asking.right.clone());
            let (wrong, unauthorized) = (asking.wrong.clone(), asking.unauthorized.clone());
            drop(task::spawn("test.ask", Kind::Request, async move {
                while !stop.load(Ordering::Relaxed) {
                    match tokio::time::timeout(Duration::from_secs(5), api.list(&ListParams::default())).await {
                        Ok(Ok(list)) if list.items.len() == nodes => {
                            right.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Ok(list)) => wrong
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(format!("{} nodes", list.items.len())),
                        Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
                            unauthorized.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                        Err(_) => {}
                    }
                }
            }));
        }
        asking
    }

    /// Waits until more right answers have come.
    async fn answered(&self) -> Result<()> {
        let had = self.right.load(Ordering::Relaxed);
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.right.load(Ordering::Relaxed) < had + 8 {
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "no right answer any more");
            tick.tick().await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_is_ever_told_an_untruth_while_daemons_are_killed_and_stopped() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    let client = capi(&sandbox).await?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?.items.len();
    assert_eq!(nodes, 4);
    let asking = Asking::start(&client, nodes);
    asking.answered().await?;
    for (name, signal) in [
        ("manager", "KILL"),
        ("agent-backend", "KILL"),
        ("manager", "TERM"),
        ("agent-backend", "TERM"),
        ("manager", "KILL"),
    ] {
        // An open watch ends for its reader and does not hang; by an end, and no error, when the daemon was asked to stop.
        let watch = Api::<Node>::all(client.clone()).watch(&WatchParams::default(), "0").await?;
        let ended = task::spawn("test.watch", Kind::Request, async move {
            let mut watch = std::pin::pin!(watch);
            let broke = loop {
                match watch.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            };
            assert!(signal == "KILL" || broke.is_none(), "{name}: {broke:?}");
        });
        let program = waiting_program(&client).await.with_context(|| format!("before {signal} of {name}"))?;
        sandbox.replace(name, signal).await?;
        for (what, ended) in [("a watch", ended), ("an exec", program)] {
            tokio::time::timeout(Duration::from_secs(25), ended)
                .await
                .with_context(|| format!("{signal} of {name}: {what} hangs"))??;
        }
        asking.answered().await.with_context(|| format!("after {signal} of {name}"))?;
    }
    for name in ["manager", "agent-backend"] {
        // A short stop breaks nothing: what is open goes on.
        let program = waiting_program(&client).await.with_context(|| format!("before a stop of {name}"))?;
        let pid = sandbox.pid(name)?;
        send(pid, "STOP").await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        send(pid, "CONT").await?;
        asking.answered().await.with_context(|| format!("after a stop of {name}"))?;
        anyhow::ensure!(!program.is_finished(), "{name} stood still for 3 s, and an exec ended");
        program.abort();
    }
    asking.stop.store(true, Ordering::Relaxed);
    let wrong = asking.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(asking.unauthorized.load(Ordering::Relaxed), 0, "401 makes Cluster API drop its connection at once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_agent_is_noticed_within_twenty_seconds_and_comes_back() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    let pid = sandbox.pid("agent-backend")?;
    send(pid, "STOP").await?;
    let began = tokio::time::Instant::now();
    let client = capi(&sandbox).await?;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        let asked = tokio::time::timeout(Duration::from_secs(1), client.apiserver_version()).await;
        if matches!(&asked, Ok(Err(kube::Error::Api(status))) if status.code == 503) {
            break;
        }
        anyhow::ensure!(began.elapsed() < Duration::from_secs(26), "still not noticed: {asked:?}");
    }
    send(pid, "CONT").await?;
    sandbox.connected("backend").await
}
