//! The tunnel over TCP: TLS with the same settings as over QUIC, on the same port number.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::mux::Mux;
use super::net::Io;
use super::{Error, Net, Session};
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::tls::{ALPN, Identity, MANAGER_SERVER_NAME, Unacceptable};

/// Dials a manager and waits for the handshake, at most [`HANDSHAKE_TIMEOUT`].
///
/// The manager checks our certificate after this returned: a refusal shows as the session's end.
///
/// # Errors
/// [`Error::Connect`], [`Error::HandshakeTimeout`], [`Error::TlsHandshake`], [`Error::OtherProtocol`], [`Error::Peer`].
pub async fn dial(tls: Arc<ClientConfig>, address: SocketAddr) -> Result<Session, Error> {
    dial_in(&Net::System, tls, address).await
}

/// As [`dial`], in any network.
///
/// # Errors
/// As [`dial`].
pub async fn dial_in(net: &Net, tls: Arc<ClientConfig>, address: SocketAddr) -> Result<Session, Error> {
    let dialling = async {
        let stream = net.connect(address).await.map_err(|source| Error::Connect { address, source })?;
        over(stream, tls, address).await
    };
    timeout(HANDSHAKE_TIMEOUT, dialling).await.map_err(|_| Error::HandshakeTimeout(address))?
}

/// Does the dialling side's handshake on a TCP connection that is up already, for example through a proxy.
///
/// # Errors
/// As [`dial`], without a bound on time.
///
/// # Panics
/// Never: the name is a constant.
pub async fn over(stream: impl Into<Io>, tls: Arc<ClientConfig>, address: SocketAddr) -> Result<Session, Error> {
    let stream = stream.into();
    stream.hasten();
    let name = MANAGER_SERVER_NAME.try_into().expect("the manager's name is a DNS name");
    let stream = TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .map_err(|source| Error::TlsHandshake { address, source })?;
    let identity = peer(stream.get_ref().1, address)?;
    Ok(Session::from_mux(Mux::start(stream, true), identity, address))
}

/// Accepts a connection on the manager's side and waits for the handshake, at most [`HANDSHAKE_TIMEOUT`].
///
/// # Errors
/// [`Error::HandshakeTimeout`], [`Error::TlsHandshake`], [`Error::OtherProtocol`], [`Error::Peer`].
pub async fn accept(stream: impl Into<Io>, tls: Arc<ServerConfig>, address: SocketAddr) -> Result<Session, Error> {
    let stream = stream.into();
    stream.hasten();
    let stream = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream))
        .await
        .map_err(|_| Error::HandshakeTimeout(address))?
        .map_err(|source| Error::TlsHandshake { address, source })?;
    let identity = peer(stream.get_ref().1, address)?;
    Ok(Session::from_mux(Mux::start(stream, false), identity, address))
}

fn peer(connection: &rustls::CommonState, address: SocketAddr) -> Result<Identity, Error> {
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(Error::OtherProtocol(address));
    }
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or(Unacceptable::Malformed)?;
    Ok(Identity::of(leaf)?)
}
