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
    conflict(look);
    skew(look);
    expiring(look);
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
    // While the agent is away nothing is known of its clock.
    let Some(ahead_ms) = look.facts.agent.health.known().map(|health| health.clock_ahead_ms) else { return };
    let ahead = SignedDuration::from_millis(ahead_ms);
    if ahead.abs() <= SKEW_TOLD {
        return settle(look, CLOCK_SKEW, Reason::ClocksAgree, "the clocks of agent and manager agree");
    }
    let seconds = ahead.as_secs();
    let message = format!(
        "the agent's clock is {seconds:+} s against the manager's; from -300 s on certificates begin to fail; check time synchronisation on the node and on the parent"
    );
    raise(look, CLOCK_SKEW, Reason::ClockSkew, message);
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
