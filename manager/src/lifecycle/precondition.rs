//! Whether what is asked for can be made: the spec against itself, the provider, the catalog and this manager.

use std::collections::BTreeSet;

use super::facts::Observed;
use super::graph::{self, Graph};
use super::look::Look;
use super::provider;
use crate::api::condition::VALIDATED;
use crate::api::validate::reason_of;
use crate::api::{ConditionStatus, FieldError, Reason, validate};

/// What the preconditions say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All hold.
    Holds,
    /// These do not; every one of them.
    Refused(Vec<FieldError>),
    /// Nobody has looked yet at what this names.
    NotYetKnown(&'static str),
}

/// Path of the version that is asked for.
const VERSION: &str = "spec.provider.kubernetes.version";

/// Judges all preconditions at once.
pub(super) fn judge(look: &Look<'_>, graph: &Result<Graph, graph::Error>) -> Verdict {
    let facts = look.facts;
    if let Some(what) = unknown(look).filter(|_| was_judged(look)) {
        return Verdict::NotYetKnown(what);
    }
    let names: BTreeSet<String> = facts.catalog.components.iter().map(|component| component.name.clone()).collect();
    let provider = facts.provider.known();
    let mut errors = validate(look.object(), provider.map(AsRef::as_ref), &names);
    // A Kubernetes version outside the matrix is said once, not once more by each component.
    let no_version = |error: &FieldError| error.path == VERSION && error.reason == Reason::VersionNotSupported;
    let said = errors.iter().any(no_version);
    errors.extend(facts.catalog.problems.iter().filter(|problem| !(said && no_version(problem))).cloned());
    let mut add = |path: &str, reason: Reason, message: String| {
        errors.push(FieldError { path: path.to_owned(), message, reason });
    };
    if let Err(error) = graph {
        add("spec.components", Reason::InvalidSpec, error.to_string());
    }
    let reference = &look.spec().provider_ref;
    match &facts.provider {
        Observed::Absent => add(
            "spec.providerRef",
            Reason::ProviderNotFound,
            format!("there is no InfraProvider {reference:?}: create it (kubectl get infra lists those that exist)"),
        ),
        Observed::Known(provider) => {
            for trouble in provider::troubles(provider, &facts.credentials) {
                add("spec.providerRef", trouble.reason, trouble.message);
            }
        }
        Observed::Unknown => {}
    }
    if let Some(missing) = facts.missing_kinds.known().filter(|missing| !missing.is_empty()) {
        add(
            "spec.provider.config",
            Reason::ClusterApiNotInstalled,
            format!("the parent does not serve {}: install Cluster API and the provider there", missing.join(", ")),
        );
    }
    if facts.parent.addresses.is_empty() {
        add(
            "parent",
            Reason::ParentAddressUnknown,
            "lattice-manager knows no address that agents could dial: give it --external-address".to_owned(),
        );
    }
    if !errors.is_empty() {
        return Verdict::Refused(errors);
    }
    unknown(look).map_or(Verdict::Holds, Verdict::NotYetKnown)
}

/// Whether this very spec was judged before: then nothing new is said until all is known again.
fn was_judged(look: &Look<'_>) -> bool {
    let generation = look.object().metadata.generation;
    look.conditions.get(VALIDATED).is_some_and(|condition| {
        condition.observed_generation == generation && condition.status != ConditionStatus::Unknown
    })
}

/// The first thing that nobody has looked at yet.
fn unknown(look: &Look<'_>) -> Option<&'static str> {
    let facts = look.facts;
    let credentials = facts
        .provider
        .known()
        .is_some_and(|provider| provider.spec.credentials_secret_ref.is_some() && facts.credentials.is_unknown());
    [
        (facts.provider.is_unknown(), "the InfraProvider"),
        (credentials, "the provider's credentials"),
        (!matches!(facts.missing_kinds, Observed::Known(_)), "the kinds that the parent serves"),
        (facts.objects.is_unknown(), "the objects of Cluster API"),
        (facts.namespace.is_unknown(), "the cluster's namespace"),
    ]
    .into_iter()
    .find_map(|(unknown, what)| unknown.then_some(what))
}

/// Writes the verdict into the condition `Validated`.
pub(super) fn show(look: &mut Look<'_>, verdict: &Verdict) {
    match verdict {
        Verdict::Holds => {
            look.set(VALIDATED, ConditionStatus::True, Reason::AsExpected, "spec accepted, every precondition holds");
        }
        Verdict::Refused(errors) => {
            let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            look.set(VALIDATED, ConditionStatus::False, reason_of(errors), text);
        }
        // After a restart nothing is known for a moment; that is no reason to take back what was said.
        Verdict::NotYetKnown(_) if look.conditions.get(VALIDATED).is_some() => {}
        Verdict::NotYetKnown(what) => {
            look.set(VALIDATED, ConditionStatus::Unknown, Reason::NotYetKnown, format!("waiting to see {what}"));
        }
    }
}
