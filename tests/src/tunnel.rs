//! A gateway of its own in this process, over an embedded parent API, and agents that dial it: what tests and benchmarks of
//! the tunnel need when they cannot do with the built programs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use lattice_agent::serve::{Acceptor, Exchanges, Proxy};
use lattice_apiserver::ApiServer;
use lattice_manager::gateway::{
    AgentManifests, Gateway, GatewayConfig, GatewayParts, ManifestError, ManifestRequest, TokenStanding, TunnelEvent,
};
use lattice_manager::metrics::Metrics;
use lattice_manager::store::access::KubeReviewer;
use lattice_manager::store::vault::KubeVault;
use lattice_manager::store::{Cache, Fence};
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, CaBundle, Credentials};
use lattice_protocol::transport::{Incoming, Net, Session, quic, tcp};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::cluster::make_namespace;

/// Longest wait of a harness for its own parts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest that a closed gateway's ports are waited for.
const PORT_WAIT: Duration = Duration::from_secs(10);

/// A gateway over an embedded parent API.
#[derive(Debug)]
pub struct Parent {
    /// The gateway that is open now.
    pub gateway: Gateway,
    config: GatewayConfig,
    server: Arc<ApiServer>,
}

/// An enrolled agent's certificate and key, PEM, and whom it belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Enrolled {
    /// The cluster.
    pub cluster: String,
    /// Certificate chain.
    pub chain: String,
    /// Private key. Of a test.
    pub key: String,
}

#[derive(Debug)]
struct NoManifests;

impl AgentManifests for NoManifests {
    fn manifest(&self, _: ManifestRequest) -> BoxFuture<'_, Result<String, ManifestError>> {
        async { Ok(String::new()) }.boxed()
    }
}

impl Parent {
    /// Opens a gateway on free ports of loopback.
    pub async fn start() -> Result<Self> {
        tls::install_provider();
        let server = ApiServer::new(lattice_apiserver::Config::default())?;
        make_namespace(&server.client()).await?;
        let mut config = config()?;
        let gateway = open(&config, &server).await?;
        config.gateway_listen = gateway.gateway_addr();
        config.bootstrap_listen = gateway.bootstrap_addr();
        config.proxy_listen = gateway.proxy_addr();
        Ok(Self { gateway, config, server })
    }

    /// Stops the gateway as a planned restart does, and opens it anew on the same ports.
    pub async fn restart(&mut self) -> Result<()> {
        self.gateway.shutdown().await;
        // Within one process the last connections hold the port until they have faded out; a process that ends lets go.
        let begun = Instant::now();
        self.gateway = loop {
            match open(&self.config, &self.server).await {
                Ok(gateway) => break gateway,
                Err(error) if begun.elapsed() > PORT_WAIT => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        };
        Ok(())
    }

    /// The parent's API server.
    pub fn server(&self) -> Arc<ApiServer> {
        Arc::clone(&self.server)
    }

    /// The parent's API.
    pub fn api(&self) -> kube::Client {
        self.server.client()
    }

    /// Enrols the agent of a cluster through the bootstrap port.
    pub async fn enrol(&self, number: usize) -> Result<Enrolled> {
        let cluster: ClusterName = format!("c{number}").parse()?;
        let uid: ClusterUid = format!("0b6c2d1e-9f00-4c8e-8a77-{number:012}").parse()?;
        let standing = self.gateway.ensure_token(&cluster, &uid, None).await?;
        let TokenStanding::Minted(token) = standing else { anyhow::bail!("no token for {cluster}") };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
        let body = serde_json::json!({
            "cluster": cluster, "token": *token.expose(), "csr": csr,
            "kubeSystemUid": format!("11111111-2222-3333-4444-{number:012}"),
        });
        let request = Request::post("/v1/enrol").header("host", "bootstrap").body(Full::from(body.to_string()))?;
        let (status, answer) = self.https(self.gateway.bootstrap_addr(), request).await?;
        ensure!(status == 200, "enrolment of {cluster}: {status} {}", String::from_utf8_lossy(&answer));
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let chain = answer["certificate"].as_str().context("a certificate")?.to_owned();
        Ok(Enrolled { cluster: cluster.to_string(), chain, key: key.serialize_pem() })
    }

    /// One request to an HTTPS port.
    pub async fn https(&self, to: SocketAddr, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
        let io = https_stream(to, &self.gateway.ca_pem()).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        drop(task::spawn("harness.client", Kind::Request, async move { drop(connection.await) }));
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// What an agent needs to dial this parent.
    pub fn way(&self) -> Way {
        Way {
            address: self.gateway.gateway_addr(),
            ca: self.gateway.ca_pem(),
            fleet: self.gateway.trust_domain().to_string(),
        }
    }

    /// Waits until so many agents are connected.
    pub async fn connected(&self, count: usize) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while self.gateway.sessions() != count {
            ensure!(tokio::time::Instant::now() < deadline, "{} of {count} connected", self.gateway.sessions());
            tick.tick().await;
        }
        Ok(())
    }
}

/// Opens a gateway over the parent's API whose tunnel listens in any network; the other ports are free ones of loopback.
pub async fn open_in(
    server: &Arc<ApiServer>,
    net: Net,
    gateway_listen: SocketAddr,
    events: mpsc::Sender<TunnelEvent>,
) -> Result<Gateway> {
    let config = GatewayConfig { gateway_listen, ..config()? };
    Ok(Gateway::start(config, parts(server, net, events)).await?)
}

fn config() -> Result<GatewayConfig> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(GatewayConfig {
        gateway_listen: any,
        bootstrap_listen: any,
        proxy_listen: any,
        external_addresses: vec!["127.0.0.1".to_owned()],
        trust_domain: "bench.example".parse::<TrustDomain>()?,
        certificate_lifetime: lattice_protocol::limits::CERTIFICATE_LIFETIME,
        version: lattice_protocol::version::OWN.to_owned(),
    })
}

