//! What all of the gateway does when an identity changes hands.

use lattice_protocol::ids::ClusterUid;
use lattice_protocol::transport::CloseCode;

use super::{Shared, TunnelEvent, Unpinned};

/// How a session is closed whose certificate is not in force.
pub(super) fn code(unpinned: Unpinned) -> CloseCode {
    match unpinned {
        Unpinned::Revoked => CloseCode::Revoked,
        Unpinned::Locked => CloseCode::Locked,
        Unpinned::UnknownCluster | Unpinned::Replaced => CloseCode::UnknownIdentity,
    }
}

impl Shared {
    /// An identity was locked: both holders are out at once, and a person hears of it.
    pub(super) fn locked(&self, uid: &ClusterUid) {
        tracing::error!(cluster.uid = %uid, "two agents held one identity; both are locked out");
        self.sessions.cut(uid, CloseCode::Locked, &Unpinned::Locked.to_string());
        self.events.note(TunnelEvent::IdentityLocked { uid: uid.clone() });
    }

    /// Closes every session whose certificate is not in force any more, but for one that ends what is open on it: its own
    /// successor has the certificate after it.
    pub(super) fn cut_unpinned(&self) {
        self.sessions.sieve(|session, retired| match self.identities.pinned(session.identity()) {
            Ok(_) => Ok(()),
            Err(Unpinned::Replaced) if retired => Ok(()),
            Err(unpinned) => Err((code(unpinned), unpinned.to_string())),
        });
    }
}
