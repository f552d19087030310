//! `Health.Watch`: the state of the cluster at once, on every change, and at least every heartbeat.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use lattice_protocol::clock;
use lattice_protocol::v1::health_server::Health;
use lattice_protocol::v1::{HealthReport, NodeHealth, WatchHealthRequest};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::observe::facts::NodeFacts;
use crate::observe::{Api, Kinds, Observed};

/// Bounds of the heartbeat that a parent may ask for, milliseconds.
const HEARTBEAT_MS: (u32, u32) = (1_000, 60_000);

/// Shortest time between two reports: changes that come together go together.
const APART: Duration = Duration::from_millis(100);

/// Serves health reports.
pub(super) struct Service {
    observed: Observed,
    api: Api,
}

impl Service {
    pub(super) fn new(observed: Observed, api: Api) -> Self {
        Self { observed, api }
    }
}

#[tonic::async_trait]
impl Health for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthReport, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchHealthRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let heartbeat = request.into_inner().heartbeat_ms.clamp(HEARTBEAT_MS.0, HEARTBEAT_MS.1);
        let watcher = Watcher {
            observed: self.observed.clone(),
            world: self.observed.changes(),
            kinds: self.api.changes(),
            heartbeat: Duration::from_millis(heartbeat.into()),
            sequence: 0,
            told: None,
            told_at: Instant::now(),
        };
        let reports = futures::stream::unfold(watcher, |mut watcher| async move {
            let report = watcher.next().await;
            Some((Ok(report), watcher))
        });
        Ok(Response::new(Box::pin(reports)))
    }
}

/// One parent's view of what it was told.
struct Watcher {
    observed: Observed,
    world: watch::Receiver<u64>,
    kinds: watch::Receiver<Arc<Kinds>>,
    heartbeat: Duration,
    sequence: u64,
    told: Option<Told>,
    told_at: Instant,
}

/// What the last report said.
struct Told {
    nodes: Option<Vec<NodeHealth>>,
    kinds: Arc<Kinds>,
}

impl Watcher {
    async fn next(&mut self) -> HealthReport {
        loop {
            self.world.mark_unchanged();
            let kinds = Arc::clone(&self.kinds.borrow_and_update());
            let nodes = self.observed.look(|world| {
                world.nodes.rows().map(|rows| rows.iter().map(|(name, node)| report(name, node)).collect::<Vec<_>>())
            });
            let due = self.told_at.elapsed() >= self.heartbeat;
            let same = self.told.as_ref().is_some_and(|told| told.nodes == nodes && Arc::ptr_eq(&told.kinds, &kinds));
            if due || !same {
                return self.tell(nodes, kinds);
            }
            self.wait().await;
        }
    }

    /// Waits for a change, or until the heartbeat is due.
    async fn wait(&mut self) {
        let due = self.told_at + self.heartbeat;
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due) => return,
            // Both end with the process only, and the heartbeat goes on until then.
            Ok(()) = self.world.changed() => {}
            Ok(()) = self.kinds.changed() => {}
        }
        tokio::time::sleep_until((self.told_at + APART).min(due)).await;
    }

    fn tell(&mut self, nodes: Option<Vec<NodeHealth>>, kinds: Arc<Kinds>) -> HealthReport {
        self.sequence += 1;
        self.told_at = Instant::now();
        let news = self.told.as_ref().is_none_or(|told| told.kinds.served != kinds.served);
        let report = HealthReport {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kubernetes_version: kinds.version.clone(),
            kube_system_uid: kinds.kube_system_uid.clone(),
            sent_at_unix_ms: clock::now().as_millisecond(),
            nodes_known: nodes.is_some(),
            nodes: nodes.clone().unwrap_or_default(),
            api_resources: if news { kinds.list() } else { Vec::new() },
            sequence: self.sequence,
        };
        self.told = Some(Told { nodes, kinds });
        report
    }
}

fn report(name: &str, node: &NodeFacts) -> NodeHealth {
    let ready = &node.ready;
    NodeHealth {
        name: name.to_owned(),
        ready: ready.holds,
        control_plane: node.control_plane,
        kubelet_version: node.kubelet_version.clone(),
        reason: if ready.holds { String::new() } else { ready.reason.clone() },
        message: if ready.holds { String::new() } else { ready.message.clone() },
        since_unix_ms: ready.since.map(jiff::Timestamp::as_millisecond).unwrap_or_default(),
        provider_id: node.provider_id.clone(),
    }
}

#[cfg(test)]
mod tests;
