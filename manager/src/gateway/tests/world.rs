//! A gateway, agents that dial it, and clients of both HTTPS ports.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, CaBundle, Credentials};
use lattice_protocol::token::JoinToken;
use lattice_protocol::transport::{Incoming as GrpcIncoming, Net, Session, Tag, quic, serve_exchange, tcp};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::people::People;
use crate::gateway::{
    AgentManifests, Gateway, GatewayConfig, GatewayParts, ManifestError, ManifestRequest, TokenStanding, TunnelEvent,
};
use crate::metrics::Metrics;
use crate::store::Cache;
use crate::store::vault::Vault;
use crate::store::vault::memory::MemoryVault;

pub(super) const KUBE_SYSTEM: &str = "11111111-2222-3333-4444-555555555555";
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct World {
    pub(super) gateway: Gateway,
    pub(super) vault: Arc<MemoryVault>,
    pub(super) people: Arc<People>,
    pub(super) cache: Cache,
    pub(super) metrics: Metrics,
    pub(super) name: ClusterName,
    pub(super) uid: ClusterUid,
    events: mpsc::Receiver<TunnelEvent>,
}

/// A certificate and its key, as an agent keeps them.
pub(super) struct Enrolment {
    pub(super) csr: String,
    pub(super) key: KeyPair,
}

/// An answer of an HTTPS port.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

#[derive(Debug)]
struct Manifests;

impl AgentManifests for Manifests {
    fn manifest(&self, request: ManifestRequest) -> BoxFuture<'_, Result<String, ManifestError>> {
        async move { Ok(format!("# agent of {} at {}\n", request.cluster, request.endpoints.join(","))) }.boxed()
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with_vault(Arc::new(MemoryVault::default())).await
    }

    pub(super) async fn with_vault(vault: Arc<MemoryVault>) -> Self {
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = GatewayConfig {
            gateway_listen: loopback,
            bootstrap_listen: loopback,
            proxy_listen: loopback,
            external_addresses: vec!["127.0.0.1".to_owned()],
            trust_domain: "test.example".parse().unwrap(),
            certificate_lifetime: lattice_protocol::limits::CERTIFICATE_LIFETIME,
            version: lattice_protocol::version::OWN.to_owned(),
        };
        let (sender, events) = mpsc::channel(256);
        let (cache, metrics) = (Cache::default(), Metrics::new());
        let people = Arc::new(People::new());
        let as_vault: Arc<dyn Vault> = Arc::clone(&vault) as _;
        let parts = GatewayParts {
            vault: as_vault,
            safe: None,
            manifests: Arc::new(Manifests),
            events: sender,
            reviewer: Arc::clone(&people) as _,
            metrics: metrics.clone(),
            net: Net::System,
            cache: cache.clone(),
        };
        Self {
            gateway: Gateway::start(config, parts).await.unwrap(),
            vault,
            people,
            cache,
            metrics,
            name: "backend".parse().unwrap(),
            uid: "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().unwrap(),
            events,
        }
    }

    pub(super) async fn token(&self) -> JoinToken {
        match self.gateway.ensure_token(&self.name, &self.uid, None).await.unwrap() {
            TokenStanding::Minted(token) => token,
            other => panic!("{other:?}"),
        }
    }

    /// The next event; none within ten seconds fails the test.
    pub(super) async fn event(&mut self) -> TunnelEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event").expect("the gateway lives")
    }

    pub(super) fn no_event(&mut self) {
        let event = self.events.try_recv();
        assert!(event.is_err(), "{event:?}");
    }

    pub(super) async fn enrol(&self, token: &JoinToken, enrolment: &Enrolment) -> Answer {
        let body = json!({
            "cluster": self.name, "token": *token.expose(), "csr": enrolment.csr, "kubeSystemUid": KUBE_SYSTEM,
        });
        self.bootstrap(Request::post("/v1/enrol").body(Full::from(body.to_string())).unwrap()).await
    }

    /// Enrols and connects an agent whose Kubernetes API is `api`.
    pub(super) async fn agent(&mut self, api: Api) -> Agent {
        let (token, enrolment) = (self.token().await, Enrolment::new());
        let answer = self.enrol(&token, &enrolment).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(matches!(self.event().await, TunnelEvent::Enrolled { .. }));
        let credentials = enrolment.credentials(&answer);
        Agent::connect(self, credentials, api).await.expect("the agent connects")
    }

    pub(super) fn ca(&self) -> CaBundle {
        CaBundle::from_pem(self.gateway.ca_pem().as_bytes()).unwrap()
    }

    /// One request to the bootstrap port.
    pub(super) async fn bootstrap(&self, request: Request<Full<Bytes>>) -> Answer {
        self.https(self.gateway.bootstrap_addr(), b"http/1.1", request).await
    }

    /// One request to the proxy over HTTP/1.1.
    pub(super) async fn proxy(&self, request: Request<Full<Bytes>>) -> Answer {
        self.https(self.gateway.proxy_addr(), b"http/1.1", request).await
    }

    pub(super) async fn https(&self, to: SocketAddr, alpn: &[u8], request: Request<Full<Bytes>>) -> Answer {
        let response = self.open(to, alpn, request).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Sends a request and gives the answer with its body still on the way. The client checks the certificate as
    /// `curl --cacert` does: by CA and address.
    pub(super) async fn open(&self, to: SocketAddr, alpn: &[u8], request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.open_as(to, alpn, request, None).await
    }

    /// As [`World::open`], with a client certificate.
    pub(super) async fn open_as(
        &self,
        to: SocketAddr,
        alpn: &[u8],
        request: Request<Full<Bytes>>,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Response<Incoming> {
        let io = TokioIo::new(self.tls(to, alpn, own).await);
        if alpn == b"h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            drop(task::spawn("test.client", Kind::Request, async move { drop(connection.await) }));
            let request = absolute(request, to);
            let response = sender.send_request(request).await.unwrap();
            // The connection ends with its last sender.
            drop(task::spawn("test.sender", Kind::Request, async move {
                tokio::time::sleep(PATIENCE).await;
                drop(sender);
            }));
            return response;
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        drop(task::spawn("test.client", Kind::Request, async move { drop(connection.with_upgrades().await) }));
        sender.send_request(request).await.unwrap()
    }

    /// A connection to an HTTPS port.
    pub(super) async fn tls(
        &self,
        to: SocketAddr,
        alpn: &[u8],
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(self.ca().certificates().to_vec());
        let config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(to).await.unwrap();
        let name = rustls_pki_types::ServerName::from(to.ip());
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }
}

fn absolute(request: Request<Full<Bytes>>, to: SocketAddr) -> Request<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    head.uri = format!("https://{to}{}", head.uri).parse().unwrap();
    Request::from_parts(head, body)
}

