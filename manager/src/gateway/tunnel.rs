//! The tunnel's listener: from a first packet to a live session, and to its end.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::task::Kind;
use lattice_protocol::transport::{self, CloseCode, Session, quic};

use super::admission::{Admission, Waiting};
use super::stop::Stop;
use super::{AgentSession, Shared, TunnelEvent};
use crate::store::identity::Unpinned;

/// Connection attempts that the QUIC library keeps before we take them.
const INCOMING_MAX: usize = 4096;
/// How often a session's certificate is compared with the wall clock.
const EXPIRY_LOOK_EVERY: Duration = Duration::from_secs(60);

/// Makes the listener's settings.
pub(super) fn server_config(tls: Arc<rustls::ServerConfig>) -> Result<quinn::ServerConfig, transport::Error> {
    let mut config = quic::server_config(tls)?;
    config.max_incoming(INCOMING_MAX);
    Ok(config)
}

/// Accepts agents until `stop` asks to drain.
pub(super) fn serve(stop: &Stop, endpoint: quinn::Endpoint, shared: Arc<Shared>) {
    let inner = stop.clone();
    let admission = Arc::new(Admission::default());
    stop.spawn("gateway.tunnel", Kind::Service, async move {
        loop {
            let incoming = tokio::select! {
                biased;
                () = inner.drain.cancelled() => return,
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
            let serving = agent(incoming, waiting, Arc::clone(&admission), Arc::clone(&shared));
            // Sessions outlive the drain: shutdown closes them itself, when the exchanges over them have ended.
            inner.spawn_until_cut("gateway.agent", Kind::Request, serving);
        }
    });
}

/// One connection, from its first packet to its end.
async fn agent(incoming: quinn::Incoming, waiting: Waiting, admission: Arc<Admission>, shared: Arc<Shared>) {
    let from = incoming.remote_address();
    let Some(running) = admission.turn(waiting, from.ip()).await else { return };
    let session = match quic::accept(incoming).await {
        Ok(session) => session,
        Err(error) => {
            let why = words(&error);
            tracing::debug!(%from, why, "a tunnel handshake failed");
            return shared.events.note(TunnelEvent::HandshakeFailed { uid: None, from, why });
        }
    };
    drop(running);
    match shared.identities.pinned(session.peer()) {
        Ok((uid, name)) => {
            let (admitted, replaced) = shared.sessions.admit(uid, name, session);
            live(&shared, admitted, replaced).await;
        }
        Err(unpinned) => turn_away(&shared, &session, from, unpinned),
    }
}

/// A session from its admission to its end.
async fn live(shared: &Shared, session: Arc<AgentSession>, replaced: Option<Arc<AgentSession>>) {
    tracing::info!(cluster.name = %session.name(), from = %session.remote(), "agent connected");
    // A revocation that came between the check and the admission must not be missed.
    if let Err(unpinned) = shared.identities.pinned(session.identity()) {
        session.close(code(unpinned), &unpinned.to_string());
    }
    if let Some(old) = replaced {
        supersede(shared, &old).await;
    }
    shared.events.send(TunnelEvent::Connected(Arc::clone(&session))).await;
    let why = tokio::select! {
        why = session.closed() => why,
        () = session.refuse_streams() => session.closed().await,
        () = expiry(session.certificate_expires()) => {
            session.close(CloseCode::UnknownIdentity, "the certificate has expired");
            session.closed().await
        }
    };
    if shared.sessions.remove(&session) {
        tracing::info!(cluster.name = %session.name(), why = %why, "agent gone");
        let (uid, generation) = (session.uid().clone(), session.generation());
        shared.events.send(TunnelEvent::Lost { uid, why, generation }).await;
    }
}

async fn supersede(shared: &Shared, old: &AgentSession) {
    // An agent that was cut off dials again before we notice: only a session that still seems alive is a rival.
    if old.close_reason().is_some() {
        return;
    }
    old.close(CloseCode::Superseded, "a newer session of this identity took over");
    shared.events.send(TunnelEvent::Superseded { uid: old.uid().clone(), from: old.remote() }).await;
}

fn turn_away(shared: &Shared, session: &Session, from: SocketAddr, unpinned: Unpinned) {
    let why = unpinned.to_string();
    tracing::warn!(%from, identity = %session.peer().id, why, "an agent was turned away");
    session.close(code(unpinned), &why);
    let uid = session.peer().id.cluster().cloned();
    shared.events.note(TunnelEvent::HandshakeFailed { uid, from, why });
}

fn code(unpinned: Unpinned) -> CloseCode {
    match unpinned {
        Unpinned::Revoked => CloseCode::Revoked,
        Unpinned::UnknownCluster | Unpinned::Replaced => CloseCode::UnknownIdentity,
    }
}

/// Ends when the wall clock has passed `expires`: a session does not outlive its certificate.
async fn expiry(expires: Timestamp) {
    while clock::now() < expires {
        tokio::time::sleep(EXPIRY_LOOK_EVERY).await;
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
