//! One session takes the place of another without a gap: the new one is up before the old one is given up.
//!
//! Two things ask for it: a newer identity, and QUIC that gets through again while the session goes over TCP. The parent
//! is told beforehand, so that it does not take the second session for a rival's.

use std::sync::Arc;
use std::time::Duration;

use lattice_protocol::task::{self, Kind};
use lattice_protocol::transport::{CloseCode, Session, Transport};

use super::race::Ways;
use super::{Machine, WAIT};
use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::serve::{Acceptor, Exchanges};

/// Shortest time on TCP before QUIC is tried again; at random up to twice that. Lower sends packets into the void for ever
/// where UDP is forbidden; higher stays on the slower carrier.
pub const QUIC_AGAIN: Duration = Duration::from_mins(5);

/// Longest that a replaced session goes on for what is open on it. Cluster API's watches end by themselves within 11
/// minutes; whoever sits in an `exec` for longer is cut.
const RETIRE_AT_MOST: Duration = Duration::from_mins(15);

/// How long a replaced session is kept at least: the parent may have opened a stream on it before it knew of the new one.
const RETIRE_AT_LEAST: Duration = Duration::from_secs(2);

impl Machine {
    /// Waits until a session is up that is to take the place of `present`.
    pub(super) async fn successor(&mut self, present: &Session) -> Session {
        loop {
            let identity = self.identity.clone();
            let mut renewed = self.dialler.renewed.clone();
            tokio::select! {
                biased;
                newer = newer(&mut renewed, identity.as_ref()) => {
                    let session = self.with_identity(present, &newer).await;
                    self.identity = Some(newer);
                    return session;
                }
                () = tokio::time::sleep(self.dialler.quic_again.mul_f64(1.0 + self.dialler.draws.share())),
                    if present.transport() == Transport::Tcp => {}
            }
            let Some(identity) = identity else { continue };
            match self.beside(present, &identity, Ways::QuicOnly).await {
                Ok(session) => return session,
                Err(error) => tracing::debug!(error, "quic does not get through yet"),
            }
        }
    }

    /// Dials with a newer identity until it succeeds. The present session goes on meanwhile.
    async fn with_identity(&self, present: &Session, newer: &Identity) -> Session {
        let mut backoff = Backoff::new(WAIT.0, WAIT.1).drawing(&self.dialler.draws);
        loop {
            match self.beside(present, newer, Ways::after(Some(present.transport()))).await {
                Ok(session) => return session,
                Err(error) => tracing::warn!(error, "no session with the newer identity yet"),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn beside(&self, present: &Session, identity: &Identity, ways: Ways) -> Result<Session, String> {
        present.announce_handover().await.map_err(|error| super::chain(&error))?;
        self.handshake(identity, self.targets().await, ways).await
    }
}

/// Waits for an identity that is not the one in use.
async fn newer(
    renewed: &mut tokio::sync::watch::Receiver<Option<Arc<Identity>>>,
    present: Option<&Arc<Identity>>,
) -> Arc<Identity> {
    let other = |found: &Option<Arc<Identity>>| match (found, present) {
        (Some(found), Some(present)) => !Arc::ptr_eq(found, present),
        (found, None) => found.is_some(),
        (None, _) => false,
    };
    let found = renewed.wait_for(other).await.map(|found| found.clone());
    match found {
        Ok(Some(found)) => found,
        // Nobody renews any more.
        _ => std::future::pending().await,
    }
}

/// Serves a replaced session on until what is open on it has ended, then closes it.
pub(super) fn retire(session: Session, acceptor: Acceptor, open: Exchanges) {
    drop(task::spawn("dial.retire", Kind::Request, async move {
        let settled = async {
            tokio::time::sleep(RETIRE_AT_LEAST).await;
            open.idle().await;
        };
        tokio::select! {
            () = acceptor.accept(&session, &open) => {}
            () = session.silence() => {}
            _ = tokio::time::timeout(RETIRE_AT_MOST, settled) => {}
        }
        session.close(CloseCode::Done, "a newer session took over");
    }));
}
