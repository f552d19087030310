//! Runs the controllers: watches feed the cache and the queue, workers reconcile and write.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use lattice_protocol::{clock, task};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Key, Taken};
use super::kind::{Kind, Provider};
use super::machines::Machines;
use super::object::Look as _;
use super::plan::Plan;
use super::queue::Queue;
use super::remote::{ClusterKey, Remotes};
use super::view::{Pace, View};

mod write;

/// Reconciles that run at the same time. Too low: a slow workload cluster holds up others; too high: write conflicts.
const WORKERS: usize = 16;
/// Seconds of life between two reconciles of one object.
const RECONCILE_EVERY: f64 = 1.0;
/// Least wait after a failed reconcile.
const RETRY_MIN: Duration = Duration::from_millis(200);

/// How the controllers run.
#[derive(Clone)]
pub struct Config {
    /// How many times faster than life; 0 leaves delays out.
    pub speed: f64,
    /// Who makes machines.
    pub machines: Arc<dyn Machines>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("speed", &self.speed).finish_non_exhaustive()
    }
}

/// The running controllers; dropping it ends them.
#[derive(Debug)]
pub struct Capi {
    stop: CancellationToken,
}

/// What the workers share.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) cache: Cache,
    pub(crate) queue: Queue<Key>,
    pub(crate) remotes: Arc<Remotes>,
    pub(crate) machines: Arc<dyn Machines>,
    pub(crate) pace: Pace,
    /// How many kinds were listed. Who acts before all were takes for missing what is only not seen yet.
    listed: watch::Sender<usize>,
}

impl Capi {
    /// Starts the controllers on an API that has the kinds installed. Call it on a tokio runtime.
    pub fn start(client: Client, config: Config) -> Self {
        let pace = Pace::new(config.speed);
        let stop = CancellationToken::new();
        let world = Arc::new_cyclic(|weak: &std::sync::Weak<World>| {
            let weak = weak.clone();
            let wake = Arc::new(move |key: &ClusterKey| {
                if let Some(world) = weak.upgrade() {
                    world.wake_cluster(key);
                }
            });
            World {
                remotes: Arc::new(Remotes::new(client.clone(), pace, wake)),
                client,
                cache: Cache::default(),
                queue: Queue::new(pace.after(RECONCILE_EVERY), interval),
                machines: config.machines,
                pace,
                listed: watch::Sender::new(0),
            }
        });
        for kind in Kind::all() {
            start(&stop, "capi.watch", follow(Arc::clone(&world), kind));
        }
        for _ in 0..WORKERS {
            start(&stop, "capi.work", work(Arc::clone(&world)));
        }
        start(&stop, "capi.machines", listen(Arc::clone(&world)));
        Self { stop }
    }
}

impl Drop for Capi {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start(stop: &CancellationToken, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    task::spawn(name, task::Kind::Service, async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = future => {}
        }
    });
}

/// Follows one kind.
async fn follow(world: Arc<World>, kind: Kind) {
    let api: Api<DynamicObject> = Api::all_with(world.client.clone(), &kind.resource());
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = Vec::new();
    let mut first = true;
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.push(Key::new(kind, object.namespace(), object.name()));
                world.take(kind, object);
            }
            Ok(Event::InitDone) => {
                for key in world.cache.keys(kind).into_iter().filter(|key| !listed.contains(key)) {
                    world.gone(&key, None);
                }
                if std::mem::take(&mut first) {
                    world.listed.send_modify(|kinds| *kinds += 1);
                }
            }
            Ok(Event::Apply(object)) => world.take(kind, object),
            Ok(Event::Delete(object)) => {
                let key = Key::new(kind, object.namespace(), object.name());
                world.gone(&key, Some(&object));
            }
            Err(error) => tracing::debug!(kind = kind.name(), error = &error as &dyn std::error::Error, "watch failed"),
        }
    }
}

/// Follows the makers of machines.
async fn listen(world: Arc<World>) {
    let mut changes = world.machines.changes();
    loop {
        let namespace = match changes.recv().await {
            Ok(namespace) => Some(namespace),
            Err(RecvError::Lagged(_)) => None,
            Err(RecvError::Closed) => return,
        };
        for provider in Provider::ALL {
            for kind in [Kind::InfraCluster(provider), Kind::InfraMachine(provider)] {
                for key in world.cache.keys(kind) {
                    if namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace) {
                        world.queue.add(key, Duration::ZERO);
                    }
                }
            }
        }
    }
}

/// Reconciles key after key, once all kinds are known.
async fn work(world: Arc<World>) {
    let all = Kind::all().len();
    if world.listed.subscribe().wait_for(|kinds| *kinds >= all).await.is_err() {
        return;
    }
    loop {
        let key = world.queue.next().await;
        let known = world.cache.get(key.kind, &key.namespace, &key.name);
        let forget = known.is_none();
        if let Some(object) = known {
            match world.reconcile(key.kind, object).await {
                Ok(()) => {}
                Err(error) if error.is_gone() => world.queue.add(key.clone(), RETRY_MIN),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(kind = key.kind.name(), name = key.name, error, "reconcile failed");
                    world.queue.add(key.clone(), world.pace.after(5.0).max(RETRY_MIN));
                }
            }
        }
        world.queue.done(&key, forget);
    }
}

