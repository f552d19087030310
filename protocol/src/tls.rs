//! TLS settings of every connection between manager and agent, and whom a certificate speaks for.
//!
//! TLS 1.3 only, ring only, AES-128-GCM first, X25519 first, P-256 certificates. No tickets and no 0-RTT: rustls does
//! not look at the client's certificate again when a session is resumed, and early data can be replayed.
//!
//! **Invariant**: no setting here depends on what another crate compiled in; nothing uses the process's default provider.

mod ask;
mod bundle;
mod credentials;
mod identity;
#[cfg(test)]
pub(crate) mod pki;
mod verify;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

pub use self::bundle::{CaBundle, CaPin};
pub use self::credentials::{Credentials, ServerCertificate};
pub use self::identity::{Identity, Serial};
pub use self::verify::{ClientTrust, Unacceptable};
use crate::spiffe::TrustDomain;

/// The one application protocol of the tunnel, over QUIC and over TCP.
pub const ALPN: &[u8] = b"lattice/1";

/// Name that dialling sides put into SNI. The manager's certificates carry it; agents verify the SPIFFE id instead.
pub const MANAGER_SERVER_NAME: &str = "lattice-manager";

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A PEM text holds something else than expected.
    #[error("the {what} is not valid PEM")]
    Pem {
        /// What was read.
        what: &'static str,
        /// The parser's words.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A PEM text holds no certificate.
    #[error("the {0} holds no certificate")]
    Empty(&'static str),
    /// A certificate cannot be a trust anchor, or does not fit its key.
    #[error("the {what} cannot be used")]
    Unusable {
        /// What was read.
        what: &'static str,
        /// The TLS library's words.
        #[source]
        source: rustls::Error,
    },
    /// No certificate of the bundle has the pinned key.
    #[error("no CA certificate has the pinned key {0}")]
    PinMismatch(CaPin),
    /// Not `sha256:` and 64 hexadecimal digits.
    #[error("{0:?} is no CA pin: expected sha256:<64 hexadecimal digits>")]
    Pin(String),
    /// The client verifier could not be built.
    #[error("the verifier of client certificates cannot be built")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// A certificate lacks what an identity is read from.
    #[error(transparent)]
    Unacceptable(#[from] Unacceptable),
}

/// Makes the crypto provider of all our connections: ring, TLS 1.3 suites only.
pub fn provider() -> Arc<CryptoProvider> {
    let default = ring::default_provider();
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default
    })
}

/// Makes ring the process's default provider, for libraries that ask for one. The first thing in `main`.
///
/// A provider that is already installed stays.
pub fn install_provider() {
    if ring::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider was installed before");
    }
}

/// The agent's side of the tunnel: shows its certificate, takes only the manager of its fleet.
///
/// # Errors
/// [`Error::Unusable`] when certificate and key do not fit.
pub fn tunnel_client(own: &Credentials, ca: &CaBundle, fleet: &TrustDomain) -> Result<ClientConfig, Error> {
    let verifier = verify::ManagerVerifier::new(ca, fleet);
    let mut config = client_builder(verifier)
        .with_client_auth_cert(own.chain().to_vec(), own.key())
        .map_err(|source| Error::Unusable { what: "agent's certificate", source })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    harden_client(&mut config);
    Ok(config)
}

/// The agent's side of enrolment: HTTPS without a certificate of its own, to the manager of its fleet only.
pub fn enrolment_client(ca: &CaBundle, fleet: &TrustDomain) -> ClientConfig {
    let verifier = verify::ManagerVerifier::new(ca, fleet);
    let mut config = client_builder(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    harden_client(&mut config);
    config
}

/// The manager's side of the tunnel: takes only agents of its fleet. Whether the agent is one that it knows is decided
/// after the handshake, where the answer can say why.
///
/// # Errors
/// [`Error::Verifier`] when the bundle cannot anchor client certificates.
pub fn tunnel_server(
    own: Arc<ServerCertificate>,
    clients: &CaBundle,
    fleet: &TrustDomain,
) -> Result<ServerConfig, Error> {
    Ok(tunnel_server_with(own, ClientTrust::new(clients, fleet)?))
}

/// As [`tunnel_server`], with whom it trusts kept outside, where it can be replaced.
pub fn tunnel_server_with(own: Arc<ServerCertificate>, clients: Arc<ClientTrust>) -> ServerConfig {
    let mut config = server_builder().with_client_cert_verifier(clients).with_cert_resolver(own);
    config.alpn_protocols = vec![ALPN.to_vec()];
    harden_server(&mut config);
    config
}

/// An HTTPS server without client certificates: bootstrap port and Kubernetes API proxy. `h2` as well as `http/1.1`,
/// since Cluster API's controllers use the one and upgrades need the other.
pub fn https_server(own: Arc<ServerCertificate>) -> ServerConfig {
    let mut config = server_builder().with_no_client_auth().with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    harden_server(&mut config);
    config
}

/// As [`https_server`], for clients that may show a certificate of an authority that is not ours: the Kubernetes API proxy.
/// The chain is **not** verified here, only that the client holds the key; whoever reads it verifies it.
pub fn https_server_asking(own: Arc<ServerCertificate>) -> ServerConfig {
    let mut config = server_builder().with_client_cert_verifier(Arc::new(ask::AskOnly::new())).with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    harden_server(&mut config);
    config
}

/// Writes bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn client_builder(
    verifier: verify::ManagerVerifier,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

fn server_builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
}

fn harden_client(config: &mut ClientConfig) {
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
}

fn harden_server(config: &mut ServerConfig) {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
}

#[cfg(test)]
mod tests;
