//! The tunnel's listener: from a first packet to a live session, and to its end.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::ids::ClusterUid;
use lattice_protocol::task::Kind;
use lattice_protocol::transport::net::Listener;
use lattice_protocol::transport::{self, CloseCode, Closed, Net, Priority, Session, grpc_channel, quic, tcp};

use tokio::time::Instant;

use super::admission::{Admission, Running};
use super::hint;
use super::identity::code;
use super::renewal;
use super::stop::Stop;
use super::{AgentSession, Error, Shared, TunnelEvent, version};
use crate::store::identity::Unpinned;

/// Connection attempts that the QUIC library keeps before we take them.
const INCOMING_MAX: usize = 4096;
/// How often a session's certificate is compared with the wall clock.
const EXPIRY_LOOK_EVERY: Duration = Duration::from_secs(60);
/// How much later it is looked again before the session ends.
const EXPIRY_SURE_AFTER: Duration = Duration::from_secs(15);

/// How often the round trip of a session is noted.
const SAMPLE_EVERY: Duration = Duration::from_secs(15);

/// Pause after a failed accept: usually the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a free port is looked for that both UDP and TCP can have.
const PORT_TRIES: usize = 16;

/// UDP and TCP on one port number.
pub(super) struct Listeners {
    pub(super) quic: quinn::Endpoint,
    pub(super) tcp: Listener,
    pub(super) tls: Arc<rustls::ServerConfig>,
}

/// Binds both. With port 0 they agree on a free one.
pub(super) async fn listen(
    net: &Net,
    address: SocketAddr,
    tls: rustls::ServerConfig,
    reset_key: quic::ResetKey,
) -> Result<Listeners, Error> {
    let tls = Arc::new(tls);
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let config = server_config(Arc::clone(&tls))?;
        let quic = quic::listen_in(net, address, config, Some(Arc::clone(&reset_key))).await?;
        let bound = quic.local_addr().map_err(|source| Error::Listen { address, source })?;
        match net.listen(bound).await {
            Ok(tcp) => return Ok(Listeners { quic, tcp, tls }),
            Err(source) if tries == 0 => return Err(Error::Listen { address: bound, source }),
            Err(_) => {}
        }
    }
}

/// Makes the listener's settings.
fn server_config(tls: Arc<rustls::ServerConfig>) -> Result<quinn::ServerConfig, transport::Error> {
    let mut config = quic::server_config(tls)?;
    config.max_incoming(INCOMING_MAX);
    Ok(config)
}

/// Accepts agents, over QUIC and over TCP, until `stop` asks to drain.
pub(super) fn serve(stop: &Stop, listeners: Listeners, shared: Arc<Shared>) {
    let admission = Arc::new(Admission::default());
    let Listeners { quic, tcp, tls } = listeners;
    let (inner, door, known) = (stop.clone(), Arc::clone(&admission), Arc::clone(&shared));
    stop.spawn("gateway.tunnel.quic", Kind::Service, async move { over_quic(inner, quic, door, known).await });
    let inner = stop.clone();
    stop.spawn("gateway.tunnel.tcp", Kind::Service, async move { over_tcp(inner, tcp, tls, admission, shared).await });
}

async fn over_quic(stop: Stop, endpoint: quinn::Endpoint, admission: Arc<Admission>, shared: Arc<Shared>) {
    loop {
        let incoming = tokio::select! {
            biased;
            () = stop.drain.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        if admission.is_crowded() && incoming.may_retry() && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            continue;
        }
        let Some(waiting) = admission.enter() else {
            incoming.refuse();
            continue;
        };
        let (door, known, from) = (Arc::clone(&admission), Arc::clone(&shared), incoming.remote_address());
        // Sessions outlive the drain: shutdown closes them itself, when the exchanges over them have ended.
        stop.spawn_until_cut("gateway.agent", Kind::Request, async move {
            let Some(running) = door.turn(waiting, from.ip()).await else { return };
            agent(quic::accept(incoming).await, running, from, &known).await;
        });
    }
}

