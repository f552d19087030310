//! Gathers what a decision may look at. Chooses nothing; what nobody has looked at is said to be unknown.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use lattice_protocol::clock;

use crate::api::{ClusterName, FINALIZER_IN_USE, InfraProvider, LatticeCluster, Phase, ProviderType};
use crate::gateway::Gateway;
use crate::lifecycle::{
    AgentFacts, Catalog, Facts, NamespaceFacts, Observed, ParentFacts, Quarantine, SecretFacts, SecretsFacts, Seen,
    history, mirror,
};
use crate::perform::{self, KubeconfigPlan};
use crate::store::{self, Cache, Kind, KindState, Objects, digest};

/// What facts are gathered from.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    /// What the informers know.
    pub(super) cache: &'a Cache,
    /// Addresses and the CA.
    pub(super) gateway: &'a Gateway,
    /// What is known of the agent.
    pub(super) agent: AgentFacts,
    /// The catalog, evaluated for the cluster.
    pub(super) catalog: Arc<Catalog>,
    /// When this manager began to serve agents.
    pub(super) started_at: Timestamp,
    /// No manager was here for a while before.
    pub(super) after_absence: bool,
    /// Why the cluster is left alone.
    pub(super) quarantine: Option<Quarantine>,
}

/// Gathers the facts about a cluster.
pub(super) fn gather(cluster: Arc<LatticeCluster>, name: &ClusterName, sources: Sources<'_>) -> Facts {
    let cache = sources.cache;
    let objects = cache.objects(&name.namespace());
    let provider = provider(cache, &cluster.spec.provider_ref);
    let kinds = needed_kinds(&cluster);
    Facts {
        credentials: credentials(cache, provider.known().map(Arc::as_ref)),
        missing_kinds: missing_kinds(cache, &kinds),
        parent: ParentFacts {
            addresses: sources.gateway.endpoints().to_vec(),
            started_at: sources.started_at,
            after_absence: sources.after_absence,
            clock_ahead_ms: -i64::try_from(clock::correction().as_millis()).unwrap_or_default(),
        },
        namespace: namespace(cache, &objects),
        secrets: secrets(&cluster, name, &objects, &provider, &sources),
        objects: capi_objects(cache, &kinds, &objects),
        agent: AgentFacts { locked: locked(&cluster, sources.gateway), ..sources.agent },
        catalog: sources.catalog,
        typical: typical(cache, &cluster),
        quarantine: sources.quarantine,
        provider,
        cluster,
    }
}

/// How long a like cluster took, while it matters: all clusters are looked through for it.
fn typical(cache: &Cache, cluster: &LatticeCluster) -> Option<SignedDuration> {
    let phase = cluster.status.as_ref().and_then(|status| status.phase);
    if !matches!(phase, None | Some(Phase::Pending)) {
        return None;
    }
    history::typical(cluster, cache.clusters().iter().map(Arc::as_ref))
}

/// Since when and why the identity is locked.
fn locked(cluster: &LatticeCluster, gateway: &Gateway) -> Option<(Timestamp, String)> {
    gateway.identified(&cluster.uid()?.parse().ok()?)?.locked
}

fn provider(cache: &Cache, name: &str) -> Observed<Arc<InfraProvider>> {
    match cache.provider(name) {
        Some(provider) => Observed::Known(provider),
        None if cache.kind(&Kind::new("lattice.dev", "InfraProvider")) == KindState::Synced => Observed::Absent,
        None => Observed::Unknown,
    }
}

/// What is known of a provider's credentials.
pub(super) fn credentials(cache: &Cache, provider: Option<&InfraProvider>) -> Observed<SecretFacts> {
    let Some(provider) = provider else { return Observed::Unknown };
    let Some((namespace, name)) = perform::secret_of(provider) else { return Observed::Absent };
    match cache.credentials(&namespace, &name) {
        None => Observed::Unknown,
        Some(None) => Observed::Absent,
        Some(Some(facts)) => Observed::Known(secret(&facts, false)),
    }
}

/// The kinds that a cluster needs, by its provider's type.
fn needed_kinds(cluster: &LatticeCluster) -> Vec<Kind> {
    let types = cluster.spec.provider.config.types();
    let type_ = types.first().copied().unwrap_or(ProviderType::Docker);
    mirror::kinds(type_).into_iter().map(|(group, kind)| Kind::new(group, kind)).collect()
}

