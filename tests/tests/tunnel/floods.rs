//! Strangers who only begin: what they begin is bounded, they must prove their address, and agents do not notice them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::transport::quic;
use lattice_tests::tunnel::{Parent, Way, serve};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;

/// Connections that a stranger begins and never ends.
const BEGUN: usize = 300;
/// Longest that a connected agent's request may take meanwhile; alone it takes a few milliseconds.
const UNHARMED: Duration = Duration::from_secs(2);

/// An API that answers everything with the same words.
async fn brief_api() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(task::spawn("test.api", Kind::Request, async move {
        while let Ok((mut io, _)) = listener.accept().await {
            drop(task::spawn("test.answer", Kind::Request, async move {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                drop(io.write_all(answer).await);
                drop(io.shutdown().await);
            }));
        }
    }));
    Ok(address)
}

/// Connected agent 1, and the certificate of agent 2.
async fn parent() -> Result<(Parent, quinn::Endpoint, lattice_tests::tunnel::Enrolled)> {
    let parent = Parent::start().await?;
    let (one, two) = (parent.enrol(1).await?, parent.enrol(2).await?);
    let (session, endpoint) = parent.way().quic(&one).await?;
    serve(session, brief_api().await?)?;
    parent.connected(1).await?;
    Ok((parent, endpoint, two))
}

/// One request to agent 1.
async fn asked(parent: &Parent) -> Result<Duration> {
    let session = parent.gateway.session(&"0b6c2d1e-9f00-4c8e-8a77-000000000001".parse()?).context("a session")?;
    let began = Instant::now();
    let request = http::Request::get("/version").header("host", "api").body(Full::<Bytes>::default())?;
    let response = tokio::time::timeout(UNHARMED, session.open_http(request)).await.context("agent 1 is held up")??;
    response.into_body().collect().await?;
    Ok(began.elapsed())
}

/// A first packet that leads nowhere: its answer would go to a socket that is silent from here on.
async fn first_packet(way: &Way, own: &lattice_tests::tunnel::Enrolled) -> Result<Vec<u8>> {
    let sink = UdpSocket::bind("127.0.0.1:0").await?;
    let endpoint = quic::dialler(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let connecting =
        endpoint.connect_with(quic::client_config(way.tls(own)?)?, sink.local_addr()?, "lattice-manager")?;
    let mut packet = vec![0; 2048];
    let (length, _) = tokio::time::timeout(Duration::from_secs(5), sink.recv_from(&mut packet)).await??;
    drop(connecting);
    packet.truncate(length);
    Ok(packet)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_tcp_connections_of_one_source_leave_room_for_the_others() -> Result<()> {
    let (parent, _endpoint, two) = parent().await?;
    let to = parent.way().address;
    let mut held = Vec::new();
    for _ in 0..BEGUN {
        held.push(TcpStream::connect(to).await?);
    }
    let took = asked(&parent).await?;
    // Another source comes in, over the same port.
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, 2]), 0))?;
    let io = socket.connect(to).await?;
    let began = Instant::now();
    let session = lattice_protocol::transport::tcp::over(io, parent.way().tls(&two)?, to);
    let session = tokio::time::timeout(Duration::from_secs(4), session).await.context("a handshake of its own")??;
    serve(session, brief_api().await?)?;
    parent.connected(2).await?;
    ensure!(began.elapsed() < Duration::from_secs(5), "before the strangers ran out of time: {:?}", began.elapsed());
    drop(held);
    ensure!(took < UNHARMED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_a_new_source_must_prove_its_address_and_agents_go_on() -> Result<()> {
    let (parent, _endpoint, two) = parent().await?;
    let way = parent.way();
    let (mut sockets, mut retries) = (Vec::new(), 0);
    for _ in 0..BEGUN / 2 {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.send_to(&first_packet(&way, &two).await?, way.address).await?;
        sockets.push(socket);
    }
    let mut answer = [0; 2048];
    for socket in &sockets {
        let received = tokio::time::timeout(Duration::from_millis(200), socket.recv_from(&mut answer)).await;
        // Type of a long header: 3 is Retry (RFC 9000, 17.2.5). It keeps no state at the sender.
        retries += usize::from(received.is_ok() && answer[0] & 0xf0 == 0xf0);
    }
    ensure!(retries >= BEGUN / 2 - 64 - 8, "all but the first 64 are asked to prove their address: {retries}");
    ensure!(asked(&parent).await? < UNHARMED);
    // An agent proves its address and is let in.
    let (session, _endpoint) = tokio::time::timeout(Duration::from_secs(4), way.quic(&two)).await??;
    serve(session, brief_api().await?)?;
    parent.connected(2).await
}
