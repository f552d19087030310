//! Agents that connect, are replaced, revoked, turned away, and find their way back.

use std::sync::Arc;
use std::time::Duration;

use lattice_protocol::limits::CERTIFICATE_LIFETIME;
use lattice_protocol::transport::{CloseCode, Closed, Transport};
use lattice_protocol::v1::WatchHealthRequest;
use lattice_protocol::v1::health_client::HealthClient;

use super::world::{Agent, Enrolment, World, echo};
use crate::gateway::TunnelEvent;
use crate::gateway::rotation::Worker;
use crate::store::ca;
use crate::store::vault::Vault as _;

/// Reads events until the agent is connected.
async fn connected(world: &mut World) -> std::sync::Arc<crate::gateway::AgentSession> {
    loop {
        if let TunnelEvent::Connected(session) = world.event().await {
            return session;
        }
    }
}

async fn ask(session: &crate::gateway::AgentSession) -> Result<String, tonic::Status> {
    let mut client = HealthClient::new(session.channel());
    let mut reports = client.watch(WatchHealthRequest { heartbeat_ms: 1000 }).await?.into_inner();
    Ok(reports.message().await?.unwrap().agent_version)
}

#[tokio::test]
async fn an_agent_enrols_connects_and_is_called() {
    let mut world = World::new().await;
    let agent = world.agent(echo()).await;
    let session = connected(&mut world).await;
    assert_eq!((session.uid(), session.name()), (&world.uid, &world.name));
    assert_eq!(session.transport(), Transport::Quic);
    assert_eq!(session.serial(), &agent.credentials.identity().unwrap().serial);
    assert_eq!(ask(&session).await.unwrap(), "test");
    assert_eq!(world.gateway.session(&world.uid).unwrap().generation(), session.generation());
}

#[tokio::test]
async fn an_agent_that_goes_is_lost_once() {
    let mut world = World::new().await;
    let agent = world.agent(echo()).await;
    let session = connected(&mut world).await;
    agent.session.close(CloseCode::Done, "bye");
    let TunnelEvent::Lost { uid, why, generation } = world.event().await else { panic!("lost") };
    assert_eq!((uid, generation), (world.uid.clone(), session.generation()));
    assert_eq!(why, Closed::Peer { code: CloseCode::Done, reason: "bye".to_owned() });
    assert!(world.gateway.session(&world.uid).is_none());
    assert!(ask(&session).await.is_err());
    world.no_event();
}

#[tokio::test]
async fn a_newer_session_takes_over_and_the_older_can_do_nothing_more() {
    let mut world = World::new().await;
    let old = world.agent(echo()).await;
    let old_session = connected(&mut world).await;
    let credentials = reload(&old);
    let _new = Agent::connect(&world, credentials, echo()).await.unwrap();
    let TunnelEvent::Superseded { uid, .. } = world.event().await else { panic!("superseded") };
    assert_eq!(uid, world.uid);
    let new_session = connected(&mut world).await;
    assert!(new_session.generation() > old_session.generation());
    let closed = old.session.closed().await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Superseded, .. }), "{closed:?}");
    assert!(ask(&old_session).await.is_err(), "commands to the old session fail");
    assert_eq!(ask(&new_session).await.unwrap(), "test");
    assert_eq!(world.gateway.sessions(), 1);
    world.no_event();
}

fn reload(agent: &Agent) -> lattice_protocol::tls::Credentials {
    agent.credentials.duplicate()
}

#[tokio::test]
async fn an_agent_without_udp_is_connected_over_tcp_and_back_on_quic_later() {
    let mut world = World::new().await;
    let first = world.agent(echo()).await;
    connected(&mut world).await;
    let over_tcp = Agent::connect_over_tcp(&world, reload(&first), echo()).await.unwrap();
    let session = connected(&mut world).await;
    assert_eq!(session.transport(), Transport::Tcp);
    assert_eq!(ask(&session).await.unwrap(), "test");
    let closed = first.session.closed().await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Superseded, .. }), "{closed:?}");

    let _back = Agent::connect(&world, reload(&first), echo()).await.unwrap();
    assert_eq!(connected(&mut world).await.transport(), Transport::Quic);
    let closed = over_tcp.session.closed().await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Superseded, .. }), "{closed:?}");
}

/// Lets an agent announce and make its next session; gives both of its ends.
async fn handed_over(world: &mut World, old: &Agent) -> (Agent, std::sync::Arc<crate::gateway::AgentSession>) {
    old.session.announce_handover().await.unwrap();
    let before = world.gateway.session(&world.uid).unwrap();
    while !before.hands_over() {
        tokio::task::yield_now().await;
    }
    let new = Agent::connect(world, reload(old), echo()).await.unwrap();
    let session = connected(world).await;
    (new, session)
}

#[tokio::test]
async fn a_successor_takes_over_without_a_gap_and_is_no_rival() {
    let mut world = World::new().await;
    let old = world.agent(echo()).await;
    let old_session = connected(&mut world).await;
    let (new, new_session) = handed_over(&mut world, &old).await;
    assert!(new_session.generation() > old_session.generation());
    assert_eq!(ask(&new_session).await.unwrap(), "test");
    assert_eq!(world.gateway.session(&world.uid).unwrap().generation(), new_session.generation());
    assert_eq!(old_session.close_reason(), None, "what is open on the old one may end");
    old.session.close(CloseCode::Done, "");
    old_session.closed().await;
    world.no_event();

    // Neither a revocation nor a stop forgets a session that was handed over.
    let (last, _) = handed_over(&mut world, &new).await;
    world.gateway.revoke(&world.uid).await.unwrap();
    for agent in [new, last] {
        let closed = agent.session.closed().await;
        assert!(matches!(closed, Closed::Peer { code: CloseCode::Revoked, .. }), "{closed:?}");
    }
}

