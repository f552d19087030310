//! The conditions that sum up: `Degraded` and `Ready`, and the one sentence of the status.

use super::component;
use super::decision::EventKind;
use super::look::Look;
use crate::api::condition::{AGENT_CONNECTED, DEGRADED, INFRASTRUCTURE_READY, NODES_READY, READY, VALIDATED};
use crate::api::{ComponentState, ConditionStatus, LastError, Phase, Reason};

/// Failed attempts in a row before upkeep counts as an illness. Fewer cry over one lost answer, more hide for long that
/// nothing is repaired.
const ILL_AFTER_ATTEMPTS: u32 = 5;

/// One thing that keeps a cluster from being healthy.
struct Ill {
    reason: Reason,
    words: String,
}

/// Sums up a cluster that is not being deleted. `doing` is what the phase is at; as long as not all is `known`, what
/// was said before stands.
pub(super) fn show(look: &mut Look<'_>, doing: &str, known: bool) {
    if let Some(quarantine) = look.facts.quarantine.clone() {
        let words = format!(
            "Quarantined since {}: lattice-manager failed on this cluster again and again and leaves it alone until its spec changes; {}",
            lattice_protocol::clock::to_seconds(quarantine.since),
            quarantine.message
        );
        look.set(READY, ConditionStatus::False, Reason::Quarantined, words.clone());
        look.say(words);
        return;
    }
    if !known && look.moved.is_none() && look.conditions.get(READY).is_some() {
        return;
    }
    let settled = match look.phase() {
        Some(Phase::Ready | Phase::Scaling | Phase::Upgrading) => true,
        None | Some(Phase::Pending | Phase::Provisioning | Phase::Bootstrapping | Phase::Deleting) => false,
    };
    if settled {
        settle(look, doing);
    } else {
        progress(look, doing);
    }
    if look.spec().paused {
        let message = look.status.message.clone().unwrap_or_default();
        look.say(format!("Paused by spec.paused, nothing is reconciled. {message}"));
        if let Some(ready) = look.conditions.get(READY).cloned() {
            look.set(READY, ready.status, Reason::Paused, "spec.paused is set, nothing is reconciled");
        }
    }
}

/// Before Ready.
fn progress(look: &mut Look<'_>, doing: &str) {
    let failing = failing(look);
    let trouble = failing
        .as_ref()
        .map_or_else(String::new, |error| format!("; failing since {}: {}", error.since.0, error.message));
    let words = format!("{doing}{trouble}");
    let refused = look.conditions.get(VALIDATED).filter(|c| c.status == ConditionStatus::False).cloned();
    let reason = refused.map(|condition| condition.reason).or(failing.map(|error| error.reason));
    let reason = reason.and_then(|reason| reason.parse::<Reason>().ok()).unwrap_or(Reason::InProgress);
    look.set(READY, ConditionStatus::False, reason, words.clone());
    look.say(words);
}

/// The failure that the status will name.
fn failing(look: &Look<'_>) -> Option<LastError> {
    look.state.last_error(look.stored.last_error.clone())
}

/// Ready and after: healthy, or degraded by what.
fn settle(look: &mut Look<'_>, doing: &str) {
    let ills = ills(look);
    let was_degraded = look.conditions.is_true(DEGRADED);
    match ills.first() {
        None => {
            let words = "every component is healthy, every node ready, the agent connected";
            look.set(DEGRADED, ConditionStatus::False, Reason::AllHealthy, words);
            look.set(READY, ConditionStatus::True, Reason::AllHealthy, words);
            look.say(format!("{doing}{}", refused(look)));
            if was_degraded {
                look.tell(EventKind::Normal, Reason::AllHealthy, "Recover", words);
            }
        }
        Some(first) => {
            let reason = first.reason;
            let words = ills.iter().map(|ill| ill.words.clone()).collect::<Vec<_>>().join("; ");
            look.set(DEGRADED, ConditionStatus::True, reason, words.clone());
            look.set(READY, ConditionStatus::False, reason, words.clone());
            look.say(format!("Degraded: {words}{}", refused(look)));
            if !was_degraded {
                look.tell(EventKind::Warning, reason, "Degrade", words);
            }
        }
    }
}

/// What is said of an edited spec that is not taken over.
fn refused(look: &Look<'_>) -> String {
    let refused = look.conditions.get(VALIDATED).filter(|condition| condition.status == ConditionStatus::False);
    refused.map_or_else(String::new, |condition| {
        format!(". The spec as it is cannot be taken over: {}", condition.message)
    })
}

fn ills(look: &Look<'_>) -> Vec<Ill> {
    let mut ills = Vec::new();
    let parsed = |reason: &str, otherwise| reason.parse::<Reason>().unwrap_or(otherwise);
    for (type_, otherwise) in [
        (AGENT_CONNECTED, Reason::ConnectionLost),
        (INFRASTRUCTURE_READY, Reason::InfrastructureFailed),
        (NODES_READY, Reason::NodesNotReady),
    ] {
        // What nobody can tell is no illness; that the agent is away is one of its own.
        let ill =
            |status| status == ConditionStatus::False || (type_ == AGENT_CONNECTED && status != ConditionStatus::True);
        if let Some(condition) = look.conditions.get(type_).filter(|condition| ill(condition.status)) {
            let words = if type_ == AGENT_CONNECTED {
                format!("agent {}", condition.message)
            } else {
                condition.message.clone()
            };
            ills.push(Ill { reason: parsed(&condition.reason, otherwise), words });
        }
    }
    for component in look.status.components.iter().filter(|c| c.state != ComponentState::Healthy) {
        let words = component.message.clone().filter(|m| !m.is_empty());
        let words = words.unwrap_or_else(|| format!("{} is not healthy", component.name));
        ills.push(Ill { reason: Reason::ComponentsUnhealthy, words });
    }
    if let Some(error) = failing(look).filter(|error| error.attempts >= ILL_AFTER_ATTEMPTS) {
        let words = format!("upkeep fails since {}: {}", error.since.0, error.message);
        ills.push(Ill { reason: parsed(&error.reason, Reason::ApplyFailed), words });
    }
    ills
}

/// What a cluster that is bootstrapping waits for, in the order of what unblocks what.
pub(super) fn bootstrapping(look: &Look<'_>) -> String {
    for type_ in [AGENT_CONNECTED, crate::api::condition::CONTROL_PLANE_INITIALIZED] {
        if let Some(condition) = look.conditions.get(type_).filter(|condition| !condition.is_true()) {
            let what = if type_ == AGENT_CONNECTED { "waiting for the agent" } else { "waiting for the control plane" };
            return format!("{what}: {}", condition.message);
        }
    }
    let sick = component::sick(look);
    let all = look.status.components.len();
    let healthy = all - sick.len();
    let at: Vec<String> = look
        .status
        .components
        .iter()
        .filter(|c| match c.state {
            ComponentState::Installing
            | ComponentState::Progressing
            | ComponentState::Unhealthy
            | ComponentState::Failed
            | ComponentState::Removing => true,
            ComponentState::Waiting | ComponentState::Healthy => false,
        })
        .map(|c| c.message.clone().unwrap_or_else(|| c.name.clone()))
        .collect();
    let mut parts = vec![format!("{healthy}/{all} components healthy")];
    if !at.is_empty() {
        parts.push(at.join(", "));
    }
    if let Some(nodes) = look.conditions.get(NODES_READY).filter(|condition| !condition.is_true()) {
        parts.push(nodes.message.clone());
    }
    parts.join("; ")
}
