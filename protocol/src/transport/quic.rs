//! QUIC settings and endpoints. Measured reasons for each number are in `docs/decisions`.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use quinn_proto::RandomConnectionIdGenerator;
use quinn_proto::crypto::HmacKey;
use rustls_pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;

use super::window::Liftable;
use super::{Error, Net, Session};
use crate::limits::{
    HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL, SOCKET_BUFFER_BYTES, STREAMS_INITIAL, STREAMS_MAX,
};
use crate::tls::{ALPN, Identity, MANAGER_SERVER_NAME, Unacceptable};

/// Bytes of a connection id. The library's default generator has 3 random bytes and stalls one handshake in 2,600 when
/// addresses are validated with Retry.
const CONNECTION_ID_BYTES: usize = 8;

/// Credit of one stream, bytes: 2.5 MB are 200 Mbit/s at 100 ms. Larger ones cost cache misses on fast links.
const STREAM_WINDOW_BYTES: u32 = 2_500_000;

/// Unacknowledged data of one connection, bytes.
const SEND_WINDOW_BYTES: u64 = 5_000_000;

/// Credit of one connection, bytes: bounds what a peer can make us hold.
const CONNECTION_WINDOW_BYTES: u32 = 16_000_000;

/// The key of stateless resets.
pub type ResetKey = Arc<dyn HmacKey>;

/// Makes the transport parameters of both sides.
///
/// # Panics
/// Never: the idle timeout is a constant that fits.
pub fn transport_config() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("twenty seconds fit a QUIC timeout");
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_INITIAL))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .max_idle_timeout(Some(idle))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .congestion_controller_factory(Arc::new(Liftable::default()));
    Arc::new(config)
}

/// Makes the endpoint's settings. With a `reset_key` that outlives the process, peers notice within milliseconds that it
/// restarted; without one only after the idle timeout.
pub fn endpoint_config(reset_key: Option<ResetKey>) -> EndpointConfig {
    let mut config = reset_key.map_or_else(EndpointConfig::default, EndpointConfig::new);
    config.cid_generator(|| Box::new(RandomConnectionIdGenerator::new(CONNECTION_ID_BYTES)));
    config
}

/// Derives the stateless-reset key from a secret that every replica of the manager holds.
pub fn reset_key(secret: &[u8]) -> ResetKey {
    let salt = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"lattice/1 stateless reset");
    let derived = ring::hmac::sign(&salt, secret);
    Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derived.as_ref()))
}

/// Turns TLS settings into those of a QUIC server.
///
/// # Errors
/// [`Error::Suite`] when the settings lack AES-128-GCM.
pub fn server_config(tls: Arc<rustls::ServerConfig>) -> Result<quinn::ServerConfig, Error> {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport_config()).migration(true);
    Ok(config)
}

/// Turns TLS settings into those of a QUIC client.
///
/// # Errors
/// [`Error::Suite`] when the settings lack AES-128-GCM.
pub fn client_config(tls: Arc<rustls::ClientConfig>) -> Result<quinn::ClientConfig, Error> {
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport_config());
    Ok(config)
}

/// Binds an endpoint that accepts connections, on a socket with large buffers.
///
/// # Errors
/// [`Error::Bind`].
pub fn listen(
    address: SocketAddr,
    config: quinn::ServerConfig,
    reset_key: Option<ResetKey>,
) -> Result<Endpoint, Error> {
    bind(address, Some(config), reset_key)
}

/// As [`listen`], in any network.
///
/// # Errors
/// [`Error::Bind`].
pub async fn listen_in(
    net: &Net,
    address: SocketAddr,
    config: quinn::ServerConfig,
    reset_key: Option<ResetKey>,
) -> Result<Endpoint, Error> {
    bind_in(net, address, Some(config), reset_key).await
}

/// Binds an endpoint that only dials. Give the unspecified address of the family that will be dialled.
///
/// # Errors
/// [`Error::Bind`].
pub fn dialler(address: SocketAddr) -> Result<Endpoint, Error> {
    bind(address, None, None)
}

/// As [`dialler`], in any network.
///
/// # Errors
/// [`Error::Bind`].
pub async fn dialler_in(net: &Net, address: SocketAddr) -> Result<Endpoint, Error> {
    bind_in(net, address, None, None).await
}

fn bind(
    address: SocketAddr,
    config: Option<quinn::ServerConfig>,
    reset_key: Option<ResetKey>,
) -> Result<Endpoint, Error> {
    let failed = |source| Error::Bind { address, source };
    let socket = socket(address).map_err(failed)?;
    Endpoint::new(endpoint_config(reset_key), config, socket, Arc::new(TokioRuntime)).map_err(failed)
}

async fn bind_in(
    net: &Net,
    address: SocketAddr,
    config: Option<quinn::ServerConfig>,
    reset_key: Option<ResetKey>,
) -> Result<Endpoint, Error> {
    let Net::Made(network) = net else { return bind(address, config, reset_key) };
    let failed = |source| Error::Bind { address, source };
    let socket = network.datagrams(address).await.map_err(failed)?;
    let settings = endpoint_config(reset_key);
    Endpoint::new_with_abstract_socket(settings, config, socket, Arc::new(TokioRuntime)).map_err(failed)
}

/// Dials a manager and waits for the handshake, at most [`HANDSHAKE_TIMEOUT`].
///
/// The manager checks our certificate after this returned: a refusal shows as the session's end.
///
/// # Errors
/// [`Error::Dial`], [`Error::HandshakeTimeout`], [`Error::Handshake`], [`Error::Peer`].
pub async fn dial(endpoint: &Endpoint, config: quinn::ClientConfig, address: SocketAddr) -> Result<Session, Error> {
    let connecting = endpoint
        .connect_with(config, address, MANAGER_SERVER_NAME)
        .map_err(|source| Error::Dial { address, source })?;
    Session::from_quic(finish(connecting, address).await?, STREAMS_MAX)
}

/// Accepts a connection on the manager's side and waits for the handshake, at most [`HANDSHAKE_TIMEOUT`].
///
/// # Errors
/// [`Error::HandshakeTimeout`], [`Error::Handshake`], [`Error::Peer`].
pub async fn accept(incoming: quinn::Incoming) -> Result<Session, Error> {
    let address = incoming.remote_address();
    let connecting = incoming.accept().map_err(|source| Error::Handshake { address, source })?;
    Session::from_quic(finish(connecting, address).await?, STREAMS_INITIAL)
}

async fn finish(connecting: quinn::Connecting, address: SocketAddr) -> Result<Connection, Error> {
    match timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Err(_) => Err(Error::HandshakeTimeout(address)),
        Ok(Err(source)) => Err(Error::Handshake { address, source }),
        Ok(Ok(connection)) if !speaks_our_protocol(&connection) => Err(Error::OtherProtocol(address)),
        Ok(Ok(connection)) => Ok(connection),
    }
}

/// A client that offers no protocol at all would pass the handshake.
fn speaks_our_protocol(connection: &Connection) -> bool {
    let data = connection.handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(ALPN))
}

pub(super) fn peer(connection: &Connection) -> Result<Identity, Unacceptable> {
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(Unacceptable::Malformed)?;
    Identity::of(chain.first().ok_or(Unacceptable::Malformed)?)
}

fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // `[::]` serves both families where the system allows it.
        let _ = socket.set_only_v6(false);
    }
    for (what, set) in [
        ("receive", socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)),
        ("send", socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)),
    ] {
        if let Err(error) = set {
            tracing::debug!(buffer = what, error = %error, "socket buffer stays at the system's size");
        }
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
