//! One authenticated connection between an agent and its manager.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use quinn::VarInt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::mux::{FAREWELL, Mux};
use super::stream::OpenStream;
use super::{Error, Priority, Stream, Tag, Transport, window};
use crate::limits::{SILENCE_LOOK_EVERY, SILENCE_MAX, STREAM_OPEN_TIMEOUT, STREAMS_INITIAL, STREAMS_MAX};
use crate::tls::Identity;

/// Streams that stay free before the limit is raised.
const STREAMS_SPARE: u32 = 8;

/// One connection on which both ends open and accept streams. Cheap to clone; the connection ends with `close`, with the
/// last clone, or when the peer goes.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    carrier: Carrier,
    peer: Identity,
    accepted: Arc<AtomicU32>,
    limit: AtomicU32,
    limit_max: u32,
    /// This side closed it because the peer was not heard.
    unheard: AtomicBool,
    /// Over TCP, as its user measured it, microseconds; 0 while it is not known.
    round_trip_us: AtomicU64,
}

enum Carrier {
    Quic(quinn::Connection),
    Tcp { mux: Arc<Mux>, remote: SocketAddr },
}

/// Why a session was closed by one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// Nothing is wrong; no more is to be said.
    Done,
    /// A newer session of the same identity took over. Wait a minute or more before dialling again.
    Superseded,
    /// The identity was taken away, and no other will be given.
    Revoked,
    /// The certificate is not one that the manager has issued last.
    UnknownIdentity,
    /// This side is about to stop; dial again.
    Draining,
    /// The peer broke the protocol.
    ProtocolError,
    /// Too many sessions; dial again later.
    Busy,
    /// Two agents held the identity; neither may use it until a person has looked.
    Locked,
    /// Nothing was heard of the one who is told this; perhaps it is heard only one way.
    Unheard,
    /// The versions of the two sides are too far apart.
    Incompatible,
    /// A code of a newer version.
    Other(u32),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// This side closed it.
    Here,
    /// The peer closed it.
    Peer {
        /// Why.
        code: CloseCode,
        /// In words.
        reason: String,
    },
    /// The peer was silent for longer than the idle timeout.
    Silent,
    /// The peer does not know the connection any more: its process restarted.
    Forgotten,
    /// The connection broke.
    Broken(String),
}

/// A stream that the peer has opened and not yet named.
#[derive(Debug)]
pub struct Accepted {
    stream: Stream,
    /// Over TCP a stream may carry the peer's last words.
    mux: Option<Arc<Mux>>,
}

impl Session {
    /// Wraps an established QUIC connection. The peer may have up to `streams_max` streams open: the limit starts at
    /// [`STREAMS_INITIAL`] and grows with use.
    ///
    /// # Errors
    /// [`Error::Peer`] when the peer's certificate carries no identity of ours.
    pub fn from_quic(connection: quinn::Connection, streams_max: u32) -> Result<Self, Error> {
        let peer = super::quic::peer(&connection)?;
        Ok(Self(Arc::new(Inner {
            carrier: Carrier::Quic(connection),
            peer,
            accepted: Arc::default(),
            limit: AtomicU32::new(STREAMS_INITIAL),
            limit_max: streams_max,
            unheard: AtomicBool::new(false),
            round_trip_us: AtomicU64::new(0),
        })))
    }

    pub(super) fn from_mux(mux: Arc<Mux>, peer: Identity, remote: SocketAddr) -> Self {
        Self(Arc::new(Inner {
            carrier: Carrier::Tcp { mux, remote },
            peer,
            accepted: Arc::default(),
            limit: AtomicU32::new(STREAMS_MAX),
            limit_max: STREAMS_MAX,
            unheard: AtomicBool::new(false),
            round_trip_us: AtomicU64::new(0),
        }))
    }

    /// Opens a stream that says what it carries with the first bytes that are written on it, or when it is flushed: until
    /// then the peer sees nothing of it.
    ///
    /// # Errors
    /// [`Error::OpenTimeout`] when the peer's limit is reached or the link is stuck, [`Error::Closed`], [`Error::Stream`].
    pub async fn open(&self, tag: Tag, priority: Priority) -> Result<Stream, Error> {
        let opening = async {
            let stream = match &self.0.carrier {
                Carrier::Quic(connection) => {
                    let (send, recv) = connection.open_bi().await.map_err(|error| Error::Closed(error.into()))?;
                    let _ = send.set_priority(priority.weight());
                    Stream::quic(send, recv, None)
                }
                Carrier::Tcp { mux, .. } => Stream::mux(mux.open().await?, None),
            };
            Ok(stream.tagged(tag))
        };
        timeout(STREAM_OPEN_TIMEOUT, opening).await.map_err(|_| Error::OpenTimeout)?
    }

