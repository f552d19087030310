//! The decision: conditions mirror the world in every phase, then the phase takes one step.

use jiff::Timestamp;

use super::component;
use super::decision::{Decision, EventKind};
use super::effect::EffectKind;
use super::ensure::{self, Rung};
use super::facts::Facts;
use super::graph::Graph;
use super::log::State;
use super::look::Look;
use super::operation;
use super::precondition::{self, Verdict};
use super::{agent, deleting, identity, infrastructure, summary};
use crate::api::condition::{AGENT_CONNECTED, CONTROL_PLANE_INITIALIZED, INFRASTRUCTURE_READY, NODES_READY};
use crate::api::{FieldError, OperationType, OwnershipStatus, Phase, Reason};

/// Decides what to do next for a cluster. Pure: the same state, facts and time give the same decision.
pub fn decide(state: &State, facts: &Facts, now: Timestamp) -> Decision {
    let mut look = Look::new(state, facts, now);
    if facts.cluster.metadata.deletion_timestamp.is_some() {
        mirror(&mut look, None);
        deleting::step(&mut look);
        look.forget();
        tell_of_move(&mut look);
        tell_of_failure(&mut look);
        return look.decide();
    }
    let graph = Graph::new(&facts.catalog.components);
    let mut verdict = precondition::judge(&look, &graph);
    ensure::note_applied(&mut look);
    if let Some(refused) = edits_refused(&look) {
        verdict = refuse(verdict, refused);
    }
    if look.phase().is_none() {
        look.go(Phase::Pending, "the object was accepted");
    }
    look.status.observed_generation = facts.cluster.metadata.generation;
    look.status.ownership.get_or_insert_with(|| OwnershipStatus { owner: "parent".to_owned(), epoch: 1 });
    tell_of_verdict(&mut look, &verdict);
    precondition::show(&mut look, &verdict);
    mirror(&mut look, graph.as_ref().ok());
    let doing = step(&mut look, &verdict, graph.as_ref().ok());
    look.forget();
    let known = !matches!(verdict, Verdict::NotYetKnown(_));
    summary::show(&mut look, &doing, known);
    tell_of_move(&mut look);
    tell_of_failure(&mut look);
    look.decide()
}

/// Mirrors what is known into the conditions; starts what components may start.
fn mirror(look: &mut Look<'_>, graph: Option<&Graph>) {
    infrastructure::show(look);
    agent::show(look);
    identity::show(look);
    if let Some(graph) = graph {
        component::show(look, graph);
    }
}

/// Takes the step of the phase; tells in words what it is at.
fn step(look: &mut Look<'_>, verdict: &Verdict, graph: Option<&Graph>) -> String {
    // The first look only accepts the object, so that every phase is seen.
    if look.moved.is_some() || !look.is_active() {
        return pending_words(verdict);
    }
    match look.phase() {
        None | Some(Phase::Pending) => pending(look, verdict),
        Some(Phase::Provisioning) => provisioning(look, verdict),
        Some(Phase::Bootstrapping) => bootstrapping(look, verdict, graph),
        Some(Phase::Ready | Phase::Scaling | Phase::Upgrading) => ready(look, verdict),
        Some(Phase::Deleting) => "being deleted".to_owned(),
    }
}

fn pending(look: &mut Look<'_>, verdict: &Verdict) -> String {
    if *verdict != Verdict::Holds {
        return pending_words(verdict);
    }
    let salt = look.object().metadata.creation_timestamp.as_ref().map(|at| at.0.to_string()).unwrap_or_default();
    operation::begin(look, OperationType::Provision, &salt);
    operation::enter(look, Phase::Pending.as_str());
    if look.facts.namespace.known().is_some_and(|namespace| namespace.terminating) {
        return format!("waiting until namespace lattice-{} of an earlier cluster is gone", look.name());
    }
    // Whoever sees Provisioning may count on a deletion in order: the finalizer is there before anything is made.
    let held = ensure::finalizer(look);
    if !look.done_once(EffectKind::Render) || !held {
        return "rendering the objects".to_owned();
    }
    tell_of_sizes(look);
    operation::expect(look);
    advance(look, Phase::Provisioning, "every precondition holds, the objects can be rendered");
    "preconditions hold, provisioning begins".to_owned()
}

fn provisioning(look: &mut Look<'_>, verdict: &Verdict) -> String {
    operation::enter(look, Phase::Provisioning.as_str());
    let holds = *verdict == Verdict::Holds;
    let rung = ensure::ladder(look, holds);
    if let Verdict::Refused(_) = verdict {
        return pending_words(verdict);
    }
    if let Rung::At(doing) = rung {
        return doing;
    }
    let up = look.world.first_machine_up().map(|machine| machine.name.clone());
    let provisioned = look.world.cluster.as_ref().is_some_and(|cluster| cluster.infrastructure_provisioned);
    match up {
        Some(machine) if provisioned => {
            advance(look, Phase::Bootstrapping, format!("the infrastructure and Machine {machine} are up"));
            format!("Machine {machine} is up, waiting for its agent")
        }
        Some(_) | None => {
            let condition = look.conditions.get(INFRASTRUCTURE_READY);
            condition.map_or_else(|| "waiting for the infrastructure".to_owned(), |c| c.message.clone())
        }
    }
}

