//! What the informers know, indexed by cluster, so that looking at one cluster costs the same among ten and a thousand.
//!
//! **Guarantee.** An object never goes back in time: an older resourceVersion than the one held is dropped, whichever
//! of an informer and an answer to our own write comes first. **Caveat.** The cache may be behind the API; what
//! destroys or commits reads the API itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use lattice_protocol::tls::hex;
use sha2::{Digest, Sha256};

use super::Kind;
use crate::api::{InfraProvider, LatticeCluster};

/// Prefix of the namespace of a cluster's objects.
const NAMESPACE_PREFIX: &str = "lattice-";

/// Whether the objects of a kind are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KindState {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// The API does not serve the kind.
    Absent,
    /// The first list is on its way.
    Syncing,
    /// Every object that the API had at some time after the start was seen.
    Synced,
}

/// A CustomResourceDefinition without its schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrdFacts {
    /// Group and kind.
    pub kind: Kind,
    /// Name of the resource in paths.
    pub plural: String,
    /// Served versions.
    pub versions: BTreeSet<String>,
    /// The version to watch: that of contract v1beta2 when the label says so, else the stored one.
    pub version: String,
    /// Whether the API server serves it by now.
    pub established: bool,
}

/// A Secret without its values.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretFacts {
    /// Metadata, managed fields left out.
    pub metadata: ObjectMeta,
    /// sha256 of each value that is not empty, in hex.
    pub digests: BTreeMap<String, String>,
    /// What is wrong with values, in words that do not quote them.
    pub problems: Vec<String>,
}

/// What there is in the namespace of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Cluster API objects and the provider's, by kind and name.
    pub by_kind: BTreeMap<Kind, BTreeMap<String, Arc<DynamicObject>>>,
    /// Secrets that carry our label.
    pub secrets: BTreeMap<String, SecretFacts>,
    /// The namespace itself.
    pub namespace: Option<ObjectMeta>,
}

/// The cache. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    clusters: BTreeMap<String, Arc<LatticeCluster>>,
    providers: BTreeMap<String, Arc<InfraProvider>>,
    objects: BTreeMap<String, Arc<Objects>>,
    credentials: BTreeMap<(String, String), Option<SecretFacts>>,
    kinds: BTreeMap<Kind, KindState>,
    crds: BTreeMap<Kind, CrdFacts>,
}

impl Objects {
    /// The objects of a kind.
    pub fn of(&self, kind: &Kind) -> impl Iterator<Item = &Arc<DynamicObject>> {
        self.by_kind.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// One object.
    pub fn one(&self, kind: &Kind, name: &str) -> Option<&Arc<DynamicObject>> {
        self.by_kind.get(kind)?.get(name)
    }

    fn is_empty(&self) -> bool {
        self.by_kind.values().all(BTreeMap::is_empty) && self.secrets.is_empty() && self.namespace.is_none()
    }
}

impl Cache {
    /// One cluster.
    pub fn cluster(&self, name: &str) -> Option<Arc<LatticeCluster>> {
        self.read().clusters.get(name).cloned()
    }

    /// Whether it is known that there is no such cluster.
    pub fn lacks_cluster(&self, name: &str) -> bool {
        let inner = self.read();
        let state = inner.kinds.get(&Kind::new("lattice.dev", "LatticeCluster"));
        state == Some(&KindState::Synced) && !inner.clusters.contains_key(name)
    }

    /// Every cluster.
    pub fn clusters(&self) -> Vec<Arc<LatticeCluster>> {
        self.read().clusters.values().cloned().collect()
    }

    /// One provider.
    pub fn provider(&self, name: &str) -> Option<Arc<InfraProvider>> {
        self.read().providers.get(name).cloned()
    }

    /// Every provider.
    pub fn providers(&self) -> Vec<Arc<InfraProvider>> {
        self.read().providers.values().cloned().collect()
    }

    /// Everything in a cluster's namespace.
    pub fn objects(&self, namespace: &str) -> Arc<Objects> {
        self.read().objects.get(namespace).cloned().unwrap_or_default()
    }

