//! Everything that faces the network: the tunnel's listener with the agents' sessions, enrolment, and the proxy to the
//! children's Kubernetes API.
//!
//! [`Gateway::start`] opens all of it, [`Gateway::shutdown`] closes all of it: it lives while the Lease is held. What it
//! sees goes out as [`TunnelEvent`]s, which say "look"; the truth is [`Gateway::session`].
//!
//! **Invariant**: who an agent is comes from its certificate alone, never from anything that it says. A refused caller
//! learns no more than it knew. Nothing is answered from memory in a child's stead.

mod addresses;
mod admission;
mod bootstrap;
mod certificate;
mod event;
mod hint;
mod https;
mod identity;
mod proxy;
mod renewal;
mod rotation;
mod session;
mod stop;
mod throttle;
mod tunnel;
mod version;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lattice_protocol::clock;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::reason::Reason;
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::tls::{self, CaPin};
use lattice_protocol::token::{JoinToken, TokenHash};
use lattice_protocol::transport::{self, CloseCode, Net, quic};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub use self::bootstrap::{AgentManifests, ManifestError, ManifestRequest};
pub use self::event::TunnelEvent;
pub use self::session::AgentSession;
pub use crate::store::identity::{Identified, Refusal, TokenStanding, Unpinned};

use self::addresses::Addresses;
use self::bootstrap::Challenges;
use self::certificate::Shown;
use self::event::Events;
use self::proxy::{Credentials, People, Places};
use self::rotation::Kubeconfigs;
use self::session::Sessions;
use self::stop::Stop;
use self::throttle::Throttle;
use crate::metrics::Metrics;
use crate::store::Cache;
use crate::store::access::Reviewer;
use crate::store::ca::{self, Authorities};
use crate::store::identity::{self as identities, IdentityStore};
use crate::store::vault::Vault;

/// Where the gateway listens and what it calls itself.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Tunnel (UDP and TCP).
    pub gateway_listen: SocketAddr,
    /// Manifest and enrolment (HTTPS).
    pub bootstrap_listen: SocketAddr,
    /// Kubernetes API proxy (HTTPS).
    pub proxy_listen: SocketAddr,
    /// Host names or addresses at which agents and clients reach all three.
    pub external_addresses: Vec<String>,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// Life of every certificate.
    pub certificate_lifetime: Duration,
    /// The version that agents are told.
    pub version: String,
}

/// What the gateway is built on.
#[derive(Debug)]
pub struct GatewayParts {
    /// Keeps the CA and the identities.
    pub vault: Arc<dyn Vault>,
    /// Makes the CA's keys and keeps them; none where they lie in the vault.
    pub safe: Option<Arc<dyn ca::Safe>>,
    /// Renders the agent's manifest.
    pub manifests: Arc<dyn AgentManifests>,
    /// Takes what happens; bounded.
    pub events: mpsc::Sender<TunnelEvent>,
    /// Vouches for people.
    pub reviewer: Arc<dyn Reviewer>,
    /// Counts what happens.
    pub metrics: Metrics,
    /// The network that the tunnel's port is in.
    pub net: Net,
    /// Knows which clusters there are.
    pub cache: Cache,
}

/// Why the gateway did not start or do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No CA.
    #[error("the gateway has no certificate authority")]
    Authority(#[from] ca::Error),
    /// Identities cannot be read or written.
    #[error(transparent)]
    Identity(#[from] identities::Error),
    /// TLS could not be set up.
    #[error("the gateway's TLS cannot be set up")]
    Tls(#[from] tls::Error),
    /// QUIC could not be set up.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// A TCP port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The reason that a condition shows for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Identity(error) => error.reason(),
            Self::Authority(ca::Error::Store(error)) => error.reason(),
            Self::Authority(_) | Self::Tls(_) | Self::Transport(_) | Self::Listen { .. } => Reason::InternalError,
        }
    }
}

/// The open gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    stop: Stop,
    /// Let go of when the gateway closes: while it lives, its port is taken.
    endpoint: Arc<Mutex<Option<quinn::Endpoint>>>,
}

