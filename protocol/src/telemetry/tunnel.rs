//! Spans over the tunnel: the agent serves its finished spans, the manager sends them on.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tonic::Status;

use super::exporter::Exporter;
use crate::v1::SpanBatch;

/// Most spans in one batch: with the SDK's limits on attributes it stays far below the 512 KiB that the wire allows.
const BATCH_SPANS: usize = 128;

/// Pause before a batch, so that spans gather. Higher makes traces appear late; lower makes more messages.
const GATHER: Duration = Duration::from_millis(200);

/// Serves finished spans as batches, for `Telemetry.Spans` on the agent; ends when the receiver goes.
pub fn serve(exporter: Exporter) -> impl Stream<Item = Result<SpanBatch, Status>> + Send + 'static {
    futures::stream::unfold((exporter, None), |(exporter, sent)| async move {
        // Being asked for the next batch means that the transport took the last one.
        drop(sent);
        exporter.filled().await;
        tokio::time::sleep(GATHER).await;
        // Nothing may wait between taking and handing over: a stream that is dropped in between would lose the batch.
        let taken = exporter.take(BATCH_SPANS);
        exporter.count_sent(taken.spans);
        let batch = SpanBatch { export_trace_service_request: taken.request, dropped: taken.dropped };
        Some((Ok(batch), (exporter, taken.leaving)))
    })
}

/// Sends the spans of an agent on to the collector until its stream ends. Returns the number of spans that the agent had
/// to drop.
pub async fn forward<S>(exporter: &Exporter, mut batches: S) -> u64
where
    S: Stream<Item = Result<SpanBatch, Status>> + Unpin,
{
    let mut dropped = 0;
    while let Some(Ok(batch)) = batches.next().await {
        dropped += batch.dropped;
        if !batch.export_trace_service_request.is_empty() {
            exporter.send_on(batch.export_trace_service_request).await;
        }
    }
    dropped
}