async fn over_tcp(
    stop: Stop,
    listener: Listener,
    tls: Arc<rustls::ServerConfig>,
    admission: Arc<Admission>,
    shared: Arc<Shared>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "a tunnel connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Dropped without a word when nobody may wait any more.
        let Some(waiting) = admission.enter() else { continue };
        let (door, known, tls) = (Arc::clone(&admission), Arc::clone(&shared), Arc::clone(&tls));
        stop.spawn_until_cut("gateway.agent", Kind::Request, async move {
            let Some(running) = door.turn(waiting, from.ip()).await else { return };
            agent(tcp::accept(stream, tls, from).await, running, from, &known).await;
        });
    }
}

/// One connection, from its handshake to its end.
async fn agent(shaken: Result<Session, transport::Error>, running: Running, from: SocketAddr, shared: &Shared) {
    let session = match shaken {
        Ok(session) => session,
        Err(error) => {
            let why = words(&error);
            tracing::debug!(%from, why, "a tunnel handshake failed");
            hint::say(from, &why);
            shared.metrics.agent_disconnected("handshake_failed");
            return shared.events.note(TunnelEvent::HandshakeFailed { uid: None, from, why });
        }
    };
    drop(running);
    let generation = shared.sessions.arrived();
    match shared.identities.pinned(session.peer()) {
        Ok((uid, name)) => {
            // A certificate that is shown is in force from here on, and the one before it no more. When that cannot be
            // written down, both stay in force: the agent is not to blame.
            if let Err(error) = shared.identities.shown(&uid, &session.peer().serial).await {
                tracing::warn!(cluster.name = %name, error = %error, "a new certificate could not be noted");
            }
            let control = grpc_channel(&session, Priority::Control);
            let began = Instant::now();
            let mut exchange = std::pin::pin!(version::exchange(control.clone(), &shared.version));
            let soon = tokio::select! {
                biased;
                verdict = &mut exchange => Some(verdict),
                why = session.closed() => return shared.metrics.agent_disconnected(kind_of_end(&why)),
                () = tokio::time::sleep(version::ANSWER_SOON) => None,
            };
            if let Some(Err(why)) = soon {
                return incompatible(shared, &session, uid, why);
            }
            let answered = soon.is_some();
            if answered {
                session.note_round_trip(began.elapsed());
            }
            let late = async { if answered { std::future::pending().await } else { exchange.await } };
            match shared.sessions.admit(uid, name, session.clone(), control, generation) {
                Some((admitted, replaced)) => live(shared, admitted, replaced, late).await,
                None => {
                    session.close(CloseCode::Superseded, "a newer session of this identity took over");
                    shared.metrics.agent_disconnected("overtaken");
                }
            }
        }
        Err(unpinned) => turn_away(shared, &session, from, unpinned),
    }
}

/// A session from its admission to its end.
async fn live(
    shared: &Shared,
    session: Arc<AgentSession>,
    replaced: Option<Arc<AgentSession>>,
    late: impl Future<Output = Result<(), String>>,
) {
    tracing::info!(cluster.name = %session.name(), from = %session.remote(), "agent connected");
    shared.metrics.agent_connected(session.transport().as_str());
    // A revocation that came between the check and the admission must not be missed.
    if let Err(unpinned) = shared.identities.pinned(session.identity()) {
        session.close(code(unpinned), &unpinned.to_string());
    }
    if let Some(old) = replaced {
        supersede(shared, old, session.remote()).await;
    }
    shared.events.send(TunnelEvent::Connected(Arc::clone(&session))).await;
    let mut apart = None;
    let why = tokio::select! {
        why = session.closed() => why,
        Err(versions) = late => {
            session.close(CloseCode::Incompatible, &versions);
            apart = Some(versions);
            session.closed().await
        }
        () = renewal::keep(shared, &session) => session.closed().await,
        () = session.take_streams() => session.closed().await,
        () = session.silence() => session.closed().await,
        () = expiry(session.certificate_expires()) => {
            session.close(CloseCode::UnknownIdentity, "the certificate has expired");
            session.closed().await
        }
        never = sampled(shared, &session) => match never {},
    };
    shared.metrics.agent_disconnected(if apart.is_some() { "incompatible" } else { kind_of_end(&why) });
    if shared.sessions.remove(&session) {
        tracing::info!(cluster.name = %session.name(), why = %why, "agent gone");
        let (uid, generation) = (session.uid().clone(), session.generation());
        shared.events.send(TunnelEvent::Lost { uid, why, generation }).await;
    }
    if let Some(why) = apart {
        shared.events.note(TunnelEvent::Incompatible { uid: session.uid().clone(), why });
    }
}

