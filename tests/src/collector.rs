//! A small OpenTelemetry collector: takes traces over gRPC and keeps them, so that a test can look at the tree of spans.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// One span, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Trace id, hex.
    pub trace: String,
    /// Span id, hex.
    pub id: String,
    /// Parent's span id, hex; empty for a root.
    pub parent: String,
    /// Name, for example `cluster.provision`.
    pub name: String,
    /// `service.name` of the resource that it came from.
    pub service: String,
    /// String attributes.
    pub attributes: Vec<(String, String)>,
    /// Start, nanoseconds since the Unix epoch.
    pub start: u64,
    /// End, nanoseconds since the Unix epoch.
    pub end: u64,
}

/// A collector on a loopback port.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    count: watch::Receiver<usize>,
    server: tokio::task::JoinHandle<()>,
}

struct Service {
    spans: Arc<Mutex<Vec<Span>>>,
    count: watch::Sender<usize>,
}

impl Collector {
    /// Starts listening on a free loopback port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let spans = Arc::new(Mutex::new(Vec::new()));
        let (sender, count) = watch::channel(0);
        let service = TraceServiceServer::new(Service { spans: spans.clone(), count: sender });
        #[expect(clippy::disallowed_methods, reason = "a test's server, ended when the collector is dropped")]
        let server = tokio::spawn(async move {
            let served = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await;
            if let Err(error) = served {
                tracing::error!(%error, "collector ended");
            }
        });
        Ok(Self { address, spans, count, server })
    }

    /// What OTEL_EXPORTER_OTLP_ENDPOINT should be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `enough` says yes to the spans so far.
    pub async fn until(&mut self, mut enough: impl FnMut(&[Span]) -> bool) -> Result<Vec<Span>> {
        let waiting = async {
            loop {
                self.count.borrow_and_update();
                let spans = self.spans();
                if enough(&spans) {
                    return Ok(spans);
                }
                self.count.changed().await.context("the collector ended")?;
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), waiting).await {
            Ok(result) => result,
            Err(_) => {
                let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
                let names: Vec<_> = spans.iter().map(|span| format!("{} {}", span.service, span.name)).collect();
                bail!("not enough after a minute; {} spans: {names:?}", names.len())
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let service = resource
                .resource
                .iter()
                .flat_map(|resource| &resource.attributes)
                .find(|attribute| attribute.key == "service.name")
                .map(|attribute| text(attribute.value.as_ref()))
                .unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.push(Span {
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    name: span.name,
                    service: service.clone(),
                    attributes: span.attributes.iter().map(|a| (a.key.clone(), text(a.value.as_ref()))).collect(),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                });
            }
        }
        self.count.send_replace(kept.len());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
