//! Dials several addresses, a little apart, each over QUIC and TCP; the first session wins and the others are dropped.

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lattice_protocol::limits::{HANDSHAKE_TIMEOUT, TCP_HEAD_START};
use lattice_protocol::transport::dial::{Race, race};
use lattice_protocol::transport::{Net, Session, Transport, quic, tcp};

use super::address::{Address, Target};
use super::chain;
use super::via::HttpProxy;

/// Head start of each address over the next (RFC 8305 calls it Connection Attempt Delay). Lower makes handshakes that are
/// thrown away; higher waits longer for a dead address.
const HEAD_START: Duration = Duration::from_millis(250);

/// Most addresses that are tried in one round.
const ADDRESSES_MAX: usize = 8;

/// Which carriers are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ways {
    /// QUIC, and TCP after a head start of this length.
    Both(Duration),
    /// QUIC only, to find out whether it works by now.
    QuicOnly,
}

impl Ways {
    /// What to try after the last session came up over `last`: where TCP won, it joins at once.
    pub(super) fn after(last: Option<Transport>) -> Self {
        Self::Both(if last == Some(Transport::Tcp) { Duration::ZERO } else { TCP_HEAD_START })
    }
}

/// Dials until one answers.
///
/// # Errors
/// What every address said, in one line.
pub(super) async fn first(
    net: &Net,
    targets: Vec<Target>,
    tls: &Arc<rustls::ClientConfig>,
    ways: Ways,
) -> Result<Session, String> {
    let targets = targets.into_iter().filter(|target| !matches!((target, ways), (Target::Through(..), Ways::QuicOnly)));
    let dials = targets.take(ADDRESSES_MAX).zip(0_u32..);
    let mut running: FuturesUnordered<_> = dials
        .map(|(target, place)| async move {
            tokio::time::sleep(HEAD_START * place).await;
            match target {
                Target::Straight(address) => dial(net, address, Arc::clone(tls), ways).await,
                Target::Datagrams(address) => dial(net, address, Arc::clone(tls), Ways::QuicOnly).await,
                Target::Through(proxy, to) => through(&proxy, &to, Arc::clone(tls), ways).await,
            }
        })
        .collect();
    let mut said = Vec::new();
    while let Some(dialled) = running.next().await {
        match dialled {
            Ok(session) => return Ok(session),
            Err(why) => said.push(why),
        }
    }
    Err(said.join("; "))
}

/// Over TCP through a proxy, after QUIC had its head start.
async fn through(
    proxy: &HttpProxy,
    to: &Address,
    tls: Arc<rustls::ClientConfig>,
    ways: Ways,
) -> Result<Session, String> {
    if let Ways::Both(head_start) = ways {
        tokio::time::sleep(head_start).await;
    }
    let words = |why: &(dyn std::error::Error + 'static)| format!("{to} through {proxy}: {}", chain(why));
    in_time(to, async {
        let stream = proxy.connect(to.host(), to.port()).await.map_err(|error| words(&error))?;
        let address = stream.peer_addr().map_err(|error| words(&error))?;
        tcp::over(stream, tls, address).await.map_err(|error| words(&error))
    })
    .await
}

async fn in_time(to: &Address, dialling: impl Future<Output = Result<Session, String>>) -> Result<Session, String> {
    let late = || format!("{to}: no answer through the proxy within {HANDSHAKE_TIMEOUT:?}");
    tokio::time::timeout(HANDSHAKE_TIMEOUT, dialling).await.map_err(|_| late())?
}

/// A socket of its own for each dial: a binding in a NAT on the way that went bad is not used again.
async fn dial(net: &Net, address: SocketAddr, tls: Arc<rustls::ClientConfig>, ways: Ways) -> Result<Session, String> {
    let any = if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let endpoint = quic::dialler_in(net, any).await;
    match ways {
        Ways::Both(head_start) => {
            // A host that forbids UDP sockets still has TCP.
            let quic = endpoint.as_ref().ok();
            race(Race { address, net, quic, tls, head_start }).await.map_err(|error| chain(&error))
        }
        Ways::QuicOnly => {
            let dialled = async { quic::dial(&endpoint?, quic::client_config(tls)?, address).await };
            dialled.await.map_err(|error| format!("{address}: {}", chain(&error)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winner_is_remembered() {
        assert_eq!(Ways::after(None), Ways::Both(TCP_HEAD_START));
        assert_eq!(Ways::after(Some(Transport::Quic)), Ways::Both(TCP_HEAD_START));
        assert_eq!(Ways::after(Some(Transport::Tcp)), Ways::Both(Duration::ZERO));
    }
}
