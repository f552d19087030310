//! Deleting what is no longer wanted.

use std::time::Duration;

use lattice_protocol::reason::Reason;
use lattice_protocol::v1::component_report::State;

use super::super::object::Key;
use super::super::prune::{self, Told};
use super::super::{Error, stage};
use super::Worker;
use crate::backoff::Backoff;

/// First and longest pause between looks at objects that are being removed: their finalizers take the time they take.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Where and how an object asks to outlive its component (Helm's word for it).
const KEEP: (&str, &str) = ("/metadata/annotations/helm.sh~1resource-policy", "keep");

impl Worker {
    /// Deletes what another component does not hold either.
    pub(super) async fn prune(&self, keys: &[Key]) -> Result<(), Error> {
        for key in keys {
            if !self.context.is_held_elsewhere(&self.component, key) && !self.is_to_be_kept(key).await? {
                tracing::info!(component = %self.component, object = %key, "object is no longer wanted");
                self.writer.delete(key).await?;
            }
        }
        Ok(())
    }

    /// Whether the object asks to outlive its component.
    async fn is_to_be_kept(&self, key: &Key) -> Result<bool, Error> {
        let live = self.writer.find(key).await.or_else(|error| match error {
            // Its kind is gone, and the object with it.
            Error::UnknownKind(_) => Ok(None),
            other => Err(other),
        })?;
        let policy = live.as_ref().and_then(|live| live.pointer(KEEP.0));
        Ok(policy.and_then(serde_json::Value::as_str) == Some(KEEP.1))
    }

    /// Deletes everything of the component and waits until it is gone.
    pub(super) async fn remove(&mut self) -> Result<(), Error> {
        self.context.guard.forget(&self.component);
        self.context.want(&self.component, &[]);
        let keys = prune::all(&self.record.keys(), Told { crds: self.record.prune_crds });
        let (mut crds, rest): (Vec<_>, Vec<_>) = keys.into_iter().partition(stage::is_crd);
        for part in [rest, std::mem::take(&mut crds)] {
            self.gone(part).await?;
        }
        self.ledger.forget().await.map(drop)
    }

    /// Deletes objects and waits until they are gone.
    async fn gone(&mut self, mut keys: Vec<Key>) -> Result<(), Error> {
        keys.retain(|key| !self.context.is_held_elsewhere(&self.component, key));
        let mut looks = Backoff::new(LOOK.0, LOOK.1);
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
            tokio::time::sleep(looks.next_at(1.0)).await;
        }
    }
}
