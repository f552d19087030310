//! What is wrong with a cluster's spec: every error at once, each with its path, what is wrong and the cure.
//!
//! Much of this is in the schema and its rules too, and then refused at apply; it is here as well because an object may
//! have been accepted under older rules, and because `lattice-manager validate` has no API server.

mod network;
mod nodes;
mod provider;
mod supported;

use std::collections::BTreeSet;
use std::fmt;

use super::Reason;
use super::cluster::LatticeCluster;
use super::defaults::resolve;
use super::features::{Backups, Monitoring};
use super::provider::InfraProvider;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field: `spec.nodes.controlPlane.replicas`.
    pub path: String,
    /// What is wrong, and the cure.
    pub message: String,
    /// One of the closed list.
    pub reason: Reason,
}

/// Errors found so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

/// Finds every error that can be found without asking anybody.
///
/// `provider` is the InfraProvider that the spec names, when it is at hand; `components` are the names of the catalog.
pub fn validate(
    cluster: &LatticeCluster,
    provider: Option<&InfraProvider>,
    components: &BTreeSet<String>,
) -> Vec<FieldError> {
    let spec = &cluster.spec;
    let mut errors = Errors::default();
    name(cluster, &mut errors);
    provider::check(spec, provider, &mut errors);
    nodes::check(spec, &mut errors);
    let resolved = resolve(spec, provider.map(|p| &p.spec));
    match &resolved {
        Ok(resolved) => {
            provider::version(resolved, &mut errors);
            network::check(spec, resolved, &mut errors);
        }
        Err(more) => more.iter().cloned().for_each(|error| errors.push(error)),
    }
    monitoring(&spec.monitoring, &mut errors);
    backups(&spec.backups, &mut errors);
    supported::check(spec, components, &mut errors);
    errors.0
}

/// The reason for a condition about several errors: theirs when they agree, else the general one.
pub fn reason_of(errors: &[FieldError]) -> Reason {
    match errors {
        [] => Reason::AsExpected,
        [first, rest @ ..] if rest.iter().all(|error| error.reason == first.reason) => first.reason,
        _ => Reason::InvalidSpec,
    }
}

fn name(cluster: &LatticeCluster, errors: &mut Errors) {
    let name = cluster.metadata.name.clone().unwrap_or_default();
    if let Err(error) = name.parse::<super::ClusterName>() {
        errors.add("metadata.name", Reason::InvalidSpec, error.to_string());
    }
}

fn monitoring(monitoring: &Monitoring, errors: &mut Errors) {
    if monitoring.enabled && monitoring.remote_write_url.is_none() {
        errors.add(
            "spec.monitoring.remoteWriteUrl",
            Reason::InvalidSpec,
            "required when monitoring.enabled is true: give the URL that metrics are written to, or turn monitoring off",
        );
    }
}

fn backups(backups: &Backups, errors: &mut Errors) {
    if backups.enabled && backups.location.is_none() {
        errors.add(
            "spec.backups.location",
            Reason::InvalidSpec,
            "required when backups.enabled is true: give provider and bucket, or turn backups off",
        );
    }
}

impl Errors {
    pub(super) fn add(&mut self, path: impl Into<String>, reason: Reason, message: impl Into<String>) {
        self.push(FieldError { path: path.into(), message: message.into(), reason });
    }

    fn push(&mut self, error: FieldError) {
        if !self.0.contains(&error) {
            self.0.push(error);
        }
    }

    /// Takes the value of a result, or notes its error.
    pub(super) fn take<T, E: fmt::Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(path, Reason::InvalidSpec, error.to_string());
                None
            }
        }
    }

    pub(super) fn into_result(self) -> Result<(), Vec<FieldError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

#[cfg(test)]
mod tests;
