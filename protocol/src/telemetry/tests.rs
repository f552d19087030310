//! The whole way of a span: recorded, buffered, served over the tunnel, sent on, received by a collector.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

fn finished(name: &'static str) -> Finished {
    Finished {
        name,
        at: Traceparent::new_root(),
        parent: None,
        start: Timestamp::from_second(1_000).unwrap(),
        end: Timestamp::from_second(1_060).unwrap(),
        error: None,
        attributes: vec![("cluster.name", "backend".to_owned())],
        links: Vec::new(),
    }
}

fn names(request: &ExportTraceServiceRequest) -> Vec<String> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| &scope.spans).map(|span| span.name.clone()).collect()
}

fn service_name(request: &ExportTraceServiceRequest) -> String {
    let attributes = &request.resource_spans[0].resource.as_ref().unwrap().attributes;
    format!("{:?}", attributes.iter().find(|attribute| attribute.key == "service.name").unwrap().value)
}

/// A collector that hands every request to the test.
struct Received(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.send(request.into_inner()).await.unwrap();
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn grpc_collector() -> (String, mpsc::Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel(16);
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Received(sender)));
    crate::task::spawn("test.collector", crate::task::Kind::Service, async move {
        server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)).await.unwrap();
    });
    (url, receiver)
}

async fn http_collector() -> (String, mpsc::Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel(16);
    crate::task::spawn("test.collector", crate::task::Kind::Service, async move {
        let (io, _) = listener.accept().await.unwrap();
        let answer = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let sender = sender.clone();
            async move {
                assert_eq!(request.uri().path(), "/v1/traces");
                let body = request.into_body().collect().await?.to_bytes();
                sender.send(ExportTraceServiceRequest::decode(body).unwrap()).await.unwrap();
                Ok::<_, hyper::Error>(http::Response::new(Full::new(bytes::Bytes::new())))
            }
        });
        let io = hyper_util::rt::TokioIo::new(io);
        hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await.unwrap();
    });
    (url, receiver)
}

fn to(url: &str, protocol: Protocol) -> Exporter {
    Exporter::collector(otlp::Collector::new(url, protocol).unwrap(), &resource("lattice-manager", "1", &[]))
}

#[tokio::test]
async fn an_operation_begun_elsewhere_is_exported_with_its_ids_and_times() {
    let (url, mut received) = grpc_collector().await;
    let exporter = to(&url, Protocol::Grpc);
    let root = finished("cluster.provision");
    let ids = (root.at.trace_id(), root.at.span_id());
    exporter.export(root);
    let request = received.recv().await.unwrap();
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    let hex = crate::tls::hex;
    assert_eq!((hex(&span.trace_id), hex(&span.span_id)), ids);
    assert!(span.parent_span_id.is_empty(), "it is a root");
    assert_eq!(span.start_time_unix_nano, 1_000_000_000_000);
    assert_eq!(span.end_time_unix_nano, 1_060_000_000_000);
}

#[tokio::test]
async fn spans_reach_an_http_collector() {
    let (url, mut received) = http_collector().await;
    let exporter = to(&url, Protocol::HttpProtobuf);
    exporter.export(finished("cluster.delete"));
    assert_eq!(names(&received.recv().await.unwrap()), ["cluster.delete"]);
}

