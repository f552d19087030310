//! The actor of one cluster: gathers facts, lets the lifecycle decide, writes the status, starts effects, takes in how
//! they end.
//!
//! **Guarantees.** A handler never waits. A status is written only when it differs, one write at a time. Effects of a
//! new phase or operation start only once the status that says so is stored, so a successor resumes there. What the
//! actor remembers can be lost at any instruction: the status, the objects and the agent tell its successor all it needs.

mod effects;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, SpawnHandle, WeakAddr};
use kube::ResourceExt;
use lattice_protocol::clock;
use lattice_protocol::telemetry::Traceparent;
use tokio::sync::Semaphore;

use super::catalog::Evaluated;
use super::component::{ComponentActor, Ended};
use super::crew::Crew;
use super::facts::{self, Sources};
use super::leash::Leash;
use super::trace;
use crate::api::{LatticeCluster, LatticeClusterStatus};
use crate::lifecycle::{self, Decision, Effect, Facts, State};
use crate::perform::Subject;
use status::Writer;

/// Messages that may wait. Looks are coalesced, and ends of effects are bounded by the effects that run.
const MAILBOX: usize = 32;
/// Effects of one cluster that may run at once.
const EFFECTS_MAX: usize = 4;
/// Longest time without a look, so that a lost wake-up heals. A look that finds nothing new costs no request.
const LOOK_AT_LEAST: Duration = Duration::from_mins(5);

/// Asks for a look.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Look;

/// A way to a cluster's actor that costs nothing to use often.
#[derive(Clone, Debug)]
pub(super) struct ClusterHandle {
    addr: Addr<ClusterActor>,
    pending: Arc<AtomicBool>,
}

/// The actor.
pub(super) struct ClusterActor {
    name: String,
    crew: Arc<Crew>,
    pending: Arc<AtomicBool>,
    uid: Option<String>,
    state: State,
    /// The status of the last decision, stored or not.
    decided: Option<LatticeClusterStatus>,
    writer: Writer,
    /// Effects that wait until the status that decided on them is stored.
    held: Vec<Effect>,
    catalog: Evaluated,
    components: BTreeMap<String, Addr<ComponentActor>>,
    credential: Option<String>,
    timer: Option<SpawnHandle>,
    slots: Arc<Semaphore>,
    tasks: Leash,
}

impl ClusterHandle {
    /// Asks for a look, unless one is asked for already.
    pub(super) fn look(&self, crew: &Crew) {
        if self.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.addr.try_send(Look).is_err() {
            self.pending.store(false, Ordering::Release);
            // A full mailbox means that a look is near anyway; the actor looks after each end of an effect.
            crew.metrics.mailbox_dropped("cluster");
        }
    }
}

impl ClusterActor {
    /// Mailbox bound of the actor.
    pub(super) const MAILBOX: usize = MAILBOX;

    /// Builds an actor that knows nothing yet.
    pub(super) fn new(name: String, crew: Arc<Crew>, pending: Arc<AtomicBool>) -> Self {
        Self {
            name,
            crew,
            pending,
            uid: None,
            state: State::default(),
            decided: None,
            writer: Writer::default(),
            held: Vec::new(),
            catalog: Evaluated::default(),
            components: BTreeMap::new(),
            credential: None,
            timer: None,
            slots: Arc::new(Semaphore::new(EFFECTS_MAX)),
            tasks: Leash::default(),
        }
    }

    /// Makes the handle of a started actor.
    pub(super) fn handle(addr: Addr<Self>, pending: Arc<AtomicBool>) -> ClusterHandle {
        ClusterHandle { addr, pending }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        self.crew.metrics.looked();
        let Some(stored) = self.crew.performer.cache.cluster(&self.name) else {
            // The fleet drops its handle for the same reason; this only ends it sooner.
            ctx.stop();
            return;
        };
        assert!(!self.crew.is_poisoned(&self.name), "a fault of the sandbox: the actor of {} panics", self.name);
        if self.uid != stored.uid() {
            self.begin_life_of(&stored);
        }
        let Some(subject) = self.subject(&stored) else {
            tracing::error!(cluster.name = self.name, "the object's name or uid is none that can be used");
            return;
        };
        let facts = self.facts(&subject);
        let decision = lifecycle::decide(&self.state, &facts, clock::now());
        self.register_credential(&facts, &subject);
        self.tell(&stored, &facts.cluster, &decision);
        self.take_over(decision, &stored, &subject, ctx);
        self.observe_components(&facts, ctx);
    }

    /// Another object of the same name: nothing that is remembered is about it.
    fn begin_life_of(&mut self, cluster: &LatticeCluster) {
        self.uid = cluster.uid();
        self.state = State::default();
        self.decided = None;
        self.held.clear();
        self.components.clear();
        self.credential = None;
    }

