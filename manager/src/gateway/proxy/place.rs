//! The place that a proxied request takes: among those of its agent, of its caller there, and of its cluster at this
//! manager.

use std::sync::Arc;

use lattice_protocol::ids::ClusterName;
use tokio::sync::OwnedSemaphorePermit;

use super::caller::Caller;
use super::shares::{Share, Shares};
use super::status::Problem;
use crate::gateway::AgentSession;
use crate::metrics::Metrics;

/// Proxied requests at once at this manager. Each holds about 100 KiB when it is a watch; at more, clusters share.
const AT_ONCE_MAX: usize = 16_384;

/// Places of all clusters.
#[derive(Debug)]
pub(in crate::gateway) struct Places {
    clusters: Arc<Shares<ClusterName>>,
    metrics: Metrics,
}

/// The place of one request; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_agent: OwnedSemaphorePermit,
    _of_cluster: Share<ClusterName>,
    _of_person: Option<Share<String>>,
    caller: &'static str,
    metrics: Metrics,
}

impl Places {
    pub(in crate::gateway) fn new(metrics: Metrics) -> Self {
        Self { clusters: Shares::new(AT_ONCE_MAX), metrics }
    }

    /// Takes a place for one request of `caller`.
    pub(super) fn take(&self, session: &AgentSession, caller: &Caller) -> Result<Place, Problem> {
        let refused = |why, problem| {
            self.metrics.proxy_refused(why);
            Err(problem)
        };
        let name = session.name();
        let Some(of_cluster) = self.clusters.take(name) else {
            return refused("cluster_share", Problem::Busy(name.clone()));
        };
        let of_person = match caller {
            Caller::ClusterApi => None,
            Caller::Person { who, .. } => match session.people().take(&who.name) {
                Some(share) => Some(share),
                None => return refused("user_share", Problem::FairShare(name.clone())),
            },
        };
        let Some(of_agent) = session.exchange_permit() else {
            return refused("agent_full", Problem::Busy(name.clone()));
        };
        let (caller, metrics) = (caller.kind(), self.metrics.clone());
        metrics.exchanges_open(caller, 1);
        Ok(Place { _of_agent: of_agent, _of_cluster: of_cluster, _of_person: of_person, caller, metrics })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.exchanges_open(self.caller, -1);
    }
}