#[tokio::test]
async fn an_agents_spans_arrive_under_the_agents_own_name() {
    let (url, mut received) = grpc_collector().await;
    let manager = to(&url, Protocol::Grpc);
    let (name, uid) = ("backend".parse().unwrap(), "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().unwrap());
    // What an agent says of whose its spans are counts for nothing.
    let agent = Exporter::tunnel(&resource("lattice-agent", "1", &[(CLUSTER_NAME, "another".to_owned())]));
    let provider = SdkTracerProvider::builder().with_span_processor(agent.processor().unwrap()).build();
    let operation = Traceparent::new_root();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(spans(&provider, "test")), || {
        let span = tracing::info_span!(target: "lattice_agent", "component.apply", component = "cilium");
        follow(&span, &operation);
        let _entered = span.enter();
        tracing::info_span!(target: "h2::codec", "noise").in_scope(|| ());
    });
    let batches = serve(agent).take(1).boxed();
    assert_eq!(forward(&manager, (&name, &uid), batches).await, 0);
    let request = received.recv().await.unwrap();
    assert_eq!(names(&request), ["component.apply"], "spans of other crates stay out");
    assert!(service_name(&request).contains("lattice-agent"));
    let attributes = &request.resource_spans[0].resource.as_ref().unwrap().attributes;
    let named: Vec<_> = attributes.iter().filter(|one| one.key == CLUSTER_NAME).map(|one| format!("{one:?}")).collect();
    assert!(named.len() == 1 && named[0].contains("backend"), "{named:?}");
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(format!("{:032x}", u128::from_be_bytes(span.trace_id[..].try_into().unwrap())), operation.trace_id());
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_away_costs_its_spans_only() {
    // Nothing listens on port 9 (discard) of loopback.
    let exporter = to("http://127.0.0.1:9", Protocol::Grpc);
    for _ in 0..3_000 {
        exporter.export(finished("cluster.scale"));
    }
    let started = tokio::time::Instant::now();
    exporter.drain(FLUSH_AT_MOST).await;
    assert!(started.elapsed() <= FLUSH_AT_MOST, "the end of the process waits at most {FLUSH_AT_MOST:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_waits_only_for_spans_that_somebody_takes() {
    let exporter = Exporter::tunnel(&resource("lattice-agent", "1", &[]));
    exporter.export(finished("cluster.scale"));
    let waited = async || {
        let started = tokio::time::Instant::now();
        exporter.drain(FLUSH_AT_MOST).await;
        started.elapsed()
    };
    assert_eq!(waited().await, Duration::ZERO, "no session, so nobody will ever take it");
    let stream = serve(exporter.clone());
    assert!(waited().await >= FLUSH_AT_MOST, "the stream of a session that is there may still take it");
    drop(stream);
    assert_eq!(waited().await, Duration::ZERO);
}

#[test]
fn a_full_buffer_drops_the_oldest_and_says_how_many() {
    let exporter = Exporter::tunnel(&resource("lattice-agent", "1", &[]));
    for _ in 0..1_030 {
        exporter.export(finished("cluster.upgrade"));
    }
    let taken = exporter.take(2_000);
    assert_eq!((taken.spans, taken.dropped), (1_024, 6));
    assert_eq!(exporter.take(2_000).dropped, 0);
}

#[test]
fn an_endpoint_that_cannot_work_is_refused_with_the_cure() {
    for url in ["https://collector:4317", "collector:4317", "http://"] {
        let error = otlp::Collector::new(url, Protocol::Grpc).unwrap_err();
        assert!(error.to_string().contains(url), "{error}");
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn current_span_is_the_one_that_goes_over_the_wire() {
    let agent = Exporter::tunnel(&resource("lattice-agent", "1", &[]));
    let provider = SdkTracerProvider::builder().with_span_processor(agent.processor().unwrap()).build();
    let lines = tracing_subscriber::fmt::layer().with_writer(Sink::default);
    let subscriber = tracing_subscriber::registry().with(spans(&provider, "test")).with(lines);
    tracing::subscriber::with_default(subscriber, || {
        let operation = Traceparent::new_root();
        let span = tracing::info_span!(target: "lattice_manager", "effect.perform");
        follow(&span, &operation);
        let _entered = span.enter();
        let mut metadata = tonic::metadata::MetadataMap::new();
        inject(&mut metadata, Some(&operation));
        let sent = extract(&metadata).unwrap();
        assert_eq!(sent.trace_id(), operation.trace_id());
        assert_ne!(sent.span_id(), operation.span_id(), "the effect's own span, not its parent");
    });
}