impl World {
    async fn reconcile(self: &Arc<Self>, kind: Kind, object: Arc<DynamicObject>) -> Result<(), write::Error> {
        let cluster: ClusterKey = (
            object.namespace().to_owned(),
            match kind {
                Kind::Cluster => object.name().to_owned(),
                _ => object.cluster_name().unwrap_or_default().to_owned(),
            },
        );
        if kind == Kind::Cluster && object.flag("/status/initialization/infrastructureProvisioned") {
            self.remotes.start(&cluster);
        }
        let plan = {
            let view = View {
                cache: &self.cache,
                remote: self.remotes.view(&cluster),
                machines: self.machines.as_ref(),
                pace: self.pace,
                now: clock::now(),
            };
            decide(kind, &object, &view)
        };
        let again = plan.again;
        self.carry_out(kind, &object, &cluster, plan).await?;
        if let Some(again) = again {
            self.queue.add(Key::new(kind, object.namespace(), object.name()), again);
        }
        Ok(())
    }

    /// Takes a version of an object in and wakes those whom it concerns.
    pub(crate) fn take(&self, kind: Kind, object: DynamicObject) {
        let key = Key::new(kind, object.namespace(), object.name());
        if let Taken::New { before, object } = self.cache.put(key.clone(), object) {
            self.queue.add(key, Duration::ZERO);
            self.wake_others(kind, &object, before.as_deref());
        }
    }

    fn gone(&self, key: &Key, last: Option<&DynamicObject>) {
        if let Some(object) = self.cache.remove(key, last) {
            if key.kind == Kind::Cluster {
                self.remotes.end(&(key.namespace.clone(), key.name.clone()));
            }
            self.wake_others(key.kind, &object, None);
        }
    }

    /// Wakes owners, the Cluster, and those who wait for a sibling.
    fn wake_others(&self, kind: Kind, object: &DynamicObject, before: Option<&DynamicObject>) {
        let namespace = object.namespace();
        for owner in object.metadata.owner_references.iter().flatten() {
            let group = owner.api_version.split('/').next().unwrap_or_default();
            if let Some(kind) = Kind::of(group, &owner.kind) {
                self.queue.add(Key::new(kind, namespace, &owner.name), Duration::ZERO);
            }
        }
        match kind {
            Kind::Cluster if before.is_none_or(|before| signals(before) != signals(object)) => {
                self.wake_cluster(&(namespace.to_owned(), object.name().to_owned()));
            }
            Kind::Machine => {
                self.wake_kind(Kind::HealthCheck, namespace);
                if let Some(deployment) = object.label("cluster.x-k8s.io/deployment-name") {
                    self.wake(Kind::Deployment, namespace, deployment);
                }
                // A machine's parts carry its name.
                self.wake(Kind::Bootstrap, namespace, object.name());
                for provider in Provider::ALL {
                    self.wake(Kind::InfraMachine(provider), namespace, object.name());
                }
            }
            _ => {}
        }
        if let Some(cluster) = object.cluster_name().filter(|_| kind != Kind::Cluster) {
            self.queue.add(Key::new(Kind::Cluster, namespace, cluster), Duration::ZERO);
        }
    }

    /// Wakes everything of a Cluster.
    fn wake_cluster(&self, (namespace, _): &ClusterKey) {
        for kind in Kind::all() {
            self.wake_kind(kind, namespace);
        }
    }

    fn wake(&self, kind: Kind, namespace: &str, name: &str) {
        if self.cache.get(kind, namespace, name).is_some() {
            self.queue.add(Key::new(kind, namespace, name), Duration::ZERO);
        }
    }

    fn wake_kind(&self, kind: Kind, namespace: &str) {
        for object in self.cache.list(kind, namespace) {
            self.queue.add(Key::new(kind, namespace, object.name()), Duration::ZERO);
        }
    }
}

/// How often an object is looked at, in units of one reconcile.
fn interval(key: &Key, unit: Duration) -> Duration {
    match key.kind {
        Kind::HealthCheck => unit * super::health_check::LOOK_EVERY_UNITS,
        _ => unit,
    }
}

/// What others wait for in a Cluster.
fn signals(cluster: &DynamicObject) -> [Option<&serde_json::Value>; 4] {
    [
        cluster.at("/spec/paused"),
        cluster.at("/spec/controlPlaneEndpoint"),
        cluster.at("/status/initialization"),
        cluster.at("/status/phase"),
    ]
}

fn decide(kind: Kind, object: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    match kind {
        Kind::Cluster => super::cluster::decide(object, view),
        Kind::ControlPlane => super::control_plane::decide(object, view),
        Kind::Deployment => super::deployment::decide(object, view),
        Kind::Set => super::set::decide(object, view),
        Kind::Machine => super::machine::decide(object, view),
        Kind::HealthCheck => super::health_check::decide(object, view),
        Kind::Bootstrap => super::bootstrap::decide(object, view),
        Kind::InfraCluster(provider) => super::infra_cluster::decide(provider, object, view),
        Kind::InfraMachine(provider) => super::infra_machine::decide(provider, object, view),
        Kind::BootstrapTemplate | Kind::InfraTemplate(_) => Plan::default(),
    }
}
