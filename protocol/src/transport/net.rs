//! Where packets go: the system's network, or one that a test makes, so that the same code runs in virtual time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use quinn::AsyncUdpSocket;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::limits::TCP_UNSENT_BYTES_MAX;

/// A byte stream of a made network.
pub trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A network that is not the system's.
pub trait Network: fmt::Debug + Send + Sync {
    /// Binds a socket for datagrams; port 0 means any.
    fn datagrams(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn AsyncUdpSocket>>>;

    /// Connects a byte stream.
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Pin<Box<dyn Duplex>>>>;

    /// Listens for byte streams.
    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Accept>>>;
}

/// A byte stream of a made network, and who is at its other end.
pub type Arrival = (Pin<Box<dyn Duplex>>, SocketAddr);

/// A listener of a made network.
pub trait Accept: fmt::Debug + Send + Sync {
    /// Waits for the next stream.
    fn accept(&self) -> BoxFuture<'_, io::Result<Arrival>>;
}

/// The network of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Net {
    /// The system's.
    #[default]
    System,
    /// One that was made.
    Made(Arc<dyn Network>),
}

/// Takes TCP connections, or what stands for them.
#[derive(Debug)]
pub enum Listener {
    /// The system's.
    Tcp(TcpListener),
    /// Of a made network.
    Made(Box<dyn Accept>),
}

/// A TCP connection, or what stands for it.
pub enum Io {
    /// The system's.
    Tcp(TcpStream),
    /// Of a made network.
    Made(Pin<Box<dyn Duplex>>),
}

impl Net {
    /// Connects to `to`. Without a bound on time: callers know theirs.
    ///
    /// # Errors
    /// The network's words.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<Io> {
        match self {
            Self::System => TcpStream::connect(to).await.map(Io::Tcp),
            Self::Made(network) => network.connect(to).await.map(Io::Made),
        }
    }

    /// Listens at `at`.
    ///
    /// # Errors
    /// The network's words.
    pub async fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        match self {
            Self::System => TcpListener::bind(at).await.map(Listener::Tcp),
            Self::Made(network) => network.listen(at).await.map(Listener::Made),
        }
    }
}

impl Listener {
    /// Waits for the next connection.
    ///
    /// # Errors
    /// The network's words; the next one may succeed.
    pub async fn accept(&self) -> io::Result<(Io, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, from)| (Io::Tcp(stream), from)),
            Self::Made(listener) => listener.accept().await.map(|(stream, from)| (Io::Made(stream), from)),
        }
    }
}

impl Io {
    /// Lets small packets go at once, and keeps large ones from piling up before them.
    pub(super) fn hasten(&self) {
        if let Self::Tcp(stream) = self {
            let _ = stream.set_nodelay(true);
            let _ = SockRef::from(stream).set_tcp_notsent_lowat(TCP_UNSENT_BYTES_MAX);
        }
    }
}

impl From<TcpStream> for Io {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(stream) => stream.fmt(f),
            Self::Made(_) => f.write_str("Made"),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Made(stream) => stream.as_mut().poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Made(stream) => stream.as_mut().poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Made(stream) => stream.as_mut().poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Made(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Made(stream) => stream.as_mut().poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Made(stream) => stream.as_mut().poll_shutdown(cx),
        }
    }
}
