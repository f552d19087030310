//! A span that is described after the fact: the operation began in another process, and this one ends it.

use std::borrow::Cow;
use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry::trace::{Link, SpanId, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::traceparent::Traceparent;

/// A finished span with chosen ids and times, for [`super::Exporter::export`].
#[derive(Clone, Debug)]
pub struct Finished {
    /// Name of the span, static: `cluster.provision`.
    pub name: &'static str,
    /// Its trace and its own id.
    pub at: Traceparent,
    /// Its parent; a root has none.
    pub parent: Option<Traceparent>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What went wrong; none is success.
    pub error: Option<String>,
    /// Attributes: `cluster.name`, `cluster.uid`, …
    pub attributes: Vec<(&'static str, String)>,
    /// Spans that it is related to.
    pub links: Vec<Traceparent>,
}

impl Finished {
    pub(super) fn into_span(self) -> SpanData {
        let mut links = SpanLinks::default();
        links.links = self.links.iter().map(|to| Link::with_context(to.span_context())).collect();
        SpanData {
            span_context: self.at.own_context(),
            parent_span_id: self.parent.map_or(SpanId::INVALID, |parent| parent.span()),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed(self.name),
            start_time: SystemTime::from(self.start),
            end_time: SystemTime::from(self.end.max(self.start)),
            attributes: self.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.error.map_or(Status::Ok, Status::error),
            instrumentation_scope: InstrumentationScope::builder("lattice").build(),
        }
    }
}
