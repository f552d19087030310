//! The way out for finished spans.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use tokio::sync::mpsc;

use super::buffer::{Buffer, Leaving};
use super::finished::Finished;
use super::otlp;
use crate::task;

/// Most requests of agents that wait for the collector. Higher costs memory while it is away (up to 512 KiB each); lower
/// makes agents wait, whose own buffers are bounded too.
const FORWARD_QUEUE: usize = 16;

/// Where finished spans go; clones share it.
#[derive(Clone, Debug)]
pub struct Exporter(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    buffer: Buffer,
    resource: ResourceAttributesWithSchema,
    /// Requests that are encoded already; none where spans leave over the tunnel.
    collector: Option<mpsc::Sender<Taken>>,
    counts: Arc<Counts>,
    /// Streams that take spans over the tunnel.
    takers: AtomicUsize,
}

/// Somebody takes spans over the tunnel, until this is dropped.
#[derive(Debug)]
pub(super) struct Taker(Exporter);

impl Drop for Taker {
    fn drop(&mut self) {
        if let Some(inner) = &self.0.0 {
            inner.takers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What became of spans so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Exporter {
    /// Exports nothing.
    pub fn off() -> Self {
        Self(None)
    }

    pub(super) fn tunnel(resource: &Resource) -> Self {
        Self(Some(Arc::new(Inner {
            buffer: Buffer::default(),
            resource: resource.into(),
            collector: None,
            counts: Arc::default(),
            takers: AtomicUsize::default(),
        })))
    }

    pub(super) fn collector(collector: otlp::Collector, resource: &Resource) -> Self {
        let (sender, requests) = mpsc::channel(FORWARD_QUEUE);
        let inner = Arc::new(Inner {
            buffer: Buffer::default(),
            resource: resource.into(),
            collector: Some(sender),
            counts: Arc::default(),
            takers: AtomicUsize::default(),
        });
        let exporter = Self(Some(inner));
        task::spawn("telemetry.export", task::Kind::Service, otlp::export(exporter.clone(), collector, requests));
        exporter
    }

    pub(super) fn processor(&self) -> Option<Buffer> {
        self.0.as_ref().map(|inner| inner.buffer.clone())
    }

    /// Whether spans are recorded at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether spans of agents have somewhere to go from here: ask an agent for its spans only then.
    pub fn has_collector(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.collector.is_some())
    }

    /// Exports a span that is described after the fact.
    pub fn export(&self, span: Finished) {
        if let Some(inner) = &self.0
            && span.at.is_sampled()
        {
            inner.buffer.push(span.into_span());
        }
    }

    /// Spans that reached the collector so far, and spans that were lost.
    pub fn counts(&self) -> (u64, u64) {
        self.0.as_ref().map_or((0, 0), |inner| {
            (inner.counts.sent.load(Ordering::Relaxed), inner.counts.dropped.load(Ordering::Relaxed))
        })
    }

    /// Sends on what an agent exported; waits while the queue to the collector is full, so that the agent's bounded buffer
    /// and not ours fills.
    pub(super) async fn send_on(&self, request: Bytes) {
        if let Some(inner) = &self.0
            && let Some(sender) = &inner.collector
        {
            // Fails only when the process ends.
            let _ = sender.send(Taken { request, leaving: Some(inner.buffer.leaving()), ..Taken::default() }).await;
        }
    }

    /// Notes that somebody takes spans from now on.
    pub(super) fn taker(&self) -> Taker {
        if let Some(inner) = &self.0 {
            inner.takers.fetch_add(1, Ordering::Relaxed);
        }
        Taker(self.clone())
    }

    /// Waits until a finished span is there; for ever when nothing is recorded.
    pub(super) async fn filled(&self) {
        match &self.0 {
            Some(inner) => inner.buffer.filled().await,
            None => std::future::pending().await,
        }
    }

    /// Takes up to `spans` finished spans, encoded, with the number dropped since the last call.
    pub(super) fn take(&self, spans: usize) -> Taken {
        let Some(inner) = &self.0 else { return Taken::default() };
        let leaving = Some(inner.buffer.leaving());
        let (taken, dropped) = inner.buffer.take(spans);
        inner.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
        Taken { spans: taken.len() as u64, dropped, request: encode(taken, &inner.resource), leaving }
    }

    pub(super) fn count_sent(&self, spans: u64) {
        if let Some(inner) = &self.0 {
            inner.counts.sent.fetch_add(spans, Ordering::Relaxed);
        }
    }

    pub(super) fn count_lost(&self, spans: u64) {
        if let Some(inner) = &self.0 {
            inner.buffer.count_dropped(spans);
        }
    }

    /// Waits until all spans have left, at most `limit`; not at all when nobody takes them.
    pub(super) async fn drain(&self, limit: Duration) {
        if let Some(inner) = &self.0
            && (inner.collector.is_some() || inner.takers.load(Ordering::Relaxed) > 0)
        {
            inner.buffer.emptied(limit).await;
        }
    }
}

/// Spans on their way out. `spans` is 0 where an agent made the request: it counted them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) spans: u64,
    pub(super) dropped: u64,
    pub(super) request: Bytes,
    /// Dropped once the request arrived or was given up.
    pub(super) leaving: Option<Leaving>,
}

fn encode(spans: Vec<SpanData>, resource: &ResourceAttributesWithSchema) -> Bytes {
    let resource_spans = group_spans_by_resource_and_scope(spans, resource);
    Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec())
}
