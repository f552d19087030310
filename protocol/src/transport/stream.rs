//! A byte stream of a session, both ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::mux::MuxStream;

/// Code of a stream that was dropped before its end.
const RESET_CODE: u32 = 1;

/// How much of the first write goes with the tag, bytes: the head of a request. Lower splits it into two packets; higher
/// copies more.
const FIRST_BYTES_MAX: usize = 4 << 10;

/// What a stream carries: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// An HTTP/2 connection; the opener is the gRPC client.
    Grpc,
    /// One HTTP/1.1 exchange; the opener sends the request.
    Http,
    /// Nothing but this: the opener dials a session that is to take this one's place. Until it is there this one serves
    /// on; then it ends when what is open on it has ended.
    Handover,
}

impl Tag {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Grpc => b'G',
            Self::Http => b'H',
            Self::Handover => b'D',
        }
    }

    /// Reads the byte from the wire.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'G' => Some(Self::Grpc),
            b'H' => Some(Self::Http),
            b'D' => Some(Self::Handover),
            _ => None,
        }
    }
}

/// Which stream goes first when the link is full. Over TCP all streams are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Short calls and heartbeats.
    Control,
    /// Everything that may be long.
    Bulk,
}

impl Priority {
    pub(super) fn weight(self) -> i32 {
        match self {
            Self::Control => 10,
            Self::Bulk => 0,
        }
    }
}

/// One stream. Dropped before `shutdown`, it is reset: the peer sees an error, not an end.
#[derive(Debug)]
pub struct Stream {
    carrier: Carrier,
    /// Not written yet: it goes with the first bytes, in one packet.
    tag: Option<Tag>,
    ended: bool,
    _open: Option<OpenStream>,
}

#[derive(Debug)]
enum Carrier {
    Quic { send: quinn::SendStream, recv: quinn::RecvStream },
    Mux(MuxStream),
}

/// Counts a stream as open for as long as it lives.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<AtomicU32>);

impl OpenStream {
    pub(super) fn count(total: &Arc<AtomicU32>) -> Self {
        total.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(total))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream {
    pub(super) fn quic(send: quinn::SendStream, recv: quinn::RecvStream, open: Option<OpenStream>) -> Self {
        Self { carrier: Carrier::Quic { send, recv }, tag: None, ended: false, _open: open }
    }

    pub(super) fn mux(stream: MuxStream, open: Option<OpenStream>) -> Self {
        Self { carrier: Carrier::Mux(stream), tag: None, ended: false, _open: open }
    }

    /// Has `tag` written before anything else.
    pub(super) fn tagged(mut self, tag: Tag) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Writes the tag that is still to be written, and what fits beside it; tells how much of `bytes` that was.
    fn poll_tag(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(tag) = self.tag else { return Poll::Ready(Ok(0)) };
        let with = &bytes[..bytes.len().min(FIRST_BYTES_MAX)];
        let first = [&[tag.byte()], with].concat();
        let written = ready!(self.carrier.poll_write(cx, &first))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.tag = None;
        Poll::Ready(Ok(written - 1))
    }
}

impl Carrier {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Quic { send, .. } => AsyncWrite::poll_write(Pin::new(send), cx, bytes),
            Self::Mux(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        match &mut self.carrier {
            Carrier::Quic { send, .. } if !self.ended => drop(send.reset(RESET_CODE.into())),
            // A yamux stream resets itself.
            Carrier::Quic { .. } | Carrier::Mux(_) => {}
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Quic { recv, .. } => AsyncRead::poll_read(Pin::new(recv), cx, buf),
            Carrier::Mux(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.poll_tag(cx, bytes))? {
            0 => self.carrier.poll_write(cx, bytes),
            written => Poll::Ready(Ok(written)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_tag(cx, &[]))?;
        match &mut self.carrier {
            Carrier::Quic { send, .. } => AsyncWrite::poll_flush(Pin::new(send), cx),
            Carrier::Mux(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_tag(cx, &[]))?;
        let done = match &mut this.carrier {
            Carrier::Quic { send, .. } => AsyncWrite::poll_shutdown(Pin::new(send), cx),
            Carrier::Mux(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        this.ended |= done.is_ready();
        done
    }
}
