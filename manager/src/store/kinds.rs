//! Which kinds the parent's API serves, and under which names. Filled from the watch of CustomResourceDefinitions, so
//! that no call needs discovery.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::core::{ApiResource, GroupVersionKind};

/// Group and kind, without a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

impl Kind {
    /// Names a kind.
    pub fn new(group: &str, kind: &str) -> Self {
        Self { group: group.to_owned(), kind: kind.to_owned() }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() { f.write_str(&self.kind) } else { write!(f, "{}.{}", self.kind, self.group) }
    }
}

/// A kind in a namespace, as the API serves it.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Group, version, kind and plural.
    pub api: ApiResource,
    /// Namespace, unless the kind has none.
    pub namespace: Option<String>,
}

impl Resource {
    /// Names an object of it in messages: `Cluster lattice-backend/backend`.
    pub fn object(&self, name: &str) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{name}", self.api.kind),
            None => format!("{} {name}", self.api.kind),
        }
    }
}

/// The kinds that CustomResourceDefinitions of the parent define, kept current by their watch.
#[derive(Clone, Debug, Default)]
pub struct Kinds(Arc<ArcSwap<BTreeMap<Kind, String>>>);

impl Kinds {
    /// Replaces the plurals that are known.
    pub fn set_plurals(&self, plurals: BTreeMap<Kind, String>) {
        self.0.store(Arc::new(plurals));
    }

    /// Names the resource of a kind; a plural that no CRD told is made by the usual rule.
    pub fn resolve(&self, gvk: &GroupVersionKind) -> ApiResource {
        match self.0.load().get(&Kind::new(&gvk.group, &gvk.kind)) {
            Some(plural) => ApiResource::from_gvk_with_plural(gvk, plural),
            None => ApiResource::from_gvk(gvk),
        }
    }
}