    /// Says that a session is being dialled which is to take this one's place: the peer then takes it for a successor, not
    /// for a rival.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn announce_handover(&self) -> Result<(), Error> {
        let mut stream = self.open(Tag::Handover, Priority::Control).await?;
        stream.shutdown().await.map_err(Error::Stream)
    }

    /// Waits for the next stream of the peer. Read its tag in the task that will serve it: a peer may be slow to say it.
    ///
    /// # Errors
    /// [`Error::Closed`] at the session's end.
    ///
    /// # Cancel safety
    /// A stream is either returned or stays queued.
    pub async fn accept(&self) -> Result<Accepted, Error> {
        match &self.0.carrier {
            Carrier::Quic(connection) => {
                let (send, recv) = connection.accept_bi().await.map_err(|error| Error::Closed(error.into()))?;
                let open = OpenStream::count(&self.0.accepted);
                self.raise_limit(connection);
                Ok(Accepted { stream: Stream::quic(send, recv, Some(open)), mux: None })
            }
            Carrier::Tcp { mux, .. } => {
                let stream = mux.accept().await?;
                let open = OpenStream::count(&self.0.accepted);
                Ok(Accepted { stream: Stream::mux(stream, Some(open)), mux: Some(Arc::clone(mux)) })
            }
        }
    }

    /// Closes the session at once. Open streams of both sides fail.
    pub fn close(&self, code: CloseCode, reason: &str) {
        match &self.0.carrier {
            Carrier::Quic(connection) => {
                window::lift(connection);
                connection.close(VarInt::from_u32(code.number()), reason.as_bytes());
            }
            Carrier::Tcp { mux, .. } => mux.close(code, reason),
        }
    }

    /// Waits until the session has ended, however that came.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn closed(&self) -> Closed {
        match &self.0.carrier {
            Carrier::Quic(connection) => self.told(connection.closed().await.into()),
            Carrier::Tcp { mux, .. } => mux.closed().await,
        }
    }

    /// Tells how the session ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        match &self.0.carrier {
            Carrier::Quic(connection) => connection.close_reason().map(|error| self.told(error.into())),
            Carrier::Tcp { mux, .. } => mux.close_reason(),
        }
    }

    /// Closes the session when nothing was heard of the peer for [`SILENCE_MAX`], and ends then. Whoever serves a session
    /// polls this beside it. Over TCP the connection's own driver does the same, and this waits.
    ///
    /// # Cancel safety
    /// May be dropped; called again, it begins to listen anew.
    pub async fn silence(&self) {
        let Carrier::Quic(connection) = &self.0.carrier else { return std::future::pending().await };
        let mut look = interval(SILENCE_LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut at, mut looked) = (0, Instant::now(), Instant::now());
        loop {
            look.tick().await;
            let packets = connection.stats().udp_rx.datagrams;
            // A process that stood still has packets waiting that it has not read.
            let stood_still = looked.elapsed() > 2 * SILENCE_LOOK_EVERY;
            looked = Instant::now();
            if packets != heard || stood_still {
                (heard, at) = (packets, looked);
            } else if at.elapsed() >= SILENCE_MAX {
                self.0.unheard.store(true, Ordering::Relaxed);
                return self.close(CloseCode::Unheard, "nothing was heard of this side");
            }
        }
    }

    /// What the end of a QUIC connection means.
    fn told(&self, closed: Closed) -> Closed {
        let unheard = self.0.unheard.load(Ordering::Relaxed);
        if unheard && closed == Closed::Here { Closed::Silent } else { closed }
    }

    /// The peer's address now; over QUIC it may change.
    pub fn remote(&self) -> SocketAddr {
        match &self.0.carrier {
            Carrier::Quic(connection) => connection.remote_address(),
            Carrier::Tcp { remote, .. } => *remote,
        }
    }

    /// Whom the peer's verified certificate speaks for.
    pub fn peer(&self) -> &Identity {
        &self.0.peer
    }

    /// What carries the session.
    pub fn transport(&self) -> Transport {
        match self.0.carrier {
            Carrier::Quic(_) => Transport::Quic,
            Carrier::Tcp { .. } => Transport::Tcp,
        }
    }

    /// Streams of the peer that are open now.
    pub fn accepted_streams(&self) -> u32 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// The round trip time: QUIC measures it, over TCP it is what was noted last.
    pub fn round_trip(&self) -> Option<Duration> {
        match &self.0.carrier {
            Carrier::Quic(connection) => Some(connection.rtt()),
            Carrier::Tcp { .. } => {
                let noted = self.0.round_trip_us.load(Ordering::Relaxed);
                (noted > 0).then(|| Duration::from_micros(noted))
            }
        }
    }

    /// Notes a round trip that a user of the session measured. QUIC knows better.
    pub fn note_round_trip(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.round_trip_us.store(micros.max(1), Ordering::Relaxed);
    }

    fn raise_limit(&self, connection: &quinn::Connection) {
        let limit = self.0.limit.load(Ordering::Relaxed);
        if self.accepted_streams() + STREAMS_SPARE > limit && limit < self.0.limit_max {
            let raised = (limit * 2).min(self.0.limit_max);
            self.0.limit.store(raised, Ordering::Relaxed);
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(raised));
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.0.peer.id)
            .field("transport", &self.transport())
            .field("remote", &self.remote())
            .finish_non_exhaustive()
    }
}

