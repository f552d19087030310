//! The leader's role: informers, actors and listeners, alive only while the Lease is held.

use kube::Client;
use lattice_protocol::telemetry::Exporter;
use tokio_util::sync::CancellationToken;

use super::cli::RunArgs;
use crate::actor::Stage;
use crate::metrics::Metrics;
use crate::store::{Cache, Fence, Kinds};
use crate::watch::{Attention, Informers};

/// What outlives a role.
#[derive(Clone)]
pub(super) struct Parts {
    /// The command line.
    pub args: RunArgs,
    /// Identity in the Lease.
    pub holder: String,
    /// Client of the parent's API.
    pub client: Client,
    /// Open while the Lease is held.
    pub fence: Fence,
    /// Metrics.
    pub metrics: Metrics,
    /// Threads for actors.
    pub stage: Stage,
    /// Where spans go.
    pub exporter: Exporter,
}

/// Why the role could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// Plays the role until `stop`.
pub(super) async fn lead(parts: &Parts, stop: CancellationToken) -> Result<(), Error> {
    let (cache, kinds) = (Cache::default(), Kinds::default());
    let (clusters, providers) = (Attention::default(), Attention::default());
    let informers = Informers::new(parts.client.clone(), cache, kinds, clusters, providers, stop.child_token());
    informers.start();
    stop.cancelled().await;
    Ok(())
}
