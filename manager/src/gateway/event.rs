//! What the gateway tells the rest of the manager.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::reason::Reason;
use lattice_protocol::transport::Closed;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::AgentSession;

/// How long a connection's task waits for room. Whoever reads events is stuck by then, and reads the sessions anyway when
/// it looks again.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Something that happened between an agent and this manager.
#[derive(Clone, Debug)]
pub enum TunnelEvent {
    /// A node fetched the agent's manifest.
    ManifestFetched {
        /// The cluster whose token was shown.
        uid: ClusterUid,
        /// From where.
        from: IpAddr,
    },
    /// Somebody asked for a manifest or a certificate and got nothing.
    EnrolmentRefused {
        /// The cluster that was named, where there is one.
        uid: Option<ClusterUid>,
        /// As it was named.
        cluster: ClusterName,
        /// From where.
        from: IpAddr,
        /// What kind of refusal it is.
        reason: Reason,
        /// Why, in words that may be shown.
        why: String,
    },
    /// An agent got its certificate.
    Enrolled {
        /// The cluster that it speaks for.
        uid: ClusterUid,
        /// From where.
        from: IpAddr,
        /// End of the certificate's validity.
        expires: Timestamp,
        /// The same agent asked again and got the same.
        repeated: bool,
    },
    /// Two holders of one identity were noticed, and both are locked out.
    IdentityLocked {
        /// The cluster.
        uid: ClusterUid,
    },
    /// An agent without a certificate in force came back with its bound key.
    Recovered {
        /// The cluster.
        uid: ClusterUid,
        /// From where.
        from: IpAddr,
    },
    /// The certificate of a live session has another end, or is close to its end.
    CertificateChanged {
        /// The cluster.
        uid: ClusterUid,
    },
    /// A handshake failed, or its certificate is not in force.
    HandshakeFailed {
        /// The cluster, when a certificate of ours named it.
        uid: Option<ClusterUid>,
        /// From where.
        from: SocketAddr,
        /// Why, in words that may be shown.
        why: String,
    },
    /// An agent is of a version that does not work with this one.
    Incompatible {
        /// The cluster.
        uid: ClusterUid,
        /// Both versions, in words that may be shown.
        why: String,
    },
    /// An agent is connected. An older session of it is closed.
    Connected(Arc<AgentSession>),
    /// A second agent showed the same identity and took over.
    Superseded {
        /// The cluster.
        uid: ClusterUid,
        /// Where the older one was.
        from: SocketAddr,
        /// Where the newer one is.
        by: SocketAddr,
    },
    /// The last session of a cluster's agent has ended.
    Lost {
        /// The cluster.
        uid: ClusterUid,
        /// How it ended.
        why: Closed,
        /// The session that ended: of two events, the one for the newer session counts.
        generation: u64,
    },
}

/// The way out for events.
#[derive(Clone, Debug)]
pub(super) struct Events(mpsc::Sender<TunnelEvent>);

impl Events {
    pub(super) fn new(sender: mpsc::Sender<TunnelEvent>) -> Self {
        Self(sender)
    }

    /// Sends what the receiver could also find out by looking: dropped when there is no room, so that a flood from
    /// outside costs nothing inside.
    pub(super) fn note(&self, event: TunnelEvent) {
        match self.0.try_send(event) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(event)) => tracing::debug!(?event, "no room for an event"),
        }
    }

    /// Sends a change of a session, waiting for room.
    pub(super) async fn send(&self, event: TunnelEvent) {
        if self.0.send_timeout(event, SEND_TIMEOUT).await.is_err() {
            tracing::warn!("nobody takes tunnel events");
        }
    }
}
