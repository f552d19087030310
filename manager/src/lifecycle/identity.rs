//! `IdentityConflict`, `ClockSkew` and `CertificateExpiring`: what a person should know of an agent's identity. Each is
//! absent until it was true once.

use jiff::{SignedDuration, Timestamp};
use lattice_protocol::clock;

use super::decision::EventKind;
use super::look::Look;
use crate::api::condition::{CERTIFICATE_EXPIRING, CLOCK_SKEW, IDENTITY_CONFLICT};
use crate::api::{ConditionStatus, Reason};

/// Clocks may differ by this much before it is told. Certificates are dated back by five minutes, so a difference is
/// told long before anything fails of it.
const SKEW_TOLD: SignedDuration = SignedDuration::from_secs(60);

/// Mirrors what is known of the identity into conditions.
pub(super) fn show(look: &mut Look<'_>) {
    incidents(look);
    conflict(look);
    skew(look);
    expiring(look);
}

/// An incident is an Event and no condition: nothing says that it is over.
fn incidents(look: &mut Look<'_>) {
    for incident in look.facts.agent.incidents.clone() {
        if look.state.is_news(incident.number) {
            let quiet = incident.reason == Reason::IdentityRecovered;
            let kind = if quiet { EventKind::Normal } else { EventKind::Warning };
            look.tell(kind, incident.reason, "Identify", incident.note);
        }
    }
}

fn conflict(look: &mut Look<'_>) {
    let Some((at, why)) = look.facts.agent.locked.clone() else {
        return settle(look, IDENTITY_CONFLICT, Reason::IdentityHeldOnce, "one agent holds the identity");
    };
    let message = format!(
        "two agents held this cluster's identity at {}: {why}; both are locked out; find the clone and end it, then run: lattice-manager enrol {} | kubectl apply -f - (on the cluster itself); see docs/identity-conflict.md",
        clock::to_seconds(at),
        look.name()
    );
    raise(look, IDENTITY_CONFLICT, Reason::IdentityConflict, message);
}

fn skew(look: &mut Look<'_>) {
    let wrong = |ahead_ms: i64| {
        let ahead = SignedDuration::from_millis(ahead_ms);
        (ahead.abs() > SKEW_TOLD).then(|| ahead.as_secs())
    };
    let ours = wrong(look.facts.parent.clock_ahead_ms).map(|seconds| {
        format!(
            "lattice-manager's own clock is {seconds:+} s against its API server's, whose time it goes by; check time synchronisation where lattice-manager runs"
        )
    });
    // While the agent is away nothing is known of its clock.
    let health = look.facts.agent.health.known().map(|health| health.clock_ahead_ms);
    let theirs = health.and_then(wrong).map(|seconds| {
        format!(
            "the agent's clock is {seconds:+} s against the manager's; below -300 s and above +12 h the agent refuses the manager's certificate; check time synchronisation on the node"
        )
    });
    match (ours, theirs) {
        (None, None) if health.is_some() || !agent_was_wrong(look) => {
            settle(look, CLOCK_SKEW, Reason::ClocksAgree, "the clocks of agent and manager agree");
        }
        (None, None) => {}
        (ours, theirs) => {
            let message = [ours, theirs].into_iter().flatten().collect::<Vec<_>>().join("; ");
            raise(look, CLOCK_SKEW, Reason::ClockSkew, message);
        }
    }
}

/// What was said of an agent's clock stands until the agent is heard again.
fn agent_was_wrong(look: &Look<'_>) -> bool {
    look.conditions.get(CLOCK_SKEW).is_some_and(|condition| condition.message.contains("the agent's clock"))
}

fn expiring(look: &mut Look<'_>) {
    let Some(session) = look.facts.agent.session.clone() else { return };
    let (Some(late), Some(expires)) = (session.certificate_late, session.certificate_expires) else { return };
    if look.now < late {
        return settle(look, CERTIFICATE_EXPIRING, Reason::AsExpected, "the agent's certificate is renewed in time");
    }
    let ends = |at: Timestamp| clock::to_seconds(at);
    let message = format!(
        "the agent's certificate ends at {} and could not be renewed yet; it is tried again; after the end the agent comes back by recovery",
        ends(expires)
    );
    raise(look, CERTIFICATE_EXPIRING, Reason::CertificateExpiring, message);
}

fn raise(look: &mut Look<'_>, type_: &str, reason: Reason, message: String) {
    if !look.conditions.is_true(type_) {
        look.tell(EventKind::Warning, reason, "Identify", message.clone());
    }
    look.set(type_, ConditionStatus::True, reason, message);
}

fn settle(look: &mut Look<'_>, type_: &str, reason: Reason, message: &str) {
    if look.conditions.is_true(type_) {
        look.tell(EventKind::Normal, reason, "Identify", message);
        look.set(type_, ConditionStatus::False, reason, message);
    }
}
