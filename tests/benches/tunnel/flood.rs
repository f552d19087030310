//! What a flood from outside does to the agents that are connected: the time of a heartbeat, quiet, under enrolments with
//! wrong tokens, and under handshakes with a foreign authority's certificate. Agents and flood are processes of their own.
//!
//! `--fleet=N` agents are asked (100), `--flooders=N` connections of the flood are open at any time (64), for
//! `--seconds=N` each (20).

use std::io::{BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::MANAGER_SERVER_NAME;
use lattice_protocol::v1::WatchHealthRequest;
use lattice_protocol::v1::health_client::HealthClient;
use lattice_tests::tunnel::{Enrolled, Parent, Way, https_stream_from};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::{figure, option};

/// Pause between two heartbeats that are measured.
const APART: Duration = Duration::from_millis(2);

/// What the flood does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Flood {
    /// Asks for certificates with tokens that nobody made.
    Enrolments,
    /// Shows a certificate of an authority that nobody trusts.
    Handshakes,
}

/// What the flood's process is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    flood: Flood,
    way: Way,
    bootstrap: SocketAddr,
    flooders: u64,
}

/// The flood's process: goes on until its input ends, then says how often it tried.
#[expect(clippy::print_stdout, reason = "its answer")]
pub(crate) async fn flood() -> Result<()> {
    lattice_protocol::tls::install_provider();
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let order: Arc<Order> = Arc::new(serde_json::from_str(&line.await??)?);
    let tries = Arc::new(AtomicU64::new(0));
    for _ in 0..order.flooders {
        let (order, tries) = (Arc::clone(&order), Arc::clone(&tries));
        drop(task::spawn("bench.flood", Kind::Request, async move {
            loop {
                let number = tries.fetch_add(1, Ordering::Relaxed);
                let [.., high, low] = number.to_be_bytes();
                let from = IpAddr::from(Ipv4Addr::new(127, 19, high, low));
                let _ = match order.flood {
                    Flood::Enrolments => enrolment(&order, from).await,
                    Flood::Handshakes => handshake(&order, from).await,
                };
            }
        }));
    }
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().count()).await?;
    println!("{}", tries.load(Ordering::Relaxed));
    Ok(())
}

async fn enrolment(order: &Order, from: IpAddr) -> Result<()> {
    let io = https_stream_from(from, order.bootstrap, &order.way.ca).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    drop(task::spawn("bench.enrolment", Kind::Request, async move { drop(connection.await) }));
    let token = lattice_protocol::token::JoinToken::generate();
    let body = serde_json::json!({
        "cluster": "c1", "token": *token.expose(), "csr": "none", "kubeSystemUid": "11111111-2222-3333-4444-555555555555",
    });
    let request =
        http::Request::post("/v1/enrol").header("host", "bootstrap").body(Full::<Bytes>::from(body.to_string()));
    sender.send_request(request?).await?;
    Ok(())
}

async fn handshake(order: &Order, from: IpAddr) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let tcp = socket.connect(order.way.address).await?;
    let connector = tokio_rustls::TlsConnector::from(order.way.tls(&foreign(&order.way.fleet)?)?);
    let mut stream = connector.connect(MANAGER_SERVER_NAME.try_into()?, tcp).await?;
    // The verdict comes after our own handshake is done.
    tokio::io::AsyncReadExt::read_u8(&mut stream).await?;
    Ok(())
}

/// A certificate as an agent has, of nobody's authority.
fn foreign(fleet: &str) -> Result<Enrolled> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://{fleet}/cluster/0b6c2d1e-9f00-4c8e-8a77-000000000001/agent");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    Ok(Enrolled { cluster: "c1".to_owned(), chain: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// Asks one agent after the other for a report and takes the time; milliseconds, in order.
async fn heartbeats(parent: &Parent, fleet: u64, during: Duration) -> Result<Vec<f64>> {
    let (mut took, begun) = (Vec::new(), Instant::now());
    for number in (0..fleet).cycle() {
        if begun.elapsed() >= during {
            break;
        }
        let uid = format!("0b6c2d1e-9f00-4c8e-8a77-{number:012}").parse()?;
        let session = parent.gateway.session(&uid).with_context(|| format!("agent {number} is not connected"))?;
        let asked = Instant::now();
        let mut stream = HealthClient::new(session.channel()).watch(WatchHealthRequest::default()).await?.into_inner();
        stream.message().await?;
        took.push(asked.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(APART).await;
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

fn percentile(sorted: &[f64], of_hundred: usize) -> f64 {
    sorted.get(sorted.len() * of_hundred / 100).or(sorted.last()).copied().unwrap_or_default()
}

/// Another process of this program, told what to do by a line.
fn party(mode: &str, told: &str) -> Result<(std::process::Child, std::process::ChildStdin)> {
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .arg(mode)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("its input")?;
    writeln!(input, "{told}")?;
    Ok((child, input))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn run() -> Result<()> {
    let (fleet, flooders) = (option("fleet").unwrap_or(100), option("flooders").unwrap_or(64));
    let during = Duration::from_secs(option("seconds").unwrap_or(20));
    let parent = Parent::start().await?;
    let mut all = Vec::new();
    for number in 0..usize::try_from(fleet)? {
        all.push(parent.enrol(number).await?);
    }
    let (mut agents, input) = party("--agents", &serde_json::to_string(&(parent.way(), &all))?)?;
    parent.connected(all.len()).await?;
    let generations = || {
        let uid = |number| format!("0b6c2d1e-9f00-4c8e-8a77-{number:012}").parse();
        let of = |number| Ok(parent.gateway.session(&uid(number)?).context("connected")?.generation());
        (0..fleet).map(of).collect::<Result<Vec<_>>>()
    };
    let before = generations()?;
    let quiet = heartbeats(&parent, fleet, during).await?;
    figure("heartbeat_p50_quiet", percentile(&quiet, 50), "ms");
    figure("heartbeat_p99_quiet", percentile(&quiet, 99), "ms");
    let mut worst: f64 = 0.0;
    for (flood, name) in [(Flood::Enrolments, "enrolments"), (Flood::Handshakes, "handshakes")] {
        let order = Order { flood, way: parent.way(), bootstrap: parent.gateway.bootstrap_addr(), flooders };
        let (flooder, input) = party("--flood", &serde_json::to_string(&order)?)?;
        let under = heartbeats(&parent, fleet, during).await?;
        drop(input);
        let said = tokio::task::spawn_blocking(move || flooder.wait_with_output()).await??;
        let tries: f64 = String::from_utf8_lossy(&said.stdout).trim().parse().context("how often it tried")?;
        figure(&format!("flood_{name}_per_second"), tries / during.as_secs_f64(), "1/s");
        figure(&format!("heartbeat_p50_{name}"), percentile(&under, 50), "ms");
        figure(&format!("heartbeat_p99_{name}"), percentile(&under, 99), "ms");
        worst = worst.max(percentile(&under, 99));
    }
    figure("heartbeat_p99_flood_vs_quiet", worst / percentile(&quiet, 99), "x");
    let lost = before.iter().zip(generations()?).filter(|(before, after)| *before != after).count();
    figure("flood_sessions_lost", lost as f64, "of the fleet");
    ensure!(lost == 0, "every agent has the session that it had before");
    drop(input);
    agents.kill()?;
    agents.wait()?;
    Ok(())
}
