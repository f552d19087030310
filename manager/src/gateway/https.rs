//! One HTTPS listener, HTTP/1.1 and HTTP/2: bounded connections, bounded heads, bounded waits, drained on shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use lattice_protocol::limits::{HANDSHAKE_TIMEOUT, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, REQUEST_HEAD_TIMEOUT};
use lattice_protocol::task::Kind;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Place};
use super::hint;
use super::stop::Stop;

mod held;

pub(super) use self::held::Endless;
use self::held::Held;

/// Connections that a listener holds at once; more are closed unheard.
const CONNECTIONS_MAX: usize = 4096;
/// Connections of one source address: the other half stays for everybody else. Cluster API's controllers come from one
/// address, with one or two connections for each cluster.
const CONNECTIONS_PER_SOURCE: usize = CONNECTIONS_MAX / 2;
/// Requests that one HTTP/2 connection may have open. client-go's default expectation is 100 or more; Cluster API's
/// watches of one cluster share a connection.
const H2_STREAMS_MAX: u32 = 250;
/// How often an idle HTTP/2 client is asked whether it is there.
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long its answer may take.
const H2_PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may take, in a drain, to send what is left when its last answer has an end. Lower cuts slow
/// readers short; higher lets one that does not read hold up the stop.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Pause after a failed accept: usually the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The certificates that a client showed, leaf first: an extension of its requests. Nobody has verified who vouches for
/// them.
#[derive(Clone, Debug)]
pub(super) struct ClientCertificates(pub(super) Arc<Vec<CertificateDer<'static>>>);

/// Answers requests of one listener.
pub(super) trait Answer: Clone + Send + Sync + 'static {
    /// The answers' body.
    type Body: Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Answers one request from `from`.
    fn answer(&self, request: Request<Incoming>, from: SocketAddr)
    -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Serves until `stop` asks to drain.
pub(super) fn serve(
    stop: &Stop,
    name: &'static str,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    answer: impl Answer,
) {
    let acceptor = TlsAcceptor::from(tls);
    let room = Admission::new(CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE);
    let handshakes = Admission::default();
    let inner = stop.clone();
    stop.spawn(name, Kind::Service, async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = inner.drain.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let places = room.at_once(from.ip()).zip(handshakes.at_once(from.ip()));
                    let Some(places) = places else {
                        tracing::debug!(%from, "no room for a connection");
                        continue;
                    };
                    let connection = connection(inner.clone(), acceptor.clone(), stream, from, answer.clone(), places);
                    inner.spawn("gateway.connection", Kind::Request, connection);
                }
                Err(error) => {
                    tracing::warn!(listener = name, error = %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

async fn connection(
    stop: Stop,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    from: SocketAddr,
    answer: impl Answer,
    (_place, handshake): (Place, Place),
) {
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            hint::say(from, &error.to_string());
            return tracing::debug!(%from, error = %error, "TLS handshake failed");
        }
        Err(_) => return tracing::debug!(%from, "TLS handshake took too long"),
    };
    drop(handshake);
    let shown = stream.get_ref().1.peer_certificates().map(|chain| ClientCertificates(Arc::new(chain.to_vec())));
    let open = TaskTracker::new();
    let counted = open.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (answer, open) = (answer.clone(), counted.token());
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
        async move { Ok::<_, Infallible>(Held::wrap(answer.answer(request, from).await, open)) }
    });
    let builder = builder();
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            open.close();
            let done = async {
                open.wait().await;
                tokio::time::sleep(LAST_WORDS).await;
            };
            tokio::select! {
                biased;
                ended = serving.as_mut() => ended,
                // A client that does not read, or does not hang up.
                () = done => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, error = %error, "connection ended early");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .max_headers(HTTP_HEADERS_MAX)
        .max_buf_size(HTTP_HEAD_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(HTTP_HEAD_BYTES_MAX)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}
