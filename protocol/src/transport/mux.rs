//! Streams over one TLS connection, where UDP does not get through: yamux, driven by a task of its own.
//!
//! The two things that QUIC has and yamux lacks are made here: silence is noticed by reading nothing for
//! [`SILENCE_MAX`] (both sides ping every ten seconds or so), and the reason of a close travels on a last stream that
//! begins with [`FAREWELL`].
//!
//! **Caveat**: yamux shows a stream that was reset as one that ended. What a stream carries must say itself where it ends,
//! as HTTP does.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use yamux::{Config, Connection, Mode};

use super::{CloseCode, Closed, Error};
use crate::limits::{SILENCE_MAX, STREAMS_MAX};
use crate::task::{self, Kind};

/// First byte of the stream that says why a session is closed: code (4 bytes, big endian), then words in UTF-8.
pub(super) const FAREWELL: u8 = b'C';
/// Longest words of a farewell, bytes.
const FAREWELL_BYTES_MAX: u64 = 256;
/// Longest that a close waits for its farewell to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the connection is looked at when nothing happens: yamux sends its pings only then.
const LOOK_EVERY: Duration = Duration::from_millis(2_500);
/// Callers that wait for a stream to open.
const OPENING_MAX: usize = 64;
/// Streams of the peer that nobody has accepted yet; more are reset.
const ACCEPTED_MAX: usize = 256;

/// One stream, as tokio reads and writes.
#[derive(Debug)]
pub(super) struct MuxStream(yamux::Stream);

type Opened = oneshot::Sender<Result<yamux::Stream, yamux::ConnectionError>>;

/// The streams of one TLS connection.
pub(super) struct Mux {
    open: mpsc::Sender<Opened>,
    accepted: Mutex<mpsc::Receiver<yamux::Stream>>,
    closed: Arc<watch::Sender<Option<Closed>>>,
    /// Ends the driver when it is dropped or sent to.
    end: StdMutex<Option<oneshot::Sender<()>>>,
}

impl Mux {
    /// Takes over a connection. `dialled` says which side of it we are.
    pub(super) fn start<T>(io: T, dialled: bool) -> Arc<Self>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let heard = Arc::new(StdMutex::new(Instant::now()));
        let io = Listening { io, heard: Arc::clone(&heard) };
        let mut config = Config::default();
        config.set_max_num_streams(STREAMS_MAX as usize + ACCEPTED_MAX);
        let mode = if dialled { Mode::Client } else { Mode::Server };
        let (open, opening) = mpsc::channel(OPENING_MAX);
        let (accepting, accepted) = mpsc::channel(ACCEPTED_MAX);
        let (end, ended) = oneshot::channel();
        let closed = Arc::new(watch::Sender::new(None));
        let driver = Driver {
            connection: Connection::new(io, config, mode),
            opening,
            waiting: None,
            accepting,
            ended,
            look: look_interval(),
            heard,
        };
        let told = Arc::clone(&closed);
        drop(task::spawn("tunnel.mux", Kind::Request, async move {
            let why = driver.run().await;
            settle(&told, why);
        }));
        Arc::new(Self { open, accepted: Mutex::new(accepted), closed, end: StdMutex::new(Some(end)) })
    }

    /// Opens a stream; the caller bounds the wait.
    pub(super) async fn open(&self) -> Result<MuxStream, Error> {
        match self.close_reason() {
            Some(closed) => Err(Error::Closed(closed)),
            None => self.open_anyway().await,
        }
    }

    async fn open_anyway(&self) -> Result<MuxStream, Error> {
        let (sender, opened) = oneshot::channel();
        let gone =
            || Error::Closed(self.close_reason().unwrap_or_else(|| Closed::Broken("the connection ended".into())));
        self.open.send(sender).await.map_err(|_| gone())?;
        let stream = opened.await.map_err(|_| gone())?;
        stream.map(MuxStream).map_err(|error| Error::Stream(io::Error::other(error)))
    }

    /// Waits for the peer's next stream.
    pub(super) async fn accept(&self) -> Result<MuxStream, Error> {
        let mut accepted = self.accepted.lock().await;
        match accepted.recv().await {
            Some(stream) => Ok(MuxStream(stream)),
            None => Err(Error::Closed(self.closed().await)),
        }
    }

    /// Says why, then ends the connection.
    pub(super) fn close(self: &Arc<Self>, code: CloseCode, reason: &str) {
        // Whoever waits for the end hears it now; the words follow.
        if !settle(&self.closed, Closed::Here) {
            return;
        }
        let (mux, reason) = (Arc::clone(self), reason.to_owned());
        drop(task::spawn("tunnel.farewell", Kind::Request, async move {
            let said = timeout(FAREWELL_TIMEOUT, mux.farewell(code, &reason)).await;
            tracing::debug!(said = matches!(said, Ok(Ok(()))), "session closed");
            mux.end();
        }));
    }

    async fn farewell(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        let mut stream = self.open_anyway().await?;
        let mut words = vec![FAREWELL];
        words.extend(code.number().to_be_bytes());
        words.extend(reason.as_bytes());
        stream.write_all(&words).await.map_err(Error::Stream)?;
        stream.shutdown().await.map_err(Error::Stream)?;
        // The peer ends the connection when it has read them.
        let _ = stream.read_u8().await;
        Ok(())
    }

    /// Reads the peer's farewell from a stream that began with one.
    pub(super) async fn hear_farewell(&self, stream: impl AsyncRead + Unpin) -> Closed {
        let mut words = Vec::new();
        let read = stream.take(4 + FAREWELL_BYTES_MAX).read_to_end(&mut words).await;
        let closed = match (read, words.split_first_chunk()) {
            (Ok(_), Some((code, reason))) => Closed::Peer {
                code: CloseCode::from_number(u32::from_be_bytes(*code).into()),
                reason: String::from_utf8_lossy(reason).into_owned(),
            },
            _ => Closed::Broken("the peer closed without a word".to_owned()),
        };
        settle(&self.closed, closed);
        self.end();
        self.closed().await
    }

    /// Waits for the end.
    pub(super) async fn closed(&self) -> Closed {
        let mut closed = self.closed.subscribe();
        let reason = closed.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or(Closed::Here)
    }

    pub(super) fn close_reason(&self) -> Option<Closed> {
        self.closed.borrow().clone()
    }

    fn end(&self) {
        drop(self.end.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The first account of an end counts; tells whether this one was it.
fn settle(closed: &watch::Sender<Option<Closed>>, why: Closed) -> bool {
    closed.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(why);
        }
        first
    })
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("closed", &self.close_reason()).finish_non_exhaustive()
    }
}