impl Enrolment {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        Self { csr, key }
    }

    pub(super) fn credentials(&self, answer: &Answer) -> Credentials {
        let chain = answer.json()["certificate"].as_str().unwrap().to_owned();
        Credentials::from_pem(chain.as_bytes(), self.key.serialize_pem().as_bytes()).unwrap()
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// What an agent's Kubernetes API answers.
pub(super) type Api = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<ApiBody>> + Send + Sync>;
pub(super) type ApiBody = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

pub(super) fn text(text: impl Into<Bytes>) -> ApiBody {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// An API that tells what it was asked.
pub(super) fn echo() -> Api {
    Arc::new(|request| {
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let headers: serde_json::Map<_, _> = head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
                .collect();
            let told = json!({
                "method": head.method.as_str(), "uri": head.uri.to_string(), "headers": headers,
                "body": String::from_utf8_lossy(&body),
            });
            Response::builder().header("audit-id", "7").header("keep-alive", "1").body(text(told.to_string())).unwrap()
        }
        .boxed()
    })
}

/// A connected agent: gRPC health, and `H` streams to its API.
pub(super) struct Agent {
    pub(super) session: Session,
    pub(super) credentials: Credentials,
    _endpoint: Option<quinn::Endpoint>,
}

impl Agent {
    pub(super) async fn connect(
        world: &World,
        credentials: Credentials,
        api: Api,
    ) -> Result<Self, lattice_protocol::transport::Error> {
        let config = tls::tunnel_client(&credentials, &world.ca(), &world.gateway.trust_domain()).unwrap();
        let config = quic::client_config(Arc::new(config)).unwrap();
        let endpoint = quic::dialler("127.0.0.1:0".parse().unwrap()).unwrap();
        let session = quic::dial(&endpoint, config, world.gateway.gateway_addr()).await?;
        serve(session.clone(), api);
        Ok(Self { session, credentials, _endpoint: Some(endpoint) })
    }

    /// As where no UDP gets through.
    pub(super) async fn connect_over_tcp(
        world: &World,
        credentials: Credentials,
        api: Api,
    ) -> Result<Self, lattice_protocol::transport::Error> {
        let config = tls::tunnel_client(&credentials, &world.ca(), &world.gateway.trust_domain()).unwrap();
        let session = tcp::dial(Arc::new(config), world.gateway.gateway_addr()).await?;
        serve(session.clone(), api);
        Ok(Self { session, credentials, _endpoint: None })
    }
}

fn serve(session: Session, api: Api) {
    let (sender, incoming) = GrpcIncoming::channel();
    drop(task::spawn("test.grpc", Kind::Request, async move {
        let health = lattice_protocol::v1::health_server::HealthServer::new(health::Fake);
        drop(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming).await);
    }));
    drop(task::spawn("test.agent", Kind::Request, async move {
        while let Ok(accepted) = session.accept().await {
            let Ok((tag, stream)) = accepted.tagged().await else { continue };
            match tag {
                Tag::Grpc => sender.hand_over(&session, stream),
                Tag::Handover => drop(stream),
                Tag::Http => {
                    let api = Arc::clone(&api);
                    let service = hyper::service::service_fn(move |request| {
                        let answer = api(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    drop(task::spawn("test.exchange", Kind::Request, async move {
                        drop(serve_exchange(stream, service).await);
                    }));
                }
            }
        }
    }));
}

mod health {
    use futures::stream::BoxStream;
    use lattice_protocol::v1::health_server::Health;
    use lattice_protocol::v1::{HealthReport, WatchHealthRequest};
    use tonic::{Request, Response, Status};

    pub(super) struct Fake;

    #[tonic::async_trait]
    impl Health for Fake {
        type WatchStream = BoxStream<'static, Result<HealthReport, Status>>;

        async fn watch(&self, _: Request<WatchHealthRequest>) -> Result<Response<Self::WatchStream>, Status> {
            let report = HealthReport { agent_version: "test".to_owned(), ..HealthReport::default() };
            Ok(Response::new(Box::pin(futures::stream::iter([Ok(report)]))))
        }
    }
}
