//! Pursues what one component should be, for as long as it is held.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::wait::{await_condition, conditions};
use lattice_protocol::clock;
use lattice_protocol::reason::Reason;
use lattice_protocol::telemetry::{self, Finished};
use lattice_protocol::v1::ComponentReport;
use lattice_protocol::v1::component_report::State;
use tokio::sync::watch;
use tracing::Instrument;

use super::bundle::Bundle;
use super::drift::{self, Contests};
use super::engine::Context;
use super::guard::Suspects;
use super::object::{Key, Object, hash};
use super::prune::{self, Told};
use super::record::{Record, Written};
use super::write::Writer;
use super::{Error, stage};
use crate::backoff::Backoff;
use crate::gate::{self, Standing};

/// First and longest wait after a failed apply. Lower hammers an API server that is ill; higher keeps dependents waiting.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Changes of the world that come together are judged together.
const JUDGE_APART: Duration = Duration::from_millis(100);

/// Longest wait for a CRD to become established.
const ESTABLISHED_AT_MOST: Duration = Duration::from_secs(60);

/// Pause between looks at objects that are being removed.
const REMOVAL_LOOK: Duration = Duration::from_secs(1);

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
    record: Record,
    writer: Writer,
    suspects: Suspects,
    contests: Contests,
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
    pub(super) fn new(context: Context, component: &str, desired: watch::Receiver<Desired>) -> Self {
        let record = desired.borrow().record.clone();
        let writer = Writer::new(context.client.clone(), context.api.clone(), component);
        Self {
            context,
            component: component.to_owned(),
            desired,
            record,
            writer,
            suspects: Suspects::default(),
            contests: Contests::default(),
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
                Ok(bundle) => self.keep(&bundle, &mut backoff).await,
                Err(error) => self.failed(&error, backoff.next_wait()).await,
            }
        }
    }

    /// Applies the bundle if it was not applied yet.
    async fn install(&mut self, bundle: Option<Arc<Bundle>>) -> Result<Arc<Bundle>, Error> {
        let bundle = match bundle {
            Some(bundle) => bundle,
            None => Arc::new(self.context.store.load_bundle(&self.record).await?),
        };
        self.context.want(&self.component, &bundle.head.gates);
        if self.record.applied != self.record.digest {
            self.attempt += 1;
            self.report(State::Applying, Some(Reason::Installing), format!("{} objects", bundle.objects.len()));
            let span = tracing::info_span!(
                "component.apply",
                component = %self.component,
                attempt = self.attempt,
                epoch = self.record.epoch,
                otel.status_code = tracing::field::Empty,
                otel.status_description = tracing::field::Empty,
            );
            telemetry::adopt(&span, self.record.traceparent.as_ref());
            let applied = self.apply(&bundle).instrument(span.clone()).await;
            if let Err(error) = &applied {
                span.record("otel.status_code", "ERROR");
                span.record("otel.status_description", crate::dial::chain(error).as_str());
            }
            applied?;
        }
        Ok(bundle)
    }

    async fn apply(&mut self, bundle: &Bundle) -> Result<(), Error> {
        let mut at = stage::Stage::Ground;
        for object in &bundle.objects {
            if stage::of(&object.key) != at {
                if at == stage::Stage::Ground {
                    self.established(&bundle.objects).await?;
                }
                at = stage::of(&object.key);
            }
            self.write_if_new(object, bundle).await?;
        }
        if at == stage::Stage::Ground {
            self.established(&bundle.objects).await?;
        }
        let gone = prune::leftovers(&self.record.keys(), &bundle.objects);
        self.prune(&gone).await?;
        self.record.set_keys(prune::settled(&self.record.keys(), &bundle.objects, &gone));
        self.record.applied.clone_from(&self.record.digest);
        self.record.applied_at = Some(clock::now());
        self.record.settled = false;
        self.context.store.keep(&self.record).await?;
        self.context.store.sweep(&self.record).await
    }

    /// Writes an object whose desire is another than the one written last.
    async fn write_if_new(&mut self, object: &Object, bundle: &Bundle) -> Result<(), Error> {
        let known = self.record.inventory.get(&object.key);
        if known.is_some_and(|written| !written.found.is_empty() && written.desired == object.hash()) {
            return Ok(());
        }
        // Only ignored fields make a difference between an object that is there and one that is not.
        let yields = bundle.head.ignored.iter().any(|field| field.kind == object.key.kind);
        let live = if yields { self.writer.find(&object.key).await? } else { None };
        self.write(object, bundle, live.as_ref()).await
    }

    async fn write(&mut self, object: &Object, bundle: &Bundle, live: Option<&serde_json::Value>) -> Result<(), Error> {
        let mut desired = object.desired.clone();
        if let Some(live) = live {
            drift::yield_ignored(&object.key, &mut desired, live, &bundle.head.ignored);
        }
        for path in self.contests.lost(&object.key) {
            drift::leave_alone(&mut desired, path);
        }
        let found = self.writer.apply(&object.key, &desired).await?;
        let found = self.print(object, &found, bundle);
        self.record.inventory.insert(object.key.clone(), Written { desired: object.hash(), found });
        Ok(())
    }

    /// Hash of a live object, reduced to what is ours to keep.
    fn print(&self, object: &Object, live: &serde_json::Value, bundle: &Bundle) -> String {
        let mut shape = object.desired.clone();
        drift::without_ignored(&object.key, &mut shape, &bundle.head.ignored);
        for path in self.contests.lost(&object.key) {
            drift::leave_alone(&mut shape, path);
        }
        hash(&drift::project(&shape, live))
    }

    /// Waits until every CRD of the bundle is established.
    async fn established(&self, objects: &[Object]) -> Result<(), Error> {
        let crds = kube::Api::<CustomResourceDefinition>::all(self.context.client.clone());
        let waits = objects.iter().filter(|object| stage::is_crd(&object.key)).map(|object| {
            let crds = crds.clone();
            async move {
                let established = await_condition(crds, &object.key.name, conditions::is_crd_established());
                match tokio::time::timeout(ESTABLISHED_AT_MOST, established).await {
                    Ok(Ok(_)) => Ok(()),
                    _ => Err(Error::NotEstablished(object.key.name.clone())),
                }
            }
        });
        futures::future::try_join_all(waits).await.map(drop)
    }

    /// Deletes what another component does not hold either.
    async fn prune(&self, keys: &[Key]) -> Result<(), Error> {
        for key in keys {
            if !self.context.is_held_elsewhere(&self.component, key) {
                tracing::info!(component = %self.component, object = %key, "object is no longer wanted");
                self.writer.delete(key).await?;
            }
        }
        Ok(())
    }

    /// Keeps an applied bundle as it is and reports its gates, until a repair fails.
    async fn keep(&mut self, bundle: &Bundle, backoff: &mut Backoff) {
        let keys: BTreeSet<_> = bundle.objects.iter().map(|object| object.key.clone()).collect();
        let suspects = self.suspects.clone();
        self.context.guard.watch(&self.component, keys, &suspects);
        let mut changes = self.context.observed.changes();
        loop {
            changes.mark_unchanged();
            self.judge(bundle).await;
            let woken = tokio::select! {
                biased;
                () = suspects.any() => true,
                // The sender lives as long as the process.
                _ = changes.changed() => false,
            };
            if woken {
                let taken = suspects.take();
                if let Err(error) = self.repair(bundle, &taken).await {
                    suspects.add(taken);
                    self.failed(&error, backoff.next_wait()).await;
                    continue;
                }
                self.attempt = 0;
                backoff.reset();
            } else {
                tokio::time::sleep(JUDGE_APART).await;
            }
        }
    }

    /// Looks at objects that may have been changed, and puts back what was.
    async fn repair(&mut self, bundle: &Bundle, suspects: &BTreeSet<Key>) -> Result<(), Error> {
        let before = self.record.inventory.clone();
        for object in bundle.objects.iter().filter(|object| suspects.contains(&object.key)) {
            let live = self.writer.find(&object.key).await?;
            let found = live.as_ref().map(|live| self.print(object, live, bundle));
            let written = self.record.inventory.get(&object.key);
            if found.is_some() && found.as_ref() == written.map(|written| &written.found) {
                continue;
            }
            self.note_drift(object, live.as_ref(), bundle);
            self.write(object, bundle, live.as_ref()).await?;
        }
        if self.record.inventory != before {
            self.context.store.keep(&self.record).await?;
        }
        Ok(())
    }

    /// Tells of drift, and counts who fights us.
    fn note_drift(&mut self, object: &Object, live: Option<&serde_json::Value>, bundle: &Bundle) {
        let Some(live) = live else {
            tracing::info!(component = %self.component, object = %object.key, "deleted object is made again");
            self.context.notices.note(
                Reason::DriftRepaired.as_str(),
                "Repair",
                &format!("{}: deleted, made again", object.key),
            );
            return;
        };
        let mut desired = object.desired.clone();
        drift::without_ignored(&object.key, &mut desired, &bundle.head.ignored);
        for path in drift::differences(&desired, live) {
            let rival = drift::rival(live, &path, self.writer.manager());
            if rival.is_none() {
                // Nobody else owns it: the server writes the value in another form than we do.
                continue;
            }
            let by = rival.clone().unwrap_or_default();
            let put_back = self.contests.note(&object.key, &path, rival, clock::now());
            let what = if put_back { "put back" } else { "left alone: contested three times in ten minutes" };
            tracing::info!(component = %self.component, object = %object.key, field = %path, rival = %by, outcome = what, "drift");
            let reason = if put_back { Reason::DriftRepaired } else { Reason::DriftContested };
            self.context.notices.note(
                reason.as_str(),
                "Repair",
                &format!("{} {path}: changed by {by}, {what}", object.key),
            );
        }
    }

    /// Judges the gates and reports.
    async fn judge(&mut self, bundle: &Bundle) {
        let standing = self.context.observed.look(|world| gate::judge_all(&bundle.head.gates, world));
        match standing {
            // Nothing new is said before the first look is complete.
            Standing::Unknown => {}
            Standing::Fails { reason, message } => self.report(State::Waiting, Some(reason), message),
            Standing::Holds => {
                let contested = self.contests.describe();
                let reason = contested.is_some().then_some(Reason::DriftContested);
                self.report(State::Healthy, reason, contested.unwrap_or_default());
                self.settle().await;
            }
        }
    }

    /// Ends the gate's span when the gates hold for the first time since the apply.
    async fn settle(&mut self) {
        if self.record.settled {
            return;
        }
        self.record.settled = true;
        if let Some(parent) = self.record.traceparent {
            let now = clock::now();
            self.context.exporter.export(Finished {
                name: "component.gate",
                at: parent.named_child(&format!("gate/{}/{}", self.component, self.record.digest)),
                parent: Some(parent),
                start: self.record.applied_at.unwrap_or(now),
                end: now,
                error: None,
                attributes: vec![("component", self.component.clone())],
                links: Vec::new(),
            });
        }
        if let Err(error) = self.context.store.keep(&self.record).await {
            tracing::warn!(component = %self.component, error = %crate::dial::chain(&error), "record not written");
        }
    }

    /// Deletes everything of the component and waits until it is gone.
    async fn remove(&mut self) -> Result<(), Error> {
        self.context.guard.forget(&self.component);
        self.context.want(&self.component, &[]);
        let keys = prune::all(&self.record.keys(), Told { crds: self.record.prune_crds });
        let (mut crds, rest): (Vec<_>, Vec<_>) = keys.into_iter().partition(stage::is_crd);
        for part in [rest, std::mem::take(&mut crds)] {
            self.gone(part).await?;
        }
        self.context.store.forget(&self.record).await
    }

    /// Deletes objects and waits until they are gone.
    async fn gone(&mut self, mut keys: Vec<Key>) -> Result<(), Error> {
        keys.retain(|key| !self.context.is_held_elsewhere(&self.component, key));
        loop {
            let mut remaining = Vec::new();
            for key in &keys {
                if !self.writer.delete(key).await? {
                    remaining.push(key.clone());
                }
            }
            let Some(first) = remaining.first() else { return Ok(()) };
            let message = format!("{} objects remain, first {first}", remaining.len());
            self.report(State::Removing, Some(Reason::ObjectTerminating), message);
            keys = remaining;
            tokio::time::sleep(REMOVAL_LOOK).await;
        }
    }

    /// Reports a failure and waits.
    async fn failed(&mut self, error: &Error, wait: Duration) {
        let why = crate::dial::chain(error);
        tracing::warn!(component = %self.component, error = %why, wait_ms = wait.as_millis(), "component failed");
        let next = clock::now().as_millisecond().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let reason = match error {
            Error::NotEstablished(_) => Reason::CrdNotEstablished,
            Error::Remaining(_) => Reason::ObjectTerminating,
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
