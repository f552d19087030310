//! The loop behind one cluster: watches in, decisions, writes out. One task per cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::Client;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::{Name, World};
use crate::config::NodesConfig;
use crate::events::{Note, Recorder};
use crate::kubelet::Kubelet;
use crate::kubelet::real::Report;
use crate::nodes::Shared;
use crate::op::{self, Plan, Seen};
use crate::pace::Pace;
use crate::queue::Queue;

mod look;
mod outcome;
mod verdict;
mod watch;

/// Most plans carried out at the same time. Too low: slow answers hold everything up; too high: one
/// cluster crowds out others in the process.
const IN_FLIGHT_MAX: usize = 16;
/// Most watch events taken in before the next decision, so that one burst is decided on once.
const EVENTS_MAX: usize = 256;
/// Reports of real containers that may wait.
const REPORTS_MAX: usize = 64;
/// Longest wait for real processes when the cluster ends; their own grace periods are shorter.
const END_MAX: Duration = Duration::from_secs(40);
/// Wait after a failed write; doubles up to the bound.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What can be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Pod(Name),
    /// What the kubelet of a node does about its Node.
    Node(String),
    /// What the node life cycle does about it.
    NodeLife(String),
    /// The Lease of a node.
    Lease(String),
    Deployment(Name),
    ReplicaSet(Name),
    DaemonSet(Name),
    StatefulSet(Name),
    Job(Name),
}

/// A plan that was carried out, as far as it went.
struct Done {
    key: Key,
    seen: Vec<Seen>,
    /// What is worth telling now that it is done.
    notes: Vec<Note>,
    error: Option<op::Error>,
}

/// Everything that one cluster's loop knows.
pub(crate) struct Engine {
    client: Client,
    config: NodesConfig,
    pace: Pace,
    shared: Arc<Shared>,
    world: World,
    queue: Queue<Key>,
    recorder: Recorder,
    kubelets: BTreeMap<String, Kubelet>,
    /// Nodes whose kubelet is silent, and since when.
    silent: HashMap<String, Instant>,
    /// Pods whose node does not exist, and since when.
    orphans: HashMap<Name, Instant>,
    /// Uids of the nodes that have been told of.
    registered: HashSet<String>,
    /// Pods that are being bound, with their node.
    assumed: HashMap<Name, String>,
    /// The last recorded revision of DaemonSets and StatefulSets, by uid.
    recorded: HashMap<String, String>,
    /// Why the last pod of a ReplicaSet was refused, by uid.
    refusals: HashMap<String, String>,
    /// Failures in a row.
    failures: HashMap<Key, u32>,
    in_flight: FuturesUnordered<BoxFuture<'static, Option<Done>>>,
    reports: (Sender<Report>, Receiver<Report>),
    /// Pods whose needs may be met now.
    met: (Sender<Name>, Receiver<Name>),
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Engine {
    pub(crate) fn new(client: Client, config: NodesConfig, shared: Arc<Shared>, stop: CancellationToken) -> Self {
        Self {
            client,
            pace: Pace::new(config.speed),
            recorder: Recorder::new(config.events),
            config,
            shared,
            world: World::new(),
            queue: Queue::new(),
            kubelets: BTreeMap::new(),
            silent: HashMap::new(),
            orphans: HashMap::new(),
            registered: HashSet::new(),
            assumed: HashMap::new(),
            recorded: HashMap::new(),
            refusals: HashMap::new(),
            failures: HashMap::new(),
            in_flight: FuturesUnordered::new(),
            reports: mpsc::channel(REPORTS_MAX),
            met: mpsc::channel(REPORTS_MAX),
            tasks: TaskTracker::new(),
            stop,
        }
    }

    /// Runs until it is stopped, then ends the real processes.
    pub(crate) async fn run(mut self) {
        let mut events = watch::all(&self.client).ready_chunks(EVENTS_MAX);
        let changed = Arc::clone(&self.shared.changed);
        let stop = self.stop.clone();
        self.take_wishes();
        loop {
            let due = self.queue.next_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => self.take_done(done),
                Some(events) = events.next() => events.into_iter().for_each(|event| self.take_event(event)),
                Some(report) = self.reports.1.recv() => self.take_report(report),
                Some(pod) = self.met.1.recv() => self.take_met(pod),
                () = changed.notified() => self.take_wishes(),
                () = until(due) => self.queue.promote(Instant::now()),
            }
            self.work();
        }
        self.end().await;
    }

    /// Decides on what is due, as far as there is room.
    fn work(&mut self) {
        if !self.world.synced() {
            return;
        }
        while self.in_flight.len() < IN_FLIGHT_MAX {
            let Some(key) = self.queue.take() else { return };
            let plan = self.look(&key);
            if let Some(wake) = plan.wake {
                self.queue.add_at(key.clone(), Instant::now() + wake);
            }
            if plan.ops.is_empty() {
                self.tell(plan.notes);
                self.failures.remove(&key);
                self.queue.done(&key);
            } else {
                let future = carry_out(self.client.clone(), key, plan);
                self.in_flight.push(Box::pin(future));
            }
        }
    }

    /// Follows what callers wish: machines on and off, faults.
    fn take_wishes(&mut self) {
        let machines = self.shared.machines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gone: Vec<String> = self
            .kubelets
            .iter()
            .filter(|(name, kubelet)| machines.get(*name).is_none_or(|machine| machine.life != kubelet.life))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(kubelet) = self.kubelets.remove(&name) {
                kubelet.stop_all();
            }
        }
        for (name, machine) in machines {
            match self.kubelets.get_mut(&name) {
                Some(kubelet) => kubelet.spec = machine.spec,
                None => {
                    let network = self.config.cni.is_none();
                    self.kubelets.insert(name, Kubelet::new(machine.spec, machine.life, network));
                }
            }
        }
        self.look_at_everything();
    }

    fn look_at_everything(&mut self) {
        let nodes: Vec<String> = self.world.nodes.iter().map(|node| Name::of(node.as_ref()).name).collect();
        for name in self.kubelets.keys().cloned().chain(nodes).collect::<Vec<_>>() {
            self.queue.add(Key::Node(name.clone()));
            self.queue.add(Key::NodeLife(name));
        }
        for pod in self.world.pods.iter() {
            self.queue.add(Key::Pod(Name::of(pod.as_ref())));
        }
    }

    async fn end(self) {
        for kubelet in self.kubelets.values() {
            kubelet.stop_all();
        }
        self.tasks.close();
        // Reports of the ending containers are nobody's business any more.
        drop(self.reports);
        if tokio::time::timeout(END_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!("real containers outlived their grace period");
        }
    }
}

async fn carry_out(client: Client, key: Key, mut plan: Plan) -> Option<Done> {
    let notes = std::mem::take(&mut plan.notes);
    let (seen, result) = op::carry_out(&client, plan).await;
    let notes = if result.is_ok() { notes } else { Vec::new() };
    Some(Done { key, seen, notes, error: result.err() })
}

async fn until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
