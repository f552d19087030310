//! Follows the tunnel: what happens to sessions, and what the agents say in them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::ResourceExt;
use lattice_protocol::ids::ClusterUid;
use lattice_protocol::reason::Reason;
use lattice_protocol::task::{self, Kind as TaskKind};
use lattice_protocol::telemetry::{self, Exporter};
use lattice_protocol::v1;
use lattice_protocol::v1::components_client::ComponentsClient;
use lattice_protocol::v1::health_client::HealthClient;
use lattice_protocol::v1::telemetry_client::TelemetryClient;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::agents::Agents;
use crate::gateway::{AgentSession, TunnelEvent};
use crate::lifecycle::{Seen, Session};
use crate::metrics::Metrics;
use crate::store::Cache;
use crate::watch::Attention;

/// Longest silence of a live agent, milliseconds.
const HEARTBEAT_MS: u32 = 10_000;
/// First pause before a stream that ended is opened again; doubled up to the longest, reset by a message.
const REOPEN_FIRST: Duration = Duration::from_millis(500);
/// Longest pause before a stream is opened again.
const REOPEN_LONGEST: Duration = Duration::from_secs(10);

/// What the tunnel's follower works with.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Where agents are remembered.
    pub agents: Agents,
    /// Names of clusters by uid.
    pub cache: Cache,
    /// Whom to look at.
    pub attention: Attention,
    /// Where agents' spans go.
    pub exporter: Exporter,
    /// Metrics.
    pub metrics: Metrics,
}

