//! gRPC over streams: plain tonic on both ends.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{Error, Priority, Session, Stream, Tag, Transport};
use crate::tls::Identity;

/// Streams that wait for the gRPC server to take them.
const INCOMING_QUEUE: usize = 16;

/// Makes a gRPC client whose HTTP/2 connection is a stream of the session. tonic opens a new stream when one breaks.
///
/// One channel for short calls; anything bulky (bundles, archives) gets a channel, hence a stream, of its own: one HTTP/2
/// connection for both makes the short calls thirty times slower on a lossy link.
pub fn grpc_channel(session: &Session, priority: Priority) -> Channel {
    let session = session.clone();
    let connect = service_fn(move |_: http::Uri| {
        let session = session.clone();
        async move { session.open(Tag::Grpc, priority).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://tunnel").connect_with_connector_lazy(connect)
}

/// A `G` stream on its way into a tonic server.
#[derive(Debug)]
pub struct Peer {
    stream: Stream,
    info: PeerInfo,
}

/// Who is at the other end of a gRPC call: `request.extensions().get::<PeerInfo>()`.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The verified identity.
    pub identity: Identity,
    /// Its address when the stream came.
    pub remote: SocketAddr,
    /// What carries the session.
    pub transport: Transport,
}

/// The `G` streams of a process, for `Server::serve_with_incoming`. Ends when every sender is gone.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Peer>);

/// Hands `G` streams to an [`Incoming`].
#[derive(Clone, Debug)]
pub struct IncomingSender(mpsc::Sender<Peer>);

impl Incoming {
    /// Makes a queue between the accept loop of a session and a gRPC server.
    pub fn channel() -> (IncomingSender, Self) {
        let (sender, receiver) = mpsc::channel(INCOMING_QUEUE);
        (IncomingSender(sender), Self(receiver))
    }
}

impl IncomingSender {
    /// Hands over a stream of `session`. A stream that finds no server or no room is reset; the peer may try again.
    pub fn hand_over(&self, session: &Session, stream: Stream) {
        let info =
            PeerInfo { identity: session.peer().clone(), remote: session.remote(), transport: session.transport() };
        if self.0.try_send(Peer { stream, info }).is_err() {
            tracing::debug!("a gRPC stream found no room and was reset");
        }
    }
}

impl tokio_stream::Stream for Incoming {
    type Item = Result<Peer, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|peer| peer.map(Ok))
    }
}

impl Connected for Peer {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Stream(source) => source,
            other => Self::other(other),
        }
    }
}
