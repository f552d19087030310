//! Verifiers of the other side's certificate: a chain to our CA, and the SPIFFE id that we expect.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{CaBundle, Error, Identity, provider};
use crate::spiffe::{self, SpiffeId, TrustDomain};

/// Why a certificate whose chain is good is refused all the same.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// It does not parse.
    #[error("the certificate does not parse")]
    Malformed,
    /// It carries no URI.
    #[error("the certificate carries no SPIFFE id")]
    NoUri,
    /// It carries more than one URI.
    #[error("the certificate carries more than one URI")]
    SeveralUris,
    /// Its URI is no id of ours.
    #[error(transparent)]
    Id(#[from] spiffe::Error),
    /// It speaks for somebody else.
    #[error("the certificate is for {found}, expected {expected}")]
    Other {
        /// The id in the certificate.
        found: SpiffeId,
        /// Whom we want to talk to.
        expected: String,
    },
}

/// The TLS library puts this into its own error text.
impl fmt::Debug for Unacceptable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl From<Unacceptable> for rustls::Error {
    fn from(error: Unacceptable) -> Self {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

/// The agent's check of the manager.
#[derive(Debug)]
pub(super) struct ManagerVerifier {
    roots: Arc<RootCertStore>,
    expected: SpiffeId,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The manager's check of an agent.
#[derive(Debug)]
pub(super) struct AgentVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    fleet: TrustDomain,
}

impl ManagerVerifier {
    pub(super) fn new(ca: &CaBundle, fleet: &TrustDomain) -> Self {
        Self { roots: ca.roots(), expected: fleet.manager(), algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ManagerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)?;
        let found = Identity::of(end_entity)?.id;
        if found != self.expected {
            return Err(Unacceptable::Other { found, expected: self.expected.to_string() }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl AgentVerifier {
    pub(super) fn new(clients: &CaBundle, fleet: &TrustDomain) -> Result<Self, Error> {
        let chain = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider())
            .build()
            .map_err(Error::Verifier)?;
        Ok(Self { chain, fleet: fleet.clone() })
    }
}

impl ClientCertVerifier for AgentVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let found = Identity::of(end_entity)?.id;
        if found.trust_domain() != &self.fleet || found.cluster().is_none() {
            let expected = format!("an agent of {}", self.fleet);
            return Err(Unacceptable::Other { found, expected }.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
