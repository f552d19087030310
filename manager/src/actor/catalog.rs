//! The component catalog, evaluated for one cluster and kept until what decides about it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crew::Crew;
use crate::api::FieldError;
use crate::chart::{self, ComponentSummary, Selection};
use crate::lifecycle::{Catalog, Component, Need};
use crate::perform::{Performer, Subject, bundle_context, chain, selection};

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

/// Evaluates the catalog. Without overrides where it cannot be evaluated with them: a spec that is refused must not look
/// like one that asks for no components.
pub(super) fn evaluate(performer: &Performer, subject: &Subject, kubernetes: Option<&str>) -> Catalog {
    let asked = selection(&subject.cluster, kubernetes);
    let mut problems = Vec::new();
    let summaries = performer.catalog.summary(&asked).unwrap_or_else(|error| {
        problems.extend(error.singly().map(problem));
        let plain = Selection { overrides: BTreeMap::new(), ..asked };
        performer.catalog.summary(&plain).unwrap_or_default()
    });
    // What the spec lacks is told by validation.
    let context = bundle_context(subject, kubernetes, &performer.lattice_crds).ok().filter(|_| problems.is_empty());
    let mut digest = |summary: &ComponentSummary| {
        let context = context.as_ref().filter(|_| summary.enabled)?;
        match performer.catalog.bundle(&summary.name, context) {
            Ok(bundle) => Some(bundle.digest),
            Err(error) => {
                problems.push(problem(&error));
                None
            }
        }
    };
    let component = |summary: ComponentSummary| Component {
        digest: digest(&summary),
        name: summary.name,
        condition: summary.condition,
        needs: summary.needs.into_iter().map(|need| Need { name: need.name, policy: need.policy }).collect(),
        enabled: summary.enabled,
    };
    let components = summaries.into_iter().map(component).collect();
    Catalog { components, problems }
}

fn problem(error: &chart::Error) -> FieldError {
    let path = match error {
        chart::Error::NoVersion { .. } => "spec.provider.kubernetes.version".to_owned(),
        _ => "spec.components".to_owned(),
    };
    FieldError { path, message: chain(error), reason: error.reason() }
}
