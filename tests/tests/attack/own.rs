//! The manager's own certificates: renewed on all three ports while connections are open, which do not notice.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::MANAGER_SERVER_NAME;
use lattice_protocol::transport::{CloseCode, Closed, Session};
use lattice_tests::tunnel::{Enrolled, https_stream};
use tokio::net::TcpStream;

use crate::asking::cluster;
use crate::rig::Rig;
use crate::wait::until;

/// The certificates that the three ports show to whoever connects now.
async fn shown(rig: &Rig, own: &Enrolled) -> Result<[Vec<u8>; 3]> {
    let ca = rig.ca().await?;
    let leaf = |connection: &rustls::ClientConnection| {
        connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.to_vec())
            .context("a certificate")
    };
    let tcp = TcpStream::connect(rig.gateway()).await?;
    let gateway = tokio_rustls::TlsConnector::from(Arc::clone(&rig.way().await?.tls(own)?));
    let gateway = leaf(gateway.connect(MANAGER_SERVER_NAME.try_into()?, tcp).await?.get_ref().1)?;
    let bootstrap = leaf(https_stream(rig.bootstrap(), &ca).await?.get_ref().1)?;
    let proxy = leaf(https_stream(rig.proxy(), &ca).await?.get_ref().1)?;
    Ok([gateway, bootstrap, proxy])
}

/// An HTTPS connection that is kept.
async fn kept(rig: &Rig, to: SocketAddr) -> Result<SendRequest<Empty<Bytes>>> {
    let io = https_stream(to, &rig.ca().await?).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    drop(task::spawn("attack.kept", Kind::Request, async move { drop(connection.await) }));
    Ok(sender)
}

/// One more exchange on it.
async fn answers(sender: &mut SendRequest<Empty<Bytes>>) -> Result<u16> {
    sender.ready().await?;
    let request = http::Request::get("/nothing").header("host", "manager").body(Empty::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    Ok(status)
}

/// Ended by what this test is not about: our own certificate's end.
fn is_up(session: &Session) -> bool {
    let ended = session.close_reason();
    ended.is_none() || matches!(ended, Some(Closed::Peer { code: CloseCode::UnknownIdentity, .. }))
}

#[tokio::test]
async fn the_managers_certificates_are_renewed_on_every_port_without_a_dropped_connection() -> Result<()> {
    let rig = Rig::brief().await?;
    let (_, over_quic) = rig.agent(&cluster(501)).await?;
    let (_, over_tcp) = rig.agent(&cluster(502)).await?;
    // Whoever looks at the gateway's certificate has a session of its own, which would take the place of an older one.
    let (_, looker) = rig.agent(&cluster(503)).await?;
    let way = rig.way().await?;
    let (quic, _endpoint) = way.quic(&over_quic).await?;
    let tcp = way.tcp(&over_tcp).await?;
    let (mut bootstrap, mut proxy) = (kept(&rig, rig.bootstrap()).await?, kept(&rig, rig.proxy()).await?);
    let before = shown(&rig, &looker).await?;
    ensure!(before[0] == before[1] && before[1] == before[2], "one certificate for all three");
    until("all ports show another certificate", async || {
        let now = shown(&rig, &looker).await.ok()?;
        now.iter().zip(&before).all(|(now, before)| now != before).then_some(())
    })
    .await?;
    // Those that shook hands with the one before.
    ensure!(is_up(&quic) && is_up(&tcp), "{:?} {:?}", quic.close_reason(), tcp.close_reason());
    ensure!((400..500).contains(&answers(&mut bootstrap).await?));
    ensure!((400..500).contains(&answers(&mut proxy).await?));
    Ok(())
}
