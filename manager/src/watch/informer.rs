//! One watch per kind, for as long as this process leads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_kind};
use kube::{Client, Resource, ResourceExt};
use lattice_protocol::task::{self, Kind as TaskKind};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::Attention;
use super::crds::{CrdSink, definition, is_watched};
use super::sinks::{ClusterSink, NamespaceSink, ObjectSink, ProviderSink, SecretSink};
use crate::api::{InfraProvider, LatticeCluster};
use crate::store::{Cache, CrdFacts, Kind, KindState, Kinds};

/// Longest life of one watch call, seconds. A connection that died silently is noticed five seconds after it.
const WATCH_SECONDS: u32 = 240;
/// Items per page of a list of definitions, which are large: bounds the memory that one page takes.
const CRD_PAGE: u32 = 20;
/// Objects with our label.
const OURS: &str = "lattice.dev/cluster-uid";

/// Takes in what an informer sees.
pub(super) trait Sink<K>: Send + 'static {
    /// An object exists, as it is now.
    fn apply(&mut self, object: K);
    /// An object is gone.
    fn delete(&mut self, object: K);
    /// A whole list was seen: everything else is gone.
    fn listed(&mut self, keys: &BTreeSet<(String, String)>);
}

/// The informers of the parent's API.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    pub(super) cache: Cache,
    kinds: Kinds,
    pub(super) clusters: Attention,
    pub(super) providers: Attention,
    stop: CancellationToken,
}

impl Debug for Informers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informers").finish_non_exhaustive()
    }
}

impl Informers {
    /// Prepares informers that fill `cache`, mark `clusters` and `providers`, and end with `stop`.
    pub fn new(
        client: Client,
        cache: Cache,
        kinds: Kinds,
        clusters: Attention,
        providers: Attention,
        stop: CancellationToken,
    ) -> Self {
        Self { client, cache, kinds, clusters, providers, stop }
    }

    /// Starts all of them. Kinds of Cluster API and of providers follow as their definitions appear.
    pub fn start(&self) {
        let all = watcher::Config::default().timeout(WATCH_SECONDS);
        let ours = all.clone().labels(OURS);
        self.spawn(Api::<LatticeCluster>::all(self.client.clone()), all.clone(), ClusterSink::new(self));
        self.spawn(Api::<InfraProvider>::all(self.client.clone()), all.clone(), ProviderSink::new(self));
        self.spawn(Api::<Secret>::all(self.client.clone()), ours.clone(), SecretSink::new(self));
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        self.spawn(namespaces, ours, NamespaceSink::new(self));
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        self.spawn(crds, all.page_size(CRD_PAGE), CrdSink::new(self.clone()));
    }

    /// The client, for the watches that a sink starts.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A token that ends with the informers.
    pub(super) fn child_token(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Starts and stops the watches of kinds as their definitions come and go.
    pub(super) fn follow(
        &self,
        definitions: &BTreeMap<Kind, CrdFacts>,
        running: &mut BTreeMap<Kind, (String, CancellationToken)>,
    ) {
        self.kinds.set_plurals(definitions.values().map(|crd| (crd.kind.clone(), crd.plural.clone())).collect());
        self.cache.set_crds(definitions.clone());
        running.retain(|kind, (version, stop)| {
            let stays = definitions.get(kind).is_some_and(|crd| crd.established && crd.version == *version);
            if !stays {
                stop.cancel();
                self.forget(kind);
            }
            stays
        });
        for crd in definitions.values().filter(|crd| crd.established && is_watched(crd)) {
            if !running.contains_key(&crd.kind) {
                running.insert(crd.kind.clone(), (crd.version.clone(), self.watch_objects(crd)));
            }
        }
        for kind in definition::followed().filter(|kind| !running.contains_key(kind)) {
            self.cache.set_kind(&kind, KindState::Absent);
        }
        self.look_at_all();
    }

    /// Asks for a look at every cluster.
    pub(super) fn look_at_all(&self) {
        for cluster in self.cache.clusters() {
            self.clusters.mark(&cluster.name_any());
        }
    }

    fn watch_objects(&self, crd: &CrdFacts) -> CancellationToken {
        let gvk = GroupVersionKind::gvk(&crd.kind.group, &crd.version, &crd.kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, &crd.plural);
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        self.cache.set_kind(&crd.kind, KindState::Syncing);
        let stop = self.stop.child_token();
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let sink = ObjectSink::new(self, crd.kind.clone(), stop.clone());
        let informer = run(crd.plural.clone(), api, config, sink, stop.clone());
        task::spawn("informer", TaskKind::Service, informer);
        stop
    }

    fn forget(&self, kind: &Kind) {
        self.cache.set_kind(kind, KindState::Absent);
        for (namespace, name) in self.cache.keys(kind) {
            self.cache.remove_object(kind, &namespace, &name);
        }
    }

    fn spawn<K>(&self, api: Api<K>, config: watcher::Config, sink: impl Sink<K>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let informer = run(K::plural(&()).into_owned(), api, config, sink, self.stop.clone());
        task::spawn("informer", TaskKind::Service, informer);
    }
}

/// Watches one kind until `stop`. An API that fails is asked again after 0.8 s to 30 s.
async fn run<K>(plural: String, api: Api<K>, config: watcher::Config, mut sink: impl Sink<K>, stop: CancellationToken)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watch_kind(api, config).default_backoff());
    let mut keys = BTreeSet::new();
    let mut fails = false;
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => {
                if std::mem::take(&mut fails) {
                    tracing::info!(plural, "watch works again");
                }
                take_in(event, &mut sink, &mut keys);
            }
            Some(Err(error)) => {
                // Each try fails alike while the API is away: one warning tells it, the others are for debugging.
                if std::mem::replace(&mut fails, true) {
                    tracing::debug!(plural, error = &error as &dyn std::error::Error, "watch still fails");
                } else {
                    tracing::warn!(plural, error = &error as &dyn std::error::Error, "watch failed");
                }
            }
            None => return,
        }
    }
}

fn take_in<K: Resource>(event: Event<K>, sink: &mut impl Sink<K>, keys: &mut BTreeSet<(String, String)>) {
    match event {
        Event::Init => keys.clear(),
        Event::InitApply(mut object) => {
            keys.insert((object.namespace().unwrap_or_default(), object.name_any()));
            object.managed_fields_mut().clear();
            sink.apply(object);
        }
        Event::InitDone => sink.listed(&std::mem::take(keys)),
        Event::Apply(mut object) => {
            object.managed_fields_mut().clear();
            sink.apply(object);
        }
        Event::Delete(object) => sink.delete(object),
    }
}
