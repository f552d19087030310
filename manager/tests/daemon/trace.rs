//! The spans of a cluster's operations, as a collector receives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use kube::api::DeleteParams;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::{Request, Response, Status};

use super::harness::{Daemon, World, phase, until};

/// Takes in spans over OTLP.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.0.lock().expect("no panic before").extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        lattice_protocol::task::spawn("collector", lattice_protocol::task::Kind::Request, async move {
            server.serve_with_incoming(incoming).await.expect("the collector serves");
        });
        (collector, url)
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().expect("no panic before").clone()
    }

    /// Waits until a span of a name has come.
    async fn has(&self, name: &str) {
        until(&format!("span {name}"), async || self.spans().iter().any(|span| span.name == name).then_some(())).await;
    }
}

/// Spans of the trace that a root begins, by id. Every other one's parent is among them.
#[track_caller]
fn whole_trace(spans: &[Span], root: &str) -> BTreeMap<Vec<u8>, Span> {
    let roots: Vec<&Span> = spans.iter().filter(|span| span.name == root).collect();
    assert!(!roots.is_empty(), "{root} was exported");
    let trace = &roots[0].trace_id;
    let of_trace = spans.iter().filter(|span| span.trace_id == *trace);
    let by_id: BTreeMap<Vec<u8>, Span> = of_trace.map(|span| (span.span_id.clone(), span.clone())).collect();
    for span in by_id.values() {
        assert!(span.parent_span_id.is_empty() == (span.name == root), "only {root} has no parent, not {}", span.name);
        assert!(
            span.parent_span_id.is_empty() || by_id.contains_key(&span.parent_span_id),
            "the parent of {} was not exported",
            span.name
        );
    }
    by_id
}

fn names(spans: &BTreeMap<Vec<u8>, Span>) -> BTreeSet<&str> {
    spans.values().map(|span| span.name.as_str()).collect()
}

fn start(world: &World, url: &str) -> Daemon {
    world.start_with("pod-a", &["--otlp-endpoint", url])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_one_trace_also_when_the_manager_is_killed_in_its_middle() {
    let world = World::ready().await;
    let (collector, url) = Collector::start().await;
    let daemon = start(&world, &url);
    world.create_cluster("backend").await;
    world.cluster_when("backend", "is Provisioning", |cluster| phase(cluster) == "Provisioning").await;
    daemon.kill().await;
    let daemon = start(&world, &url);
    until("the worker pool is applied", async || {
        world.objects("backend").await.iter().any(|object| object.starts_with("MachineDeployment ")).then_some(())
    })
    .await;
    world.clusters().delete("backend", &DeleteParams::default()).await.expect("it is deleted");
    collector.has("cluster.delete").await;
    assert_eq!(daemon.terminate().await, Some(0), "the last spans leave before it ends");

    let spans = collector.spans();
    let provision = whole_trace(&spans, "cluster.provision");
    assert!(
        names(&provision).is_superset(&BTreeSet::from([
            "cluster.provision",
            "phase.pending",
            "phase.provisioning",
            "effect.perform",
        ])),
        "{:?}",
        names(&provision)
    );
    let phases: BTreeMap<&str, &Vec<u8>> = provision.values().map(|span| (span.name.as_str(), &span.span_id)).collect();
    let applied = provision.values().find(|span| {
        span.attributes.iter().any(|a| a.key == "effect" && format!("{:?}", a.value).contains("apply_objects"))
    });
    let applied = applied.expect("the span of the objects' application");
    assert_eq!(&applied.parent_span_id, phases["phase.provisioning"], "effects hang below their phase");

    let delete = whole_trace(&spans, "cluster.delete");
    assert!(names(&delete).contains("effect.perform"), "{:?}", names(&delete));
}
