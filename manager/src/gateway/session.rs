//! The agents that are connected: one live session per identity.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Buf;
use http::{Request, Response};
use hyper::body::Body;
use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::limits::STREAMS_MAX;
use lattice_protocol::tls::{Identity, Serial};
use lattice_protocol::transport::{
    self, CloseCode, Closed, ExchangeBody, Priority, Session, Tag, Transport, grpc_channel, http_exchange, with_slot,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::Channel;

use super::proxy::Shares;
use super::version;

/// Proxied requests that one agent may have at once. The rest of its streams stay free for commands.
const EXCHANGES_MAX: usize = STREAMS_MAX as usize - 64;

/// How many of them may be people's: the rest stays free for Cluster API, which repairs the cluster.
const PEOPLES_EXCHANGES_MAX: usize = EXCHANGES_MAX - 192;

/// Replaced sessions of one agent that may go on until what is open on them has ended. More are cut, the oldest first: an
/// agent hands over once in hours.
const RETIRED_MAX: usize = 2;

/// Agents that are asked back in one second after a planned stop. A handshake costs about half a millisecond; the rest of
/// the time is for what agents and manager say to each other first.
const RETURNS_PER_SECOND: u32 = 250;

/// When the first of them is asked back. Sooner it would meet the port that closes, be refused there, and come back by
/// its own backoff, behind all others; later the fleet is away for longer than a restart takes.
const RETURN_AFTER: Duration = Duration::from_secs(2);

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
    /// Those of them that are people's.
    people: Arc<Shares<String>>,
    /// The agent said that it dials a successor.
    hands_over: AtomicBool,
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
    /// Replaced by a successor of their own agent; what is open on them may end.
    retired: HashMap<ClusterUid, Vec<Arc<AgentSession>>>,
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

    /// From when on it is a reason to warn that the certificate was not renewed.
    pub fn certificate_late(&self) -> Timestamp {
        lattice_protocol::renewal::late_at(self.session.peer())
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

    /// Ends the session when the agent is not heard any more.
    pub(super) async fn silence(&self) {
        self.session.silence().await;
    }

    /// The round trip time, where the carrier measures it.
    pub fn round_trip(&self) -> Option<std::time::Duration> {
        self.session.round_trip()
    }

    /// Measures the round trip where the carrier does not.
    pub(super) async fn measure(&self) {
        if self.transport() == Transport::Tcp
            && let Some(took) = version::round_trip(self.channel()).await
        {
            self.session.note_round_trip(took);
        }
    }

    /// Takes a place among the agent's proxied requests, if one is free.
    pub(super) fn exchange_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.exchanges).try_acquire_owned().ok()
    }

    /// Proxied requests that the agent could take now.
    pub fn exchanges_free(&self) -> usize {
        self.exchanges.available_permits()
    }

    /// Closes the session; its agent is told why.
    pub fn close(&self, code: CloseCode, why: &str) {
        self.session.close(code, why);
    }

    /// Places of people among the agent's exchanges.
    pub(super) fn people(&self) -> &Arc<Shares<String>> {
        &self.people
    }

    /// Whether the agent said that the next session of its identity is its own.
    pub(super) fn hands_over(&self) -> bool {
        self.hands_over.load(Ordering::Relaxed)
    }

    /// Takes the agent's streams until the session ends. It has but one kind to open in this version, which says that it
    /// hands over; any other is reset. One at a time: an agent that opens many waits for itself.
    pub(super) async fn take_streams(&self) {
        while let Ok(stream) = self.session.accept().await {
            match stream.tagged().await {
                Ok((Tag::Handover, _)) => self.hands_over.store(true, Ordering::Relaxed),
                _ => tracing::debug!(cluster.name = %self.name, "a stream that nobody serves was reset"),
            }
        }
    }
}

impl Sessions {
    /// Notes that a session has come, and gives its place among all. Not all are admitted in the order in which they came.
    pub(super) fn arrived(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes `session` the live one of its agent; gives back the one that it replaced. None when a later one is live.
    pub(super) fn admit(
        &self,
        uid: ClusterUid,
        name: ClusterName,
        session: Session,
        control: Channel,
        generation: u64,
    ) -> Option<(Arc<AgentSession>, Option<Arc<AgentSession>>)> {
        let mut live = self.lock();
        if live.open(&uid).is_some_and(|present| present.generation > generation) {
            return None;
        }
        let admitted = Arc::new(AgentSession {
            control,
            since: clock::now(),
            generation,
            exchanges: Arc::new(Semaphore::new(EXCHANGES_MAX)),
            people: Shares::new(PEOPLES_EXCHANGES_MAX),
            hands_over: AtomicBool::new(false),
            uid: uid.clone(),
            name,
            session,
        });
        live.names.insert(admitted.name.clone(), uid.clone());
        let replaced = live.sessions.insert(uid, Arc::clone(&admitted));
        Some((admitted, replaced))
    }

    /// Lets a replaced session go on until what is open on it has ended. Gives back one that has to end for it.
    pub(super) fn retire(&self, replaced: Arc<AgentSession>) -> Option<Arc<AgentSession>> {
        let mut live = self.lock();
        let retired = live.retired.entry(replaced.uid.clone()).or_default();
        retired.push(replaced);
        (retired.len() > RETIRED_MAX).then(|| retired.remove(0))
    }

    /// Removes an ended session; true when it was the live one.
    pub(super) fn remove(&self, ended: &AgentSession) -> bool {
        let mut live = self.lock();
        if let Some(retired) = live.retired.get_mut(&ended.uid) {
            retired.retain(|session| session.generation != ended.generation);
            if retired.is_empty() {
                live.retired.remove(&ended.uid);
            }
        }
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

    /// Closes every session that `keep` says no to, with its words; it is told whether a successor has replaced it.
    pub(super) fn sieve(&self, keep: impl Fn(&AgentSession, bool) -> Result<(), (CloseCode, String)>) {
        let live = self.lock();
        let all = live.sessions.values().map(|session| (session, false));
        for (session, retired) in all.chain(live.retired.values().flatten().map(|session| (session, true))) {
            if let Err((code, why)) = keep(session, retired) {
                session.close(code, &why);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Closes every session of one agent. Their own tasks take them off the list.
    pub(super) fn cut(&self, uid: &ClusterUid, code: CloseCode, why: &str) {
        let live = self.lock();
        let retired = live.retired.get(uid).into_iter().flatten();
        live.sessions.get(uid).into_iter().chain(retired).for_each(|session| session.close(code, why));
    }

    /// Closes every session because this process ends, and tells each agent when to dial again: one after the other.
    /// None is kept: each holds the socket, and so the port that the next gateway listens on.
    pub(super) fn close_all(&self, why: &str) {
        let live = std::mem::take(&mut *self.lock());
        let apart = Duration::from_secs(1) / RETURNS_PER_SECOND;
        for (session, place) in live.sessions.values().zip(0_u32..) {
            session.close(CloseCode::Draining, &with_slot(why, RETURN_AFTER + apart * place));
        }
        live.retired.values().flatten().for_each(|session| session.close(CloseCode::Draining, why));
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
