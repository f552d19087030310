//! `AgentConnected`: what the manager knows of the agent, since when, and what to check first.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lattice_protocol::clock;

use super::decision::EventKind;
use super::facts::{Seen, Session};
use super::look::Look;
use crate::api::condition::AGENT_CONNECTED;
use crate::api::{AgentStatus, ConditionStatus, Phase, Reason};

/// How long after a manager's start the stored value stands: agents are on their way back. Longer hides a lost agent,
/// shorter writes the status of every cluster twice at each restart.
pub const GRACE: SignedDuration = SignedDuration::from_secs(45);

/// Whether an absent session means nothing yet, because this manager has just started.
pub(super) fn in_grace(look: &Look<'_>) -> bool {
    look.now < grace_ends(look)
}

/// Mirrors the agent's connection into condition and status.
pub(super) fn show(look: &mut Look<'_>) {
    let before = look.conditions.get(AGENT_CONNECTED).map(|condition| condition.status);
    match look.facts.agent.session.clone() {
        Some(session) => connected(look, &session),
        None => absent(look),
    }
    let after = look.conditions.get(AGENT_CONNECTED).map(|condition| (condition.status, condition.message.clone()));
    match (before, after) {
        (_, Some((ConditionStatus::True, message))) if before != Some(ConditionStatus::True) => {
            look.tell(EventKind::Normal, Reason::Connected, "Connect", message);
        }
        (Some(ConditionStatus::True), Some((ConditionStatus::False, message))) => {
            look.tell(EventKind::Warning, Reason::ConnectionLost, "Connect", message);
        }
        _ => {}
    }
}

fn connected(look: &mut Look<'_>, session: &Session) {
    // A session over the same transport as the one that was never seen to end goes on with it: a manager that was
    // restarted, or an agent that came back before anybody looked, has nothing to tell. What a manager knew that was away
    // for longer has ended unseen.
    let before = look.stored.agent.clone().unwrap_or_default();
    let began_here =
        before.since.as_ref().is_some_and(|since| since.0 >= clock::to_seconds(look.facts.parent.started_at));
    let seen_to_last = began_here || !look.facts.parent.after_absence;
    let goes_on = seen_to_last && before.connected && before.transport.as_deref() == Some(session.transport.as_str());
    let since = before.since.filter(|_| goes_on).unwrap_or_else(|| time(session.since));
    let message = format!("connected over {} since {}", session.transport, since.0);
    look.set(AGENT_CONNECTED, ConditionStatus::True, Reason::Connected, message);
    let said = look.facts.agent.health.known().map(|health| health.agent_version.clone());
    look.status.agent = Some(AgentStatus {
        connected: true,
        since: Some(since),
        transport: Some(session.transport.clone()),
        version: said.filter(|version| !version.is_empty()).or(before.version),
        rtt_ms: before.rtt_ms.filter(|_| goes_on).or(session.rtt_ms),
        last_seen: None,
        last_error: before.last_error,
        certificate_expires: session.certificate_expires.map(time),
    });
}

fn absent(look: &mut Look<'_>) {
    let stored = look.conditions.get(AGENT_CONNECTED).cloned();
    let was_connected = stored.as_ref().is_some_and(crate::api::Condition::is_true);
    if was_connected && look.facts.agent.sighting.is_none() && in_grace(look) {
        let ends = grace_ends(look);
        look.wake_at(ends);
        return;
    }
    if was_connected {
        lost(look);
        return;
    }
    match look.phase() {
        None | Some(Phase::Pending | Phase::Provisioning) => {
            let message = "the agent starts on the first control-plane machine, which is not up yet";
            look.set(AGENT_CONNECTED, ConditionStatus::Unknown, Reason::WaitingForEarlierStep, message);
        }
        Some(Phase::Bootstrapping | Phase::Ready | Phase::Scaling | Phase::Upgrading | Phase::Deleting) => {
            waiting(look);
        }
    }
}

/// The session that the status tells of is gone.
fn lost(look: &mut Look<'_>) {
    let (at, why) = match &look.facts.agent.sighting {
        Some(sighting) => {
            let why = match &sighting.seen {
                Seen::Lost(why) | Seen::Incompatible(why) => why.clone(),
                Seen::HandshakeFailed(error) => format!("its last handshake failed: {error}"),
                Seen::EnrolmentRefused(why) => format!("its last enrolment was refused: {why}"),
                Seen::ManifestFetched | Seen::Enrolled => "it is starting again".to_owned(),
            };
            (sighting.at, why)
        }
        None => {
            let start = clock::to_seconds(look.facts.parent.started_at);
            (look.now, format!("it has not come back since lattice-manager started at {start}"))
        }
    };
    let message = format!("lost: {why}; it dials again by itself; first check the node's network and the agent's pod");
    look.set(AGENT_CONNECTED, ConditionStatus::False, Reason::ConnectionLost, message);
    let mut agent = look.stored.agent.clone().unwrap_or_default();
    agent.connected = false;
    agent.since = Some(time(at));
    agent.last_seen = Some(time(at));
    agent.last_error = Some(why);
    agent.rtt_ms = None;
    look.status.agent = Some(agent);
}

/// The agent has not connected, or is lost and not back.
fn waiting(look: &mut Look<'_>) {
    let Some(sighting) = look.facts.agent.sighting.clone() else {
        let known = look.conditions.get(AGENT_CONNECTED).is_some_and(|c| c.status == ConditionStatus::False);
        if !known {
            let addresses = look.facts.parent.addresses.join(", ");
            let message = format!(
                "no agent has been seen since {}: no fetch of its manifest, no enrolment, no dial; first check that the first node can reach {addresses}, then cloud-init's log on it",
                clock::to_seconds(look.now)
            );
            look.set(AGENT_CONNECTED, ConditionStatus::False, Reason::NeverDialled, message);
        }
        return;
    };
    let at = clock::to_seconds(sighting.at);
    let (reason, message) = match &sighting.seen {
        Seen::ManifestFetched => (
            Reason::ManifestFetched,
            format!(
                "the node fetched the agent's manifest at {at}, the agent itself has not been seen; first check its pod in namespace lattice-system of the cluster: is its image pulled?"
            ),
        ),
        Seen::EnrolmentRefused(why) => (Reason::EnrolmentRefused, format!("an enrolment was refused at {at}: {why}")),
        Seen::Enrolled => (
            Reason::EnrolledNotConnected,
            format!(
                "the agent enrolled at {at} and has not connected; first check UDP and TCP from the node to {}",
                look.facts.parent.addresses.join(", ")
            ),
        ),
        Seen::HandshakeFailed(error) => (
            Reason::HandshakeFailed,
            format!("a handshake failed at {at}: {error}; first check clock, CA and certificate"),
        ),
        Seen::Incompatible(why) => (Reason::VersionsApart, format!("refused at {at}: {why}")),
        Seen::Lost(why) => (
            Reason::ConnectionLost,
            format!("lost: {why}; it dials again by itself; first check the node's network and the agent's pod"),
        ),
    };
    look.set(AGENT_CONNECTED, ConditionStatus::False, reason, message);
}

fn grace_ends(look: &Look<'_>) -> Timestamp {
    look.facts.parent.started_at.saturating_add(GRACE).unwrap_or(Timestamp::MAX)
}

fn time(at: Timestamp) -> Time {
    Time(clock::to_seconds(at))
}