impl Accepted {
    /// Reads what the stream carries.
    ///
    /// # Errors
    /// [`Error::TagTimeout`], [`Error::UnknownTag`] or [`Error::Stream`]; the stream is reset. [`Error::Closed`] when it
    /// carried the peer's last words.
    pub async fn tagged(self) -> Result<(Tag, Stream), Error> {
        let Self { mut stream, mux } = self;
        let byte = timeout(STREAM_OPEN_TIMEOUT, stream.read_u8())
            .await
            .map_err(|_| Error::TagTimeout)?
            .map_err(Error::Stream)?;
        match (Tag::from_byte(byte), mux) {
            (Some(tag), _) => Ok((tag, stream)),
            (None, Some(mux)) if byte == FAREWELL => {
                let heard = timeout(STREAM_OPEN_TIMEOUT, mux.hear_farewell(stream)).await;
                Err(heard.map_or(Error::TagTimeout, Error::Closed))
            }
            (None, _) => Err(Error::UnknownTag(byte)),
        }
    }
}

impl CloseCode {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Superseded => 1,
            Self::Revoked => 2,
            Self::UnknownIdentity => 3,
            Self::Draining => 4,
            Self::ProtocolError => 5,
            Self::Busy => 6,
            Self::Locked => 7,
            Self::Unheard => 8,
            Self::Incompatible => 9,
            Self::Other(number) => number,
        }
    }

    /// Reads the number from the wire.
    pub fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Superseded,
            2 => Self::Revoked,
            3 => Self::UnknownIdentity,
            4 => Self::Draining,
            5 => Self::ProtocolError,
            6 => Self::Busy,
            7 => Self::Locked,
            8 => Self::Unheard,
            9 => Self::Incompatible,
            other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
        }
    }
}

impl From<quinn::ConnectionError> for Closed {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::LocallyClosed => Self::Here,
            E::TimedOut => Self::Silent,
            E::Reset => Self::Forgotten,
            E::ApplicationClosed(close) => Self::Peer {
                code: CloseCode::from_number(close.error_code.into_inner()),
                reason: String::from_utf8_lossy(&close.reason).chars().take(256).collect(),
            },
            other => Self::Broken(other.to_string()),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Superseded => f.write_str("superseded by a newer session"),
            Self::Revoked => f.write_str("identity revoked"),
            Self::UnknownIdentity => f.write_str("identity unknown"),
            Self::Draining => f.write_str("about to stop"),
            Self::ProtocolError => f.write_str("protocol error"),
            Self::Busy => f.write_str("too many sessions"),
            Self::Locked => f.write_str("identity locked"),
            Self::Unheard => f.write_str("not heard"),
            Self::Incompatible => f.write_str("versions too far apart"),
            Self::Other(number) => write!(f, "code {number}"),
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("closed by this side"),
            Self::Peer { code, reason } if reason.is_empty() => write!(f, "closed by the peer: {code}"),
            Self::Peer { code, reason } => write!(f, "closed by the peer: {code} ({reason})"),
            Self::Silent => f.write_str("the peer fell silent"),
            Self::Forgotten => f.write_str("the peer restarted"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}