    /// A provider's credentials: `None` when nobody looked, `Some(None)` when there is no such Secret.
    pub fn credentials(&self, namespace: &str, name: &str) -> Option<Option<SecretFacts>> {
        self.read().credentials.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Whether the objects of a kind are known.
    pub fn kind(&self, kind: &Kind) -> KindState {
        self.read().kinds.get(kind).copied().unwrap_or_default()
    }

    /// The definition of a kind.
    pub fn crd(&self, kind: &Kind) -> Option<CrdFacts> {
        self.read().crds.get(kind).cloned()
    }

    /// Every definition.
    pub fn crds(&self) -> Vec<CrdFacts> {
        self.read().crds.values().cloned().collect()
    }

    /// Takes in a cluster; false when this state or a newer one is held.
    pub fn put_cluster(&self, cluster: LatticeCluster) -> bool {
        put(&mut self.write().clusters, cluster, |c| &c.metadata)
    }

    /// Forgets a cluster.
    pub fn remove_cluster(&self, name: &str) {
        self.write().clusters.remove(name);
    }

    /// Takes in a provider; false when this state or a newer one is held.
    pub fn put_provider(&self, provider: InfraProvider) -> bool {
        put(&mut self.write().providers, provider, |p| &p.metadata)
    }

    /// Forgets a provider.
    pub fn remove_provider(&self, name: &str) {
        self.write().providers.remove(name);
    }

    /// Takes in an object of a cluster's namespace; false when this state or a newer one is held, or it is in none of ours.
    pub fn put_object(&self, kind: &Kind, object: DynamicObject) -> bool {
        let Some(namespace) = object.metadata.namespace.clone().filter(|ns| cluster_of(ns).is_some()) else {
            return false;
        };
        self.edit(&namespace, |objects| put(objects.by_kind.entry(kind.clone()).or_default(), object, |o| &o.metadata))
    }

    /// Forgets an object.
    pub fn remove_object(&self, kind: &Kind, namespace: &str, name: &str) {
        self.edit(namespace, |objects| {
            if let Some(of_kind) = objects.by_kind.get_mut(kind) {
                of_kind.remove(name);
            }
        });
    }

    /// Takes in a Secret of a cluster's namespace.
    pub fn put_secret(&self, namespace: &str, secret: SecretFacts) {
        let name = secret.metadata.name.clone().unwrap_or_default();
        self.edit(namespace, |objects| {
            let newer = objects.secrets.get(&name).is_none_or(|held| is_newer(&secret.metadata, &held.metadata));
            if newer {
                objects.secrets.insert(name, secret);
            }
        });
    }

    /// Forgets a Secret.
    pub fn remove_secret(&self, namespace: &str, name: &str) {
        self.edit(namespace, |objects| objects.secrets.remove(name));
    }

    /// Takes in, or forgets, a cluster's namespace.
    pub fn set_namespace(&self, name: &str, metadata: Option<ObjectMeta>) {
        self.edit(name, |objects| objects.namespace = metadata);
    }

    /// Takes in what is known of a provider's credentials.
    pub fn set_credentials(&self, namespace: &str, name: &str, facts: Option<SecretFacts>) {
        self.write().credentials.insert((namespace.to_owned(), name.to_owned()), facts);
    }

    /// Forgets a provider's credentials.
    pub fn forget_credentials(&self, namespace: &str, name: &str) {
        self.write().credentials.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Says whether the objects of a kind are known.
    pub fn set_kind(&self, kind: &Kind, state: KindState) {
        self.write().kinds.insert(kind.clone(), state);
    }

    /// Replaces the definitions.
    pub fn set_crds(&self, crds: BTreeMap<Kind, CrdFacts>) {
        self.write().crds = crds;
    }

    /// Keys of all objects of a kind, for telling after a list what is gone.
    pub fn keys(&self, kind: &Kind) -> BTreeSet<(String, String)> {
        let inner = self.read();
        let names = |(namespace, objects): (&String, &Arc<Objects>)| {
            let names = objects.by_kind.get(kind).map(|of_kind| of_kind.keys().cloned().collect::<Vec<_>>());
            let namespace = namespace.clone();
            names.unwrap_or_default().into_iter().map(move |name| (namespace.clone(), name))
        };
        inner.objects.iter().flat_map(names).collect()
    }

    /// Namespaces that hold anything of ours.
    pub fn namespaces(&self) -> Vec<String> {
        self.read().objects.keys().cloned().collect()
    }

    fn edit<T>(&self, namespace: &str, change: impl FnOnce(&mut Objects) -> T) -> T {
        let mut inner = self.write();
        let objects = inner.objects.entry(namespace.to_owned()).or_default();
        let result = change(Arc::make_mut(objects));
        if objects.is_empty() {
            inner.objects.remove(namespace);
        }
        result
    }

    // A panic while the lock is held leaves maps whole, so a poisoned lock is as good as any.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cluster whose objects live in a namespace.
pub fn cluster_of(namespace: &str) -> Option<&str> {
    namespace.strip_prefix(NAMESPACE_PREFIX).filter(|name| !name.is_empty() && *name != "system")
}

/// sha256 of a Secret's value, in hex.
pub fn digest(value: &[u8]) -> String {
    hex(&Sha256::digest(value))
}

fn put<T>(held: &mut BTreeMap<String, Arc<T>>, new: T, meta: impl Fn(&T) -> &ObjectMeta) -> bool {
    let name = meta(&new).name.clone().unwrap_or_default();
    if held.get(&name).is_some_and(|old| !is_newer(meta(&new), meta(old))) {
        return false;
    }
    held.insert(name, Arc::new(new));
    true
}

/// Whether `new` is a later state than `held`. Versions of one kind are numbers that grow; where they are none, the last
/// word counts.
fn is_newer(new: &ObjectMeta, held: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
    match (version(new), version(held)) {
        (Some(new), Some(held)) => new > held,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
            "metadata": {"name": name, "namespace": "lattice-a", "resourceVersion": version},
        }))
        .expect("an object")
    }

    #[test]
    fn an_older_version_never_replaces_a_newer_one() {
        let (cache, kind) = (Cache::default(), Kind::new("cluster.x-k8s.io", "Machine"));
        assert!(cache.put_object(&kind, object("m", "10")));
        assert!(!cache.put_object(&kind, object("m", "9")), "a late informer event");
        let held = cache.objects("lattice-a");
        let held = held.one(&kind, "m").expect("held");
        assert_eq!(held.metadata.resource_version.as_deref(), Some("10"));
    }

    #[test]
    fn an_empty_namespace_costs_no_memory() {
        let (cache, kind) = (Cache::default(), Kind::new("cluster.x-k8s.io", "Machine"));
        cache.put_object(&kind, object("m", "1"));
        cache.remove_object(&kind, "lattice-a", "m");
        assert!(cache.namespaces().is_empty());
    }

    #[test]
    fn namespaces_of_others_are_none_of_ours() {
        assert_eq!(cluster_of("lattice-backend"), Some("backend"));
        assert_eq!(cluster_of("lattice-system"), None);
        assert_eq!(cluster_of("default"), None);
    }
}
