//! Composition root of the daemon: everything is made here, and ended here.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use lattice_protocol::clock;
use lattice_protocol::ending::Ending;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::telemetry::{self, Exporter, Fallback, Telemetry};
use lattice_protocol::transport::{Incoming, Net};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::apply::{Context, Engine};
use crate::backoff::{Backoff, Draws};
use crate::child;
use crate::cli::Run;
use crate::dial::{self, Dialler, Link};
use crate::identity::{Enrolment, Keeper, Wallet};
use crate::monitor::{self, Monitor};
use crate::notice::Notices;
use crate::observe::objects::{APIService, CustomResourceDefinition};
use crate::observe::{Api, Observed};
use crate::serve::{self, Acceptor, Proxy};

/// Changes of kinds that come together are asked about together.
const KINDS_APART: Duration = Duration::from_millis(500);

/// Waits between tries to learn what the cluster serves.
const KINDS_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Logs and traces.
    #[error("logs and traces cannot be set up")]
    Telemetry(#[from] telemetry::Error),
    /// The client of the cluster's own API.
    #[error(transparent)]
    Child(#[from] child::Error),
    /// Health and metrics.
    #[error("health cannot listen on {at}")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// Signals.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// [`Error`] when it cannot start; once it runs it does not give up.
pub async fn run(options: Run) -> Result<(), Error> {
    clock::simulate(jiff::SignedDuration::from_secs(options.simulated_clock_offset));
    let telemetry = telemetry(&options)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), cluster.name = %options.cluster, cluster.uid = %options.cluster_uid,
        node = %options.node_name, "agent starts"
    );
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let served = serve(&options, &telemetry.exporter(), &stop).await;
    telemetry.shutdown().await;
    served
}

/// Runs everything but logs and signals until `stop`; then lets open exchanges finish.
///
/// # Errors
/// [`Error`] when it cannot start.
pub async fn serve(options: &Run, exporter: &Exporter, stop: &CancellationToken) -> Result<(), Error> {
    // `stop` ends the session; this ends what a draining session still needs.
    let end = CancellationToken::new();
    let _whatever_happens = end.clone().drop_guard();
    let dialler = build(options, child::client(options)?, exporter, stop, &end).await?;
    dial::run(dialler).await;
    Ok(())
}

fn telemetry(options: &Run) -> Result<Telemetry, telemetry::Error> {
    let attributes = [
        (telemetry::CLUSTER_NAME, options.cluster.to_string()),
        (telemetry::CLUSTER_UID, options.cluster_uid.to_string()),
        ("k8s.node.name", options.node_name.clone()),
    ];
    let version = env!("CARGO_PKG_VERSION");
    telemetry::init("lattice-agent", version, &attributes, &options.telemetry, Fallback::Tunnel)
}

fn stop_on_signal(stop: CancellationToken) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    task::spawn("app.signals", Kind::Request, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        stop.cancel();
    });
    Ok(())
}

/// Makes every part and starts all but the dialler.
///
/// # Errors
/// [`Error::Listen`].
pub async fn build(
    options: &Run,
    client: kube::Client,
    exporter: &Exporter,
    stop: &CancellationToken,
    end: &CancellationToken,
) -> Result<Dialler, Error> {
    let notices = Notices::start(client.clone(), &options.namespace, &options.node_name);
    let (observed, api) = (Observed::default(), Api::new(client.clone()));
    let context = Context::new(
        client.clone(),
        &options.namespace,
        observed.clone(),
        api.clone(),
        notices.clone(),
        exporter.clone(),
        end,
    );
    let engine = Engine::new(context, end.clone());
    let link = watch::Sender::new(Link::default());
    let monitor = Monitor {
        link: link.subscribe(),
        board: engine.board(),
        observed: observed.clone(),
        exporter: exporter.clone(),
    };
    let at = SocketAddr::from((options.loopback(), options.health_port));
    monitor::start(monitor, at, end.clone()).await.map_err(|source| Error::Listen { at, source })?;

    let (grpc, incoming) = Incoming::channel();
    let wallet = wallet(options, client.clone());
    let known = (wallet.clone(), notices.clone(), options.simulated_version.clone());
    let served = serve::grpc(incoming, observed, api.clone(), engine.clone(), exporter.clone(), known, end.clone());
    task::spawn("serve.grpc", Kind::Service, served);
    until(end, "apply.load", async move { engine.load().await });
    until(end, "observe.kinds", follow_kinds(client.clone(), api.clone(), link.subscribe()));

    let ending = Ending { drain: stop.clone(), cut: end.clone() };
    Ok(Dialler {
        endpoints: options.endpoints.clone(),
        renewed: wallet.present(),
        wallet,
        api,
        net: Net::System,
        draws: Draws::default(),
        quic_again: Duration::from_secs(options.quic_again_seconds),
        acceptor: Acceptor::new(grpc, Proxy::new(client).ending(ending)),
        notices,
        link,
        stop: stop.clone(),
    })
}

/// Where the identity is kept, and how it is had.
fn wallet(options: &Run, client: kube::Client) -> Wallet {
    let enrolment = Enrolment {
        cluster: options.cluster.clone(),
        id: options.trust_domain.agent(&options.cluster_uid),
        trust_domain: options.trust_domain.clone(),
        urls: options.bootstrap_urls.clone(),
        ca_file: options.mounted(&options.ca_file),
        ca_pin: options.ca_pin,
        token_file: options.mounted(&options.token_file),
        proxying: options.proxying(),
    };
    Wallet::new(Keeper::new(client, &options.namespace, &options.identity_secret), enrolment)
}

fn until(end: &CancellationToken, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let end = end.clone();
    task::spawn(name, Kind::Request, async move {
        end.run_until_cancelled(work).await;
    });
}

/// Learns what the cluster serves, and again when a CRD or an APIService changed or a session began.
async fn follow_kinds(client: kube::Client, api: Api, mut link: watch::Receiver<Link>) {
    let config = || watcher::Config::default().page_size(100);
    let crds = kube::Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone());
    let services = kube::Api::<PartialObjectMeta<APIService>>::all(client);
    let crds = watcher::watcher(crds, config())
        .default_backoff()
        .touched_objects()
        .filter(|event| futures::future::ready(event.is_ok()));
    let services = watcher::watcher(services, config())
        .default_backoff()
        .touched_objects()
        .filter(|event| futures::future::ready(event.is_ok()));
    let (mut crds, mut services) = (crds.boxed(), services.boxed());
    let mut backoff = Backoff::new(KINDS_RETRY.0, KINDS_RETRY.1);
    let mut sessions = 0;
    loop {
        if let Err(error) = api.refresh().await {
            tracing::debug!(error = %dial::chain(&error), "what the cluster serves is not known");
            tokio::time::sleep(backoff.next_wait()).await;
            continue;
        }
        backoff.reset();
        tokio::select! {
            Some(_) = crds.next() => {}
            Some(_) = services.next() => {}
            Ok(_) = link.wait_for(|link| link.sessions != sessions) => {}
            else => return,
        }
        // Let what comes together come, and take it as one.
        let more = async {
            loop {
                tokio::select! {
                    Some(_) = crds.next() => {}
                    Some(_) = services.next() => {}
                    else => return,
                }
            }
        };
        let _ = tokio::time::timeout(KINDS_APART, more).await;
        sessions = link.borrow().sessions;
    }
}
