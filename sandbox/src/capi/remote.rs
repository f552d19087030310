//! The way to workload clusters: through the kubeconfig Secret, and no other.
//!
//! One connection per Cluster, as the real cluster cache has: it is tried at fixed intervals for as long as the Cluster
//! lives, probed while it stands, and given up after five failed probes in a row. The Secret is read on connect only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Config, ResourceExt as _};
use lattice_protocol::task;
use tokio::task::JoinHandle;

use super::view::{Pace, RemoteView};

/// Failed probes in a row that end a connection.
const PROBE_FAILURES_MAX: u32 = 5;
/// Time that one request may take. Too low: slow links look dead; too high: a black hole looks alive.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Seconds of life between attempts to connect, and between probes.
const CONNECT_EVERY: f64 = 30.0;
const PROBE_EVERY: f64 = 10.0;
/// Least time between two probes: they cost the same at any speed.
const PROBE_MIN: Duration = Duration::from_secs(2);

/// Why a workload cluster could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("secret {0} does not exist")]
    NoSecret(String),
    #[error("secret {0} holds no readable kubeconfig")]
    Kubeconfig(String),
    #[error("the workload cluster did not answer in time")]
    Timeout,
    #[error("the workload cluster refused a request")]
    Api(#[source] Box<kube::Error>),
    #[error("no connection to the workload cluster stands")]
    NotConnected,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Error::Api(Box::new(error))
    }
}

/// Names a Cluster: namespace and name.
pub(crate) type ClusterKey = (String, String);

/// The connections to all workload clusters.
pub(crate) struct Remotes {
    client: Client,
    pace: Pace,
    wake: Arc<dyn Fn(&ClusterKey) + Send + Sync>,
    all: Mutex<HashMap<ClusterKey, Arc<Remote>>>,
}

struct Remote {
    state: Mutex<State>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    view: RemoteView,
    client: Option<Client>,
}

impl Remotes {
    /// Makes the room; `wake` is called with the Cluster of which something new is known.
    pub(crate) fn new(client: Client, pace: Pace, wake: Arc<dyn Fn(&ClusterKey) + Send + Sync>) -> Self {
        Self { client, pace, wake, all: Mutex::default() }
    }

