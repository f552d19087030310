//! A byte stream of a session, both ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::mux::MuxStream;

/// Code of a stream that was dropped before its end.
const RESET_CODE: u32 = 1;

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
        Self { carrier: Carrier::Quic { send, recv }, ended: false, _open: open }
    }

    pub(super) fn mux(stream: MuxStream, open: Option<OpenStream>) -> Self {
        Self { carrier: Carrier::Mux(stream), ended: false, _open: open }
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
        match &mut self.carrier {
            Carrier::Quic { send, .. } => AsyncWrite::poll_write(Pin::new(send), cx, bytes),
            Carrier::Mux(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Quic { send, .. } => AsyncWrite::poll_flush(Pin::new(send), cx),
            Carrier::Mux(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let done = match &mut this.carrier {
            Carrier::Quic { send, .. } => AsyncWrite::poll_shutdown(Pin::new(send), cx),
            Carrier::Mux(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        this.ended |= done.is_ready();
        done
    }
}