/// Turns the connection's wheel: everything that its streams want is done in here.
struct Driver<T> {
    connection: Connection<Listening<T>>,
    opening: mpsc::Receiver<Opened>,
    waiting: Option<Opened>,
    accepting: mpsc::Sender<yamux::Stream>,
    ended: oneshot::Receiver<()>,
    look: Interval,
    heard: Arc<StdMutex<Instant>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// Turns until the end. The connection is dropped then and not closed in order: yamux forgets the open streams when it
    /// closes, and whoever reads one would wait for ever. All that was to be said was said by a farewell.
    async fn run(mut self) -> Closed {
        poll_fn(|cx| self.turn(cx)).await
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        loop {
            if Pin::new(&mut self.ended).poll(cx).is_ready() {
                return Poll::Ready(Closed::Here);
            }
            if self.waiting.is_none()
                && let Poll::Ready(Some(opened)) = self.opening.poll_recv(cx)
            {
                self.waiting = Some(opened);
            }
            if self.waiting.is_some()
                && let Poll::Ready(stream) = self.connection.poll_new_outbound(cx)
            {
                if let Some(opened) = self.waiting.take() {
                    let _ = opened.send(stream);
                }
                continue;
            }
            match self.connection.poll_next_inbound(cx) {
                // Without room the stream is dropped, which resets it.
                Poll::Ready(Some(Ok(stream))) => drop(self.accepting.try_send(stream)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Closed::Broken(error.to_string())),
                Poll::Ready(None) => return Poll::Ready(Closed::Broken("the peer ended the connection".to_owned())),
                Poll::Pending => {
                    if self.look.poll_tick(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= SILENCE_MAX {
                        return Poll::Ready(Closed::Silent);
                    }
                }
            }
        }
    }
}

fn look_interval() -> Interval {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look
}

/// Remembers when the peer was last heard.
struct Listening<T> {
    io: T,
    heard: Arc<StdMutex<Instant>>,
}

impl<T: AsyncRead + Unpin> futures::AsyncRead for Listening<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<T: AsyncWrite + Unpin> futures::AsyncWrite for Listening<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(futures::AsyncRead::poll_read(Pin::new(&mut self.0), cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        futures::AsyncWrite::poll_write(Pin::new(&mut self.0), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures::AsyncWrite::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures::AsyncWrite::poll_close(Pin::new(&mut self.0), cx)
    }
}
