//! Applying a bundle, stage by stage.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::wait::await_condition;
use lattice_protocol::clock;
use lattice_protocol::reason::Reason;
use lattice_protocol::telemetry;
use lattice_protocol::v1::component_report::State;
use tracing::Instrument;

use super::super::bundle::Bundle;
use super::super::object::{Object, hash};
use super::super::record::Written;
use super::super::{Error, drift, prune, stage, write};
use super::Worker;
use crate::observe::facts::{CrdFacts, Facts as _};
use crate::observe::objects::CustomResourceDefinition;

/// Longest wait for a CRD to become established.
const ESTABLISHED_AT_MOST: Duration = Duration::from_mins(1);

impl Worker {
    /// Applies the bundle if it was not applied yet.
    pub(super) async fn install(&mut self, bundle: Option<Arc<Bundle>>) -> Result<Arc<Bundle>, Error> {
        let bundle = match bundle {
            Some(bundle) => bundle,
            None => Arc::new(self.load().await?),
        };
        self.context.want(&self.component, &bundle.head.gates);
        if self.record.applied != self.record.digest {
            self.attempt += 1;
            if self.attempt == 1 {
                // Later tries leave the last failure to be read.
                self.report(
                    State::Applying,
                    Some(Reason::Installing),
                    format!("applying {} objects", bundle.objects.len()),
                );
            }
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

    /// Reads the bundle from the child.
    async fn load(&self) -> Result<Bundle, Error> {
        let loaded = self.context.store.load_bundle(&self.record).await;
        match &loaded {
            Err(Error::Record { .. }) => self.ledger.lost_bundle().await,
            Err(Error::Api { source, .. }) if write::is_absent(source) => self.ledger.lost_bundle().await,
            _ => {}
        }
        loaded
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
        if self.save().await? {
            self.context.store.sweep(&self.record).await?;
        }
        Ok(())
    }

    /// Writes an object whose desire is another than the one written last.
    async fn write_if_new(&mut self, object: &Object, bundle: &Bundle) -> Result<(), Error> {
        let known = self.record.inventory.get(&object.key);
        if known.is_some_and(|written| !written.found.is_empty() && written.desired == object.hash) {
            return Ok(());
        }
        // Only ignored fields make a difference between an object that is there and one that is not.
        let yields = bundle.head.ignored.iter().any(|field| field.kind == object.key.kind);
        let live = if yields { self.writer.find(&object.key).await? } else { None };
        self.write(object, bundle, live.as_ref()).await
    }

    pub(super) async fn write(
        &mut self,
        object: &Object,
        bundle: &Bundle,
        live: Option<&serde_json::Value>,
    ) -> Result<(), Error> {
        let mut desired = object.desired();
        if let Some(live) = live {
            drift::yield_ignored(&object.key, &mut desired, live, &bundle.head.ignored);
        }
        for path in self.contests.lost(&object.key) {
            drift::leave_alone(&mut desired, path);
        }
        let found = self.writer.apply(&object.key, &desired).await?;
        self.generations.note(&object.key.kind, &object.key.namespace, &object.key.name, &found["metadata"]);
        let found = self.print(object, &found, bundle);
        self.record.inventory.insert(object.key.clone(), Written { desired: object.hash.clone(), found });
        Ok(())
    }

    /// Hash of a live object, reduced to what is ours to keep.
    pub(super) fn print(&self, object: &Object, live: &serde_json::Value, bundle: &Bundle) -> String {
        let mut shape = object.desired();
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
                let established = await_condition(crds, &object.key.name, |crd: Option<&_>| {
                    crd.is_some_and(|crd| CrdFacts::of(crd).0.holds)
                });
                match tokio::time::timeout(ESTABLISHED_AT_MOST, established).await {
                    Ok(Ok(_)) => Ok(()),
                    _ => Err(Error::NotEstablished(object.key.name.clone())),
                }
            }
        });
        futures::future::try_join_all(waits).await.map(drop)
    }
}
