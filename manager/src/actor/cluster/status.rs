//! Writes the status: when it differs from the stored one, one write at a time.

use std::sync::Arc;
use std::time::Duration;

use actix::{Context, Handler, Message};
use kube::Resource as _;
use lattice_protocol::clock;
use lattice_protocol::task::{self, Kind as TaskKind};

use super::ClusterActor;
use crate::api::{ErrorClass, LatticeCluster, LatticeClusterStatus, Reason};
use crate::lifecycle::{Certainty, Decision, EventKind, Failure, Outcome};
use crate::store::{self, EventNote, Severity};

/// First pause after a write that failed; doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// Longest pause after a write that failed.
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Within this time the same Event about the same operation is said once, seconds.
const EVENT_WINDOW_SECONDS: i64 = 600;

/// What the actor remembers of its writes.
#[derive(Debug, Default)]
pub(super) struct Writer {
    writing: bool,
    failures: u32,
    not_before: Option<tokio::time::Instant>,
    /// What was written last, and what the API server made of it. Where the two differ, the schema dropped something:
    /// writing it again would change nothing.
    last: Option<(LatticeClusterStatus, Option<LatticeClusterStatus>)>,
}

/// A write of the status has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Written {
    status: LatticeClusterStatus,
    result: Result<Box<LatticeCluster>, store::Error>,
}

/// Whether a status says for the first time that a phase or an operation has begun: work for it waits until that is
/// stored.
pub(super) fn opens_new_ground(stored: Option<&LatticeClusterStatus>, decided: &LatticeClusterStatus) -> bool {
    let phase = stored.and_then(|status| status.phase);
    let operation = |status: &LatticeClusterStatus| status.operation.as_ref().map(|operation| operation.id.clone());
    phase != decided.phase || stored.and_then(operation) != operation(decided)
}

impl Writer {
    /// Whether a write of `decided` would change what is stored.
    fn differs(&self, stored: Option<&LatticeClusterStatus>, decided: &LatticeClusterStatus) -> bool {
        if stored == Some(decided) {
            return false;
        }
        match &self.last {
            Some((written, made)) => written != decided || made.as_ref() != stored,
            None => true,
        }
    }
}

impl ClusterActor {
    /// Writes the decided status, if it differs from the stored one and no write is on its way.
    pub(super) fn write_status(&mut self, stored: &Arc<LatticeCluster>, ctx: &mut Context<Self>) {
        let Some(decided) = self.decided.clone() else { return };
        let wait = self.writer.not_before.is_some_and(|at| at > tokio::time::Instant::now());
        if self.writer.writing || wait || !self.writer.differs(stored.status.as_ref(), &decided) {
            return;
        }
        self.writer.writing = true;
        let (store, object, tasks) = (self.crew.performer.store.clone(), stored.clone(), self.tasks.token());
        let actor = Self::weak(ctx);
        let _runtime = self.crew.stage.enter();
        task::spawn("status.write", TaskKind::Request, async move {
            let write = store.write_status(&*object, &decided);
            let result = tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                result = write => result.map(Box::new),
            };
            if let Some(actor) = actor.upgrade() {
                let _ = actor.send(Written { status: decided, result }).await;
            }
        });
    }

    /// Publishes the Events of a decision. One that cannot be published is lost: the status has the truth.
    pub(super) fn publish(&self, cluster: &LatticeCluster, decision: &Decision) {
        let operation = decision.status.operation.as_ref().map(|operation| operation.id.clone()).unwrap_or_default();
        let window = clock::now().as_second() / EVENT_WINDOW_SECONDS;
        let _runtime = self.crew.stage.enter();
        for event in &decision.events {
            let note = EventNote {
                severity: match event.kind {
                    EventKind::Normal => Severity::Normal,
                    EventKind::Warning => Severity::Warning,
                },
                reason: event.reason.as_str().to_owned(),
                action: event.action.clone(),
                note: event.note.clone(),
                occasion: format!("{operation}/{window}"),
            };
            let mut about = cluster.object_ref(&());
            about.resource_version = None;
            let (store, holder) = (self.crew.performer.store.clone(), self.crew.holder.clone());
            task::spawn("event.publish", TaskKind::Request, async move {
                if let Err(error) = store.publish(&note, &about, &holder).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "event was not published");
                }
            });
        }
    }

    fn store_failed(&mut self, error: &store::Error, ctx: &mut Context<Self>) {
        self.writer.failures = self.writer.failures.saturating_add(1);
        let doublings = self.writer.failures.saturating_sub(1).min(10);
        let pause = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LONGEST);
        self.writer.not_before = Some(tokio::time::Instant::now() + pause);
        tracing::warn!(
            cluster.name = self.name,
            attempts = self.writer.failures,
            error = error as &dyn std::error::Error,
            "status was not written"
        );
        // What waited for the status was not begun; it is decided on again.
        for effect in std::mem::take(&mut self.held) {
            let failure = Failure {
                class: ErrorClass::Transient,
                reason: Reason::ApiUnavailable,
                message: format!("{} waits until the status can be written", effect.kind),
                certainty: Certainty::NotDone,
                retry_after: Some(pause),
            };
            self.state.finish(&effect, Outcome::Failed(failure), clock::now());
        }
        self.wake_after(pause, ctx);
    }
}

impl Handler<Written> for ClusterActor {
    type Result = ();

    fn handle(&mut self, Written { status, result }: Written, ctx: &mut Self::Context) {
        self.writer.writing = false;
        match result {
            Ok(mut stored) => {
                self.crew.metrics.status_written();
                self.writer.failures = 0;
                self.writer.not_before = None;
                stored.metadata.managed_fields = None;
                if stored.status.as_ref() != Some(&status) {
                    tracing::debug!(cluster.name = self.name, "the stored status differs from the one written");
                }
                self.writer.last = Some((status, stored.status.clone()));
                self.crew.performer.cache.put_cluster(*stored);
                self.look(ctx);
            }
            Err(error) if error.is_not_found() => self.look(ctx),
            Err(error) => self.store_failed(&error, ctx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Phase;

    fn status(message: &str) -> LatticeClusterStatus {
        LatticeClusterStatus { message: Some(message.into()), ..LatticeClusterStatus::default() }
    }

    #[test]
    fn a_status_is_written_only_when_it_differs() {
        let writer = Writer::default();
        assert!(!writer.differs(Some(&status("a")), &status("a")));
        assert!(writer.differs(Some(&status("a")), &status("b")));
        assert!(writer.differs(None, &status("a")), "also the first one");
    }

    #[test]
    fn what_the_schema_drops_is_not_written_again_and_again() {
        let writer = Writer { last: Some((status("long"), Some(status("cut")))), ..Writer::default() };
        assert!(!writer.differs(Some(&status("cut")), &status("long")));
        assert!(writer.differs(Some(&status("edited")), &status("long")), "somebody else wrote it since");
        assert!(writer.differs(Some(&status("cut")), &status("new")));
    }

    #[test]
    fn work_of_a_new_phase_waits_until_the_phase_is_stored() {
        let phase = |phase| LatticeClusterStatus { phase: Some(phase), ..LatticeClusterStatus::default() };
        assert!(opens_new_ground(Some(&phase(Phase::Pending)), &phase(Phase::Provisioning)));
        assert!(opens_new_ground(None, &phase(Phase::Pending)));
        assert!(!opens_new_ground(Some(&phase(Phase::Ready)), &phase(Phase::Ready)));
    }
}
