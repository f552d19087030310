//! What all actors of a role share.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use lattice_protocol::telemetry::Exporter;
use tokio::sync::Semaphore;

use super::agents::Agents;
use super::fleet::Wardens;
use super::stage::Stage;
use crate::metrics::Metrics;
use crate::perform::Performer;
use crate::watch::Attention;

/// Effects of all clusters together that may run at once. More makes a burst at the parent's API, fewer make clusters
/// wait for each other.
const EFFECTS_MAX: usize = 64;

/// What all actors of a role share.
#[derive(Clone, Debug)]
pub struct Crew {
    /// Carries out effects.
    pub performer: Performer,
    /// What is known of agents.
    pub agents: Agents,
    /// Whom to look at.
    pub attention: Attention,
    /// Threads for actors.
    pub stage: Stage,
    /// Metrics.
    pub metrics: Metrics,
    /// Where spans go.
    pub exporter: Exporter,
    /// Who reports Events.
    pub holder: Arc<str>,
    /// When this manager began to serve agents.
    pub started_at: Timestamp,
    /// No manager was here for a while before this one.
    pub after_absence: bool,
    /// Room for effects.
    pub effects: Arc<Semaphore>,
    /// Looks after clusters whose actors are left alone.
    pub wardens: Arc<Wardens>,
    /// File of injected faults; only the sandbox sets it.
    pub faults: Option<Arc<PathBuf>>,
}

impl Crew {
    /// Room for all effects of a role.
    pub fn effect_slots() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(EFFECTS_MAX))
    }

    /// Whether a fault is injected that makes a cluster's actor panic. The file is read each time: it changes while the
    /// sandbox runs.
    pub fn is_poisoned(&self, cluster: &str) -> bool {
        let Some(file) = &self.faults else { return false };
        let text = std::fs::read_to_string(file.as_path()).unwrap_or_default();
        text.lines().any(|line| line.trim().strip_prefix("panic ").map(str::trim) == Some(cluster))
    }
}