/// What the listeners' tasks share.
#[derive(Debug)]
struct Shared {
    authorities: Arc<Authorities>,
    challenges: Challenges,
    kubeconfigs: Kubeconfigs,
    vault: Arc<dyn Vault>,
    identities: IdentityStore,
    sessions: Sessions,
    credentials: Credentials,
    people: People,
    places: Places,
    metrics: Metrics,
    manifests: Arc<dyn AgentManifests>,
    events: Events,
    attempts: Throttle,
    addresses: Addresses,
    version: String,
    cache: Cache,
}

impl Gateway {
    /// Opens the listeners. When one cannot be had, none is kept.
    ///
    /// # Errors
    /// [`Error`]; the caller may try again.
    pub async fn start(config: GatewayConfig, parts: GatewayParts) -> Result<Self, Error> {
        let (vault, lifetime) = (Arc::clone(&parts.vault), config.certificate_lifetime);
        let (fleet, safe) = (&config.trust_domain, parts.safe);
        let authorities = Authorities::open_with(parts.vault, safe, fleet, lifetime, clock::now()).await?;
        let identities = IdentityStore::open(Arc::clone(&vault), Arc::clone(&authorities)).await?;
        let authority = authorities.present();
        let shown = Shown::new(&authority, addresses::certificate_names(&config)).await?;

        let tunnel_tls = tls::tunnel_server_with(Arc::clone(&shown.own), Arc::clone(&shown.clients));
        let reset_key = quic::reset_key(authority.replica_secret());
        let listeners = tunnel::listen(&parts.net, config.gateway_listen, tunnel_tls, reset_key).await?;
        let endpoint = listeners.quic.clone();
        let bootstrap = listen(config.bootstrap_listen).await?;
        let proxy = listen(config.proxy_listen).await?;

        let gateway_bound = local(&config.gateway_listen, endpoint.local_addr())?;
        let bootstrap_bound = local(&config.bootstrap_listen, bootstrap.local_addr())?;
        let proxy_bound = local(&config.proxy_listen, proxy.local_addr())?;
        let shared = Arc::new(Shared {
            identities,
            sessions: Sessions::default(),
            credentials: Credentials::default(),
            people: People::new(parts.reviewer),
            places: Places::new(parts.metrics.clone()),
            metrics: parts.metrics,
            manifests: parts.manifests,
            events: Events::new(parts.events),
            attempts: Throttle::default(),
            addresses: Addresses::new(&config.external_addresses, gateway_bound, bootstrap_bound, proxy_bound),
            authorities,
            challenges: Challenges::default(),
            kubeconfigs: Kubeconfigs::default(),
            vault,
            version: config.version,
            cache: parts.cache,
        });

        let stop = Stop::new();
        certificate::keep_fresh(&stop, Arc::clone(&shared.authorities), shown.clone());
        rotation::follow(&stop, Arc::clone(&shared));
        tunnel::serve(&stop, listeners, Arc::clone(&shared));
        let https_tls = Arc::new(tls::https_server(Arc::clone(&shown.own)));
        let proxy_tls = Arc::new(tls::https_server_asking(shown.own));
        bootstrap::serve(&stop, bootstrap, https_tls, Arc::clone(&shared));
        proxy::serve(&stop, proxy, proxy_tls, Arc::clone(&shared));
        tracing::info!(
            gateway = %gateway_bound, bootstrap = %bootstrap_bound, proxy = %proxy_bound,
            fleet = %config.trust_domain, "gateway open"
        );
        Ok(Self { shared, stop, endpoint: Arc::new(Mutex::new(Some(endpoint))) })
    }

    /// Closes the listeners, lets running exchanges end within a short time, then cuts what is left. Agents are told to
    /// dial again. May be called more than once.
    pub async fn shutdown(&self) {
        self.stop.drain().await;
        self.shared.sessions.close_all("the manager stops");
        let endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(endpoint) = &endpoint {
            endpoint.close(CloseCode::Draining.number().into(), b"the manager stops");
        }
        let last_words = async {
            if let Some(endpoint) = endpoint {
                endpoint.wait_idle().await;
            }
        };
        self.stop.finish(last_words).await;
        tracing::info!("gateway closed");
    }

