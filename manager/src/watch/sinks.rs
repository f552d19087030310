//! What each informer does with what it sees: fill the cache, mark clusters.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use tokio_util::sync::CancellationToken;

use super::Attention;
use super::credentials::CredentialWatches;
use super::informer::{Informers, Sink};
use crate::api::{ClusterName, InfraProvider, LABEL_CLUSTER_NAME, LatticeCluster, SYSTEM_NAMESPACE};
use crate::store::{Cache, Kind, KindState, SecretFacts, cluster_of, digest};

/// Informs about `LatticeCluster`.
pub(super) struct ClusterSink {
    cache: Cache,
    clusters: Attention,
    providers: Attention,
}

/// Informs about `InfraProvider`.
pub(super) struct ProviderSink {
    cache: Cache,
    clusters: Attention,
    providers: Attention,
    credentials: CredentialWatches,
}

/// Informs about one kind of Cluster API or of a provider.
pub(super) struct ObjectSink {
    cache: Cache,
    clusters: Attention,
    kind: Kind,
    stop: CancellationToken,
    informers: Informers,
}

/// Informs about Secrets with our label.
pub(super) struct SecretSink {
    cache: Cache,
    clusters: Attention,
}

/// Informs about namespaces with our label.
pub(super) struct NamespaceSink {
    cache: Cache,
    clusters: Attention,
}

impl ClusterSink {
    pub(super) fn new(of: &Informers) -> Self {
        Self { cache: of.cache.clone(), clusters: of.clusters.clone(), providers: of.providers.clone() }
    }
}

impl Sink<LatticeCluster> for ClusterSink {
    fn apply(&mut self, object: LatticeCluster) {
        let (name, provider) = (object.name_any(), object.spec.provider_ref.clone());
        if self.cache.put_cluster(object) {
            self.clusters.mark(&name);
            self.providers.mark(&provider);
        }
    }

    fn delete(&mut self, object: LatticeCluster) {
        self.cache.remove_cluster(&object.name_any());
        self.clusters.mark(&object.name_any());
        self.providers.mark(&object.spec.provider_ref);
    }

    fn listed(&mut self, keys: &BTreeSet<(String, String)>) {
        for cluster in self.cache.clusters() {
            if !keys.contains(&(String::new(), cluster.name_any())) {
                self.delete((*cluster).clone());
            }
        }
        self.cache.set_kind(&Kind::new("lattice.dev", "LatticeCluster"), KindState::Synced);
    }
}

impl ProviderSink {
    pub(super) fn new(of: &Informers) -> Self {
        Self {
            cache: of.cache.clone(),
            clusters: of.clusters.clone(),
            providers: of.providers.clone(),
            credentials: CredentialWatches::new(of.clone()),
        }
    }

    fn mark(&self, name: &str) {
        self.providers.mark(name);
        for cluster in self.cache.clusters().iter().filter(|cluster| cluster.spec.provider_ref == name) {
            self.clusters.mark(&cluster.name_any());
        }
    }
}

impl Sink<InfraProvider> for ProviderSink {
    fn apply(&mut self, object: InfraProvider) {
        let name = object.name_any();
        if self.cache.put_provider(object) {
            self.credentials.follow(&self.cache.providers());
            self.mark(&name);
        }
    }

    fn delete(&mut self, object: InfraProvider) {
        let name = object.name_any();
        self.cache.remove_provider(&name);
        self.credentials.follow(&self.cache.providers());
        self.mark(&name);
    }

    fn listed(&mut self, keys: &BTreeSet<(String, String)>) {
        for provider in self.cache.providers() {
            if !keys.contains(&(String::new(), provider.name_any())) {
                self.delete((*provider).clone());
            }
        }
        self.credentials.listed();
    }
}

impl ObjectSink {
    pub(super) fn new(of: &Informers, kind: Kind, stop: CancellationToken) -> Self {
        Self { cache: of.cache.clone(), clusters: of.clusters.clone(), kind, stop, informers: of.clone() }
    }

    fn mark(&self, namespace: &str) {
        if let Some(cluster) = cluster_of(namespace) {
            self.clusters.mark(cluster);
        }
    }
}

impl Sink<DynamicObject> for ObjectSink {
    fn apply(&mut self, object: DynamicObject) {
        let namespace = object.namespace().unwrap_or_default();
        if !self.stop.is_cancelled() && self.cache.put_object(&self.kind, object) {
            self.mark(&namespace);
        }
    }