async fn open(config: &GatewayConfig, server: &Arc<ApiServer>) -> Result<Gateway> {
    let (events, mut heard) = mpsc::channel::<TunnelEvent>(1024);
    drop(task::spawn("harness.events", Kind::Request, async move { while heard.recv().await.is_some() {} }));
    Ok(Gateway::start(config.clone(), parts(server, Net::System, events)).await?)
}

fn parts(server: &Arc<ApiServer>, net: Net, events: mpsc::Sender<TunnelEvent>) -> GatewayParts {
    GatewayParts {
        vault: Arc::new(KubeVault::new(server.client(), Fence::open(), "lattice-system")),
        safe: None,
        manifests: Arc::new(NoManifests),
        events,
        reviewer: Arc::new(KubeReviewer::new(server.client())),
        metrics: Metrics::new(),
        net,
        cache: Cache::default(),
    }
}

/// A TLS connection to an HTTPS port whose certificate `ca_pem` vouches for, HTTP/1.1.
pub async fn https_stream(to: SocketAddr, ca_pem: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    https_over(TcpStream::connect(to).await?, to, ca_pem, b"http/1.1").await
}

/// As [`https_stream`], for another protocol.
pub async fn https_stream_of(
    to: SocketAddr,
    ca_pem: &str,
    protocol: &[u8],
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    https_over(TcpStream::connect(to).await?, to, ca_pem, protocol).await
}

/// As [`https_stream`], from one of this machine's addresses.
pub async fn https_stream_from(
    from: IpAddr,
    to: SocketAddr,
    ca_pem: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    https_over(socket.connect(to).await?, to, ca_pem, b"http/1.1").await
}

async fn https_over(
    tcp: TcpStream,
    to: SocketAddr,
    ca_pem: &str,
    protocol: &[u8],
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let bundle = CaBundle::from_pem(ca_pem.as_bytes())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(bundle.certificates().to_vec());
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    tcp.set_nodelay(true)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(to.ip().into(), tcp).await?)
}

/// Where a parent is, and whom to trust there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Way {
    /// The tunnel's port.
    pub address: SocketAddr,
    /// CA, PEM.
    pub ca: String,
    /// Trust domain.
    pub fleet: String,
}

impl Way {
    /// The TLS settings of an agent.
    pub fn tls(&self, own: &Enrolled) -> Result<Arc<rustls::ClientConfig>> {
        let credentials = Credentials::from_pem(own.chain.as_bytes(), own.key.as_bytes())?;
        let ca = CaBundle::from_pem(self.ca.as_bytes())?;
        Ok(Arc::new(tls::tunnel_client(&credentials, &ca, &self.fleet.parse::<TrustDomain>()?)?))
    }

    /// Dials over QUIC. The endpoint must live as long as the session.
    pub async fn quic(&self, own: &Enrolled) -> Result<(Session, quinn::Endpoint)> {
        let endpoint = quic::dialler(SocketAddr::from(([0, 0, 0, 0], 0)))?;
        let session = quic::dial(&endpoint, quic::client_config(self.tls(own)?)?, self.address).await?;
        Ok((session, endpoint))
    }

    /// Dials over TCP.
    pub async fn tcp(&self, own: &Enrolled) -> Result<Session> {
        Ok(tcp::dial(self.tls(own)?, self.address).await?)
    }
}

/// Serves a session as the agent does: `H` streams go to the API at `api`, plain HTTP.
pub fn serve(session: Session, api: SocketAddr) -> Result<()> {
    let mut config = kube::Config::new(format!("http://{api}").parse()?);
    config.default_retry = false;
    serve_with(session, kube::Client::try_from(config)?);
    Ok(())
}

/// As [`serve`], through a client of the API.
pub fn serve_with(session: Session, api: kube::Client) {
    let acceptor = Acceptor::new(Incoming::channel().0, Proxy::new(api));
    drop(task::spawn("harness.accept", Kind::Request, async move {
        acceptor.accept(&session, &Exchanges::default()).await;
    }));
}
