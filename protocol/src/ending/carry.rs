//! Both ends of an upgraded connection, joined until one ends or the daemon does.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep, timeout};

use super::Ending;
use super::framing::Framing;
use crate::limits::DRAIN_TIMEOUT;

/// Bytes that are held for each direction of a joined connection.
const BUFFER_BYTES: usize = 16 << 10;
/// A connection over which nothing moves for so long copies nothing: at a drain it ends. Lower cuts copies over slow links;
/// higher makes every stop wait for idle terminals.
const QUIET: Duration = Duration::from_millis(250);
/// How long a connection that copies may go on in a drain. Less than the drain, so that its goodbye still gets out.
const COPY_AT_MOST: Duration = DRAIN_TIMEOUT.saturating_sub(Duration::from_secs(1));
/// How often the end of a message is looked for after that, and how long.
const MESSAGE_LOOK_EVERY: Duration = Duration::from_millis(5);
const MESSAGE_AT_MOST: Duration = Duration::from_millis(500);
/// How long a client that was told goodbye may take to hang up. When we hang up first, its system may throw away what it
/// has not read yet.
const HANG_UP_AT_MOST: Duration = Duration::from_millis(250);

/// WebSocket close frame, status 1001 ("going away"), no mask: a server sends it (RFC 6455, sections 5.5.1 and 7.4.1).
const WEB_SOCKET_GOODBYE: &[u8] = b"\x88\x0c\x03\xe9restarting";
/// SPDY/3.1 GOAWAY: nothing of streams is promised, status OK.
const SPDY_GOODBYE: &[u8] = &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];

/// Carries bytes both ways; gives back how many came from, and went to, the inbound side, which spoke HTTP to us and
/// upgraded to `protocol`.
pub(crate) async fn carry(inbound: Upgraded, outbound: Upgraded, protocol: &[u8], ending: &Ending) -> (u64, u64) {
    let (framing, goodbye) = if protocol.eq_ignore_ascii_case(b"websocket") {
        (Framing::web_socket(), WEB_SOCKET_GOODBYE)
    } else if protocol.eq_ignore_ascii_case(b"spdy/3.1") {
        (Framing::spdy(), SPDY_GOODBYE)
    } else {
        (Framing::none(), &[][..])
    };
    let seen = Seen::default();
    let mut inbound = Watched { io: TokioIo::new(inbound), framing, seen: &seen };
    let mut outbound = TokioIo::new(outbound);
    let copied = tokio::select! {
        biased;
        copied = copy_bidirectional_with_sizes(&mut inbound, &mut outbound, BUFFER_BYTES, BUFFER_BYTES) => Some(copied),
        () = seen.over(ending) => None,
    };
    match copied {
        Some(Ok(_)) => {}
        Some(Err(error)) => tracing::debug!(error = %error, "an upgraded connection broke"),
        None => {
            if seen.is_whole() && !ending.cut.is_cancelled() {
                say_goodbye(&mut inbound.io, goodbye).await;
            }
        }
    }
    (seen.read.load(Ordering::Relaxed), seen.written.load(Ordering::Relaxed))
}

async fn say_goodbye(io: &mut (impl AsyncRead + AsyncWrite + Unpin), goodbye: &[u8]) {
    let saying = async {
        io.write_all(goodbye).await?;
        io.shutdown().await?;
        let mut rest = [0; 1024];
        while io.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever does not listen misses it.
    let _ = timeout(HANG_UP_AT_MOST, saying).await;
}

/// What went through.
#[derive(Debug, Default)]
struct Seen {
    read: AtomicU64,
    written: AtomicU64,
    in_message: AtomicBool,
}

impl Seen {
    /// Whether the inbound side has whole messages only.
    fn is_whole(&self) -> bool {
        !self.in_message.load(Ordering::Relaxed)
    }

    fn moved(&self) -> u64 {
        self.read.load(Ordering::Relaxed) + self.written.load(Ordering::Relaxed)
    }

    /// Waits until the daemon's end is this connection's too.
    async fn over(&self, ending: &Ending) {
        tokio::select! {
            biased;
            () = ending.cut.cancelled() => {}
            () = self.drained(ending) => {}
        }
    }

    async fn drained(&self, ending: &Ending) {
        ending.drain.cancelled().await;
        let until = Instant::now() + COPY_AT_MOST;
        while Instant::now() < until {
            let before = self.moved();
            sleep(QUIET).await;
            if self.moved() == before && self.is_whole() {
                return;
            }
        }
        let until = Instant::now() + MESSAGE_AT_MOST;
        while !self.is_whole() && Instant::now() < until {
            sleep(MESSAGE_LOOK_EVERY).await;
        }
    }
}

/// The inbound side, and what goes through it.
struct Watched<'a, T> {
    io: T,
    framing: Framing,
    seen: &'a Seen,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.seen.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.framing.feed(&bytes[..*written]);
            self.seen.written.fetch_add(*written as u64, Ordering::Relaxed);
            self.seen.in_message.store(!self.framing.is_whole(), Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
