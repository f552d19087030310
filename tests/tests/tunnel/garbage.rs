//! Whatever bytes arrive where the transport parses them: it answers or hangs up, keeps its memory, and serves others on.
//!
//! Cases that were once of interest are kept in [`KEPT`] and run first. `LATTICE_FUZZ_CASES=<count>` runs more of each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::transport::{Session, quic, slot_of};
use lattice_tests::pki::Pki;
use lattice_tests::tunnel::{Enrolled, Parent, serve};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rcgen::KeyPair;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Longest that a peer which sends nonsense may keep its place.
const ENDED: Duration = Duration::from_secs(40);
/// Most that all cases together may leave in memory, KiB.
const GROWTH_KIB_MAX: u64 = 64 << 10;

/// Bytes on a multiplexed connection: each once showed a path of its own.
const KEPT: [&[u8]; 9] = [
    b"",
    // A header cut short; another version; another type.
    &[0, 0, 0],
    &[9, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
    &[0, 200, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
    // A frame of 4 GiB, and one beyond the window.
    &[0, 0, 0, 1, 0, 0, 0, 1, 255, 255, 255, 255],
    &[0, 0, 0, 1, 0, 0, 0, 1, 0, 8, 0, 0],
    // A window that overflows, an answer to a ping that was never sent, and the end.
    &[0, 1, 0, 1, 0, 0, 0, 1, 255, 255, 255, 255, 0, 1, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255],
    &[0, 2, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4],
    &[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
];

fn cases(few: u32) -> Config {
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
    let asked = std::env::var("LATTICE_FUZZ_CASES").ok().and_then(|count| count.parse().ok());
    Config { cases: asked.unwrap_or(few), failure_persistence: None, ..Config::default() }
}

/// Frames that look like the multiplexer's, and bytes that look like nothing.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let header = (0_u8..5, 0_u16..16, 0_u32..6, prop_oneof![Just(0_u32), 0_u32..64, any::<u32>()]);
    let frame = (header, prop::collection::vec(any::<u8>(), 0..64)).prop_map(|((kind, flags, id, length), body)| {
        let mut bytes = vec![0, kind];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes
    });
    prop_oneof![
        prop::collection::vec(frame, 1..8).prop_map(|frames| frames.concat()),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

/// What a stream may begin with: tags that mean something and those that do not, and then anything.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![Just(b'G'), Just(b'H'), Just(b'D'), Just(b'C'), any::<u8>()];
    let text = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        Just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x09\xff\xff\xff\xff\xff".to_vec()),
        Just(b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551615\r\n\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_vec()),
        Just([b"GET / HTTP/1.1\r\n".to_vec(), vec![b'a'; 100_000]].concat()),
    ];
    (first, text).prop_map(|(first, rest)| [vec![first], rest].concat())
}

fn memory_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().next().unwrap_or("0").parse()?)
}

/// Sends bytes on an authenticated connection as if they were the multiplexer's, and waits for the gateway to hang up.
async fn as_frames(to: SocketAddr, tls: Arc<rustls::ClientConfig>, bytes: &[u8]) -> Result<()> {
    let name = ServerName::try_from("lattice-manager")?;
    let mut io = TlsConnector::from(tls).connect(name, TcpStream::connect(to).await?).await?;
    // A gateway that hangs up meanwhile is right to.
    let _ = io.write_all(bytes).await;
    let _ = io.shutdown().await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(ENDED, io.read_to_end(&mut rest)).await;
    ensure!(read.is_ok(), "the gateway keeps the connection");
    ensure!(rest.len() < 64 << 10, "it answered with {} bytes", rest.len());
    Ok(())
}

/// Sends bytes on a stream of their own, and waits for its end.
async fn as_stream(connection: &quinn::Connection, bytes: &[u8]) -> Result<()> {
    let (mut send, recv) = connection.open_bi().await?;
    // Whoever refuses the stream meanwhile is right to.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(ENDED, recv.take(1 << 20).read_to_end(&mut rest)).await;
    ensure!(read.is_ok(), "the stream is kept");
    Ok(())
}

