//! The leader's role: informers, actors and listeners, alive only while the Lease is held.
//!
//! Order of the start: informers, so that the cache fills; listeners, so that agents may come back; actors last, when
//! what they look at is known. The end goes the other way round.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use kube::Client;
use lattice_protocol::clock;
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::task::{self, Kind as TaskKind};
use lattice_protocol::telemetry::Exporter;
use lattice_protocol::transport::Net;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cli::RunArgs;
use crate::actor::{self, Agents, Crew, Exit, Fleet, LookAt, Stage, Tunnel, Wardens};
use crate::api::{Phase, SYSTEM_NAMESPACE, crds};
use crate::chart::{self, Catalog};
use crate::gateway::{self, Gateway, GatewayConfig, GatewayParts};
use crate::metrics::Metrics;
use crate::perform::{Manifests, Performer};
use crate::render::{self, Renderer};
use crate::store::access::KubeReviewer;
use crate::store::ca::SocketSafe;
use crate::store::vault::KubeVault;
use crate::store::{Cache, Fence, Kinds, Store};
use crate::watch::{Attention, Informers};

/// Events of the tunnel that may wait. The gateway drops what can be found out by looking.
const TUNNEL_EVENTS_MAX: usize = 1_024;
/// How often clusters are counted for metrics.
const COUNT_PERIOD: Duration = Duration::from_secs(5);
/// How often the proxy's published address is compared with what it is.
const PUBLISH_PERIOD: Duration = Duration::from_secs(30);
/// Pause before listeners that could not be opened are tried again. A role that ended a moment ago may still hold them, until
/// its last connections have faded out.
const LISTEN_RETRY: Duration = Duration::from_millis(250);
/// How often it is told that they cannot be opened.
const LISTEN_TOLD_EVERY: u32 = 40;

/// What outlives a role.
#[derive(Clone)]
pub(super) struct Parts {
    /// The command line.
    pub(super) args: RunArgs,
    /// The fleet's trust domain.
    pub(super) trust_domain: TrustDomain,
    /// Identity in the Lease.
    pub(super) holder: String,
    /// Client of the parent's API.
    pub(super) client: Client,
    /// No manager was here for a while before this process.
    pub(super) after_absence: bool,
    /// Open while the Lease is held.
    pub(super) fence: Fence,
    /// Metrics.
    pub(super) metrics: Metrics,
    /// Threads for actors.
    pub(super) stage: Stage,
    /// Where spans go.
    pub(super) exporter: Exporter,
    /// Templates.
    pub(super) renderer: Arc<Renderer>,
    /// Components.
    pub(super) catalog: Arc<Catalog>,
}

