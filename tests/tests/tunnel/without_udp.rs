//! A parent and its clusters where no datagram gets through at all: everything works, over TCP.
//!
//! What `kubectl` does ([`crate::people`]) is always done in such a place. With `LATTICE_NETWORK_FAULTS=1` so are the
//! renewal of a certificate, and the tests that kill daemons; that takes minutes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, AttachParams, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use lattice_tests::sandbox::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::enter::{Where, enter, is_set, possible, say, sh};
use crate::outage::{capi, running_pod};

/// Every datagram goes nowhere. The table of local addresses must come after the rule, or it would
/// never be asked.
const NO_UDP: &str = "ip rule add pref 10 ipproto udp blackhole; ip rule add pref 20 lookup local; ip rule del pref 0";

/// Life of certificates: renewed while the test runs.
const LIFETIME_SECONDS: &str = "40";

/// Where a test goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here, and no datagram gets through.
    WithoutUdp,
    /// Here, with UDP: it cannot be forbidden.
    WithUdp,
    /// Nowhere: all is done.
    Done,
}

fn datagrams_pass() -> Result<bool> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    Ok(socket.send_to(b"x", "127.0.0.1:9").is_ok())
}

/// Runs the test `name` of this binary where no datagram gets through, unless this is that run.
pub(crate) async fn without_udp(name: &str) -> Result<Place> {
    if !possible().await {
        say(&format!("{name} runs with UDP: network namespaces cannot be made here"));
        return Ok(Place::WithUdp);
    }
    if enter(name).await? == Where::Outside {
        return Ok(Place::Done);
    }
    sh(&[], "ip link set lo up").await?;
    if datagrams_pass()?
        && let Err(error) = sh(&[], NO_UDP).await
    {
        say(&format!("{name} runs with UDP, which cannot be forbidden here: {error:#}"));
        return Ok(Place::WithUdp);
    }
    ensure!(!datagrams_pass()?, "no datagram gets through");
    Ok(Place::WithoutUdp)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_udp_everything_works() -> Result<()> {
    if !is_set("LATTICE_NETWORK_FAULTS") {
        say("SKIPPED: all of it without UDP takes minutes; LATTICE_NETWORK_FAULTS=1 runs it");
        return Ok(());
    }
    if without_udp("without_udp::without_any_udp_everything_works").await? != Place::WithoutUdp {
        return Ok(());
    }
    let sandbox = Sandbox::builder().env("LATTICE_CERTIFICATE_LIFETIME", LIFETIME_SECONDS).start().await?;
    // Ready means that bundles went down and health and components came up.
    let ready = sandbox.phase("backend", "Ready").await?;
    let agent = &ready["status"]["agent"];
    ensure!(agent["transport"] == "tcp" && agent["connected"] == true, "{agent}");
    ensure!(agent["rttMs"].is_number(), "a round trip over TCP is shown too: {agent}");
    let expires = agent["certificateExpires"].clone();
    let client = capi(&sandbox).await?;
    watched(&client).await.context("watch")?;
    echoed(&client).await.context("exec")?;
    sandbox
        .cluster_until("backend", |object| {
            let agent = &object["status"]["agent"];
            agent["transport"] == "tcp" && agent["connected"] == true && agent["certificateExpires"] != expires
        })
        .await
        .context("the certificate is renewed")?;
    watched(&client).await.context("watch after the renewal")?;
    drop(sandbox);
    others().await
}

/// A watch gives what is there, and what changes.
async fn watched(client: &Client) -> Result<()> {
    let api = Api::<Node>::all(client.clone());
    let name = api.list(&ListParams::default()).await?.items.first().context("a node")?.name_any();
    let mut events = api.watch(&WatchParams::default(), "0").await?.boxed();
    let mark = format!("{:?}", tokio::time::Instant::now());
    let patch = serde_json::json!({"metadata": {"annotations": {"test/mark": mark}}});
    api.patch_metadata(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await?;
    let seen = async {
        while let Some(event) = events.next().await {
            if let WatchEvent::Added(node) | WatchEvent::Modified(node) = event?
                && node.annotations().get("test/mark") == Some(&mark)
            {
                return Ok(());
            }
        }
        anyhow::bail!("the watch ended")
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await?
}

/// A program that answers what it is told.
async fn echoed(client: &Client) -> Result<()> {
    let (api, name) = running_pod(client).await?;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = api.exec(&name, ["cat"], &params).await?;
    let (mut stdin, mut stdout) = (process.stdin().context("stdin")?, process.stdout().context("stdout")?);
    stdin.write_all(b"hello\n").await?;
    let mut heard = [0; 6];
    tokio::time::timeout(Duration::from_secs(10), stdout.read_exact(&mut heard)).await??;
    ensure!(&heard == b"hello\n", "{heard:?}");
    process.abort();
    Ok(())
}

/// The other tests of this binary that need a network, here.
async fn others() -> Result<()> {
    let own = std::env::current_exe()?;
    for module in ["people::", "outage::"] {
        let output = tokio::process::Command::new(&own).args([module, "--test-threads=1"]).output().await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{module} {said}");
        let result = said.lines().rev().find(|line| line.starts_with("test result")).unwrap_or_default();
        say(&format!("measured: without UDP, {module} {result}"));
    }
    Ok(())
}
