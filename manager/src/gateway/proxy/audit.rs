//! One line per proxied request, written when its answer has gone: who, as whom, what, and what became of it. Never a
//! query, a header or a body: they may hold secrets.

use std::fmt::Write as _;

use http::{Method, StatusCode};
use lattice_protocol::ids::ClusterName;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::store::access::User;

/// Longest path that is written, bytes.
const PATH_BYTES_MAX: usize = 512;
/// Most groups that are written; the rest is counted.
const GROUPS_MAX: usize = 16;

/// The line of one request; written when it is dropped.
#[derive(Debug)]
pub(super) struct Audit {
    metrics: Metrics,
    began: Instant,
    cluster: ClusterName,
    method: Method,
    path: String,
    kind: &'static str,
    who: String,
    acts_as: String,
    as_groups: String,
    code: StatusCode,
    sent: u64,
    received: u64,
}

impl Audit {
    pub(super) fn new(metrics: Metrics, cluster: ClusterName, method: Method, path: &str) -> Self {
        let path = path.chars().take(PATH_BYTES_MAX).flat_map(char::escape_debug).collect();
        let code = StatusCode::SERVICE_UNAVAILABLE;
        Self {
            metrics,
            began: Instant::now(),
            cluster,
            method,
            path,
            kind: "unknown",
            who: String::new(),
            acts_as: String::new(),
            as_groups: String::new(),
            code,
            sent: 0,
            received: 0,
        }
    }

    /// Says who asked, before it is known whether they may.
    pub(super) fn asked_by(&mut self, who: &str) {
        self.kind = "person";
        who.clone_into(&mut self.who);
    }

    /// Says that Cluster API asked.
    pub(super) fn asked_by_cluster_api(&mut self) {
        (self.kind, self.who, self.acts_as) = ("cluster-api", "cluster-api".to_owned(), "lattice-agent".to_owned());
    }

    /// Says whom the person wants to be taken for, before it is known whether they may.
    pub(super) fn acts_as(&mut self, user: &User) {
        user.name.clone_into(&mut self.acts_as);
        self.as_groups = user.groups.iter().take(GROUPS_MAX).map(String::as_str).collect::<Vec<_>>().join(",");
        if user.groups.len() > GROUPS_MAX {
            let _ = write!(self.as_groups, ",… {} in all", user.groups.len());
        }
    }

    /// Says what they were answered.
    pub(super) fn answered(&mut self, code: StatusCode) {
        self.code = code;
    }

    /// Counts bytes of the answer.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Counts the bytes of an upgraded connection.
    pub(super) fn carried(&mut self, received: u64, sent: u64) {
        self.received += received;
        self.sent += sent;
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.metrics.proxied(self.kind, self.code.as_u16(), took, self.received, self.sent);
        let (who, acts_as) = (self.who.as_str(), self.acts_as.as_str());
        let (code, millis) = (self.code.as_u16(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let as_groups = self.as_groups.as_str();
        // Cluster API probes each cluster twice in five seconds, and asks etcd by hundreds of port-forwards; that it read
        // is no news.
        let changes = matches!(self.method, Method::PUT | Method::PATCH | Method::DELETE)
            || (self.method == Method::POST && self.code != StatusCode::SWITCHING_PROTOCOLS);
        if self.kind == "cluster-api" && !changes {
            tracing::debug!(
                target: "lattice_manager::audit", who, acts_as, cluster.name = %self.cluster, method = %self.method,
                path = %self.path, code, bytes = self.sent, bytes_in = self.received, ms = millis, "proxied request"
            );
        } else {
            tracing::info!(
                target: "lattice_manager::audit", who, acts_as, as_groups, cluster.name = %self.cluster,
                method = %self.method, path = %self.path, code, bytes = self.sent, bytes_in = self.received, ms = millis,
                "proxied request"
            );
        }
    }
}
