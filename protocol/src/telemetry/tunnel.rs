//! Spans over the tunnel: the agent serves its finished spans, the manager sends them on.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tonic::Status;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;

use super::exporter::Exporter;
use crate::ids::{ClusterName, ClusterUid};
use crate::v1::SpanBatch;

/// Most spans in one batch: with the SDK's limits on attributes it stays far below the 512 KiB that the wire allows.
const BATCH_SPANS: usize = 128;

/// Pause before a batch, so that spans gather. Higher makes traces appear late; lower makes more messages.
const GATHER: Duration = Duration::from_millis(200);

/// Resource attribute with the name of the cluster that spans come from.
pub const CLUSTER_NAME: &str = "lattice.cluster.name";

/// Resource attribute with its uid.
pub const CLUSTER_UID: &str = "lattice.cluster.uid";

/// Serves finished spans as batches, for `Telemetry.Spans` on the agent; ends when the receiver goes.
pub fn serve(exporter: Exporter) -> impl Stream<Item = Result<SpanBatch, Status>> + Send + 'static {
    let taker = exporter.taker();
    futures::stream::unfold((exporter, taker, None), |(exporter, taker, sent)| async move {
        // Being asked for the next batch means that the transport took the last one.
        drop(sent);
        exporter.filled().await;
        tokio::time::sleep(GATHER).await;
        // Nothing may wait between taking and handing over: a stream that is dropped in between would lose the batch.
        let taken = exporter.take(BATCH_SPANS);
        exporter.count_sent(taken.spans);
        let batch = SpanBatch { export_trace_service_request: taken.request, dropped: taken.dropped };
        Some((Ok(batch), (exporter, taker, taken.leaving)))
    })
}

/// Sends the spans of the agent of `cluster` on to the collector until its stream ends. Returns the number of spans that
/// the agent had to drop. Whose they are is what its certificate says: an agent cannot put spans to another cluster's name.
pub async fn forward<S>(exporter: &Exporter, cluster: (&ClusterName, &ClusterUid), mut batches: S) -> u64
where
    S: Stream<Item = Result<SpanBatch, Status>> + Unpin,
{
    let mut dropped = 0;
    while let Some(Ok(batch)) = batches.next().await {
        dropped += batch.dropped;
        if !batch.export_trace_service_request.is_empty() {
            match attributed(&batch.export_trace_service_request, cluster) {
                Some(request) => exporter.send_on(request).await,
                None => dropped += 1,
            }
        }
    }
    dropped
}

/// The same request, with the cluster named by us; none for bytes that are no request.
fn attributed(request: &[u8], (name, uid): (&ClusterName, &ClusterUid)) -> Option<Bytes> {
    let mut request = ExportTraceServiceRequest::decode(request).ok()?;
    for spans in &mut request.resource_spans {
        let attributes = &mut spans.resource.get_or_insert_default().attributes;
        attributes.retain(|attribute| attribute.key != CLUSTER_NAME && attribute.key != CLUSTER_UID);
        for (key, value) in [(CLUSTER_NAME, name.as_str()), (CLUSTER_UID, uid.as_str())] {
            let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
            attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
        }
    }
    Some(Bytes::from(request.encode_to_vec()))
}
