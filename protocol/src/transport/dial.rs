//! QUIC and TCP side by side: a silent UDP port looks like a slow one, so waiting for the one before trying the other
//! would cost the whole handshake timeout.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::{Error, Net, Session, quic, tcp};

/// One address, and both ways to it.
#[derive(Debug)]
pub struct Race<'a> {
    /// Where to.
    pub address: SocketAddr,
    /// Where TCP goes out.
    pub net: &'a Net,
    /// The endpoint that QUIC goes out from; none: TCP only.
    pub quic: Option<&'a quinn::Endpoint>,
    /// TLS of both.
    pub tls: Arc<ClientConfig>,
    /// How long QUIC is alone: [`crate::limits::TCP_HEAD_START`] at first, nothing when TCP won the last time.
    pub head_start: Duration,
}

/// Neither way led to a session.
#[derive(Debug, thiserror::Error)]
pub struct Unreachable {
    /// Where to.
    pub address: SocketAddr,
    /// Why not over QUIC, when it was tried.
    pub quic: Option<Error>,
    /// Why not over TCP.
    #[source]
    pub tcp: Error,
}

/// Dials both ways; the first handshake that is done wins, and the other is given up.
///
/// # Errors
/// [`Unreachable`] with what went wrong on each way.
pub async fn race(race: Race<'_>) -> Result<Session, Unreachable> {
    let Race { address, net, quic, tls, head_start } = race;
    let Some(endpoint) = quic else {
        return tcp::dial_in(net, tls, address).await.map_err(|tcp| Unreachable { address, quic: None, tcp });
    };
    let over_quic = {
        let tls = Arc::clone(&tls);
        async move { quic::dial(endpoint, quic::client_config(tls)?, address).await }
    };
    tokio::pin!(over_quic);
    let early = tokio::time::timeout(head_start, over_quic.as_mut()).await;
    let quic_failed = match early {
        Ok(Ok(session)) => return Ok(session),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let over_tcp = tcp::dial_in(net, tls, address);
    tokio::pin!(over_tcp);
    if let Some(quic) = quic_failed {
        return over_tcp.await.map_err(|tcp| Unreachable { address, quic: Some(quic), tcp });
    }
    tokio::select! {
        biased;
        dialled = over_quic.as_mut() => match dialled {
            Ok(session) => Ok(session),
            Err(quic) => over_tcp.await.map_err(|tcp| Unreachable { address, quic: Some(quic), tcp }),
        },
        dialled = over_tcp.as_mut() => match dialled {
            Ok(session) => Ok(session),
            Err(tcp) => over_quic.await.map_err(|quic| Unreachable { address, quic: Some(quic), tcp }),
        },
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.quic {
            Some(quic) => write!(f, "{} cannot be reached over QUIC ({}), nor over TCP", self.address, Chain(quic)),
            None => write!(f, "{} cannot be reached over TCP", self.address),
        }
    }
}

/// An error with its causes.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(source) = cause {
            write!(f, ": {source}")?;
            cause = source.source();
        }
        Ok(())
    }
}