fn missing_kinds(cache: &Cache, kinds: &[Kind]) -> Observed<Vec<String>> {
    let states = kinds.iter().map(|kind| (kind, cache.kind(kind)));
    let mut missing = Vec::new();
    for (kind, state) in states {
        match state {
            KindState::Unknown => return Observed::Unknown,
            KindState::Absent => missing.push(kind.to_string()),
            KindState::Syncing | KindState::Synced => {}
        }
    }
    Observed::Known(missing)
}

fn capi_objects(cache: &Cache, kinds: &[Kind], objects: &Objects) -> Observed<Vec<Arc<kube::api::DynamicObject>>> {
    let known = |kind: &Kind| matches!(cache.kind(kind), KindState::Synced | KindState::Absent);
    if !kinds.iter().all(known) {
        return Observed::Unknown;
    }
    Observed::Known(kinds.iter().flat_map(|kind| objects.of(kind)).cloned().collect())
}

fn namespace(cache: &Cache, objects: &Objects) -> Observed<NamespaceFacts> {
    match &objects.namespace {
        Some(meta) => Observed::Known(NamespaceFacts {
            terminating: meta.deletion_timestamp.is_some(),
            cluster_uid: meta.labels.as_ref().and_then(|labels| labels.get(crate::api::LABEL_CLUSTER_UID).cloned()),
        }),
        None if cache.kind(&Kind::new("", "Namespace")) == KindState::Synced => Observed::Absent,
        None => Observed::Unknown,
    }
}

fn secrets(
    cluster: &LatticeCluster,
    name: &ClusterName,
    objects: &Objects,
    provider: &Observed<Arc<InfraProvider>>,
    sources: &Sources<'_>,
) -> SecretsFacts {
    let synced = sources.cache.kind(&Kind::new("", "Secret")) == KindState::Synced;
    let find = |name: &str, stale: &dyn Fn(&store::SecretFacts) -> bool| match objects.secrets.get(name) {
        Some(facts) => Observed::Known(secret(facts, stale(facts))),
        None if synced => Observed::Absent,
        None => Observed::Unknown,
    };
    let uid = cluster.uid().unwrap_or_default();
    let credentials_name = perform::credentials_name(cluster);
    SecretsFacts {
        enrolment: find(&perform::enrolment_name(name), &|facts| enrolment_is_stale(facts, sources)),
        kubeconfig: find(&perform::kubeconfig_name(name), &|facts| kubeconfig_is_stale(facts, name, sources.gateway)),
        credentials: find(&credentials_name, &|facts| {
            copy_is_stale(facts, sources.cache, provider.known().map(Arc::as_ref))
        }),
        identity: find(&format!("lattice-identity-{uid}"), &|_| false),
    }
}

/// CA or addresses changed, or a token lies there that was used.
fn enrolment_is_stale(facts: &store::SecretFacts, sources: &Sources<'_>) -> bool {
    let wanted = perform::enrolment_values(sources.gateway);
    let differs = wanted.iter().any(|(key, value)| {
        let wanted = Some(digest(value.as_bytes())).filter(|_| !value.is_empty());
        facts.digests.get(*key) != wanted.as_ref()
    });
    let enrolled = sources.agent.session.is_some()
        || matches!(&sources.agent.sighting, Some(sighting) if matches!(sighting.seen, Seen::Enrolled | Seen::Lost(_)));
    differs || (enrolled && facts.digests.contains_key("token"))
}

fn kubeconfig_is_stale(facts: &store::SecretFacts, name: &ClusterName, gateway: &Gateway) -> bool {
    let Some(plan) = KubeconfigPlan::new(gateway, name) else { return false };
    let annotation = |key| facts.metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
    annotation(perform::MADE_FOR) != Some(&plan.made_for())
        || annotation(perform::VALUE_DIGEST) != facts.digests.get("value")
        || annotation(perform::CREDENTIAL_HASH).is_none()
        || perform::credential_is_old(&facts.metadata, clock::now())
}

fn copy_is_stale(facts: &store::SecretFacts, cache: &Cache, provider: Option<&InfraProvider>) -> bool {
    let source =
        provider.and_then(perform::secret_of).and_then(|(namespace, name)| cache.credentials(&namespace, &name));
    // Credentials that are gone for a moment leave the copy as it is.
    source.flatten().is_some_and(|source| source.digests != facts.digests)
}

fn secret(facts: &store::SecretFacts, stale: bool) -> SecretFacts {
    let finalizers = facts.metadata.finalizers.as_deref().unwrap_or_default();
    SecretFacts {
        keys: facts.digests.keys().cloned().collect(),
        problems: facts.problems.clone(),
        terminating: facts.metadata.deletion_timestamp.is_some(),
        held: finalizers.iter().any(|finalizer| finalizer == FINALIZER_IN_USE),
        stale,
    }
}
