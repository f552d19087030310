//! Prometheus metrics and health endpoints.
//!
//! **Invariant.** No label carries a cluster's name: what a series costs does not grow with the fleet. Live figures of one
//! cluster are in its status.

mod serve;
mod tunnel;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use serve::{Error, serve};

/// Every metric of the manager. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    clusters: Family<PhaseLabel, Gauge>,
    operations: Family<OperationLabels, Histogram, Seconds>,
    components: Family<ComponentLabels, Histogram, Seconds>,
    effects: Family<EffectLabels, Histogram, Seconds>,
    restarts: Family<ActorLabel, Counter>,
    quarantined: Gauge,
    sessions: Gauge,
    mailbox_drops: Family<ActorLabel, Counter>,
    status_writes: Counter,
    phase_changes: Family<PhaseLabel, Counter>,
    leads: Gauge,
    agent_spans_dropped: Counter,
    looks: Counter<u64, AtomicU64>,
    tunnel: tunnel::Tunnel,
    alive: AtomicBool,
    ready: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ComponentLabels {
    component: String,
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabels {
    effect: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActorLabel {
    actor: &'static str,
}

/// Buckets from a fast request to an hour of waiting for machines.
#[derive(Clone, Debug)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.01, 0.05, 0.2, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0])
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("lattice"),
            clusters: Family::default(),
            operations: Family::new_with_constructor(Seconds),
            components: Family::new_with_constructor(Seconds),
            effects: Family::new_with_constructor(Seconds),
            restarts: Family::default(),
            quarantined: Gauge::default(),
            sessions: Gauge::default(),
            mailbox_drops: Family::default(),
            status_writes: Counter::default(),
            phase_changes: Family::default(),
            leads: Gauge::default(),
            agent_spans_dropped: Counter::default(),
            looks: Counter::default(),
            tunnel: tunnel::Tunnel::default(),
            alive: AtomicBool::new(true),
            ready: AtomicBool::new(false),
        };
        inner.register();
        Self(Arc::new(inner))
    }

    /// Sets how many clusters are in a phase.
    pub fn set_clusters(&self, phase: &'static str, count: usize) {
        self.0.clusters.get_or_create(&PhaseLabel { phase }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts an operation of a cluster that ended.
    pub fn operation_ended(&self, operation: &str, ok: bool, took: Duration) {
        let labels = OperationLabels { operation: operation.to_owned(), result: result(ok) };
        self.0.operations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts how long a stage of a component took: `install` until the agent had recorded it, `gate` until it was healthy.
    pub fn component_took(&self, component: &str, stage: &'static str, took: Duration) {
        let labels = ComponentLabels { component: component.to_owned(), stage };
        self.0.components.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts an effect that was carried out or failed.
    pub fn effect_ended(&self, effect: &'static str, ok: bool, took: Duration) {
        let labels = EffectLabels { effect, result: result(ok) };
        self.0.effects.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a rebuild of an actor.
    pub fn actor_restarted(&self, actor: &'static str) {
        self.0.restarts.get_or_create(&ActorLabel { actor }).inc();
    }

    /// Sets how many cluster actors are left alone.
    pub fn set_quarantined(&self, count: usize) {
        self.0.quarantined.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets how many agents are connected.
    pub fn set_sessions(&self, count: usize) {
        self.0.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a message that found its mailbox full.
    pub fn mailbox_dropped(&self, actor: &'static str) {
        self.0.mailbox_drops.get_or_create(&ActorLabel { actor }).inc();
    }

    /// Counts a write of a status.
    pub fn status_written(&self) {
        self.0.status_writes.inc();
    }

    /// Counts a move into a phase.
    pub fn phase_entered(&self, phase: &'static str) {
        self.0.phase_changes.get_or_create(&PhaseLabel { phase }).inc();
    }

    /// Counts a look at a cluster.
    pub fn looked(&self) {
        self.0.looks.inc();
    }

    /// Counts spans that agents had to drop.
    pub fn agent_spans_dropped(&self, count: u64) {
        self.0.agent_spans_dropped.inc_by(count);
    }

    /// Says whether this process holds the Lease.
    pub fn set_leads(&self, leads: bool) {
        self.0.leads.set(i64::from(leads));
    }

    /// Says whether the process works at all (`/healthz`).
    pub fn set_alive(&self, alive: bool) {
        self.0.alive.store(alive, Ordering::Relaxed);
    }

    /// Says whether agents can be served here (`/readyz`): the Lease is held and the listeners are open.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    fn is_alive(&self) -> bool {
        self.0.alive.load(Ordering::Relaxed)
    }

    fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// All of it, as `/metrics` shows it.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

impl Inner {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("clusters", "Clusters by phase", self.clusters.clone());
        r.register(
            "cluster_operation_duration_seconds",
            "Time that operations of clusters took, by operation and result",
            self.operations.clone(),
        );
        r.register(
            "component_duration_seconds",
            "Time that installs and gates of components took",
            self.components.clone(),
        );
        r.register("effect_duration_seconds", "Time that effects took, by effect and result", self.effects.clone());
        r.register("actor_restarts", "Actors rebuilt after a panic", self.restarts.clone());
        r.register("actors_quarantined", "Cluster actors left alone after repeated panics", self.quarantined.clone());
        r.register("sessions_connected", "Agents connected", self.sessions.clone());
        r.register("mailbox_drops", "Messages that found a full mailbox", self.mailbox_drops.clone());
        r.register("status_writes", "Statuses written", self.status_writes.clone());
        r.register("phase_changes", "Moves of clusters into a phase", self.phase_changes.clone());
        r.register("leads", "Whether this process holds the Lease", self.leads.clone());
        r.register("agent_spans_dropped", "Spans that agents dropped", self.agent_spans_dropped.clone());
        r.register("cluster_looks", "Looks at clusters", self.looks.clone());
        self.tunnel.register(r);
    }
}

fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_happened() {
        let metrics = Metrics::new();
        metrics.set_clusters("Ready", 3);
        metrics.actor_restarted("cluster");
        metrics.effect_ended("ApplyObjects", false, Duration::from_millis(20));
        let text = metrics.text().expect("text");
        for line in [
            "lattice_clusters{phase=\"Ready\"} 3",
            "lattice_actor_restarts_total{actor=\"cluster\"} 1",
            "lattice_effect_duration_seconds_count{effect=\"ApplyObjects\",result=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