async fn supersede(shared: &Shared, old: Arc<AgentSession>, by: SocketAddr) {
    // An agent that was cut off dials again before we notice: only a session that still seems alive is a rival.
    if old.close_reason().is_some() {
        return;
    }
    if old.hands_over() {
        // Its own successor: it gets nothing new, and its agent closes it when what is open on it has ended.
        tracing::debug!(cluster.name = %old.name(), "an agent has handed over to its next session");
        if let Some(oldest) = shared.sessions.retire(Arc::clone(&old)) {
            oldest.close(CloseCode::Superseded, "newer sessions of this identity took over");
        }
        if old.close_reason().is_some() {
            // It ended meanwhile, and its task may have looked for it before it was on the list.
            shared.sessions.remove(&old);
        }
        return;
    }
    old.close(CloseCode::Superseded, "a newer session of this identity took over");
    shared.events.send(TunnelEvent::Superseded { uid: old.uid().clone(), from: old.remote(), by }).await;
}

/// Notes the session's round trip from time to time, for as long as it is polled.
async fn sampled(shared: &Shared, session: &AgentSession) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        session.measure().await;
        if let Some(round_trip) = session.round_trip() {
            shared.metrics.round_trip(session.transport().as_str(), round_trip);
        }
    }
}

/// The kind of a session's end, as one of a few words.
fn kind_of_end(why: &Closed) -> &'static str {
    match why {
        Closed::Here => "closed_here",
        Closed::Peer { code: CloseCode::Draining, .. } => "agent_stopped",
        Closed::Silent | Closed::Peer { code: CloseCode::Unheard, .. } => "silent",
        Closed::Peer { .. } => "closed_by_agent",
        Closed::Forgotten => "agent_restarted",
        Closed::Broken(_) => "broken",
    }
}

/// An agent whose version does not fit is not taken into service.
fn incompatible(shared: &Shared, session: &Session, uid: ClusterUid, why: String) {
    tracing::warn!(cluster.uid = %uid, from = %session.remote(), why, "an agent was refused for its version");
    session.close(CloseCode::Incompatible, &why);
    shared.metrics.agent_disconnected("incompatible");
    shared.events.note(TunnelEvent::Incompatible { uid, why });
}

fn turn_away(shared: &Shared, session: &Session, from: SocketAddr, unpinned: Unpinned) {
    let why = unpinned.to_string();
    tracing::warn!(%from, identity = %session.peer().id, why, "an agent was turned away");
    session.close(code(unpinned), &why);
    let uid = session.peer().id.cluster().cloned();
    shared.events.note(TunnelEvent::HandshakeFailed { uid, from, why });
}

/// Ends when the wall clock has passed `expires`: a session does not outlive its certificate.
async fn expiry(expires: Timestamp) {
    loop {
        while clock::now() < expires {
            tokio::time::sleep(EXPIRY_LOOK_EVERY).await;
        }
        // A clock that has just jumped is corrected by the time of the second look.
        tokio::time::sleep(EXPIRY_SURE_AFTER).await;
        if clock::now() >= expires {
            return;
        }
    }
}

/// An error with its causes, in one line.
fn words(error: &transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
