//! Starts effects apart from the actor, and passes what the agent says on to the components' actors.

use std::sync::Arc;

use actix::{AsyncContext, Context};
use lattice_protocol::task::{self, Kind as TaskKind};
use lattice_protocol::telemetry;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument;

use super::{ClusterActor, Ended};
use crate::actor::component::{ComponentActor, Install, Observed, Remove};
use crate::api::{ComponentState, ErrorClass, Reason};
use crate::lifecycle::{Certainty, Effect, EffectKind, Facts, Failure, Outcome};
use crate::perform::{InstallPlan, Subject};

impl ClusterActor {
    /// Starts the effects that wait.
    pub(super) fn start_held(&mut self, subject: &Subject, ctx: &mut Context<Self>) {
        for effect in std::mem::take(&mut self.held) {
            match &effect.kind {
                EffectKind::Install { component, .. } => self.install(component.clone(), effect, subject, ctx),
                EffectKind::Remove { component } => self.remove(component.clone(), effect, subject, ctx),
                _ => self.start_effect(effect, subject, ctx),
            }
        }
    }

    fn start_effect(&self, effect: Effect, subject: &Subject, ctx: &mut Context<Self>) {
        let span = tracing::info_span!(
            "effect.perform",
            effect = effect.kind.name(),
            cluster.name = self.name,
            cluster.uid = %subject.uid,
            otel.status_code = tracing::field::Empty,
            otel.status_description = tracing::field::Empty,
        );
        let step = self.step();
        telemetry::adopt(&span, step.as_ref());
        if let (None, Some(operation)) = (step, subject.cluster.status.as_ref().and_then(|s| s.operation.as_ref())) {
            // Upkeep after an operation: a trace of its own, related to it.
            if let Some(root) = crate::actor::trace::root(operation) {
                telemetry::link(&span, &root);
            }
        }
        let (crew, slots, tasks) = (self.crew.clone(), self.slots.clone(), self.tasks.token());
        let (subject, actor) = (subject.clone(), Self::weak(ctx));
        let _runtime = self.crew.stage.enter();
        let (done, ended) = oneshot::channel();
        let kind = effect.kind.clone();
        let work = async move {
            let _own = slots.acquire_owned().await;
            let _shared = crew.effects.clone().acquire_owned().await;
            let began = Instant::now();
            let outcome = tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                outcome = crew.performer.perform(&kind, &subject) => outcome,
            };
            note(&kind, &outcome);
            crew.metrics.effect_ended(kind.name(), outcome == Outcome::Done, began.elapsed());
            let _ = done.send(outcome);
        };
        let running = task::spawn("effect", TaskKind::Request, work.instrument(span));
        let tasks = self.tasks.token();
        task::spawn("effect.watch", TaskKind::Request, async move {
            let outcome = ended.await.unwrap_or_else(|_| Outcome::Failed(vanished(&effect)));
            // The task is at its end, or has panicked, which its own log line says.
            let _ = running.await;
            if let Some(actor) = actor.upgrade().filter(|_| !tasks.is_cancelled()) {
                let _ = actor.send(Ended { effect, outcome }).await;
            }
        });
    }

    fn install(&mut self, component: String, effect: Effect, subject: &Subject, ctx: &mut Context<Self>) {
        let plan = InstallPlan {
            held: self.crew.agents.held(&subject.uid, &component),
            kubernetes: self.crew.agents.kubernetes(&subject.uid),
            epoch: epoch(subject),
            parent: self.step(),
            subject: subject.clone(),
            component: component.clone(),
        };
        let actor = self.component(&component, ctx);
        if let Err(error) = actor.try_send(Install { effect, plan }) {
            self.crew.metrics.mailbox_dropped("component");
            refuse(error.into_inner().effect, ctx);
        }
    }

    fn remove(&mut self, component: String, effect: Effect, subject: &Subject, ctx: &mut Context<Self>) {
        let message = Remove { effect, subject: subject.clone(), epoch: epoch(subject), parent: self.step() };
        let actor = self.component(&component, ctx);
        if let Err(error) = actor.try_send(message) {
            self.crew.metrics.mailbox_dropped("component");
            refuse(error.into_inner().effect, ctx);
        }
    }

    /// The actor of a component; a dead one is replaced: all that it should know is said to it again.
    fn component(&mut self, name: &str, ctx: &mut Context<Self>) -> actix::Addr<ComponentActor> {
        if let Some(actor) = self.components.get(name) {
            if actor.connected() {
                return actor.clone();
            }
            self.crew.metrics.actor_restarted("component");
            tracing::error!(cluster.name = self.name, component = name, "component actor is rebuilt");
        }
        let (crew, cluster) = (self.crew.clone(), ctx.address().downgrade().recipient());
        let actor = start_component(name.to_owned(), crew, cluster);
        self.components.insert(name.to_owned(), actor.clone());
        actor
    }

    /// Passes the agent's word on to the components' actors.
    pub(super) fn observe_components(&mut self, facts: &Facts, ctx: &mut Context<Self>) {
        let Some(reports) = facts.agent.reports.known() else { return };
        let (step, status) = (self.step(), facts.cluster.status.clone().unwrap_or_default());
        for (name, report) in reports {
            let entry = status.components.iter().find(|component| component.name == *name);
            let unhealthy = entry.filter(|entry| {
                matches!(entry.state, ComponentState::Installing | ComponentState::Progressing | ComponentState::Failed)
            });
            let message = Observed {
                report: report.clone(),
                cluster: facts.cluster.clone(),
                parent: step,
                unhealthy_since: unhealthy.and_then(|entry| entry.since.as_ref()).map(|since| since.0),
            };
            // A busy one hears the next look.
            let _ = self.component(name, ctx).try_send(message);
        }
    }
}

/// Starts a component's actor on the thread of its cluster's.
fn start_component(
    name: String,
    crew: Arc<crate::actor::crew::Crew>,
    cluster: actix::WeakRecipient<Ended>,
) -> actix::Addr<ComponentActor> {
    let mut context = Context::new();
    context.set_mailbox_capacity(crate::actor::component::MAILBOX);
    context.run(ComponentActor::new(name, crew, cluster))
}

/// A component's actor that is busy or gone: the effect is decided on again.
fn refuse(effect: Effect, ctx: &mut Context<ClusterActor>) {
    ctx.notify(Ended { outcome: Outcome::Failed(vanished(&effect)), effect });
}

fn epoch(subject: &Subject) -> u64 {
    let status = subject.cluster.status.as_ref();
    status.and_then(|status| status.ownership.as_ref()).map_or(1, |ownership| ownership.epoch)
}

fn note(kind: &EffectKind, outcome: &Outcome) {
    match outcome {
        Outcome::Done => {
            tracing::Span::current().record("otel.status_code", "OK");
            tracing::debug!(effect = %kind, "effect done");
        }
        Outcome::Failed(failure) => {
            let span = tracing::Span::current();
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", failure.message.as_str());
            tracing::warn!(effect = %kind, reason = %failure.reason, why = failure.message, "effect failed");
        }
    }
}

fn vanished(effect: &Effect) -> Failure {
    Failure {
        class: ErrorClass::Transient,
        reason: Reason::InternalError,
        message: format!("{} ended without an answer", effect.kind),
        certainty: Certainty::MaybeDone,
        retry_after: None,
    }
}
