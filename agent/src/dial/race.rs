//! Dials several addresses, a little apart; the first session wins and the others are dropped.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lattice_protocol::transport::{Session, quic};

use super::chain;

/// Head start of each address over the next (RFC 8305 calls it Connection Attempt Delay). Lower makes handshakes that are
/// thrown away; higher waits longer for a dead address.
const HEAD_START: Duration = Duration::from_millis(250);

/// Most addresses that are tried in one round.
const ADDRESSES_MAX: usize = 8;

/// Dials until one answers.
///
/// # Errors
/// What every address said, in one line.
pub(super) async fn first(addresses: Vec<SocketAddr>, config: quinn::ClientConfig) -> Result<Session, String> {
    let dials = addresses.into_iter().take(ADDRESSES_MAX).zip(0_u32..);
    let mut running: FuturesUnordered<_> = dials
        .map(|(address, place)| {
            let config = config.clone();
            async move {
                tokio::time::sleep(HEAD_START * place).await;
                dial(address, config).await.map_err(|error| format!("{address}: {error}"))
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

/// A socket of its own for each dial: a binding in a NAT on the way that went bad is not used again.
async fn dial(address: SocketAddr, config: quinn::ClientConfig) -> Result<Session, String> {
    let any = if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let endpoint = quic::dialler(any).map_err(|error| chain(&error))?;
    quic::dial(&endpoint, config, address).await.map_err(|error| chain(&error))
}