    fn delete(&mut self, object: DynamicObject) {
        let namespace = object.namespace().unwrap_or_default();
        self.cache.remove_object(&self.kind, &namespace, &object.name_any());
        self.mark(&namespace);
    }

    fn listed(&mut self, keys: &BTreeSet<(String, String)>) {
        if self.stop.is_cancelled() {
            return;
        }
        for (namespace, name) in self.cache.keys(&self.kind) {
            if !keys.contains(&(namespace.clone(), name.clone())) {
                self.cache.remove_object(&self.kind, &namespace, &name);
                self.mark(&namespace);
            }
        }
        if self.cache.kind(&self.kind) != KindState::Synced {
            self.cache.set_kind(&self.kind, KindState::Synced);
            self.informers.look_at_all();
        }
    }
}

impl SecretSink {
    pub(super) fn new(of: &Informers) -> Self {
        Self { cache: of.cache.clone(), clusters: of.clusters.clone() }
    }

    fn mark(&self, namespace: &str) {
        if let Some(cluster) = cluster_of(namespace) {
            self.clusters.mark(cluster);
        }
    }
}

impl Sink<Secret> for SecretSink {
    fn apply(&mut self, object: Secret) {
        if let Some(namespace) = filed_under(&object) {
            self.cache.put_secret(&namespace, facts(object));
            self.mark(&namespace);
        }
    }

    fn delete(&mut self, object: Secret) {
        if let Some(namespace) = filed_under(&object) {
            self.cache.remove_secret(&namespace, &object.name_any());
            self.mark(&namespace);
        }
    }

    fn listed(&mut self, keys: &BTreeSet<(String, String)>) {
        for namespace in self.cache.namespaces() {
            for (name, secret) in &self.cache.objects(&namespace).secrets {
                let lives_in = secret.metadata.namespace.clone().unwrap_or_default();
                if !keys.contains(&(lives_in, name.clone())) {
                    self.cache.remove_secret(&namespace, name);
                    self.mark(&namespace);
                }
            }
        }
        self.cache.set_kind(&Kind::new("", "Secret"), KindState::Synced);
        for cluster in self.cache.clusters() {
            self.clusters.mark(&cluster.name_any());
        }
    }
}

impl NamespaceSink {
    pub(super) fn new(of: &Informers) -> Self {
        Self { cache: of.cache.clone(), clusters: of.clusters.clone() }
    }

    fn set(&self, name: &str, object: Option<PartialObjectMeta<Namespace>>) {
        if let Some(cluster) = cluster_of(name) {
            self.cache.set_namespace(name, object.map(|object| object.metadata));
            self.clusters.mark(cluster);
        }
    }
}

impl Sink<PartialObjectMeta<Namespace>> for NamespaceSink {
    fn apply(&mut self, object: PartialObjectMeta<Namespace>) {
        self.set(&object.name_any(), Some(object));
    }

    fn delete(&mut self, object: PartialObjectMeta<Namespace>) {
        self.set(&object.name_any(), None);
    }

    fn listed(&mut self, keys: &BTreeSet<(String, String)>) {
        for namespace in self.cache.namespaces() {
            let held = self.cache.objects(&namespace).namespace.is_some();
            if held && !keys.contains(&(String::new(), namespace.clone())) {
                self.set(&namespace, None);
            }
        }
        self.cache.set_kind(&Kind::new("", "Namespace"), KindState::Synced);
        for cluster in self.cache.clusters() {
            self.clusters.mark(&cluster.name_any());
        }
    }
}

/// The namespace whose cluster a Secret is about: its own, or for one of ours in the system namespace its label's.
fn filed_under(secret: &Secret) -> Option<String> {
    let namespace = secret.namespace()?;
    if namespace == SYSTEM_NAMESPACE {
        let name = secret.labels().get(LABEL_CLUSTER_NAME)?.parse::<ClusterName>().ok()?;
        return Some(name.namespace());
    }
    cluster_of(&namespace).map(|_| namespace.clone())
}

/// Reads a Secret down to what may be kept in memory.
pub(super) fn facts(secret: Secret) -> SecretFacts {
    let mut metadata = secret.metadata;
    metadata.managed_fields = None;
    let data = secret.data.unwrap_or_default();
    let filled = data.into_iter().filter(|(_, ByteString(value))| !value.is_empty());
    let digests = filled.map(|(key, ByteString(value))| (key, digest(&value))).collect();
    SecretFacts { metadata, digests, problems: Vec::new() }
}
