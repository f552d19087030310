//! The handle on one simulated cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use lattice_protocol::task;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{NodeSpec, NodesConfig};
use crate::engine::Engine;
use crate::faults::Faults;
use crate::pace::Pace;
use crate::streams::Streams;

/// One simulated cluster's control loops and machines; dropping it ends them and their processes.
#[derive(Debug)]
pub struct Nodes {
    shared: Arc<Shared>,
    stop: CancellationToken,
    engine: Option<JoinHandle<()>>,
    streams: Streams,
}

/// What handles and the engine share: wishes, never observations.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) machines: Mutex<BTreeMap<String, Machine>>,
    lives: AtomicU64,
    pub(crate) faults: Faults,
    pub(crate) changed: Arc<Notify>,
}

/// A machine that is switched on; the number tells one life of a name from the next.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) spec: Arc<NodeSpec>,
    pub(crate) life: u64,
}

impl Nodes {
    /// Starts the control loops on `client`; nodes join later.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(client: Client, config: NodesConfig) -> Self {
        let changed = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            machines: Mutex::default(),
            lives: AtomicU64::new(0),
            faults: Faults::waking(Arc::clone(&changed)),
            changed,
        });
        let stop = CancellationToken::new();
        let pace = Pace::new(config.speed);
        let streams = Streams::new(client.clone(), Arc::clone(&shared), pace, config.runtime.clone(), stop.clone());
        let engine = Engine::new(client, config, Arc::clone(&shared), stop.clone());
        let engine = task::spawn("nodes.run", task::Kind::Service, engine.run());
        Self { shared, stop, engine: Some(engine), streams }
    }

    /// Switches a machine on: its kubelet registers the Node and runs its pods. The same name again
    /// changes nothing, except a new specification, which takes the place of the old.
    pub fn join(&self, spec: NodeSpec) {
        let mut machines = self.machines();
        let life = match machines.get(&spec.name) {
            Some(machine) if *machine.spec == spec => return,
            Some(machine) => machine.life,
            None => self.shared.lives.fetch_add(1, Ordering::Relaxed),
        };
        let name = spec.name.clone();
        machines.insert(name, Machine { spec: Arc::new(spec), life });
        drop(machines);
        self.shared.changed.notify_one();
    }

    /// Switches a machine off for good: its processes end and its kubelet goes silent. The Node
    /// object stays until somebody deletes it, as with a real machine that is destroyed.
    pub fn remove(&self, name: &str) {
        self.machines().remove(name);
        self.shared.changed.notify_one();
    }

    /// Lists the machines that are switched on.
    pub fn joined(&self) -> Vec<String> {
        self.machines().keys().cloned().collect()
    }

    /// The faults of this cluster.
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// What the kubelets answer for their pods: logs, exec, attach, port-forward.
    pub fn streams(&self) -> Streams {
        self.streams.clone()
    }

    /// Ends all of it: real processes are asked to end, then killed after their grace period.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(engine) = self.engine.take()
            && let Err(error) = engine.await
        {
            tracing::error!(%error, "simulated nodes ended badly");
        }
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<String, Machine>> {
        self.shared.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