/// Why the role could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A template cannot be used.
    #[error("the templates cannot be used")]
    Templates(#[from] render::Error),
    /// The catalog cannot be used.
    #[error("the component catalog cannot be used")]
    Catalog(#[from] chart::Error),
    /// The fleet's actor could not be started.
    #[error("the fleet's actor could not be started")]
    Fleet,
}

/// Loads what the role is played with, once per process.
pub(super) fn load(templates: Option<&PathBuf>) -> Result<(Arc<Renderer>, Arc<Catalog>), Error> {
    let renderer = Arc::new(Renderer::new(templates.map(PathBuf::as_path))?);
    let catalog = Arc::new(Catalog::load(renderer.clone())?);
    Ok((renderer, catalog))
}

/// Plays the role until `stop`.
pub(super) async fn lead(parts: &Parts, stop: CancellationToken) -> Result<(), Error> {
    let (cache, kinds) = (Cache::default(), Kinds::default());
    let (clusters, providers) = (Attention::default(), Attention::default());
    let watching = stop.child_token();
    let informers = Informers::new(
        parts.client.clone(),
        cache.clone(),
        kinds.clone(),
        clusters.clone(),
        providers.clone(),
        watching.clone(),
    );
    informers.start();

    let (events_in, events) = mpsc::channel(TUNNEL_EVENTS_MAX);
    let Some(gateway) = open_gateway(parts, &cache, events_in, &stop).await else { return Ok(()) };
    let performer = Performer {
        store: Store::new(parts.client.clone(), kinds, parts.fence.clone()),
        cache: cache.clone(),
        renderer: parts.renderer.clone(),
        catalog: parts.catalog.clone(),
        gateway: gateway.clone(),
        lattice_crds: Arc::new(crds().iter().filter_map(|crd| serde_json::to_value(crd).ok()).collect()),
    };
    let store = performer.store.clone();
    let crew = Arc::new(Crew {
        performer,
        agents: Agents::default(),
        attention: clusters.clone(),
        stage: parts.stage.clone(),
        metrics: parts.metrics.clone(),
        exporter: parts.exporter.clone(),
        holder: parts.holder.as_str().into(),
        started_at: clock::now(),
        after_absence: parts.after_absence,
        effects: Crew::effect_slots(),
        wardens: Arc::new(Wardens::default()),
        faults: parts.args.sandbox_faults.clone().map(Arc::new),
    });
    let tunnel = Tunnel {
        agents: crew.agents.clone(),
        cache: cache.clone(),
        attention: clusters.clone(),
        exporter: parts.exporter.clone(),
        metrics: parts.metrics.clone(),
    };
    task::spawn("tunnel", TaskKind::Service, tunnel.follow(events, watching.clone()));
    task::spawn("providers", TaskKind::Service, actor::follow_providers(crew.clone(), providers, watching.clone()));
    task::spawn("count", TaskKind::Service, count(cache, parts.metrics.clone(), watching.clone()));
    task::spawn("publish", TaskKind::Service, publish(store, gateway.clone(), watching.clone()));
    parts.metrics.set_ready(true);
    direct(&crew, &clusters, &stop).await?;

    parts.metrics.set_ready(false);
    watching.cancel();
    gateway.shutdown().await;
    Ok(())
}

/// Runs the fleet's actor until `stop`: it is told whom to look at. Should it ever panic, all of it is built anew.
async fn direct(crew: &Arc<Crew>, clusters: &Attention, stop: &CancellationToken) -> Result<(), Error> {
    loop {
        let built = crew.clone();
        let fleet = crew.stage.spawn(0, Fleet::MAILBOX, move || Fleet::new(built)).await.map_err(|_| Error::Fleet)?;
        crew.performer.cache.clusters().iter().for_each(|cluster| {
            clusters.mark(cluster.metadata.name.as_deref().unwrap_or_default());
        });
        let told = tell(&fleet.addr, clusters, stop).await;
        drop(fleet.addr);
        let exit = fleet.exit.await.unwrap_or(Exit::Stopped);
        if told || stop.is_cancelled() {
            return Ok(());
        }
        tracing::error!(?exit, "the fleet's actor ended, it is built anew");
        crew.metrics.actor_restarted("fleet");
        tokio::time::sleep(actor::RESTART_DELAY_FIRST).await;
    }
}

/// Passes on whom to look at; true when `stop` ended it, false when the fleet's actor is gone.
async fn tell(fleet: &Addr<Fleet>, clusters: &Attention, stop: &CancellationToken) -> bool {
    loop {
        let names = tokio::select! {
            biased;
            () = stop.cancelled() => return true,
            names = clusters.take() => names,
        };
        if fleet.send(LookAt(names)).await.is_err() {
            return false;
        }
    }
}

/// Opens the listeners, again and again until they are open; none when `stop` came first.
async fn open_gateway(
    parts: &Parts,
    cache: &Cache,
    events: mpsc::Sender<gateway::TunnelEvent>,
    stop: &CancellationToken,
) -> Option<Gateway> {
    for attempt in 0_u32.. {
        let config = GatewayConfig {
            gateway_listen: parts.args.gateway_listen,
            bootstrap_listen: parts.args.bootstrap_listen,
            proxy_listen: parts.args.proxy_listen,
            external_addresses: parts.args.external_addresses.clone(),
            trust_domain: parts.trust_domain.clone(),
            certificate_lifetime: parts.args.certificate_lifetime,
            version: parts.args.simulated_version.clone(),
        };
        let built_on = GatewayParts {
            vault: Arc::new(KubeVault::new(parts.client.clone(), parts.fence.clone(), SYSTEM_NAMESPACE)),
            safe: parts.args.ca_signer.clone().map(|path| Arc::new(SocketSafe::new(path)) as _),
            manifests: Arc::new(Manifests::new(cache.clone(), parts.renderer.clone(), parts.args.agent_environment())),
            events: events.clone(),
            reviewer: Arc::new(KubeReviewer::new(parts.client.clone())),
            metrics: parts.metrics.clone(),
            net: Net::System,
            cache: cache.clone(),
        };
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            opened = Gateway::start(config, built_on) => opened,
        };
        match opened {
            Ok(gateway) => return Some(gateway),
            Err(error) if attempt % LISTEN_TOLD_EVERY == 0 => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the listeners could not be opened yet");
            }
            Err(_) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(LISTEN_RETRY) => {}
        }
    }
    None
}

/// Keeps it published where people reach the proxy, also after its CA has changed.
async fn publish(store: Store, gateway: Gateway, stop: CancellationToken) {
    let mut published = None;
    loop {
        let wanted = gateway.proxy_base().map(|server| (server.to_owned(), gateway.ca_pem()));
        if let Some((server, ca_pem)) = &wanted
            && published != wanted
        {
            match store.publish_proxy(SYSTEM_NAMESPACE, server, ca_pem).await {
                Ok(()) => published = wanted,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the proxy's address was not published");
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PUBLISH_PERIOD) => {}
        }
    }
}

/// Counts clusters by phase, from the cache.
async fn count(cache: Cache, metrics: Metrics, stop: CancellationToken) {
    loop {
        let clusters = cache.clusters();
        for phase in Phase::ALL {
            let in_phase = |status: &crate::api::LatticeClusterStatus| status.phase == Some(phase);
            let count = clusters.iter().filter(|cluster| cluster.status.as_ref().is_some_and(in_phase)).count();
            metrics.set_clusters(phase.as_str(), count);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_PERIOD) => {}
        }
    }
}
