//! `lattice-manager run`: the life of the daemon.
//!
//! The story: connect, look whether the resources are installed, answer health checks, run for the Lease. While the
//! Lease is held, play the leader's role; when it is lost, end the role and run for it again. On SIGTERM or Ctrl-C the
//! role ends first, its last writes still under the Lease; then the Lease is given up, so that another manager goes on
//! at once.

use std::time::Duration;

use lattice_protocol::clock;
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::task::{self, Kind as TaskKind};
use lattice_protocol::telemetry::{self, Fallback};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::cli::RunArgs;
use super::client;
use super::leader::{self, Parts};
use super::time;
use crate::actor::{Stage, StageError};
use crate::api::SYSTEM_NAMESPACE;
use crate::lifecycle::GRACE;
use crate::metrics::{self, Metrics};
use crate::store::{Fence, LeaseRecord};
use crate::watch::{Election, LEASE_DURATION, Leadership};

/// Name of the Lease.
const LEASE: &str = "lattice-manager";
/// How often threads of actors are asked for a sign of life.
const WATCHDOG_PERIOD: Duration = Duration::from_secs(15);
/// Longest wait for the election to give the Lease up at the end.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parent's API cannot be used.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// No threads for actors.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Logs and traces cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// The leader's role could not begin.
    #[error(transparent)]
    Leader(#[from] leader::Error),
    /// Nothing to make a trust domain from.
    #[error("the parent has no namespace kube-system to make a trust domain from: give --trust-domain")]
    TrustDomainUnknown,
    /// The trust domain is none.
    #[error("--trust-domain {0:?} is no trust domain: use lower-case letters, digits, '.', '-' and '_'")]
    TrustDomain(String),
    /// Signals cannot be received.
    #[error("could not listen for signals")]
    Signals(#[source] std::io::Error),
}

impl Error {
    /// Whether the resources are not installed on the parent.
    pub fn is_crds_missing(&self) -> bool {
        matches!(self, Self::Client(client::Error::CrdsMissing { .. }))
    }
}

/// Runs the daemon until a signal asks it to end.
///
/// # Errors
/// When it cannot start, or a role cannot begin.
pub async fn run(args: RunArgs) -> Result<(), Error> {
    lattice_protocol::clock::simulate(jiff::SignedDuration::from_secs(args.simulated_clock_offset));
    let holder = args.holder.clone().unwrap_or_else(host_name);
    let attributes = [("service.instance.id", holder.clone())];
    let telemetry =
        telemetry::init("lattice-manager", env!("CARGO_PKG_VERSION"), &attributes, &args.telemetry, Fallback::Off)?;
    let stop = stop_on_signal()?;
    let result = live(args, holder, telemetry.exporter(), stop).await;
    telemetry.shutdown().await;
    result
}

async fn live(
    args: RunArgs,
    holder: String,
    exporter: telemetry::Exporter,
    stop: CancellationToken,
) -> Result<(), Error> {
    let parsed = |text: &str| text.parse::<TrustDomain>().map_err(|_| Error::TrustDomain(text.to_owned()));
    let given = args.trust_domain.as_deref().map(parsed).transpose()?;
    let (renderer, catalog) = leader::load(args.templates.as_ref())?;
    let (client, url) = client::connect(args.kubeconfig.as_deref()).await?;
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        found = client::require_crds(&client, &url) => found?,
    }
    time::compare(&client).await;
    let trust_domain = match given {
        Some(given) => given,
        None => match client::parent_uid(&client, &url).await? {
            Some(uid) => parsed(&format!("{uid}.lattice"))?,
            None => return Err(Error::TrustDomainUnknown),
        },
    };
    let metrics = Metrics::new();
    let stage = Stage::start().await?;
    let servers = CancellationToken::new();
    let bound = metrics::serve(args.metrics_listen, metrics.clone(), servers.clone()).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), holder, metrics = %bound, "manager started");
    task::spawn("clock", TaskKind::Service, time::follow(client.clone(), servers.clone()));
    task::spawn("watchdog", TaskKind::Service, watchdog(stage.clone(), metrics.clone(), servers.clone()));

    client::ensure_namespace(&client, SYSTEM_NAMESPACE).await;
    let (keeper, fence) = Fence::closed();
    let record = LeaseRecord::new(client.clone(), SYSTEM_NAMESPACE, LEASE, &holder, LEASE_DURATION);
    let after_absence = after_absence(&record).await;
    let (election, leadership) = Election::new(record, keeper);
    let drained = CancellationToken::new();
    let election = election.spawn(stop.clone(), drained.clone());
    let parts = Parts {
        args,
        trust_domain,
        holder,
        client,
        after_absence,
        fence,
        metrics,
        stage: stage.clone(),
        exporter,
        renderer,
        catalog,
    };
    let result = play(&parts, leadership, stop.clone()).await;

    stop.cancel();
    drained.cancel();
    if tokio::time::timeout(RELEASE_TIMEOUT, election).await.is_err() {
        tracing::warn!("the lease could not be given up in time");
    }
    servers.cancel();
    stage.stop();
    tracing::info!("manager ended");
    result
}

/// Whether nobody has held the Lease for so long that agents' sessions were away for longer than a restart takes.
async fn after_absence(record: &LeaseRecord) -> bool {
    match record.read().await {
        Ok(Some(last)) => last.renewed_at().is_none_or(|at| clock::now().duration_since(at) > GRACE),
        // The first manager ever has seen no session; and when nobody knows, nothing is written anew.
        Ok(None) | Err(_) => false,
    }
}

/// Plays the leader's role whenever the Lease is held.
async fn play(parts: &Parts, mut leadership: Leadership, stop: CancellationToken) -> Result<(), Error> {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            held = leadership.wait_for(|leads| *leads) => if held.is_err() { return Ok(()) },
        }
        parts.metrics.set_leads(true);
        let role = stop.child_token();
        let lost = role.clone();
        let mut watched = leadership.clone();
        let guard = task::spawn("role.guard", TaskKind::Request, async move {
            // An election that ended leads no more.
            let _ = watched.wait_for(|leads| !*leads).await;
            lost.cancel();
        });
        let result = leader::lead(parts, role.clone()).await;
        guard.abort();
        parts.metrics.set_leads(false);
        result?;
    }
}

async fn watchdog(stage: Stage, metrics: Metrics, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(WATCHDOG_PERIOD) => {}
        }
        let alive = stage.is_alive().await;
        if !alive && !stop.is_cancelled() {
            tracing::error!("a thread of actors does not answer");
        }
        metrics.set_alive(alive);
    }
}

fn stop_on_signal() -> Result<CancellationToken, Error> {
    let mut term = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    task::spawn("signals", TaskKind::Service, async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end");
        asked.cancel();
    });
    Ok(stop)
}

/// The host's name, which in a pod is the pod's.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { LEASE.to_owned() } else { name.to_owned() }
}
