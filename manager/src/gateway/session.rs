//! The agents that are connected: one live session per identity.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Buf;
use http::{Request, Response};
use hyper::body::Body;
use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::limits::STREAMS_MAX;
use lattice_protocol::tls::{Identity, Serial};
use lattice_protocol::transport::{
    self, CloseCode, Closed, ExchangeBody, Priority, Session, Transport, grpc_channel, http_exchange,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::Channel;

/// Proxied requests that one agent may have at once. The rest of its streams stay free for commands.
const EXCHANGES_MAX: usize = STREAMS_MAX as usize - 64;

/// A connected agent. The identity is what its certificate says.
#[derive(Debug)]
pub struct AgentSession {
    uid: ClusterUid,
    name: ClusterName,
    session: Session,
    control: Channel,
    since: Timestamp,
    generation: u64,
    exchanges: Arc<Semaphore>,
}

/// The live session of each agent.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    live: Mutex<Live>,
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Live {
    sessions: HashMap<ClusterUid, Arc<AgentSession>>,
    names: HashMap<ClusterName, ClusterUid>,
}

impl AgentSession {
    /// The cluster that the agent speaks for.
    pub fn uid(&self) -> &ClusterUid {
        &self.uid
    }

    /// The cluster's name.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Where the agent is now.
    pub fn remote(&self) -> SocketAddr {
        self.session.remote()
    }

    /// What carries the session.
    pub fn transport(&self) -> Transport {
        self.session.transport()
    }

    /// When it connected.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Counts the sessions of this process: a later one has a higher number.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Serial number of the certificate that it showed.
    pub fn serial(&self) -> &Serial {
        &self.session.peer().serial
    }

    pub(super) fn identity(&self) -> &Identity {
        self.session.peer()
    }

    /// End of that certificate's validity.
    pub fn certificate_expires(&self) -> Timestamp {
        self.session.peer().not_after
    }

    /// The gRPC client for short calls and heartbeats; all callers share one stream.
    pub fn channel(&self) -> Channel {
        self.control.clone()
    }

    /// A gRPC client with a stream of its own, for bundles and whatever else is bulky.
    pub fn bulk_channel(&self) -> Channel {
        grpc_channel(&self.session, Priority::Bulk)
    }

    /// Sends one request to the child's Kubernetes API. The request needs a `Host` and a URI in origin form.
    ///
    /// # Errors
    /// [`transport::Error`].
    pub async fn open_http<B>(&self, request: Request<B>) -> Result<Response<ExchangeBody>, transport::Error>
    where
        B: Body + Send + 'static,
        B::Data: Buf + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        http_exchange(&self.session, request).await
    }

    /// How the session ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.session.close_reason()
    }

    /// Waits for the session's end.
    pub async fn closed(&self) -> Closed {
        self.session.closed().await
    }

    /// The round trip time, where the carrier measures it.
    pub fn round_trip(&self) -> Option<std::time::Duration> {
        self.session.round_trip()
    }

    /// Takes a place among the agent's proxied requests, if one is free.
    pub(super) fn exchange_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.exchanges).try_acquire_owned().ok()
    }

    /// Proxied requests that the agent could take now.
    pub fn exchanges_free(&self) -> usize {
        self.exchanges.available_permits()
    }

    pub(super) fn close(&self, code: CloseCode, why: &str) {
        self.session.close(code, why);
    }

    /// Waits for the agent's next stream. It has none to open in this version: each is reset.
    pub(super) async fn refuse_streams(&self) {
        while let Ok(stream) = self.session.accept().await {
            tracing::debug!(cluster.name = %self.name, "a stream that nobody serves was reset");
            drop(stream);
        }
    }
}

impl Sessions {
    /// Makes `session` the live one of its agent; gives back the one that it replaced.
    pub(super) fn admit(
        &self,
        uid: ClusterUid,
        name: ClusterName,
        session: Session,
    ) -> (Arc<AgentSession>, Option<Arc<AgentSession>>) {
        let mut live = self.lock();
        let admitted = Arc::new(AgentSession {
            control: grpc_channel(&session, Priority::Control),
            since: clock::now(),
            generation: self.generation.fetch_add(1, Ordering::Relaxed) + 1,
            exchanges: Arc::new(Semaphore::new(EXCHANGES_MAX)),
            uid: uid.clone(),
            name,
            session,
        });
        live.names.insert(admitted.name.clone(), uid.clone());
        let replaced = live.sessions.insert(uid, Arc::clone(&admitted));
        (admitted, replaced)
    }

    /// Removes an ended session; true when it was the live one.
    pub(super) fn remove(&self, ended: &AgentSession) -> bool {
        let mut live = self.lock();
        let was_live = live.sessions.get(&ended.uid).is_some_and(|found| found.generation == ended.generation);
        if was_live {
            live.sessions.remove(&ended.uid);
            if live.names.get(&ended.name) == Some(&ended.uid) {
                live.names.remove(&ended.name);
            }
        }
        was_live
    }

    pub(super) fn get(&self, uid: &ClusterUid) -> Option<Arc<AgentSession>> {
        self.lock().open(uid)
    }

    pub(super) fn by_name(&self, name: &ClusterName) -> Option<Arc<AgentSession>> {
        let live = self.lock();
        live.names.get(name).and_then(|uid| live.open(uid))
    }

    pub(super) fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Closes the live session of one agent. Its own task takes it off the list.
    pub(super) fn cut(&self, uid: &ClusterUid, code: CloseCode, why: &str) {
        if let Some(session) = self.lock().sessions.get(uid) {
            session.close(code, why);
        }
    }

    pub(super) fn close_all(&self, code: CloseCode, why: &str) {
        self.lock().sessions.values().for_each(|session| session.close(code, why));
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn open(&self, uid: &ClusterUid) -> Option<Arc<AgentSession>> {
        self.sessions.get(uid).filter(|session| session.close_reason().is_none()).cloned()
    }
}
