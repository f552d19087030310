//! The component catalog, evaluated for one cluster and kept until what decides about it changes.

use std::sync::Arc;

use super::crew::Crew;
use crate::chart::{ComponentSummary, Selection};
use crate::lifecycle::{Catalog, Component, Need};
use crate::perform::{Performer, Subject, bundle_context, selection};

/// The evaluated catalog of one cluster.
#[derive(Debug, Default)]
pub(super) struct Evaluated(Option<(Key, Arc<Catalog>)>);

/// What an evaluation depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    uid: String,
    generation: Option<i64>,
    provider: Option<String>,
    kubernetes: Option<String>,
}

impl Evaluated {
    /// The catalog for a cluster. `kubernetes` is the version that its API server runs, once it is known.
    pub(super) fn get(&mut self, crew: &Crew, subject: &Subject, kubernetes: Option<&str>) -> Arc<Catalog> {
        let key = Key {
            uid: subject.uid.to_string(),
            generation: subject.cluster.metadata.generation,
            provider: subject.provider.as_ref().and_then(|provider| provider.metadata.resource_version.clone()),
            kubernetes: kubernetes.map(str::to_owned),
        };
        if let Some((held, catalog)) = &self.0
            && *held == key
        {
            return catalog.clone();
        }
        let catalog = Arc::new(evaluate(&crew.performer, subject, kubernetes));
        self.0 = Some((key, catalog.clone()));
        catalog
    }
}

/// Evaluates without overrides what cannot be evaluated with them: a spec that is refused must not look like one that asks
/// for no components. Rendering says what is wrong with it.
fn evaluate(performer: &Performer, subject: &Subject, kubernetes: Option<&str>) -> Catalog {
    let asked = selection(&subject.cluster, kubernetes);
    let summaries = performer.catalog.summary(&asked).or_else(|error| {
        tracing::debug!(cluster.name = %subject.name, error = &error as &dyn std::error::Error, "catalog cannot be evaluated");
        performer.catalog.summary(&Selection { overrides: Default::default(), ..asked })
    });
    let context = bundle_context(subject, kubernetes, &performer.lattice_crds).ok();
    let digest = |summary: &ComponentSummary| {
        let context = context.as_ref().filter(|_| summary.enabled)?;
        performer.catalog.bundle(&summary.name, context).ok().map(|bundle| bundle.digest)
    };
    let components = summaries.unwrap_or_default().into_iter().map(|summary| Component {
        digest: digest(&summary),
        name: summary.name,
        condition: summary.condition,
        needs: summary.needs.into_iter().map(|need| Need { name: need.name, policy: need.policy }).collect(),
        enabled: summary.enabled,
    });
    Catalog { components: components.collect() }
}