fn bootstrapping(look: &mut Look<'_>, verdict: &Verdict, graph: Option<&Graph>) -> String {
    operation::enter(look, Phase::Bootstrapping.as_str());
    maintain(look, verdict);
    let gates = [AGENT_CONNECTED, CONTROL_PLANE_INITIALIZED, NODES_READY];
    let done = look.facts.agent.session.is_some()
        && gates.iter().all(|type_| look.conditions.is_true(type_))
        && graph.is_some_and(|graph| component::all_healthy(look, graph));
    if done {
        advance(look, Phase::Ready, "every component is healthy, every node ready, the agent connected");
        operation::finish(look);
        return ready_words(look);
    }
    summary::bootstrapping(look)
}

fn ready(look: &mut Look<'_>, verdict: &Verdict) -> String {
    match maintain(look, verdict) {
        Rung::At(repair) if !ensure::edits_wait(look) => {
            format!("{}; putting back what is gone: {repair}", ready_words(look))
        }
        Rung::At(_) | Rung::Top | Rung::NotYetKnown => ready_words(look),
    }
}

/// Puts back what is missing or was changed, and adds the health checks when their time has come.
fn maintain(look: &mut Look<'_>, verdict: &Verdict) -> Rung {
    let holds = *verdict == Verdict::Holds;
    let rung = ensure::ladder(look, holds);
    if holds && rung == Rung::Top {
        ensure::health_checks(look);
    }
    rung
}

/// Says once that a provider cannot honour the sizes that were asked for.
fn tell_of_sizes(look: &mut Look<'_>) {
    let nodes = &look.spec().nodes;
    let mut types =
        nodes.worker_pools.values().map(|pool| &pool.instance_type).chain([&nodes.control_plane.instance_type]);
    if look.spec().provider.config.docker.is_some() && types.any(Option::is_some) {
        let note =
            "provider docker makes all machines alike: instanceType of controlPlane and workerPools says nothing to it";
        look.tell(EventKind::Warning, Reason::SizesNotHonoured, "Validate", note);
    }
}

fn advance(look: &mut Look<'_>, to: Phase, why: impl Into<String>) {
    look.go(to, why);
    operation::enter(look, to.as_str());
}

/// Edits of the rendered part, once machines run, are a scale or an upgrade.
fn edits_refused(look: &Look<'_>) -> Option<FieldError> {
    if !ensure::edits_wait(look) {
        return None;
    }
    let applied = look.status.applied.as_ref().map_or(0, |applied| applied.generation);
    Some(FieldError {
        path: "spec".to_owned(),
        message: format!(
            "nodes, provider or latticeImage differ from those of generation {applied}, which the machines run: scaling and upgrading are not supported by this version; set them back"
        ),
        reason: Reason::NotYetSupported,
    })
}

fn refuse(verdict: Verdict, error: FieldError) -> Verdict {
    match verdict {
        Verdict::Refused(mut errors) => {
            errors.push(error);
            Verdict::Refused(errors)
        }
        Verdict::Holds | Verdict::NotYetKnown(_) => Verdict::Refused(vec![error]),
    }
}

fn pending_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Holds => "accepted, provisioning is next".to_owned(),
        Verdict::Refused(errors) => joined(errors),
        Verdict::NotYetKnown(what) => format!("waiting to see {what}"),
    }
}

fn joined(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn ready_words(look: &Look<'_>) -> String {
    let nodes = look.status.nodes.as_ref().map_or_else(String::new, |nodes| format!("{} nodes, ", nodes.summary));
    let components = look.status.components.len();
    format!("{nodes}{components} components healthy, agent connected")
}

fn tell_of_move(look: &mut Look<'_>) {
    if let Some(moved) = look.moved.clone() {
        let reason = match moved.to {
            Phase::Ready => Reason::AllHealthy,
            Phase::Deleting => Reason::Deleting,
            Phase::Pending | Phase::Provisioning | Phase::Bootstrapping | Phase::Scaling | Phase::Upgrading => {
                Reason::InProgress
            }
        };
        look.tell(EventKind::Normal, reason, moved.to.as_str(), format!("{}: {}", moved.to, moved.why));
    }
}

/// Tells of refusals that the condition does not carry yet.
fn tell_of_verdict(look: &mut Look<'_>, verdict: &Verdict) {
    if let Verdict::Refused(errors) = verdict {
        let text = joined(errors);
        let said =
            look.conditions.get(crate::api::condition::VALIDATED).is_some_and(|c| !c.is_true() && c.message == text);
        if !said {
            look.tell(EventKind::Warning, crate::api::validate::reason_of(errors), "Validate", text);
        }
    }
}

/// Tells of a failure when it begins, not at each attempt.
fn tell_of_failure(look: &mut Look<'_>) {
    let known = look.stored.last_error.clone();
    if let Some(error) = look.state.last_error(known.clone())
        && known.is_none_or(|known| known.reason != error.reason || known.since != error.since)
        && let Ok(reason) = error.reason.parse::<Reason>()
    {
        look.tell(EventKind::Warning, reason, "Reconcile", error.message);
    }
}
