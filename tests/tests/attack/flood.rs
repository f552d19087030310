//! Floods: handshakes from addresses that nobody has, and from one that somebody has.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_protocol::token::JoinToken;
use lattice_protocol::transport::{Closed, quic, tcp};
use serde_json::json;
use tokio::net::TcpSocket;

use crate::agent::Agent;
use crate::asking::{Asking, Door, cluster};
use crate::handshake::foreign;
use crate::rig::Rig;
use crate::wait::until;

/// Addresses of loopback that the flood comes from; none of them ever answers.
const SOURCES: u16 = 400;
/// What a server may send to an address that has proved nothing, as a multiple of what it got (RFC 9000, 8.1).
const AMPLIFICATION_MAX: usize = 3;

/// Attempts of each kind that strangers make, each from an address of its own but for the last ones.
const ATTEMPTS: u16 = 400;
/// How many of them go on at once.
const AT_ONCE: usize = 48;

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
    let (mut sent, mut got, mut asked) = (vec![0; sources.len()], vec![0; sources.len()], HashSet::new());
    until("most of the sources are asked to prove their address", async || {
        let mut bytes = [0; 2048];
        for (at, (source, datagram)) in sources.iter().enumerate() {
            while let Ok((length, _)) = source.recv_from(&mut bytes) {
                got[at] += length;
                // A long header of type Retry (RFC 9000, 17.2.5).
                if bytes[0] & 0xf0 == 0xf0 {
                    asked.insert(at);
                }
            }
            if !asked.contains(&at) {
                sent[at] += source.send_to(datagram, rig.gateway()).unwrap_or_default();
            }
        }
        (asked.len() > sources.len() / 2).then_some(())
    })
    .await?;
    for (at, (got, sent)) in got.iter().zip(&sent).enumerate() {
        assert!(*got <= AMPLIFICATION_MAX * sent, "source {at} sent {sent} and was sent {got}");
    }
    // While half of the flood's handshakes still wait: who is connected stays so, who comes is let in.
    assert_eq!(connected.close_reason(), None);
    let (late, _other) = tokio::time::timeout(Duration::from_secs(10), way.quic(&other)).await??;
    assert_eq!((connected.close_reason(), late.close_reason()), (None, None));
    Ok(())
}

#[tokio::test]
async fn attack_21_floods_of_enrolments_and_of_handshakes_leave_agents_connected() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = rig.object("steady").await?;
    let agent = Agent::start(&rig, &of, &rig.token(&of).await?, &[]).await?;
    rig.condition(&of, "AgentConnected", "connected over").await?;
    let (way, ca) = (rig.way().await?, rig.ca().await?);
    let stranger = foreign(&rig, &of).await?;
    let tls = way.tls(&stranger)?;
    let source = |number: u16| {
        let [high, low] = number.to_be_bytes();
        IpAddr::from(Ipv4Addr::new(127, 22, high, low))
    };
    let enrolments = futures::stream::iter(0..ATTEMPTS).map(async |number| {
        let door = Door { address: rig.bootstrap(), ca: ca.clone(), from: source(number) };
        let body = json!({
            "cluster": of.name, "token": *JoinToken::generate().expose(), "csr": Asking::new()?.csr,
            "kubeSystemUid": crate::rig::KUBE_SYSTEM,
        });
        Ok::<u16, anyhow::Error>(door.post("/v1/enrol", body.to_string()).await?.0)
    });
    let handshakes = futures::stream::iter(0..ATTEMPTS).map(async |number| {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source(number), 0))?;
        let session = tcp::over(socket.connect(rig.gateway()).await?, Arc::clone(&tls), rig.gateway()).await?;
        Ok::<_, anyhow::Error>(session.closed().await)
    });
    let (enrolments, handshakes) = tokio::join!(
        enrolments.buffer_unordered(AT_ONCE).collect::<Vec<_>>(),
        handshakes.buffer_unordered(AT_ONCE).collect::<Vec<_>>(),
    );
    let refused = enrolments.iter().filter(|answer| matches!(answer, Ok(401 | 429))).count();
    assert_eq!(
        refused,
        enrolments.len(),
        "each is answered, and refused: {:?}",
        enrolments.iter().find(|one| one.is_err())
    );
    assert!(handshakes.iter().all(|ended| !matches!(ended, Ok(Closed::Here))), "each is ended by the manager");
    // One source is not heard for ever.
    let door = Door { address: rig.bootstrap(), ca, from: source(ATTEMPTS) };
    let asked = futures::stream::iter(0..40).then(async |_| {
        let body = json!({"cluster": "c1", "token": *JoinToken::generate().expose(), "csr": "", "kubeSystemUid": "u"});
        anyhow::Ok(door.post("/v1/enrol", body.to_string()).await?.0)
    });
    let answers = asked.try_collect::<Vec<_>>().await?;
    assert!(answers.contains(&429), "{answers:?}");
    // Who was connected still is, by the same session, and who comes is let in.
    let said = agent.log();
    assert_eq!((said.matches("connected remote").count(), said.matches("connection lost").count()), (1, 0), "{said}");
    let (_, late) = rig.agent(&cluster(211)).await?;
    assert_eq!(rig.verdict(&late).await?, None);
    Ok(())
}
