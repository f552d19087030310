//! Verifiers of the other side's certificate: a chain to our CA, and the SPIFFE id that we expect.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

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
use crate::clock;
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
    /// It is not valid at the time that the clock here shows.
    #[error(
        "the certificate is valid from {from} until {until}, and the clock here shows {now}: compare the clocks of both machines"
    )]
    Time {
        /// The clock here.
        now: jiff::Timestamp,
        /// Start of validity.
        from: jiff::Timestamp,
        /// End of validity.
        until: jiff::Timestamp,
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

/// The manager's check of an agent: whom it trusts can be replaced while it listens.
#[derive(Debug)]
pub struct ClientTrust {
    chain: RwLock<Arc<dyn ClientCertVerifier>>,
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
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (parsed, now) = (ParsedCertificate::try_from(end_entity)?, clock::now());
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, unix(now), self.algorithms.all)
            .map_err(|error| in_words(error, end_entity, now))?;
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

/// A wrong clock is the likeliest cause of a bad time: both times are said, in words.
fn in_words(error: rustls::Error, leaf: &CertificateDer<'_>, now: jiff::Timestamp) -> rustls::Error {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let of_time = matches!(
        error,
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
    );
    match Identity::of(leaf) {
        Ok(found) if of_time => Unacceptable::Time { now, from: found.not_before, until: found.not_after }.into(),
        Ok(_) | Err(_) => error,
    }
}

/// Our own clock, not the library's: it may be corrected, and tests may move it.
fn unix(now: jiff::Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default()))
}

impl ClientTrust {
    /// Takes agents of `fleet` whose certificates one of `clients` signed.
    ///
    /// # Errors
    /// [`Error::Verifier`] when the bundle cannot anchor client certificates.
    pub fn new(clients: &CaBundle, fleet: &TrustDomain) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { chain: RwLock::new(Self::chain(clients)?), fleet: fleet.clone() }))
    }

    /// Trusts `clients` from the next handshake on.
    ///
    /// # Errors
    /// As [`ClientTrust::new`]; what was trusted stays so.
    pub fn replace(&self, clients: &CaBundle) -> Result<(), Error> {
        let chain = Self::chain(clients)?;
        *self.chain.write().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(())
    }

    fn chain(clients: &CaBundle) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let builder = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider());
        builder.build().map(|chain| -> Arc<dyn ClientCertVerifier> { chain }).map_err(Error::Verifier)
    }

    fn present(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.chain.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientCertVerifier for ClientTrust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.present().verify_client_cert(end_entity, intermediates, unix(clock::now()))?;
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
        self.present().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.present().supported_verify_schemes()
    }
}
