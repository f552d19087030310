//! `Telemetry.Spans`: the agent's own spans, for the parent to export.

use std::pin::Pin;

use futures::Stream;
use lattice_protocol::telemetry::{self, Exporter};
use lattice_protocol::v1::telemetry_server::Telemetry;
use lattice_protocol::v1::{SpanBatch, SpansRequest};
use tonic::{Request, Response, Status};

/// Serves the spans that wait in the exporter.
pub(super) struct Service(Exporter);

impl Service {
    pub(super) fn new(exporter: Exporter) -> Self {
        Self(exporter)
    }
}

#[tonic::async_trait]
impl Telemetry for Service {
    type SpansStream = Pin<Box<dyn Stream<Item = Result<SpanBatch, Status>> + Send>>;

    async fn spans(&self, _request: Request<SpansRequest>) -> Result<Response<Self::SpansStream>, Status> {
        Ok(Response::new(Box::pin(telemetry::serve(self.0.clone()))))
    }
}
