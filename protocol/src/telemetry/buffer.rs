//! Finished spans that wait to leave, bounded: when it is full the oldest go and are counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::Notify;

/// Most spans that wait. Higher costs memory while nobody takes them (about 1 KiB each); lower loses spans in a burst.
const SPANS_MAX: usize = 1_024;

/// The queue between the code that ends spans and the task that sends them; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    spans: VecDeque<SpanData>,
    dropped: u64,
    /// Batches that were taken and have not arrived yet.
    leaving: usize,
}

/// A batch on its way; while it lives the buffer does not count as empty.
#[derive(Debug)]
pub(super) struct Leaving(Buffer);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.change(|state| state.leaving -= 1);
        self.0.0.emptied.notify_waiters();
    }
}

impl Buffer {
    /// Adds a span; the oldest goes when there is no room.
    pub(super) fn push(&self, span: SpanData) {
        self.change(|state| {
            if state.spans.len() >= SPANS_MAX {
                state.spans.pop_front();
                state.dropped += 1;
            }
            state.spans.push_back(span);
        });
        self.0.filled.notify_one();
    }

    /// Takes up to `count` spans, and the number of those dropped since the last call.
    pub(super) fn take(&self, count: usize) -> (Vec<SpanData>, u64) {
        self.change(|state| {
            let count = count.min(state.spans.len());
            let taken = state.spans.drain(..count).collect();
            if state.spans.is_empty() {
                // A burst's memory goes back once it is over.
                state.spans = VecDeque::new();
            }
            (taken, std::mem::take(&mut state.dropped))
        })
    }

    /// Notes that a batch is on its way, until the returned value is dropped.
    pub(super) fn leaving(&self) -> Leaving {
        self.change(|state| state.leaving += 1);
        Leaving(self.clone())
    }

    /// Counts spans that were taken and could not leave.
    pub(super) fn count_dropped(&self, spans: u64) {
        self.change(|state| state.dropped += spans);
    }

    pub(super) fn len(&self) -> usize {
        self.change(|state| state.spans.len())
    }

    /// Waits until a span is there.
    ///
    /// # Cancel safety
    /// Takes nothing; may be dropped at any time.
    pub(super) async fn filled(&self) {
        while self.len() == 0 {
            self.0.filled.notified().await;
        }
    }

    /// Waits until no span is there and none is on its way, at most `limit`.
    pub(super) async fn emptied(&self, limit: Duration) {
        let empty = async {
            loop {
                let emptied = self.0.emptied.notified();
                if self.change(|state| state.spans.is_empty() && state.leaving == 0) {
                    return;
                }
                emptied.await;
            }
        };
        // Whether it is empty or time is up: the process ends.
        let _ = tokio::time::timeout(limit, empty).await;
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SpanProcessor for Buffer {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
