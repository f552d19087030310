//! Floods: handshakes from addresses that nobody has, and from one that somebody has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use lattice_protocol::transport::quic;

use crate::rig::{Rig, all, cluster, until};

/// Addresses of loopback that the flood comes from; none of them ever answers.
const SOURCES: u16 = 400;
/// What a server may send to an address that has proved nothing, as a multiple of what it got (RFC 9000, 8.1).
const AMPLIFICATION_MAX: usize = 3;

/// The first datagram of a handshake.
fn initial(config: &quinn::ClientConfig, to: SocketAddr) -> Result<Vec<u8>> {
    let now = tokio::time::Instant::now().into_std();
    let mut endpoint = quinn_proto::Endpoint::new(Arc::new(quinn_proto::EndpointConfig::default()), None, true, None);
    let (_, mut connection) = endpoint.connect(now, config.clone(), to, "lattice-manager")?;
    let mut datagram = Vec::new();
    let sent = connection.poll_transmit(now, 1, &mut datagram).context("a client speaks first")?;
    datagram.truncate(sent.size);
    Ok(datagram)
}

#[tokio::test]
async fn attack_21_a_flood_from_spoofed_addresses_gets_retry_and_little_and_harms_nobody() -> Result<()> {
    if !all() {
        return Ok(());
    }
    let rig = Rig::start(&[]).await?;
    let (_, own) = rig.agent(&cluster(1)).await?;
    let (_, other) = rig.agent(&cluster(2)).await?;
    let way = rig.way().await?;
    let (connected, _endpoint) = way.quic(&own).await?;
    let config = quic::client_config(way.tls(&own)?)?;
    let mut sources = Vec::new();
    for number in 0..SOURCES {
        let [high, low] = number.to_be_bytes();
        let source = UdpSocket::bind((IpAddr::from(Ipv4Addr::new(127, 21, high, low)), 0))?;
        source.set_nonblocking(true)?;
        sources.push((source, initial(&config, rig.gateway())?));
    }
    for (source, datagram) in &sources {
        source.send_to(datagram, rig.gateway())?;
    }
    let (mut got, mut retries) = (vec![0; sources.len()], 0);
    until("most of the sources are asked to prove their address", async || {
        let mut bytes = [0; 2048];
        for (at, (source, _)) in sources.iter().enumerate() {
            while let Ok((length, _)) = source.recv_from(&mut bytes) {
                got[at] += length;
                // A long header of type Retry (RFC 9000, 17.2.5).
                retries += u32::from(bytes[0] & 0xf0 == 0xf0);
            }
        }
        (retries > u32::from(SOURCES) / 2).then_some(())
    })
    .await?;
    for (at, (_, datagram)) in sources.iter().enumerate() {
        let sent = datagram.len();
        assert!(got[at] <= AMPLIFICATION_MAX * sent, "source {at} sent {sent} and was sent {}", got[at]);
    }
    // While half of the flood's handshakes still wait: who is connected stays so, who comes is let in.
    assert_eq!(connected.close_reason(), None);
    let (late, _other) = tokio::time::timeout(Duration::from_secs(10), way.quic(&other)).await??;
    assert_eq!((connected.close_reason(), late.close_reason()), (None, None));
    Ok(())
}
