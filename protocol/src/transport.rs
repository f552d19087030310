//! The tunnel: one mutually authenticated connection that the agent dials, on which both ends open and accept streams.
//!
//! The first byte of a stream says what it carries ([`Tag`]); the opener speaks first. gRPC runs as plain tonic over a
//! `G` stream ([`grpc_channel`], [`Incoming`]), a proxied Kubernetes request as one HTTP/1.1 exchange over an `H` stream
//! ([`http_exchange`], [`serve_exchange`]).
//!
//! **Guarantees**: every wait has a bound; a stream that is dropped before its end was said is reset, so the other side
//! never takes a cut for an end. **Invariant**: nothing here looks into what a stream carries.

pub mod dial;
mod exchange;
mod grpc;
mod mux;
pub mod net;
pub mod quic;
mod session;
mod slot;
mod stream;
pub mod tcp;
mod upgrade;
mod window;

pub use self::exchange::{ExchangeBody, http_exchange, serve_exchange};
pub use self::grpc::{Incoming, IncomingSender, Peer, PeerInfo, grpc_channel};
pub use self::net::Net;
pub use self::session::{Accepted, CloseCode, Closed, Session};
pub use self::slot::{slot_of, with_slot};
pub use self::stream::{Priority, Stream, Tag};
pub use self::upgrade::PendingUpgrade;

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// Multiplexed TLS over TCP, where UDP does not get through.
    Tcp,
}

impl Transport {
    /// The word for it in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// Why something on the tunnel failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be dialled at all.
    #[error("cannot dial {address}")]
    Dial {
        /// Where to.
        address: std::net::SocketAddr,
        /// The QUIC library's words.
        #[source]
        source: quinn::ConnectError,
    },
    /// The handshake was not done in time.
    #[error("no answer from {0} within {limit:?}", limit = crate::limits::HANDSHAKE_TIMEOUT)]
    HandshakeTimeout(std::net::SocketAddr),
    /// The handshake failed.
    #[error("the handshake with {address} failed")]
    Handshake {
        /// The other side.
        address: std::net::SocketAddr,
        /// The QUIC library's words.
        #[source]
        source: quinn::ConnectionError,
    },
    /// No TCP connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: std::net::SocketAddr,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The handshake over TCP failed.
    #[error("the TLS handshake with {address} failed")]
    TlsHandshake {
        /// The other side.
        address: std::net::SocketAddr,
        /// The TLS library's words.
        #[source]
        source: std::io::Error,
    },
    /// The peer did not agree on our application protocol.
    #[error("{0} does not speak lattice/1")]
    OtherProtocol(std::net::SocketAddr),
    /// The peer's certificate carries no identity.
    #[error(transparent)]
    Peer(#[from] crate::tls::Unacceptable),
    /// The peer lets us open no more streams, or did not answer.
    #[error("no stream could be opened within {limit:?}", limit = crate::limits::STREAM_OPEN_TIMEOUT)]
    OpenTimeout,
    /// The opener did not say what its stream carries.
    #[error("the opener did not name the stream's content within {limit:?}", limit = crate::limits::STREAM_OPEN_TIMEOUT)]
    TagTimeout,
    /// The first byte of a stream has no meaning.
    #[error("a stream began with the unknown byte {0:#04x}")]
    UnknownTag(u8),
    /// The session ended.
    #[error("the session is closed: {0}")]
    Closed(Closed),
    /// A stream failed.
    #[error("the stream failed")]
    Stream(#[source] std::io::Error),
    /// An HTTP exchange over a stream failed.
    #[error("the exchange failed")]
    Exchange(#[source] hyper::Error),
    /// A socket could not be set up.
    #[error("cannot bind {address}")]
    Bind {
        /// Where.
        address: std::net::SocketAddr,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// TLS settings do not fit QUIC.
    #[error("the TLS settings lack a suite that QUIC needs")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

#[cfg(test)]
mod tests;
