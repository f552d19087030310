//! A thousand agents in one process of their own: what they cost the manager idle, and how they come back.

use std::io::{BufRead, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::transport::dial::{Race, race};
use lattice_protocol::transport::{Closed, Incoming, Net, Session, Tag, quic, slot_of};
use lattice_protocol::v1::health_client::HealthClient;
use lattice_protocol::v1::health_server::{Health, HealthServer};
use lattice_protocol::v1::{HealthReport, WatchHealthRequest};
use lattice_tests::tunnel::{Enrolled, Parent, Way};
use tonic::{Request, Response, Status};

use tokio::time::Instant;

use crate::{cpu_seconds, figure, memory_kib};

const AGENTS: usize = 1000;

/// Says once that all is well, and then nothing.
struct Quiet;

#[tonic::async_trait]
impl Health for Quiet {
    type WatchStream = futures::stream::BoxStream<'static, Result<HealthReport, Status>>;

    async fn watch(&self, _: Request<WatchHealthRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let one = futures::stream::iter([Ok(HealthReport::default())]);
        Ok(Response::new(one.chain(futures::stream::pending()).boxed()))
    }
}

/// The other process: reads who it is from its input, and keeps everybody connected until that ends.
pub(crate) async fn agents() -> Result<()> {
    lattice_protocol::tls::install_provider();
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let (way, all): (Way, Vec<Enrolled>) = serde_json::from_str(&line.await??)?;
    let (grpc, incoming) = Incoming::channel();
    drop(task::spawn("bench.grpc", Kind::Request, async move {
        drop(
            tonic::transport::Server::builder()
                .add_service(HealthServer::new(Quiet))
                .serve_with_incoming(incoming)
                .await,
        );
    }));
    for own in all {
        let (tls, grpc, address) = (way.tls(&own)?, grpc.clone(), way.address);
        drop(task::spawn("bench.agent", Kind::Request, async move {
            let mut ceiling = Duration::from_secs(1);
            loop {
                let wait = match session(address, &tls, &grpc).await {
                    Some(Closed::Peer { reason, .. }) => slot_of(&reason),
                    _ => None,
                };
                let wait = wait.unwrap_or_else(|| ceiling.mul_f64(rand::random()));
                ceiling = (ceiling * 2).min(Duration::from_secs(30));
                tokio::time::sleep(wait).await;
            }
        }));
    }
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().count()).await?;
    Ok(())
}

/// One session from its dial to its end; none when there was none.
async fn session(
    address: std::net::SocketAddr,
    tls: &Arc<rustls::ClientConfig>,
    grpc: &lattice_protocol::transport::IncomingSender,
) -> Option<Closed> {
    let endpoint = quic::dialler(std::net::SocketAddr::from(([0, 0, 0, 0], 0))).ok()?;
    let head_start = lattice_protocol::limits::TCP_HEAD_START;
    let race = race(Race { address, net: &Net::System, quic: Some(&endpoint), tls: Arc::clone(tls), head_start });
    let session: Session = race.await.ok()?;
    while let Ok(accepted) = session.accept().await {
        if let Ok((Tag::Grpc, stream)) = accepted.tagged().await {
            grpc.hand_over(&session, stream);
        }
    }
    Some(session.closed().await)
}

/// Opens the health stream of every agent, as the manager does, and keeps it.
async fn listen(parent: &Parent) -> Result<Vec<tonic::Streaming<HealthReport>>> {
    let mut streams = Vec::new();
    for number in 0..AGENTS {
        let uid = format!("0b6c2d1e-9f00-4c8e-8a77-{number:012}").parse()?;
        let session = parent.gateway.session(&uid).context("a session")?;
        let mut stream = HealthClient::new(session.channel()).watch(WatchHealthRequest::default()).await?.into_inner();
        stream.message().await?;
        streams.push(stream);
    }
    Ok(streams)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn run() -> Result<()> {
    let mut parent = Parent::start().await?;
    let mut all = Vec::new();
    for number in 0..AGENTS {
        all.push(parent.enrol(number).await?);
    }
    let before = memory_kib("self", "VmRSS")?;
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .arg("--agents")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("its input")?;
    writeln!(input, "{}", serde_json::to_string(&(parent.way(), &all))?)?;
    parent.connected(AGENTS).await?;
    let bare = memory_kib("self", "VmRSS")?;
    let streams = listen(&parent).await?;
    let idle = memory_kib("self", "VmRSS")?;
    figure("manager_kib_per_bare_session", (bare - before) / AGENTS as f64, "KiB");
    figure("manager_kib_per_idle_session", (idle - before) / AGENTS as f64, "KiB, with its health stream");
    drop(streams);

    let (cpu, began) = (cpu_seconds()?, Instant::now());
    parent.restart().await?;
    let reopened = began.elapsed();
    let mut marks = [
        (AGENTS / 2, "reconnect_1000_half_seconds"),
        (AGENTS * 99 / 100, "reconnect_1000_99_seconds"),
        (AGENTS, "reconnect_1000_all_seconds"),
    ]
    .into_iter()
    .peekable();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    while let Some((count, name)) = marks.peek() {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(120), "{} are back", parent.gateway.sessions());
        if parent.gateway.sessions() >= *count {
            figure(name, began.elapsed().as_secs_f64(), "s from the stop's begin");
            marks.next();
        } else {
            tick.tick().await;
        }
    }
    figure("reconnect_1000_listeners_back_seconds", reopened.as_secs_f64(), "s");
    figure("reconnect_1000_manager_cpu", cpu_seconds()? - cpu, "s");
    figure("reconnect_1000_manager_peak", memory_kib("self", "VmHWM")? / 1024.0, "MiB, parent API in the same process");
    drop(input);
    child.kill()?;
    child.wait()?;
    Ok(())
}
