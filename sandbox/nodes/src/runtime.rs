//! The seam for real processes: what a kubelet hands over, and what it gets back.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

pub mod process;

/// Runs the containers of chosen pods as real processes.
pub trait Runtime: Send + Sync + 'static {
    /// Says whether the containers of this pod are real; the answer must not change while a pod lives.
    /// Only a node that has a folder runs real containers.
    fn runs(&self, pod: &Pod) -> bool;

    /// Runs one container until it ends by itself or is asked to stop.
    ///
    /// The kubelet restarts it by the pod's restart policy, with the usual backoff. Dropping the
    /// future must end the process ([`process::run`] does both).
    fn run(&self, run: ContainerRun) -> Pin<Box<dyn Future<Output = Exit> + Send>>;
}

/// One start of one container, with everything resolved.
#[derive(Clone)]
pub struct ContainerRun {
    /// The pod as it was when the container started.
    pub pod: Arc<Pod>,
    /// Name of the container.
    pub container: String,
    /// Its image.
    pub image: String,
    /// Node that it runs on.
    pub node: String,
    /// `command` and `args` with `$(VAR)` expanded.
    pub argv: Vec<String>,
    /// Environment with references resolved, in the order of the container.
    pub env: Vec<(String, String)>,
    /// Folder that stands for the container's `/`: a volume mounted at `/etc/x` lies at `root/etc/x`.
    pub root: PathBuf,
    /// File that the process's output goes to; `kubectl logs` reads it.
    pub log: PathBuf,
    /// 0 for the first start.
    pub restarts: u32,
    /// Asks for the end.
    pub stop: Stop,
}

impl fmt::Debug for ContainerRun {
    /// Leaves the environment's values out: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ContainerRun")
            .field("pod", &self.pod.metadata.name)
            .field("container", &self.container)
            .field("node", &self.node)
            .field("env", &names)
            .field("root", &self.root)
            .field("restarts", &self.restarts)
            .finish_non_exhaustive()
    }
}

/// Asks a container to end: first politely, after the grace period by force.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: CancellationToken,
    grace_ms: Arc<AtomicU64>,
}

impl Stop {
    /// Makes one that nobody has asked yet.
    pub fn new(grace: Duration) -> Self {
        let stop = Self { asked: CancellationToken::new(), grace_ms: Arc::default() };
        stop.set_grace(grace);
        stop
    }

    /// Asks for the end within the pod's own grace period.
    pub fn ask(&self) {
        self.asked.cancel();
    }

    /// Asks for the end within another grace period, the first time it is asked at all.
    pub fn ask_within(&self, grace: Duration) {
        if !self.asked.is_cancelled() {
            self.set_grace(grace);
            self.asked.cancel();
        }
    }

    /// Waits until the end was asked for, and tells the time between the polite way and force.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn asked(&self) -> Duration {
        self.asked.cancelled().await;
        Duration::from_millis(self.grace_ms.load(Ordering::Acquire))
    }

    fn set_grace(&self, grace: Duration) {
        let ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.grace_ms.store(ms, Ordering::Release);
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 plus the signal for a killed one.
    pub code: i32,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// What could not be done, for a container that never started.
    pub error: Option<String>,
}

impl Exit {
    /// Describes a container that could not be started.
    pub fn failed_to_start(error: impl fmt::Display) -> Self {
        Self { code: 128, signal: None, error: Some(error.to_string()) }
    }
}
