//! Connects by the hundred leave nothing behind, of a gateway in this process and of the built daemons.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::Full;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::token::TokenHash;
use lattice_protocol::transport::{CloseCode, Closed};
use lattice_tests::sandbox::send;
use lattice_tests::tunnel::{Enrolled, Parent, serve};
use tokio::net::TcpListener;

use crate::pair::{Pair, Site, until};

/// Connects; each supersedes, breaks off, or says goodbye, and some leave a request half done. `LATTICE_CONNECTS=10000` makes
/// it the number that the promise is about.
const CONNECTS: usize = 400;
/// Descriptors that may be open more at the end: sockets that the system has not closed yet.
const SLACK: usize = 16;

fn descriptors() -> Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// An API that takes a request and never answers.
async fn silent_api() -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(task::spawn("test.silent", Kind::Request, async move {
        while let Ok((mut io, _)) = listener.accept().await {
            drop(task::spawn("test.hold", Kind::Request, async move {
                let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
            }));
        }
    }));
    Ok(address)
}

async fn connect(parent: &Parent, own: &Enrolled, api: std::net::SocketAddr, turn: usize) -> Result<()> {
    let way = parent.way();
    let (session, _endpoint) = if turn.is_multiple_of(2) {
        let (session, endpoint) = way.quic(own).await?;
        (session, Some(endpoint))
    } else {
        (way.tcp(own).await?, None)
    };
    serve(session.clone(), api)?;
    if turn.is_multiple_of(50) {
        // A request that is under way when the session ends.
        let uid = "0b6c2d1e-9f00-4c8e-8a77-000000000001".parse()?;
        if let Some(live) = parent.gateway.session(&uid) {
            drop(task::spawn("test.pending", Kind::Request, async move {
                let request = http::Request::get("/hang").header("host", "api").body(Full::<Bytes>::default());
                if let Ok(request) = request {
                    drop(live.open_http(request).await);
                }
            }));
        }
    }
    if turn.is_multiple_of(3) {
        session.close(CloseCode::Done, "");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_by_the_hundred_leave_no_task_descriptor_or_session() -> Result<()> {
    let parent = Parent::start().await?;
    let own = parent.enrol(1).await?;
    parent.gateway.register_proxy_credential(&own.cluster.parse()?, TokenHash::of(b"token"));
    let api = silent_api().await?;
    for turn in 0..100 {
        connect(&parent, &own, api, turn).await.context("warming up")?;
    }
    let settled = async |wanted: Option<(usize, usize)>| -> Result<(usize, usize)> {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut last = (0, 0);
        loop {
            tick.tick().await;
            let now = (tasks(), descriptors()?);
            // The last one that came is still there.
            let quiet = parent.gateway.sessions() <= 1;
            match wanted {
                Some((tasks, files)) if quiet && now.0 <= tasks + SLACK && now.1 <= files + SLACK => return Ok(now),
                None if quiet && now == last => return Ok(now),
                _ => last = now,
            }
            let left = parent.gateway.sessions();
            ensure!(tokio::time::Instant::now() < deadline, "left: {left} sessions, {now:?}; at first {wanted:?}");
        }
    };
    let base = settled(None).await?;
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
    let asked = std::env::var("LATTICE_CONNECTS").ok().and_then(|count| count.parse().ok());
    for turn in 0..asked.unwrap_or(CONNECTS) {
        connect(&parent, &own, api, turn).await.with_context(|| format!("connect {turn}"))?;
    }
    settled(Some(base)).await?;
    Ok(())
}

#[tokio::test]
async fn a_session_that_is_slow_to_say_its_version_does_not_take_the_place_of_a_newer_one() -> Result<()> {
    let parent = Parent::start().await?;
    let own = parent.enrol(1).await?;
    // Nobody answers on the first: it is admitted late.
    let (first, _endpoint) = parent.way().quic(&own).await?;
    let (second, _other) = parent.way().quic(&own).await?;
    serve(second.clone(), silent_api().await?)?;
    parent.connected(1).await?;
    let closed = tokio::time::timeout(Duration::from_secs(10), first.closed()).await?;
    ensure!(matches!(closed, Closed::Peer { code: CloseCode::Superseded, .. }), "{closed}");
    ensure!(second.close_reason().is_none(), "{:?}", second.close_reason());
    ensure!(parent.gateway.sessions() == 1);
    Ok(())
}

/// Descriptors and threads of a process.
fn held(pid: u32) -> Result<(usize, usize)> {
    Ok((std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(), std::fs::read_dir(format!("/proc/{pid}/task"))?.count()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_that_lose_each_other_with_watches_open_end_them_and_keep_nothing() -> Result<()> {
    let mut pair = Pair::start(Site::here(), &[]).await?;
    pair.start_agent(&[]).await?;
    pair.answers().await?;
    let manager = pair.manager.id().context("a manager")?;
    let base = held(manager)?;
    for turn in ["KILL", "KILL", "STOP"] {
        let agent = pair.agent.as_ref().and_then(tokio::process::Child::id).context("an agent")?;
        let client = pair.through().await?;
        let mut watches = Vec::new();
        for _ in 0..20 {
            let api = kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::all(client.clone());
            let mut events = Box::pin(api.watch(&kube::api::WatchParams::default(), "0").await?);
            watches.push(task::spawn("test.watch", Kind::Request, async move {
                while let Some(Ok(_)) = events.next().await {}
            }));
        }
        let open = "lattice_proxy_requests_open";
        until("twenty watches", async || pair.sum(open).await.ok().filter(|open| *open >= 20.0)).await?;
        send(agent, turn).await?;
        for watch in watches {
            tokio::time::timeout(Duration::from_secs(25), watch)
                .await
                .with_context(|| format!("{turn}: a watch hangs"))??;
        }
        until("no request is open", async || pair.sum(open).await.ok().filter(|open| *open == 0.0)).await?;
        if turn == "STOP" {
            send(agent, "CONT").await?;
        } else {
            pair.start_agent(&[]).await?;
        }
        pair.answers().await?;
    }
    let agent = pair.agent.as_ref().and_then(tokio::process::Child::id).context("an agent")?;
    let calm = until("descriptors are given back", async || {
        let (manager, agent) = (held(manager).ok()?, held(agent).ok()?);
        (manager.0 <= base.0 + 4 && manager.1 <= base.1 + 4 && agent.0 < 40).then_some(())
    });
    calm.await.with_context(|| format!("at first {base:?}, now {:?}; the agent {:?}", held(manager), held(agent)))?;
    let sessions = pair.figure("lattice_sessions_connected").await?;
    ensure!(sessions <= 1.0, "{sessions} sessions");
    Ok(())
}
