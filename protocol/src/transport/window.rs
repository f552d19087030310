//! The congestion window, out of the way of a connection's last words.
//!
//! quinn-proto holds a CONNECTION_CLOSE back like any packet while other data is pending and the window is full. On a link
//! that has gone dead one way the window stays full, so the peer would never be told.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::Connection;
use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// Makes controllers whose window can be lifted.
#[derive(Debug, Default)]
pub(super) struct Liftable(Arc<CubicConfig>);

/// Cubic, until the window is lifted.
struct Lifting {
    inner: Box<dyn Controller>,
    lifted: Arc<AtomicBool>,
}

/// Lets the next packet out, whatever is in flight. For a connection that is closed right after this.
pub(super) fn lift(connection: &Connection) {
    if let Ok(controller) = connection.congestion_state().into_any().downcast::<Lifting>() {
        controller.lifted.store(true, Ordering::Relaxed);
    }
}

impl ControllerFactory for Liftable {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Lifting { inner: Arc::clone(&self.0).build(now, current_mtu), lifted: Arc::default() })
    }
}

impl Controller for Lifting {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.lifted.load(Ordering::Relaxed) { u64::MAX } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), lifted: Arc::clone(&self.lifted) })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