#[tokio::test]
async fn a_session_that_was_handed_over_ends_as_well_when_its_identity_has_gone() {
    let mut world = World::new().await;
    let old = world.agent(echo()).await;
    connected(&mut world).await;
    let (new, _) = handed_over(&mut world, &old).await;
    let name = format!("lattice-identity-{}", world.uid);
    world.vault.delete(&name).await.unwrap();
    Worker::new(world.gateway.shared()).identity_changed(&name, None).await;
    for agent in [old, new] {
        let closed = agent.session.closed().await;
        assert!(matches!(closed, Closed::Peer { code: CloseCode::UnknownIdentity, .. }), "{closed:?}");
    }
}

#[tokio::test]
async fn a_revoked_identity_is_cut_and_never_let_in_again() {
    let mut world = World::new().await;
    let agent = world.agent(echo()).await;
    connected(&mut world).await;
    world.gateway.revoke(&world.uid).await.unwrap();
    let closed = agent.session.closed().await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Revoked, .. }), "{closed:?}");
    assert!(matches!(world.event().await, TunnelEvent::Lost { .. }));

    let again = Agent::connect(&world, reload(&agent), echo()).await.unwrap();
    let closed = again.session.closed().await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Revoked, .. }), "{closed:?}");
    let TunnelEvent::HandshakeFailed { uid, why, .. } = world.event().await else { panic!("turned away") };
    assert_eq!((uid, why.as_str()), (Some(world.uid.clone()), "the cluster's identity was revoked"));

    world.gateway.forget(&world.name, &world.uid).await.unwrap();
    let again = Agent::connect(&world, reload(&agent), echo()).await.unwrap();
    let closed = again.session.closed().await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::UnknownIdentity, .. }), "{closed:?}");
}

#[tokio::test]
async fn certificates_that_are_not_in_force_are_turned_away_with_the_reason() {
    let mut world = World::new().await;
    let now = lattice_protocol::clock::now();
    let (vault, fleet) = (Arc::clone(&world.vault), world.gateway.trust_domain());
    let authorities = ca::Authorities::open(vault, &fleet, CERTIFICATE_LIFETIME, now).await.unwrap();
    let authority = authorities.present();
    let (token, enrolment) = (world.token().await, Enrolment::new());
    assert_eq!(world.enrol(&token, &enrolment).await.status, 200);
    world.event().await;

    let sign = |uid: &str, at| {
        let enrolment = Enrolment::new();
        let csr = ca::SigningRequest::parse(&enrolment.csr).unwrap();
        let id = world.gateway.trust_domain().agent(&uid.parse().unwrap());
        let issued = authority.issue_agent(&csr, &id, at).unwrap();
        let key = enrolment.key.serialize_pem();
        lattice_protocol::tls::Credentials::from_pem(issued.chain_pem.as_bytes(), key.as_bytes()).unwrap()
    };
    let never_pinned = sign(world.uid.as_str(), now);
    let unknown = sign("ffffffff-9f00-4c8e-8a77-0123456789ab", now);
    let expired = sign(world.uid.as_str(), now - Duration::from_secs(25 * 3600));

    for (credentials, expected) in [
        (never_pinned, "the certificate is not the one that was issued last"),
        (unknown, "no cluster has this identity"),
        (expired, "certificate expired"),
    ] {
        // The handshake of the dialling side may be done before its certificate is judged.
        if let Ok(agent) = Agent::connect(&world, credentials, echo()).await {
            agent.session.closed().await;
        }
        let TunnelEvent::HandshakeFailed { why, .. } = world.event().await else { panic!("turned away") };
        assert!(why.contains(expected), "{why:?} should say {expected:?}");
    }
    assert_eq!(world.gateway.sessions(), 0);
}

#[tokio::test]
async fn a_restarted_manager_lets_its_agents_back_in() {
    let mut world = World::new().await;
    let agent = world.agent(echo()).await;
    connected(&mut world).await;
    world.gateway.shutdown().await;
    let closed = agent.session.closed().await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Draining, .. }), "{closed:?}");

    let writes = world.vault.writes();
    let mut restarted = World::with_vault(std::sync::Arc::clone(&world.vault)).await;
    let _again = Agent::connect(&restarted, reload(&agent), echo()).await.unwrap();
    assert_eq!(ask(&*connected(&mut restarted).await).await.unwrap(), "test");
    assert_eq!(restarted.vault.writes(), writes, "a restart writes nothing");
}

#[tokio::test]
async fn a_closed_gateway_gives_its_ports_back() {
    let world = World::new().await;
    let ports = [world.gateway.bootstrap_addr(), world.gateway.proxy_addr()];
    world.gateway.shutdown().await;
    world.gateway.shutdown().await;
    for port in ports {
        drop(tokio::net::TcpListener::bind(port).await.unwrap());
    }
}
