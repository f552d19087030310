//! The watches behind the world: one per kind and namespace, started when first needed, stopped when no longer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use lattice_protocol::task::{self, Kind as TaskKind};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::facts::{ApiServiceFacts, CrdFacts, Facts, NodeFacts};
use super::world::{Kind, Scope, Table, World};
use crate::backoff::Backoff;

/// Objects per page of a list: the agent holds one page at a time. A CRD may have 800 KiB, a pod rarely 20.
const fn page(kind: Kind) -> u32 {
    if matches!(kind, Kind::Crd) { 4 } else { 100 }
}

/// Seconds after which a watch is renewed, when nothing says otherwise. Kubernetes allows at most 295 here.
const RENEW_AFTER_SECONDS: u32 = 290;

/// Wait after the first and the longest after many failures of one watch. Lower hammers an API server that is just coming
/// up; higher leaves gates and health on old facts.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What is known, and word of every change. Clones share it.
#[derive(Clone, Debug)]
pub struct Observed {
    world: Arc<Mutex<World>>,
    changes: watch::Sender<u64>,
}

impl Default for Observed {
    fn default() -> Self {
        Self { world: Arc::default(), changes: watch::Sender::new(0) }
    }
}

impl Observed {
    /// Looks at what is known. Keep it short: watches wait meanwhile.
    pub fn look<T>(&self, at: impl FnOnce(&World) -> T) -> T {
        at(&self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of changes; several may come as one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes the world and tells of it if that was new.
    pub(crate) fn change(&self, change: impl FnOnce(&mut World) -> bool) {
        let changed = change(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner));
        if changed {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// Starts and stops watches as they are wanted.
pub struct Observer {
    client: kube::Client,
    observed: Observed,
    running: BTreeMap<Scope, JoinHandle<()>>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("running", &self.running.keys()).finish_non_exhaustive()
    }
}

impl Observer {
    /// Watches nothing yet.
    pub fn new(client: kube::Client, observed: Observed, stop: CancellationToken) -> Self {
        Self { client, observed, running: BTreeMap::new(), stop }
    }

    /// Watches exactly these from now on.
    pub fn want(&mut self, scopes: &BTreeSet<Scope>) {
        self.running.retain(|scope, watch| {
            let keep = scopes.contains(scope);
            if !keep {
                watch.abort();
                self.observed.change(|world| {
                    world.forget(scope);
                    true
                });
            }
            keep
        });
        for scope in scopes {
            if !self.running.contains_key(scope) {
                self.running.insert(scope.clone(), self.start(scope));
            }
        }
    }

    fn start(&self, scope: &Scope) -> JoinHandle<()> {
        let all = self.client.clone();
        match scope.kind {
            Kind::Node => self.spawn::<NodeFacts>(Api::all(all), |world, _| &mut world.nodes, scope),
            Kind::Crd => self.spawn::<CrdFacts>(Api::all(all), |world, _| &mut world.crds, scope),
            Kind::ApiService => self.spawn::<ApiServiceFacts>(Api::all(all), |world, _| &mut world.api_services, scope),
            Kind::DaemonSet => {
                self.spawn(self.within(scope), |world, ns| world.daemon_sets.entry(ns).or_default(), scope)
            }
            Kind::Deployment => {
                self.spawn(self.within(scope), |world, ns| world.deployments.entry(ns).or_default(), scope)
            }
            Kind::StatefulSet => {
                self.spawn(self.within(scope), |world, ns| world.stateful_sets.entry(ns).or_default(), scope)
            }
            Kind::Job => self.spawn(self.within(scope), |world, ns| world.jobs.entry(ns).or_default(), scope),
            Kind::Pod => self.spawn(self.within(scope), |world, ns| world.pods.entry(ns).or_default(), scope),
        }
    }

    fn within<K>(&self, scope: &Scope) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &scope.namespace)
    }

    fn spawn<F>(
        &self,
        api: Api<F::Object>,
        table: fn(&mut World, String) -> &mut Table<F>,
        scope: &Scope,
    ) -> JoinHandle<()>
    where
        F: Facts + PartialEq + Send + 'static,
        F::Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let (observed, stop, scope) = (self.observed.clone(), self.stop.clone(), scope.clone());
        task::spawn("observe.watch", TaskKind::Service, async move {
            let followed = follow(api, page(scope.kind), &observed, |world| table(world, scope.namespace.clone()));
            if stop.run_until_cancelled(followed).await.is_some() {
                tracing::error!(kind = ?scope.kind, "watch ended");
            }
        })
    }
}

/// Keeps one table like its kind on the server, for ever.
async fn follow<F>(api: Api<F::Object>, page: u32, observed: &Observed, table: impl Fn(&mut World) -> &mut Table<F>)
where
    F: Facts + PartialEq,
    F::Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().page_size(page).timeout(RENEW_AFTER_SECONDS);
    let mut events = watcher::watcher(api, config).boxed();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                backoff.reset();
                observed.change(|world| note(table(world), event));
            }
            Err(error) => {
                tracing::debug!(error = %error, "watch interrupted");
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }
}

/// Enters one event into a table. True if it changed what is known.
fn note<F>(table: &mut Table<F>, event: Event<F::Object>) -> bool
where
    F: Facts + PartialEq,
    F::Object: Resource,
{
    match event {
        Event::Init => {
            table.begin();
            false
        }
        Event::InitApply(object) => {
            table.listed(object.name_any(), F::of(&object));
            false
        }
        Event::InitDone => {
            table.end();
            true
        }
        Event::Apply(object) => table.changed(object.name_any(), F::of(&object)),
        Event::Delete(object) => table.gone(&object.name_any()),
    }
}
