//! What is known of the clusters, as their status says it, and every change of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use lattice_protocol::{clock, task};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod diff;
pub(super) use diff::{agent, nodes};

/// Changes that are kept for those who print them. A printer that falls further behind loses the oldest.
const CHANGES_MAX: usize = 8192;

/// One line of what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    /// Name of the cluster; `-` for the sandbox itself.
    pub(crate) cluster: String,
    pub(crate) what: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) why: String,
}

impl Change {
    /// A change that happened now.
    pub(crate) fn plain(cluster: &str, what: &str, from: &str, to: &str, why: &str) -> Self {
        Self {
            at: clock::now(),
            cluster: cluster.to_owned(),
            what: what.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            why: why.to_owned(),
        }
    }
}

/// What everybody may see.
#[derive(Debug)]
pub(crate) struct Board {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    clusters: BTreeMap<String, Arc<Value>>,
    changes: VecDeque<Change>,
    /// Number of the first change that is kept.
    first: u64,
}

impl Default for Board {
    fn default() -> Self {
        Self { state: Mutex::default(), version: watch::Sender::new(0) }
    }
}

impl Board {
    /// Adds a change.
    pub(crate) fn tell(&self, change: Change) {
        self.add(vec![change]);
    }

    fn add(&self, changes: Vec<Change>) {
        {
            let mut state = self.lock();
            for change in changes {
                if state.changes.len() == CHANGES_MAX {
                    state.changes.pop_front();
                    state.first += 1;
                }
                state.changes.push_back(change);
            }
        }
        self.version.send_modify(|version| *version += 1);
    }

    /// The changes from number `from` on, and the number of the next.
    pub(crate) fn since(&self, from: u64) -> (Vec<Change>, u64) {
        let state = self.lock();
        let skip = usize::try_from(from.saturating_sub(state.first)).unwrap_or(usize::MAX);
        let next = state.first + u64::try_from(state.changes.len()).unwrap_or(0);
        (state.changes.iter().skip(skip).cloned().collect(), next)
    }

    /// The clusters by name, as the API has them.
    pub(crate) fn clusters(&self) -> BTreeMap<String, Arc<Value>> {
        self.lock().clusters.clone()
    }

    /// Tells of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until every one of the clusters is Ready.
    pub(crate) async fn all_ready(&self, names: &[String]) {
        let mut changes = self.subscribe();
        loop {
            {
                let state = self.lock();
                if names.iter().all(|name| state.clusters.get(name).is_some_and(|cluster| is_ready(cluster))) {
                    return;
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// One line per cluster: where it is and why.
    pub(crate) fn summary(&self) -> Vec<String> {
        let clusters = self.lock().clusters.clone();
        let line = |(name, cluster): (&String, &Arc<Value>)| {
            let phase = text(cluster, "/status/phase").unwrap_or("not looked at yet");
            let message = text(cluster, "/status/message").unwrap_or_default();
            // A message that begins with the phase says it well enough.
            let mut line = match (message.starts_with(phase), message.is_empty()) {
                (true, _) => format!("{name}: {message}"),
                (_, true) => format!("{name}: {phase}"),
                _ => format!("{name}: {phase}: {message}"),
            };
            if !is_ready(cluster) {
                for condition in conditions(cluster).filter(|one| one["status"] != "True" && one["type"] != "Degraded")
                {
                    let at = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
                    line = format!("{line}\n  {}={} {}: {}", at("type"), at("status"), at("reason"), at("message"));
                }
            }
            line
        };
        clusters.iter().map(line).collect()
    }

    fn put(&self, name: &str, new: Option<Value>) {
        let changes = {
            let mut state = self.lock();
            let old = match new.clone() {
                Some(new) => state.clusters.insert(name.to_owned(), Arc::new(new)),
                None => state.clusters.remove(name),
            };
            diff::changes(name, old.as_deref(), new.as_ref())
        };
        self.add(changes);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Text at a JSON pointer.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The conditions of a cluster.
pub(crate) fn conditions(cluster: &Value) -> impl Iterator<Item = &Value> {
    cluster.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

/// Whether a cluster is Ready, as it is written now.
pub(crate) fn is_ready(cluster: &Value) -> bool {
    let ready = conditions(cluster).any(|one| one["type"] == "Ready" && one["status"] == "True");
    let seen = cluster.pointer("/status/observedGeneration") == cluster.pointer("/metadata/generation");
    ready && seen && text(cluster, "/status/phase") == Some("Ready")
}

/// Follows the LatticeClusters of the parent.
pub(crate) fn start(client: Client, board: Arc<Board>, stop: CancellationToken) {
    let gvk = GroupVersionKind::gvk("lattice.dev", "v1alpha1", "LatticeCluster");
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk(&gvk));
    task::spawn("sandbox.observe", task::Kind::Service, async move {
        let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
        let mut listed = Vec::new();
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                None => return,
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(object))) => {
                    listed.push(object.metadata.name.clone().unwrap_or_default());
                    put(&board, &object);
                }
                Some(Ok(Event::InitDone)) => {
                    for name in board.clusters().keys().filter(|name| !listed.contains(name)) {
                        board.put(name, None);
                    }
                }
                Some(Ok(Event::Apply(object))) => put(&board, &object),
                Some(Ok(Event::Delete(object))) => board.put(object.metadata.name.as_deref().unwrap_or_default(), None),
                Some(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "clusters could not be watched");
                }
            }
        }
    });
}

fn put(board: &Board, object: &DynamicObject) {
    if let Ok(value) = serde_json::to_value(object) {
        board.put(object.metadata.name.as_deref().unwrap_or_default(), Some(value));
    }
}