    /// Begins to connect to a Cluster, once.
    pub(crate) fn start(self: &Arc<Self>, key: &ClusterKey) {
        let mut all = self.lock();
        if all.contains_key(key) {
            return;
        }
        let remote = Arc::new(Remote { state: Mutex::default(), task: Mutex::default() });
        all.insert(key.clone(), Arc::clone(&remote));
        let (remotes, key, kept) = (Arc::clone(self), key.clone(), Arc::clone(&remote));
        let handle = task::spawn("capi.remote", task::Kind::Service, async move {
            remotes.keep(&key, &kept).await;
        });
        *remote.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    /// Ends the connection to a Cluster that is gone.
    pub(crate) fn end(&self, key: &ClusterKey) {
        if let Some(remote) = self.lock().remove(key) {
            remote.abort();
        }
    }

    /// What is known of a Cluster.
    pub(crate) fn view(&self, key: &ClusterKey) -> RemoteView {
        self.lock().get(key).map(|remote| remote.lock().view.clone()).unwrap_or_default()
    }

    /// A client to a Cluster with a standing connection.
    pub(crate) fn client(&self, key: &ClusterKey) -> Result<Client, Error> {
        let remote = self.lock().get(key).cloned().ok_or(Error::NotConnected)?;
        let state = remote.lock();
        state.client.clone().filter(|_| state.view.connected).ok_or(Error::NotConnected)
    }

    /// Notes that a drain has emptied a Node.
    pub(crate) fn drained(&self, key: &ClusterKey, node: &str) {
        self.update(key, |view| view.drained.push(node.to_owned()));
    }

    fn update(&self, key: &ClusterKey, change: impl FnOnce(&mut RemoteView)) {
        if let Some(remote) = self.lock().get(key).cloned() {
            change(&mut remote.lock().view);
            (self.wake)(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterKey, Arc<Remote>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects again and again.
    async fn keep(&self, key: &ClusterKey, remote: &Remote) {
        loop {
            match self.connect(key).await {
                Ok(client) => {
                    remote.lock().client = Some(client.clone());
                    self.hold(key, client).await;
                    remote.lock().client = None;
                }
                Err(error) => tracing::debug!(namespace = key.0, cluster = key.1, %error, "no connection yet"),
            }
            tokio::time::sleep(self.pace.poll(CONNECT_EVERY).max(Duration::from_millis(100))).await;
        }
    }

    /// Reads the Secret, makes a client and asks for one thing through it.
    async fn connect(&self, (namespace, cluster): &ClusterKey) -> Result<Client, Error> {
        let name = format!("{cluster}-kubeconfig");
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets.get_opt(&name).await?.ok_or_else(|| Error::NoSecret(name.clone()))?;
        let client = client_of(&secret).await.ok_or(Error::Kubeconfig(name))?;
        probe(&client).await?;
        Ok(client)
    }

    /// Watches Nodes and probes until five probes in a row have failed.
    async fn hold(&self, key: &ClusterKey, client: Client) {
        let nodes: Api<Node> = Api::all(client.clone());
        let mut stream = std::pin::pin!(kube::runtime::WatchStreamExt::default_backoff(watcher::watcher(
            nodes,
            watcher::Config::default()
        )));
        let mut known: BTreeMap<String, Arc<Node>> = BTreeMap::new();
        let mut ticks = tokio::time::interval(self.pace.after(PROBE_EVERY).max(PROBE_MIN));
        let mut failures = 0;
        let mut initialized = false;
        self.update(key, |view| view.connected = true);
        loop {
            tokio::select! {
                biased;
                event = stream.next() => {
                    if let Some(Ok(event)) = event && take(&mut known, event) {
                        let nodes = by_provider_id(&known);
                        self.update(key, |view| { view.nodes = nodes; view.lost = false; });
                    }
                }
                _ = ticks.tick() => {
                    if !initialized && has_kubeadm_config(&client).await {
                        initialized = true;
                        self.update(key, |view| view.initialized = true);
                    }
                    failures = if probe(&client).await.is_ok() { 0 } else { failures + 1 };
                    if failures >= PROBE_FAILURES_MAX {
                        break;
                    }
                }
            }
        }
        self.update(key, |view| {
            view.connected = false;
            view.lost = true;
        });
    }
}

impl Remote {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn abort(&self) {
        if let Some(handle) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            handle.abort();
        }
    }
}

impl Drop for Remotes {
    fn drop(&mut self) {
        for remote in self.lock().values() {
            remote.abort();
        }
    }
}

/// Makes a client of the kubeconfig in a Secret; without retries of its own, so that a failure shows at once.
async fn client_of(secret: &Secret) -> Option<Client> {
    let text = std::str::from_utf8(&secret.data.as_ref()?.get("value")?.0).ok()?;
    let kubeconfig = Kubeconfig::from_yaml(text).ok()?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.ok()?;
    config.default_retry = false;
    config.connect_timeout = Some(REQUEST_MAX);
    Client::try_from(config).ok()
}

/// Asks for `/`, as the real cluster cache does.
async fn probe(client: &Client) -> Result<(), Error> {
    let request = http::Request::get("/?timeout=5s").body(Vec::new()).map_err(|_| Error::Timeout)?;
    tokio::time::timeout(REQUEST_MAX, client.request_text(request)).await.map_err(|_| Error::Timeout)??;
    Ok(())
}

/// Whether `kubeadm init` has left its ConfigMap.
async fn has_kubeadm_config(client: &Client) -> bool {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    matches!(tokio::time::timeout(REQUEST_MAX, maps.get_opt("kubeadm-config")).await, Ok(Ok(Some(_))))
}

/// Takes a watch event in; tells whether anything changed for the controllers.
fn take(known: &mut BTreeMap<String, Arc<Node>>, event: Event<Node>) -> bool {
    match event {
        Event::Init => {
            known.clear();
            false
        }
        Event::InitApply(node) => {
            known.insert(node.name_any(), Arc::new(node));
            false
        }
        Event::InitDone => true,
        Event::Apply(node) => {
            known.insert(node.name_any(), Arc::new(node));
            true
        }
        Event::Delete(node) => known.remove(&node.name_any()).is_some(),
    }
}

fn by_provider_id(known: &BTreeMap<String, Arc<Node>>) -> BTreeMap<String, Arc<Node>> {
    let id = |node: &Arc<Node>| node.spec.as_ref()?.provider_id.clone();
    known.values().filter_map(|node| Some((id(node)?, Arc::clone(node)))).collect()
}
