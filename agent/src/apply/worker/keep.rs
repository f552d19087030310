//! Keeping an applied bundle as it is, and judging its gates.

use std::collections::BTreeSet;
use std::time::Duration;

use lattice_protocol::clock;
use lattice_protocol::reason::Reason;
use lattice_protocol::telemetry::Finished;
use lattice_protocol::v1::component_report::State;

use super::super::Error;
use super::super::bundle::Bundle;
use super::super::drift::{self, Difference};
use super::super::object::{Key, Object};
use super::{End, Worker};
use crate::backoff::Backoff;
use crate::gate::{self, Standing};

/// Changes of the world that come together are judged together.
const JUDGE_APART: Duration = Duration::from_millis(100);

impl Worker {
    /// Keeps an applied bundle as it is and reports its gates, for ever.
    pub(super) async fn keep(&mut self, bundle: &Bundle, backoff: &mut Backoff) -> End {
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
            if !woken {
                tokio::time::sleep(JUDGE_APART).await;
                continue;
            }
            // Nothing is judged healthy while something of it cannot be put back.
            let mut taken = suspects.take();
            while let Err(error) = self.repair(bundle, &taken).await {
                self.attempt += 1;
                self.failed(&error, backoff.next_wait()).await;
                taken.extend(suspects.take());
            }
            self.attempt = 0;
            backoff.reset();
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
            if live.is_some() && self.contests.lost(&object.key).any(str::is_empty) {
                continue;
            }
            self.write(object, bundle, live.as_ref()).await?;
        }
        if self.record.inventory != before {
            self.save().await?;
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
        let mut desired = object.desired();
        drift::without_ignored(&object.key, &mut desired, &bundle.head.ignored);
        let mut differences = drift::differences(&desired, live);
        differences.retain(|difference| {
            // A value that nobody else owns is one that the server writes in another form than we do.
            difference.missing || drift::rival(live, &difference.path, self.writer.manager()).is_some()
        });
        if differences.is_empty() {
            // Something changes the object in a way that we cannot name; this must not go on for ever either.
            differences.push(Difference { path: String::new(), missing: false });
        }
        for Difference { path, .. } in differences {
            let rival = drift::rival(live, &path, self.writer.manager());
            let by = rival.clone().unwrap_or_else(|| "an unknown manager".to_owned());
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
        let standing = self.context.observed.look(|world| {
            if self.generations.are_behind(&bundle.head.gates, world) {
                return Standing::Unknown;
            }
            gate::judge_all(&bundle.head.gates, world)
        });
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
        if let Err(error) = self.save().await {
            tracing::warn!(component = %self.component, error = %crate::dial::chain(&error), "record not written");
        }
    }
}
