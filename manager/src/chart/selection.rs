//! What of a cluster's spec decides about its components.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::Error;
use super::component::Component;

/// What decides which components a cluster has, and in which versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Kubernetes version, `v1.32.0`.
    pub kubernetes_version: String,
    /// What the cluster is for.
    pub features: Features,
    /// `spec.components` by name.
    pub overrides: BTreeMap<String, Override>,
}

/// What a cluster is for: what `enabledWhen` and templates see as `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Features {
    /// `spec.services`.
    pub services: bool,
    /// `spec.monitoring.enabled`.
    pub monitoring: bool,
    /// `spec.monitoring.remoteWriteUrl`.
    pub remote_write_url: Option<String>,
    /// `spec.backups.enabled`.
    pub backups: bool,
    /// Whether `spec.secretStore` is there.
    pub secret_store: bool,
    /// Whether `spec.parentConfig` is there: the cluster accepts children.
    pub parent: bool,
    /// Type of the provider.
    pub provider: String,
}

/// One entry of `spec.components`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// On or off, whatever the catalog says.
    pub enabled: Option<bool>,
    /// Another version of those in the catalog.
    pub version: Option<String>,
    /// Values over those of the catalog.
    pub values: Option<Value>,
}

#[derive(Serialize)]
pub(super) struct SelectionView<'a> {
    spec: &'a Features,
}

impl Selection {
    pub(super) fn view(&self) -> SelectionView<'_> {
        SelectionView { spec: &self.features }
    }

    /// Overrides of components that do not exist.
    pub(super) fn unknown<'a>(&'a self, components: &'a BTreeMap<String, Component>) -> impl Iterator<Item = Error> {
        self.overrides.keys().filter(|name| !components.contains_key(*name)).map(|name| Error::UnknownComponent {
            component: name.clone(),
            known: components.keys().cloned().collect(),
        })
    }
}
