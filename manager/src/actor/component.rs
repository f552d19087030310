//! The actor of one component of one cluster: hands its bundle to the agent, and times the gate that follows.
//!
//! It chooses nothing: the cluster's actor says what to install, the agent says how it goes. It keeps nothing that the
//! agent does not hold: after a panic the cluster's actor starts another, which is told the same again.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, Message, WeakRecipient};
use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::task::{self, Kind as TaskKind};
use lattice_protocol::telemetry::Traceparent;

use super::crew::Crew;
use super::leash::Leash;
use super::trace;
use crate::api::LatticeCluster;
use crate::lifecycle::{Effect, Outcome, Report, ReportState};
use crate::perform::{InstallPlan, Installer, Subject};

/// Messages that may wait. The cluster's actor sends one per look.
pub(super) const MAILBOX: usize = 8;

/// Installs the component.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Install {
    pub(super) effect: Effect,
    pub(super) plan: InstallPlan,
}

/// Takes the component off the child.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Remove {
    pub(super) effect: Effect,
    pub(super) subject: Subject,
    pub(super) epoch: u64,
    pub(super) parent: Option<Traceparent>,
}

/// How the component is, by the agent's word.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Observed {
    pub(super) report: Report,
    pub(super) cluster: Arc<LatticeCluster>,
    /// The step of the operation that runs; none when none does.
    pub(super) parent: Option<Traceparent>,
    /// Since when the status has it unhealthy, when the status says so.
    pub(super) unhealthy_since: Option<Timestamp>,
}

/// An effect that was handed to a component's actor has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Ended {
    pub(super) effect: Effect,
    pub(super) outcome: Outcome,
}

/// The gate of a component that has not passed yet.
#[derive(Clone, Debug)]
struct Gate {
    since: Timestamp,
    parent: Option<Traceparent>,
}

/// The actor.
pub(super) struct ComponentActor {
    name: String,
    crew: Arc<Crew>,
    cluster: WeakRecipient<Ended>,
    gate: Option<Gate>,
    healthy: bool,
    tasks: Leash,
}

impl ComponentActor {
    pub(super) fn new(name: String, crew: Arc<Crew>, cluster: WeakRecipient<Ended>) -> Self {
        Self { name, crew, cluster, gate: None, healthy: false, tasks: Leash::default() }
    }

    /// Runs `work` apart from the actor and tells the cluster's actor how it ended.
    fn run_apart<F>(&self, effect: Effect, work: F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (cluster, tasks) = (self.cluster.clone(), self.tasks.token());
        let _runtime = self.crew.stage.enter();
        task::spawn("component", TaskKind::Request, async move {
            let outcome = tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                outcome = work => outcome,
            };
            if let Some(cluster) = cluster.upgrade() {
                // A cluster's actor that is gone has a successor, which looks for itself.
                let _ = cluster.send(Ended { effect, outcome }).await;
            }
        });
    }
}

impl Actor for ComponentActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        tracing::debug!(component = self.name, address = ctx.address().connected(), "component actor started");
    }
}

impl Handler<Install> for ComponentActor {
    type Result = ();

    fn handle(&mut self, Install { effect, mut plan }: Install, _: &mut Self::Context) {
        self.healthy = false;
        let crew = self.crew.clone();
        let step = plan.parent;
        let began = clock::now();
        // The agent's spans hang below the install, whose id is known before it is exported.
        plan.parent = step.map(|step| step.named_child(&format!("component.install/{}", plan.component)));
        self.run_apart(effect, async move {
            let installed = match Installer::new(&crew.performer, &plan.subject) {
                Ok(installer) => installer.install(&plan).await,
                Err(error) => Err(error),
            };
            let ended = clock::now();
            let took = ended.duration_since(began).unsigned_abs();
            crew.metrics.effect_ended("install", installed.is_ok(), took);
            let failure = installed.err().map(crate::perform::Error::into_failure);
            if let Some(step) = step {
                let mut attributes = trace::attributes(&plan.subject.cluster);
                attributes.push(("component", plan.component.clone()));
                let mut span = trace::child("component.install", &plan.component, &step, (began, ended), attributes);
                span.error = failure.as_ref().map(|failure| failure.message.clone());
                crew.exporter.export(span);
            }
            match failure {
                None => {
                    crew.metrics.component_took(&plan.component, "install", took);
                    Outcome::Done
                }
                Some(failure) => Outcome::Failed(failure),
            }
        });
    }
}

impl Handler<Remove> for ComponentActor {
    type Result = ();

    fn handle(&mut self, Remove { effect, subject, epoch, parent }: Remove, _: &mut Self::Context) {
        let (crew, name) = (self.crew.clone(), self.name.clone());
        self.run_apart(effect, async move {
            let removed = match Installer::new(&crew.performer, &subject) {
                Ok(installer) => installer.remove(&name, epoch, parent.as_ref()).await,
                Err(error) => Err(error),
            };
            removed.map_or_else(|error| Outcome::Failed(error.into_failure()), |()| Outcome::Done)
        });
    }
}

impl Handler<Observed> for ComponentActor {
    type Result = ();

    fn handle(&mut self, observed: Observed, _: &mut Self::Context) {
        let Observed { report, cluster, parent, unhealthy_since } = observed;
        if report.state != ReportState::Healthy {
            if !self.healthy {
                let since = unhealthy_since.or(report.since).unwrap_or_else(clock::now);
                let gate = self.gate.get_or_insert(Gate { since, parent });
                gate.parent = gate.parent.or(parent);
            }
            return;
        }
        let gate = self.gate.take().or_else(|| {
            // It passed while no manager looked: the status still has it unhealthy.
            let since = unhealthy_since.filter(|_| !self.healthy)?;
            Some(Gate { since, parent })
        });
        self.healthy = true;
        let Some(gate) = gate else { return };
        let ended = report.since.unwrap_or_else(clock::now).max(gate.since);
        self.crew.metrics.component_took(&self.name, "gate", ended.duration_since(gate.since).unsigned_abs());
        if let Some(step) = gate.parent {
            let mut attributes = trace::attributes(&cluster);
            attributes.push(("component", self.name.clone()));
            let span = trace::child("component.gate", &self.name, &step, (gate.since, ended), attributes);
            self.crew.exporter.export(span);
        }
    }
}