impl Tunnel {
    /// Follows events until `stop`.
    pub async fn follow(self, mut events: mpsc::Receiver<TunnelEvent>, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.recv() => event,
            };
            let Some(event) = event else { return };
            self.take_in(event, &stop);
            self.metrics.set_sessions(self.agents.connected());
        }
    }

    fn take_in(&self, event: TunnelEvent, stop: &CancellationToken) {
        match event {
            TunnelEvent::ManifestFetched { uid, from } => {
                self.agents.was_at(&uid, from);
                self.saw(&uid, Seen::ManifestFetched);
            }
            TunnelEvent::EnrolmentRefused { uid: Some(uid), from, reason, why, .. } => {
                self.agents.happened(&uid, reason, &why, from);
                self.saw(&uid, Seen::EnrolmentRefused(why));
            }
            TunnelEvent::Enrolled { uid, from, .. } => {
                self.agents.was_at(&uid, from);
                self.saw(&uid, Seen::Enrolled);
            }
            TunnelEvent::HandshakeFailed { uid: Some(uid), from, why } => {
                let what = format!("an agent was turned away: {why}");
                self.agents.happened(&uid, Reason::HandshakeFailed, &what, from.ip().to_canonical());
                self.saw(&uid, Seen::HandshakeFailed(why));
            }
            TunnelEvent::EnrolmentRefused { uid: None, cluster, why, .. } => {
                tracing::debug!(cluster.name = %cluster, why, "enrolment of an unknown cluster refused");
            }
            TunnelEvent::Incompatible { uid, why } => self.saw(&uid, Seen::Incompatible(why)),
            TunnelEvent::HandshakeFailed { uid: None, from, why } => {
                tracing::debug!(%from, why, "handshake of a stranger failed");
                self.agents.failed_at(from.ip(), &why).iter().for_each(|uid| self.mark(uid));
            }
            TunnelEvent::Recovered { uid, from } => {
                tracing::info!(cluster.uid = %uid, %from, "an agent came back with its bound key");
                self.agents.was_at(&uid, from);
                let what = "the agent came back with its bound key, without a certificate in force";
                self.agents.happened(&uid, Reason::IdentityRecovered, what, from);
                self.saw(&uid, Seen::Enrolled);
            }
            TunnelEvent::IdentityLocked { uid } | TunnelEvent::CertificateChanged { uid } => self.mark(&uid),
            TunnelEvent::Superseded { uid, from, by } => {
                tracing::warn!(cluster.uid = %uid, %from, %by, "a second agent took over the identity");
                let what = format!("a second agent took over the identity of the one at {}", from.ip().to_canonical());
                self.agents.happened(&uid, Reason::Superseded, &what, by.ip().to_canonical());
                self.mark(&uid);
            }
            TunnelEvent::Connected(session) => self.connected(session, stop),
            TunnelEvent::Lost { uid, why, generation } => {
                tracing::info!(cluster.uid = %uid, why = %why, "agent lost");
                self.agents.lost(&uid, generation, why.to_string());
                self.mark(&uid);
            }
        }
    }

    fn saw(&self, uid: &ClusterUid, seen: Seen) {
        self.agents.saw(uid, seen);
        self.mark(uid);
    }

    fn connected(&self, session: Arc<AgentSession>, stop: &CancellationToken) {
        let facts = Session {
            since: session.since(),
            transport: session.transport().as_str().to_owned(),
            rtt_ms: session.round_trip().and_then(|rtt| u32::try_from(rtt.as_millis()).ok()),
            certificate_expires: Some(session.certificate_expires()),
            certificate_late: Some(session.certificate_late()),
        };
        tracing::info!(
            cluster.name = %session.name(), transport = facts.transport, remote = %session.remote(),
            "agent connected"
        );
        self.agents.was_at(session.uid(), session.remote().ip());
        self.agents.connected_with(session.uid(), session.generation(), facts);
        self.attention.mark(session.name().as_str());
        let (tunnel, stop) = (self.clone(), stop.clone());
        task::spawn("session.listen", TaskKind::Request, async move { tunnel.listen(&session, stop).await });
    }

    /// Listens to what one agent says, for as long as its session lives.
    async fn listen(&self, session: &AgentSession, stop: CancellationToken) {
        let streams = async {
            tokio::join!(
                reopened(|| self.listen_health(session)),
                reopened(|| self.listen_components(session)),
                self.listen_spans(session)
            )
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = session.closed() => {}
            _ = streams => {}
        }
    }

    async fn listen_health(&self, session: &AgentSession) -> Result<u64, tonic::Status> {
        let mut client = HealthClient::new(session.channel());
        let request = v1::WatchHealthRequest { heartbeat_ms: HEARTBEAT_MS };
        let mut reports = client.watch(request).await?.into_inner();
        let mut heard = 0;
        while let Some(report) = reports.message().await? {
            heard += 1;
            if self.agents.heard_health(session.uid(), session.generation(), &report) {
                self.attention.mark(session.name().as_str());
            }
        }
        Ok(heard)
    }

    async fn listen_components(&self, session: &AgentSession) -> Result<u64, tonic::Status> {
        let mut client = ComponentsClient::new(session.channel());
        let mut reports = client.watch(v1::WatchComponentsRequest {}).await?.into_inner();
        let mut heard = 0;
        while let Some(report) = reports.message().await? {
            heard += 1;
            if self.agents.heard_report(session.uid(), session.generation(), report) {
                self.attention.mark(session.name().as_str());
            }
        }
        Ok(heard)
    }

    async fn listen_spans(&self, session: &AgentSession) {
        if !self.exporter.has_collector() {
            return std::future::pending().await;
        }
        reopened(|| async {
            let mut client = TelemetryClient::new(session.channel());
            let batches = client.spans(v1::SpansRequest {}).await?.into_inner();
            let dropped = telemetry::forward(&self.exporter, (session.name(), session.uid()), batches.boxed()).await;
            self.metrics.agent_spans_dropped(dropped);
            Ok(1)
        })
        .await;
    }

    fn mark(&self, uid: &ClusterUid) {
        let clusters = self.cache.clusters();
        let known = clusters.iter().find(|cluster| cluster.metadata.uid.as_deref() == Some(uid.as_str()));
        if let Some(cluster) = known {
            self.attention.mark(&cluster.name_any());
        }
    }
}

/// Opens a stream again whenever it ends, ever more slowly while nothing comes over it.
async fn reopened<F, S>(open: F)
where
    F: Fn() -> S,
    S: Future<Output = Result<u64, tonic::Status>>,
{
    let mut pause = REOPEN_FIRST;
    loop {
        match open().await {
            Ok(heard) if heard > 0 => pause = REOPEN_FIRST,
            Ok(_) => {}
            Err(status) => tracing::debug!(code = ?status.code(), why = status.message(), "stream of an agent ended"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(REOPEN_LONGEST);
    }
}
