//! A parent: a CA, a bootstrap port that signs, and a gateway that takes sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, CaBundle, CaPin, Credentials, ServerCertificate};
use lattice_protocol::token::JoinToken;
use lattice_protocol::transport::{Session, quic};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;

pub(crate) const UID: &str = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab";

pub(crate) struct Parent {
    pub(crate) fleet: TrustDomain,
    pub(crate) ca_pem: String,
    pub(crate) pin: CaPin,
    pub(crate) token: JoinToken,
    pub(crate) gateway: quinn::Endpoint,
    pub(crate) bootstrap: SocketAddr,
    signer: Arc<Signer>,
    /// Enrolments that were answered so far.
    pub(crate) enrolled: Arc<AtomicU32>,
}

fn signed(
    issuer: &Issuer<'_, KeyPair>,
    uri: &str,
    key: &impl rcgen::PublicKeyData,
    usage: ExtendedKeyUsagePurpose,
) -> rcgen::Certificate {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        vec![SanType::URI(uri.try_into().unwrap()), SanType::DnsName(tls::MANAGER_SERVER_NAME.try_into().unwrap())];
    if usage == ExtendedKeyUsagePurpose::ClientAuth {
        params.subject_alt_names.truncate(1);
    }
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.signed_by(key, issuer).unwrap()
}

impl Parent {
    pub(crate) async fn start() -> Self {
        let fleet: TrustDomain = "fleet.test".parse().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap();
        let (ca_pem, pin) = (ca.pem(), CaPin::of(ca.der()).unwrap());
        let issuer = Issuer::from_ca_cert_der(ca.der(), key).unwrap();

        let own_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let own = signed(&issuer, &fleet.manager().to_string(), &own_key, ExtendedKeyUsagePurpose::ServerAuth);
        let own = Credentials::new(vec![own.der().clone()], PrivatePkcs8KeyDer::from(own_key.serialize_der()).into())
            .unwrap();
        let own = ServerCertificate::new(&own).unwrap();
        let bundle = CaBundle::from_pem(ca_pem.as_bytes()).unwrap();
        let config = tls::tunnel_server(Arc::clone(&own), &bundle, &fleet).unwrap();
        let config = quic::server_config(Arc::new(config)).unwrap();
        let gateway = quic::listen("127.0.0.1:0".parse().unwrap(), config, None).unwrap();

        let token = JoinToken::generate();
        let enrolled = Arc::new(AtomicU32::new(0));
        let signer = Arc::new(Signer {
            issuer,
            ca_pem: ca_pem.clone(),
            id: fleet.agent(&UID.parse().unwrap()).to_string(),
            token: token.expose().to_string(),
            enrolled: Arc::clone(&enrolled),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bootstrap = listener.local_addr().unwrap();
        task::spawn("test.bootstrap", Kind::Service, enrolments(listener, tls::https_server(own), Arc::clone(&signer)));
        Self { fleet, ca_pem, pin, token, gateway, bootstrap, signer, enrolled }
    }

    /// Both ends of a session, without an agent.
    pub(crate) async fn pair(&self) -> (Session, Session) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = &self.signer;
        let certificate = signed(&signer.issuer, &signer.id, &key, ExtendedKeyUsagePurpose::ClientAuth);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let own = Credentials::new(vec![certificate.der().clone()], key).unwrap();
        let ca = CaBundle::from_pem(self.ca_pem.as_bytes()).unwrap();
        let config = tls::tunnel_client(&own, &ca, &self.fleet).unwrap();
        let config = quic::client_config(Arc::new(config)).unwrap();
        let endpoint = quic::dialler("127.0.0.1:0".parse().unwrap()).unwrap();
        let dialled = quic::dial(&endpoint, config, self.gateway.local_addr().unwrap());
        let (agent, parent) = tokio::join!(dialled, self.session());
        (agent.unwrap(), parent)
    }

    /// Waits for the next session of an agent.
    pub(crate) async fn session(&self) -> Session {
        let incoming = self.gateway.accept().await.unwrap();
        quic::accept(incoming).await.unwrap()
    }
}

struct Signer {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    id: String,
    token: String,
    enrolled: Arc<AtomicU32>,
}

impl Signer {
    fn answer(&self, body: &[u8]) -> (u16, serde_json::Value) {
        let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(asked["cluster"], "backend");
        assert!(!asked["kubeSystemUid"].as_str().unwrap().is_empty());
        if asked["token"] != self.token.as_str() {
            return (403, serde_json::json!({"reason": "TokenUnknown", "message": "no such token"}));
        }
        let csr = CertificateSigningRequestParams::from_pem(asked["csr"].as_str().unwrap()).unwrap();
        let certificate = signed(&self.issuer, &self.id, &csr.public_key, ExtendedKeyUsagePurpose::ClientAuth);
        self.enrolled.fetch_add(1, Ordering::Relaxed);
        let answer = serde_json::json!({
            "certificate": certificate.pem(), "caBundle": self.ca_pem, "trustDomain": "fleet.test",
        });
        (200, answer)
    }
}

async fn enrolments(listener: TcpListener, config: rustls::ServerConfig, signer: Arc<Signer>) {
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let (io, _) = listener.accept().await.unwrap();
        let Ok(io) = tls.accept(io).await else { continue };
        let signer = Arc::clone(&signer);
        let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let signer = Arc::clone(&signer);
            async move {
                assert_eq!(request.uri().path(), "/v1/enrol");
                let body = request.into_body().collect().await?.to_bytes();
                let (code, answer) = signer.answer(&body);
                let body = Full::new(bytes::Bytes::from(answer.to_string()));
                Ok::<_, hyper::Error>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), answer);
        // An agent that drops the connection after its answer is fine.
        let _ = served.await;
    }
}
