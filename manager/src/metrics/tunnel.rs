//! Figures of the tunnel and of the proxy. No label names a cluster or a person.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Metrics;

/// The series.
#[derive(Debug)]
pub(super) struct Tunnel {
    connects: Family<TransportLabel, Counter>,
    disconnects: Family<WhyLabel, Counter>,
    round_trip: Family<TransportLabel, Histogram, RoundTrip>,
    refused: Family<WhyLabel, Counter>,
    open: Family<CallerLabel, Gauge>,
    requests: Family<RequestLabels, Histogram, Answer>,
    bytes: Family<DirectionLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabel {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallerLabel {
    caller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    caller: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug)]
struct RoundTrip;

impl MetricConstructor<Histogram> for RoundTrip {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0])
    }
}

/// From a small answer to a watch of an hour.
#[derive(Clone, Debug)]
struct Answer;

impl MetricConstructor<Histogram> for Answer {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0, 3_600.0])
    }
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            connects: Family::default(),
            disconnects: Family::default(),
            round_trip: Family::new_with_constructor(RoundTrip),
            refused: Family::default(),
            open: Family::default(),
            requests: Family::new_with_constructor(Answer),
            bytes: Family::default(),
        }
    }
}

impl Metrics {
    /// Counts a session that came up.
    pub fn agent_connected(&self, transport: &'static str) {
        self.0.tunnel.connects.get_or_create(&TransportLabel { transport }).inc();
    }

    /// Counts a session that ended, by the kind of its end.
    pub fn agent_disconnected(&self, why: &'static str) {
        self.0.tunnel.disconnects.get_or_create(&WhyLabel { why }).inc();
    }

    /// Notes the round trip of one session.
    pub fn round_trip(&self, transport: &'static str, round_trip: Duration) {
        self.0.tunnel.round_trip.get_or_create(&TransportLabel { transport }).observe(round_trip.as_secs_f64());
    }

    /// Counts proxied requests that are under way, up or down.
    pub fn exchanges_open(&self, caller: &'static str, change: i64) {
        self.0.tunnel.open.get_or_create(&CallerLabel { caller }).inc_by(change);
    }

    /// Counts a proxied request that found no place.
    pub fn proxy_refused(&self, why: &'static str) {
        self.0.tunnel.refused.get_or_create(&WhyLabel { why }).inc();
    }

    /// Counts a proxied request whose answer has gone; `received` and `sent` are bytes from and to the caller.
    pub fn proxied(&self, caller: &'static str, code: u16, took: Duration, received: u64, sent: u64) {
        let code = match code / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.0.tunnel.requests.get_or_create(&RequestLabels { caller, code }).observe(took.as_secs_f64());
        for (direction, bytes) in [("received", received), ("sent", sent)] {
            self.0.tunnel.bytes.get_or_create(&DirectionLabel { direction }).inc_by(bytes);
        }
    }
}

impl Tunnel {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("tunnel_connects", "Sessions of agents that came up, by transport", self.connects.clone());
        r.register("tunnel_disconnects", "Sessions of agents that ended, by the kind of end", self.disconnects.clone());
        r.register(
            "tunnel_round_trip_seconds",
            "Round trips of live sessions, sampled every 15 s",
            self.round_trip.clone(),
        );
        r.register("proxy_requests_open", "Proxied requests under way, by kind of caller", self.open.clone());
        r.register(
            "proxy_refused",
            "Proxied requests that found no place, by whose share was used up",
            self.refused.clone(),
        );
        r.register(
            "proxy_request_duration_seconds",
            "Proxied requests, by kind of caller and answer",
            self.requests.clone(),
        );
        r.register("proxy_bytes", "Bytes of proxied answers and upgraded connections", self.bytes.clone());
    }
}