    /// Sees to it that the cluster has a join token, unless one was used. `delivered` is the one in its Secret.
    ///
    /// # Errors
    /// [`Error::Identity`].
    pub async fn ensure_token(
        &self,
        cluster: &ClusterName,
        uid: &ClusterUid,
        delivered: Option<&JoinToken>,
    ) -> Result<TokenStanding, Error> {
        Ok(self.shared.identities.ensure_token(cluster, uid, delivered, clock::now()).await?)
    }

    /// Takes a cluster's identity away and cuts its live session. From here on it is refused.
    ///
    /// # Errors
    /// [`Error::Identity`] when it could not be written down; the session is cut all the same.
    pub async fn revoke(&self, uid: &ClusterUid) -> Result<(), Error> {
        let written = self.shared.identities.revoke(uid, clock::now()).await;
        self.shared.sessions.cut(uid, CloseCode::Revoked, "the cluster's identity was revoked");
        Ok(written?)
    }

    /// Forgets a revoked cluster, once nothing of it is left.
    ///
    /// # Errors
    /// [`Error::Identity`].
    pub async fn forget(&self, cluster: &ClusterName, uid: &ClusterUid) -> Result<(), Error> {
        self.shared.identities.forget(uid).await?;
        self.shared.sessions.cut(uid, CloseCode::Revoked, "the cluster is gone");
        self.shared.credentials.withdraw(cluster);
        self.shared.kubeconfigs.forget(cluster);
        Ok(())
    }

    /// Takes `credential` (the hash of a bearer token) for Cluster API's access to the cluster, in place of any other.
    pub fn register_proxy_credential(&self, cluster: &ClusterName, credential: TokenHash) {
        self.shared.credentials.register(cluster, credential);
    }

    /// The live session of a cluster's agent.
    pub fn session(&self, uid: &ClusterUid) -> Option<Arc<AgentSession>> {
        self.shared.sessions.get(uid)
    }

    /// How many agents are connected.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.len()
    }

    /// The CA's certificates as PEM: what nodes, agents and kubeconfigs trust.
    pub fn ca_pem(&self) -> String {
        self.shared.authorities.present().bundle_pem().to_owned()
    }

    /// The pin of the CA's key: what the agent compares.
    pub fn ca_pin(&self) -> CaPin {
        *self.shared.authorities.present().pin()
    }

    /// The fleet.
    pub fn trust_domain(&self) -> TrustDomain {
        self.shared.authorities.present().fleet().clone()
    }

    /// How the identity of a cluster stands, if an agent ever held it.
    pub fn identified(&self, uid: &ClusterUid) -> Option<Identified> {
        self.shared.identities.identified(uid)
    }

    /// Notes which CA bundle the kubeconfig of a cluster carries: a rotation waits for those that lag.
    pub fn note_kubeconfig(&self, cluster: &ClusterName, ca_pem: &str) {
        self.shared.kubeconfigs.note(cluster, ca_pem);
    }

    /// `host:port` of the tunnel, one per external address.
    pub fn endpoints(&self) -> &[String] {
        &self.shared.addresses.endpoints
    }

    /// `https://host:port` of the bootstrap port, one per external address.
    pub fn bootstrap_urls(&self) -> &[String] {
        &self.shared.addresses.bootstrap_urls
    }

    /// `https://host:port` of the proxy; none without an external address.
    pub fn proxy_base(&self) -> Option<&str> {
        self.shared.addresses.proxy_urls.first().map(String::as_str)
    }

    /// The URL of a cluster's Kubernetes API through the proxy; none without an external address.
    pub fn proxy_url(&self, cluster: &ClusterName) -> Option<String> {
        self.proxy_base().map(|url| format!("{url}/clusters/{cluster}"))
    }

    /// Where the tunnel listens.
    pub fn gateway_addr(&self) -> SocketAddr {
        self.shared.addresses.gateway
    }

    /// Where the bootstrap port listens.
    pub fn bootstrap_addr(&self) -> SocketAddr {
        self.shared.addresses.bootstrap
    }

    /// Where the proxy listens.
    pub fn proxy_addr(&self) -> SocketAddr {
        self.shared.addresses.proxy
    }
}

#[cfg(test)]
impl Gateway {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn local(asked: &SocketAddr, bound: std::io::Result<SocketAddr>) -> Result<SocketAddr, Error> {
    bound.map_err(|source| Error::Listen { address: *asked, source })
}

#[cfg(test)]
mod tests;
