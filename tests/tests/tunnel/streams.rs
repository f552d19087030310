//! Connects by the thousand leave nothing behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::token::TokenHash;
use lattice_protocol::transport::CloseCode;
use lattice_tests::tunnel::{Enrolled, Parent, serve};
use tokio::net::TcpListener;

/// Connects; each supersedes, breaks off, or says goodbye, and some leave a request half done. A build without optimisation
/// takes too long over ten thousand handshakes.
const CONNECTS: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
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
async fn connects_by_the_thousand_leave_no_task_descriptor_or_session() -> Result<()> {
    let parent = Parent::start().await?;
    let own = parent.enrol(1).await?;
    parent.gateway.register_proxy_credential(&own.cluster.parse()?, TokenHash::of(b"token"));
    let api = silent_api().await?;
    for turn in 0..200 {
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
    for turn in 0..CONNECTS {
        connect(&parent, &own, api, turn).await.with_context(|| format!("connect {turn}"))?;
    }
    settled(Some(base)).await?;
    Ok(())
}