    /// The cluster with the newest status: the one decided last, for as long as this actor lives.
    fn subject(&self, stored: &Arc<LatticeCluster>) -> Option<Subject> {
        let mut cluster = stored.clone();
        if let Some(decided) = &self.decided
            && stored.status.as_ref() != Some(decided)
        {
            Arc::make_mut(&mut cluster).status = Some(decided.clone());
        }
        let provider = self.crew.performer.cache.provider(&stored.spec.provider_ref);
        Subject::new(cluster, provider)
    }

    fn facts(&mut self, subject: &Subject) -> Facts {
        let kubernetes = self.crew.agents.kubernetes(&subject.uid).or_else(|| {
            let status = subject.cluster.status.as_ref()?;
            status.kubernetes_version.clone()
        });
        let catalog = self.catalog.get(&self.crew, subject, kubernetes.as_deref());
        let sources = Sources {
            cache: &self.crew.performer.cache,
            gateway: &self.crew.performer.gateway,
            agent: self.crew.agents.facts(&subject.uid),
            catalog,
            started_at: self.crew.started_at,
            after_absence: self.crew.after_absence,
            quarantine: None,
        };
        facts::gather(subject.cluster.clone(), &subject.name, sources)
    }

    /// Makes a decision the actor's own.
    fn take_over(
        &mut self,
        decision: Decision,
        stored: &Arc<LatticeCluster>,
        subject: &Subject,
        ctx: &mut Context<Self>,
    ) {
        let Decision { state, status, effects, requeue, .. } = decision;
        self.state = state;
        let opens = status::opens_new_ground(stored.status.as_ref(), &status);
        self.decided = Some(status);
        self.held.extend(effects);
        self.write_status(stored, ctx);
        if !opens {
            self.start_held(subject, ctx);
        }
        self.wake_after(requeue.unwrap_or(LOOK_AT_LEAST).min(LOOK_AT_LEAST), ctx);
    }

    fn wake_after(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = Some(ctx.run_later(pause, |actor, ctx| {
            actor.timer = None;
            actor.look(ctx);
        }));
    }

    /// Lets the proxy know the credential of a kubeconfig Secret that is as it should be, also after a restart.
    fn register_credential(&mut self, facts: &Facts, subject: &Subject) {
        if facts.secrets.kubeconfig.known().is_none_or(|secret| secret.stale || secret.terminating) {
            return;
        }
        let objects = self.crew.performer.cache.objects(&subject.name.namespace());
        let secret = objects.secrets.get(&crate::perform::kubeconfig_name(&subject.name));
        let annotations = secret.and_then(|secret| secret.metadata.annotations.as_ref());
        let Some(hash) = annotations.and_then(|annotations| annotations.get(crate::perform::CREDENTIAL_HASH)) else {
            return;
        };
        if self.credential.as_ref() == Some(hash) {
            return;
        }
        if let Ok(credential) = lattice_protocol::token::TokenHash::from_hex(hash) {
            self.crew.performer.gateway.register_proxy_credential(&subject.name, credential);
            self.credential = Some(hash.clone());
        }
    }

    /// Exports what ended, counts, and publishes Events.
    fn tell(&self, stored: &LatticeCluster, before: &LatticeCluster, decision: &Decision) {
        let resumed = self.decided.is_none();
        trace::export_ended(&self.crew.exporter, stored, before.status.as_ref(), &decision.status, resumed);
        if let Some(moved) = &decision.moved {
            self.crew.metrics.phase_entered(moved.to.as_str());
            tracing::info!(
                cluster.name = self.name,
                from = moved.from.map_or("", crate::api::Phase::as_str),
                to = moved.to.as_str(),
                why = moved.why,
                "phase changed"
            );
        }
        if let Some(operation) = &decision.finished {
            let end = operation.finished_at.as_ref().map_or(operation.started_at.0, |end| end.0);
            let took = end.duration_since(operation.started_at.0).unsigned_abs();
            self.crew.metrics.operation_ended(operation.type_.as_str(), true, took);
        }
        self.publish(stored, decision);
    }

    /// The step of the operation that work done now belongs to.
    fn step(&self) -> Option<Traceparent> {
        trace::current_step(self.decided.as_ref()?)
    }

    fn weak(ctx: &Context<Self>) -> WeakAddr<Self> {
        ctx.address().downgrade()
    }
}

impl Actor for ClusterActor {
    type Context = Context<Self>;
}

impl Handler<Look> for ClusterActor {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        // Before the look: what changes while it goes on is seen by the next one.
        self.pending.store(false, Ordering::Release);
        self.look(ctx);
    }
}

impl Handler<Ended> for ClusterActor {
    type Result = ();

    fn handle(&mut self, Ended { effect, outcome }: Ended, ctx: &mut Self::Context) {
        self.state.finish(&effect, outcome, clock::now());
        self.look(ctx);
    }
}
