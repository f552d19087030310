//! Health and metrics, on loopback only: `/healthz`, `/readyz`, `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::telemetry::Exporter;
use lattice_protocol::v1::component_report::State;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::apply::{Board, Posted};
use crate::dial::Link;
use crate::observe::Observed;

/// Most connections at once: scrapers and probes are few.
const CONNECTIONS_MAX: usize = 16;

/// Longest life of one connection.
const CONNECTION_AT_MOST: Duration = Duration::from_secs(30);

/// What is shown.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// The connection to the parent.
    pub link: watch::Receiver<Link>,
    /// The components.
    pub board: Board,
    /// The cluster.
    pub observed: Observed,
    /// Spans on their way out.
    pub exporter: Exporter,
}

/// Serves until the process ends.
///
/// # Errors
/// The system's words when the address cannot be bound.
pub async fn start(monitor: Monitor, at: SocketAddr, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(at).await?;
    let bound = listener.local_addr()?;
    task::spawn("monitor.serve", Kind::Service, async move {
        stop.run_until_cancelled(accept(listener, Arc::new(monitor))).await;
    });
    Ok(bound)
}

async fn accept(listener: TcpListener, monitor: Arc<Monitor>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let io = match listener.accept().await {
            Ok((io, _)) => io,
            Err(error) => {
                // Out of descriptors, most likely: others must end first.
                tracing::debug!(error = %error, "health connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let monitor = Arc::clone(&monitor);
        task::spawn("monitor.connection", Kind::Request, async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = monitor.answer(request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5));
            let served = http.serve_connection(TokioIo::new(io), answer);
            // A scraper that breaks off or stays too long is no news.
            let _ = tokio::time::timeout(CONNECTION_AT_MOST, served).await;
            drop(place);
        });
    }
}

impl Monitor {
    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.ready(),
            "/metrics" => text(StatusCode::OK, self.metrics()),
            _ => text(StatusCode::NOT_FOUND, "try /healthz, /readyz or /metrics\n".to_owned()),
        }
    }

    /// Ready means: the cluster's API was read, so components are kept. The parent may be away for that; the text says.
    fn ready(&self) -> Response<Full<Bytes>> {
        let loaded = self.board.follow().borrow().loaded;
        let nodes = self.observed.look(|world| world.nodes.rows().is_some());
        let link = self.link.borrow().clone();
        let parent = match link.connected {
            Some((since, transport)) => format!("connected over {} since {since}", transport.as_str()),
            None if link.last_failure.is_empty() => "not connected yet".to_owned(),
            None => format!("not connected: {}", link.last_failure),
        };
        let say = |known| if known { "known" } else { "not known yet" };
        let code = if loaded && nodes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(code, format!("parent: {parent}\ncomponents: {}\nnodes: {}\n", say(loaded), say(nodes)))
    }

    fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("lattice_agent");
        let link = self.link.borrow().clone();
        registry.register("connected", "Whether the parent is connected", count(usize::from(link.connected.is_some())));
        registry.register("sessions", "Sessions with the parent so far", ConstCounter::new(link.sessions));
        registry.register("connection_failures", "Failed tries to connect so far", ConstCounter::new(link.failures));
        let (sent, dropped) = self.exporter.counts();
        registry.register("spans_sent", "Spans that left so far", ConstCounter::new(sent));
        registry.register("spans_dropped", "Spans that were lost so far", ConstCounter::new(dropped));
        let nodes = self.observed.look(|world| {
            world.nodes.rows().map(|nodes| (nodes.len(), nodes.values().filter(|node| node.ready.holds).count()))
        });
        if let Some((all, ready)) = nodes {
            registry.register("nodes", "Nodes of the cluster", count(all));
            registry.register("nodes_ready", "Ready nodes of the cluster", count(ready));
        }
        components(&mut registry, &self.board.follow().borrow());
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut page, &registry);
        page
    }
}

/// One line per component with its state: cardinality is bounded by the catalog.
fn components(registry: &mut Registry, posted: &Posted) {
    let states = Family::<Vec<(&'static str, String)>, Gauge>::default();
    let attempts = Family::<Vec<(&'static str, String)>, Gauge>::default();
    for report in posted.reports.values().flatten() {
        let component = ("component", report.component.clone());
        let state = State::try_from(report.state).unwrap_or_default().as_str_name().to_ascii_lowercase();
        states.get_or_create(&vec![component.clone(), ("state", state)]).set(1);
        attempts.get_or_create(&vec![component]).set(report.attempt.into());
    }
    registry.register("component_state", "1 for the state that a component is in", states);
    registry.register("component_attempts", "Applies of the component since it last succeeded", attempts);
}

fn count(value: usize) -> Gauge<i64, AtomicI64> {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

fn text(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
