//! Pursues what one component should be, for as long as it is held.

mod install;
mod keep;
mod remove;

use std::sync::Arc;
use std::time::Duration;

use lattice_protocol::clock;
use lattice_protocol::reason::Reason;
use lattice_protocol::v1::ComponentReport;
use lattice_protocol::v1::component_report::State;
use tokio::sync::watch;

use super::Error;
use super::bundle::Bundle;
use super::drift::Contests;
use super::engine::Context;
use super::guard::Suspects;
use super::ledger::Ledger;
use super::record::Record;
use super::write::Writer;
use crate::backoff::Backoff;
use crate::gate::Generations;

/// First and longest wait after a failed apply. Lower hammers an API server that is ill; higher keeps dependents waiting.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What a component should be.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    pub(super) record: Record,
    /// The bundle, when the parent has just sent it; else it is read from the child.
    pub(super) bundle: Option<Arc<Bundle>>,
}

/// The worker of one component.
pub(super) struct Worker {
    context: Context,
    component: String,
    desired: watch::Receiver<Desired>,
    ledger: Ledger,
    record: Record,
    writer: Writer,
    suspects: Suspects,
    contests: Contests,
    /// Generations of workloads as of our last writes: what is known from before says nothing about them.
    generations: Generations,
    attempt: u32,
}

/// How one pursuit ended.
enum End {
    /// Something else is desired now.
    Changed,
    /// The component is gone.
    Removed,
}

impl Worker {
    pub(super) fn new(context: Context, ledger: Ledger, desired: watch::Receiver<Desired>) -> Self {
        let record = desired.borrow().record.clone();
        let component = record.component.clone();
        let writer = Writer::new(context.client.clone(), context.api.clone(), &component);
        Self {
            context,
            component,
            desired,
            ledger,
            record,
            writer,
            suspects: Suspects::default(),
            contests: Contests::default(),
            generations: Generations::default(),
            attempt: 0,
        }
    }

    /// Runs until the component is removed.
    pub(super) async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            self.adopt(desired.record);
            let mut receiver = self.desired.clone();
            let end = tokio::select! {
                biased;
                changed = receiver.changed() => match changed {
                    Ok(()) => End::Changed,
                    Err(_) => return,
                },
                end = self.pursue(desired.bundle) => end,
            };
            if matches!(end, End::Removed) {
                return;
            }
        }
    }

    /// Takes over a record that the engine has written; what is known of written objects stays.
    fn adopt(&mut self, mut record: Record) {
        for (key, written) in &mut record.inventory {
            if let Some(known) = self.record.inventory.get(key) {
                written.clone_from(known);
            }
        }
        self.record = record;
        self.contests = Contests::default();
        self.attempt = 0;
    }

    /// Works at the current desire until it changes. Every step may be cut short and done again.
    async fn pursue(&mut self, bundle: Option<Arc<Bundle>>) -> End {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        if self.record.removing {
            while let Err(error) = self.remove().await {
                self.failed(&error, backoff.next_wait()).await;
            }
            self.report(State::Removed, None, String::new());
            return End::Removed;
        }
        loop {
            match self.install(bundle.clone()).await {
                Ok(bundle) => return self.keep(&bundle, &mut backoff).await,
                Err(error) => self.failed(&error, backoff.next_wait()).await,
            }
        }
    }

    /// Writes the record, unless something else is desired by now.
    async fn save(&self) -> Result<bool, Error> {
        self.context.note_inventory(&self.component, Some(self.record.keys()));
        self.ledger.save(&self.record).await
    }

    /// Reports a failure and waits.
    async fn failed(&mut self, error: &Error, wait: Duration) {
        let why = crate::dial::chain(error);
        tracing::warn!(component = %self.component, error = %why, wait_ms = wait.as_millis(), "component failed");
        let next = clock::now().as_millisecond().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let reason = match error {
            Error::NotEstablished(_) => Reason::CrdNotEstablished,
            _ => Reason::ComponentApplyFailed,
        };
        let state = if self.record.removing { State::Removing } else { State::Failed };
        self.context.board.post(ComponentReport { next_attempt_unix_ms: next, ..self.said(state, Some(reason), why) });
        tokio::time::sleep(wait).await;
    }

    fn report(&self, state: State, reason: Option<Reason>, message: String) {
        self.context.board.post(self.said(state, reason, message));
    }

    fn said(&self, state: State, reason: Option<Reason>, message: String) -> ComponentReport {
        ComponentReport {
            component: self.component.clone(),
            digest: self.record.digest.clone(),
            revision: self.record.revision,
            state: state.into(),
            reason: reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
            message,
            since_unix_ms: 0,
            attempt: self.attempt,
            next_attempt_unix_ms: 0,
            version: self.record.version.clone(),
            synced: false,
        }
    }
}
