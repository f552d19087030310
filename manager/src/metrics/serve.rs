//! The HTTP listener of metrics and health.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use lattice_protocol::task::{self, Kind};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Metrics;

/// Connections at a time: scrapers and probes are few.
const CONNECTIONS_MAX: usize = 32;
/// Longest life of a connection.
const CONNECTION_SECONDS: u64 = 30;

/// Why the listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for metrics on {addr}")]
pub struct Error {
    addr: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Answers `/metrics`, `/healthz` and `/readyz` on `addr` until `stop`; returns the address that is bound.
pub async fn serve(addr: SocketAddr, metrics: Metrics, stop: CancellationToken) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(addr).await.map_err(|source| Error { addr, source })?;
    let bound = listener.local_addr().map_err(|source| Error { addr, source })?;
    task::spawn("metrics", Kind::Service, accept(listener, metrics, stop));
    Ok(bound)
}

async fn accept(listener: TcpListener, metrics: Metrics, stop: CancellationToken) {
    let slots = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, slot) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (listener.accept().await, slot)
            } => match accepted {
                (Ok((stream, _)), Ok(slot)) => (stream, slot),
                // No file descriptor is left: give others time to close theirs.
                _ => { tokio::time::sleep(std::time::Duration::from_millis(200)).await; continue }
            },
        };
        let metrics = metrics.clone();
        task::spawn("metrics.connection", Kind::Request, async move {
            let _slot = slot;
            let service = service_fn(move |request| {
                let metrics = metrics.clone();
                async move { Ok::<_, Infallible>(answer(&request, &metrics)) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection(TokioIo::new(stream), service);
            let limit = std::time::Duration::from_secs(CONNECTION_SECONDS);
            if let Ok(Err(error)) = tokio::time::timeout(limit, connection).await {
                tracing::debug!(error = &*error as &dyn std::error::Error, "connection failed");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => match metrics.text() {
            Ok(body) => {
                let mut response = text(StatusCode::OK, body);
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
                response
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n".to_owned()),
        },
        "/healthz" => health(metrics.is_alive(), "a thread of actors is blocked"),
        "/readyz" => health(metrics.is_ready(), "the Lease is not held, or the listeners are not open"),
        _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz, /readyz\n".to_owned()),
    }
}

fn health(good: bool, otherwise: &str) -> Response<Full<Bytes>> {
    if good {
        text(StatusCode::OK, "ok\n".to_owned())
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{otherwise}\n"))
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