/// A bare connection that an agent's session is at the other end of.
async fn to_an_agent() -> Result<(quinn::Connection, Session, [quinn::Endpoint; 2])> {
    let pki = Pki::new(&"bench.example".parse()?, &KeyPair::generate()?)?;
    let listener = quic::listen(SocketAddr::from(([127, 0, 0, 1], 0)), quic::server_config(pki.server)?, None)?;
    let dialler = quic::dialler(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let dialled = quic::dial(&dialler, quic::client_config(pki.client)?, listener.local_addr()?);
    let accepted = async { anyhow::Ok(listener.accept().await.context("a connection")?.await?) };
    let (dialled, accepted) = tokio::join!(dialled, accepted);
    let session = dialled?;
    serve(session.clone(), silent_api().await?)?;
    Ok((accepted?, session, [listener, dialler]))
}

/// A bare connection to a gateway, as an agent.
async fn to_a_gateway(parent: &Parent) -> Result<(quinn::Connection, quinn::Endpoint)> {
    let (way, own) = (parent.way(), parent.enrol(3).await?);
    let endpoint = quic::dialler(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let config = quic::client_config(way.tls(&own)?)?;
    let connection = endpoint.connect_with(config, way.address, "lattice-manager")?.await?;
    Ok((connection, endpoint))
}

async fn silent_api() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(task::spawn("test.api", Kind::Request, async move { while listener.accept().await.is_ok() {} }));
    Ok(address)
}

async fn other_agent(parent: &Parent) -> Result<(Session, quinn::Endpoint, Enrolled)> {
    let own = parent.enrol(2).await?;
    let (session, endpoint) = parent.way().quic(&own).await?;
    serve(session.clone(), silent_api().await?)?;
    parent.connected(1).await?;
    Ok((session, endpoint, own))
}

#[test]
fn nonsense_on_a_multiplexed_connection_ends_it_and_nothing_else() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (parent, way, own) = runtime.block_on(async {
        let parent = Parent::start().await?;
        let own = parent.enrol(1).await?;
        let way = parent.way();
        anyhow::Ok((parent, way, own))
    })?;
    let (bystander, _endpoint, _) = runtime.block_on(other_agent(&parent))?;
    let tls = way.tls(&own)?;
    let send = |bytes: &[u8]| runtime.block_on(as_frames(way.address, Arc::clone(&tls), bytes));
    KEPT.into_iter().try_for_each(send)?;
    let before = memory_kib()?;
    TestRunner::new(cases(60))
        .run(&frames(), |bytes| send(&bytes).map_err(|error| TestCaseError::fail(format!("{error:#}"))))
        .map_err(|error| anyhow::anyhow!("keep this case: {error}"))?;
    ensure!(memory_kib()? < before + GROWTH_KIB_MAX, "{before} KiB became {}", memory_kib()?);
    ensure!(bystander.close_reason().is_none(), "another agent's session goes on: {:?}", bystander.close_reason());
    Ok(())
}

#[test]
fn nonsense_on_a_stream_ends_that_stream_and_not_the_session() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let parent = runtime.block_on(Parent::start())?;
    let (down, agent, _endpoints) = runtime.block_on(to_an_agent())?;
    let (up, _endpoint) = runtime.block_on(to_a_gateway(&parent))?;
    let before = memory_kib()?;
    TestRunner::new(cases(60))
        .run(&stream(), |bytes| {
            let sent = runtime.block_on(async {
                as_stream(&down, &bytes).await?;
                as_stream(&up, &bytes).await
            });
            sent.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| anyhow::anyhow!("keep this case: {error}"))?;
    ensure!(agent.close_reason().is_none(), "{:?}", agent.close_reason());
    ensure!(up.close_reason().is_none(), "{:?}", up.close_reason());
    ensure!(memory_kib()? < before + GROWTH_KIB_MAX, "{before} KiB became {}", memory_kib()?);
    Ok(())
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn any_words_of_a_close_are_read(words in ".{0,80}(; dial again in [0-9]{0,30} ms)?.{0,3}") {
        prop_assert!(slot_of(&words).is_none_or(|slot| slot <= Duration::from_secs(300)));
    }
}
