//! The W3C `traceparent` as a value: which trace, and which span in it, something belongs to.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use serde::{Deserialize, Serialize};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// A text that is no `traceparent` (W3C Trace Context, version 00).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no W3C traceparent")]
pub struct Invalid(pub String);

/// Names one span of one trace; its text form is the W3C header `00-<trace>-<span>-<flags>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Traceparent {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl Traceparent {
    /// Makes a new trace and names its root span, sampled.
    pub fn new_root() -> Self {
        // `0` is the one value that the specification forbids.
        let trace = TraceId::from(rand::random::<u128>().max(1));
        Self { trace, span: new_span_id(), flags: TraceFlags::SAMPLED }
    }

    /// Names a new span of the same trace.
    pub fn child(&self) -> Self {
        Self { span: new_span_id(), ..*self }
    }

    /// Names the span of the same trace that `what` always gets: whoever asks again, after a restart too, gets the same id.
    pub fn named_child(&self, what: &str) -> Self {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        hash.update(self.trace.to_bytes());
        hash.update(self.span.to_bytes());
        hash.update(what.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        Self { span: SpanId::from(u64::from_be_bytes(id).max(1)), ..*self }
    }

    /// The span that the calling code runs in, if spans are recorded.
    pub fn current() -> Option<Self> {
        Self::of(&tracing::Span::current())
    }

    /// The id under which `span` is recorded, if spans are recorded.
    pub fn of(span: &tracing::Span) -> Option<Self> {
        Self::from_context(span.context().span().span_context())
    }

    pub(super) fn from_context(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace: context.trace_id(),
            span: context.span_id(),
            flags: context.trace_flags(),
        })
    }

    /// The same as OpenTelemetry's span context, as one that came from elsewhere.
    pub fn span_context(&self) -> SpanContext {
        SpanContext::new(self.trace, self.span, self.flags, true, TraceState::NONE)
    }

    pub(super) fn own_context(&self) -> SpanContext {
        SpanContext::new(self.trace, self.span, self.flags, false, TraceState::NONE)
    }

    pub(super) fn span(&self) -> SpanId {
        self.span
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.trace.to_string()
    }

    /// The span's id, 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        self.span.to_string()
    }

    /// Whether spans of this trace are exported.
    pub fn is_sampled(&self) -> bool {
        self.flags.is_sampled()
    }
}

fn new_span_id() -> SpanId {
    SpanId::from(rand::random::<u64>().max(1))
}

/// Makes `span` a child of `parent`. Call it before the span is entered; without recording it does nothing.
pub fn follow(span: &tracing::Span, parent: &Traceparent) {
    // Fails only where no span is recorded, or where it runs already and its parent is known.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent.span_context()));
}

/// Makes `span` a child of `parent` if there is one.
pub fn adopt(span: &tracing::Span, parent: Option<&Traceparent>) {
    if let Some(parent) = parent {
        follow(span, parent);
    }
}

/// Links `span` to `other`: related, and not its child (a reconcile tick to its operation).
pub fn link(span: &tracing::Span, other: &Traceparent) {
    span.add_link(other.span_context());
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags.to_u8() & 1)
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Traceparent {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse(text).ok_or_else(|| Invalid(text.chars().take(64).collect()))
    }
}

fn parse(text: &str) -> Option<Traceparent> {
    let lower_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    };
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none();
    if version != "00" || !whole || !lower_hex(trace, 32) || !lower_hex(span, 16) || !lower_hex(flags, 2) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & 1);
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Traceparent { trace, span, flags })
}

impl TryFrom<String> for Traceparent {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Traceparent> for String {
    fn from(at: Traceparent) -> Self {
        at.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_agree() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let at: Traceparent = text.parse().unwrap();
        assert_eq!(at.to_string(), text);
        assert_eq!(at.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(at.is_sampled());
        let child = at.child();
        assert_eq!(child.trace_id(), at.trace_id());
        assert_ne!(child.span_id(), at.span_id());
    }

    #[test]
    fn named_children_are_the_same_after_a_restart() {
        let root = Traceparent::new_root();
        let again: Traceparent = root.to_string().parse().unwrap();
        assert_eq!(root.named_child("phase/Provisioning"), again.named_child("phase/Provisioning"));
        assert_ne!(root.named_child("phase/Provisioning"), root.named_child("phase/Bootstrapping"));
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(bad.parse::<Traceparent>().is_err(), "{bad} should be refused");
        }
    }
}
