//! CA bundles and the pin of a CA's key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Error;

/// Text before the digits of a pin.
const PIN_PREFIX: &str = "sha256:";

/// One or more CA certificates that are trusted alike.
#[derive(Clone)]
pub struct CaBundle {
    certificates: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

/// SHA-256 of a CA's public key (its DER `SubjectPublicKeyInfo`): `sha256:<hex>`, as kubeadm writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CaPin([u8; 32]);

impl CaBundle {
    /// Reads every certificate of a PEM text.
    ///
    /// # Errors
    /// [`Error::Pem`], [`Error::Empty`], or [`Error::Unusable`] for a certificate that cannot be a trust anchor.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| Error::Pem { what: "CA bundle", source })?;
        Self::new(certificates)
    }

    /// Trusts exactly these certificates.
    ///
    /// # Errors
    /// As [`CaBundle::from_pem`].
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        if certificates.is_empty() {
            return Err(Error::Empty("CA bundle"));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|source| Error::Unusable { what: "CA certificate", source })?;
        }
        Ok(Self { certificates, roots: Arc::new(roots) })
    }

    /// Keeps only the certificate whose key is pinned.
    ///
    /// # Errors
    /// [`Error::PinMismatch`] when there is none: the bundle is not the one that the pin's giver meant.
    pub fn pinned(&self, pin: &CaPin) -> Result<Self, Error> {
        let kept = self.certificates.iter().filter(|der| CaPin::of(der).is_ok_and(|found| found == *pin));
        match Self::new(kept.cloned().collect()) {
            Err(Error::Empty(_)) => Err(Error::PinMismatch(*pin)),
            other => other,
        }
    }

    /// The trusted certificates.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaBundle").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

impl CaPin {
    /// Computes the pin of a certificate.
    ///
    /// # Errors
    /// [`Error::Empty`] when the bytes are no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Error::Empty("CA certificate"))?;
        Ok(Self(Sha256::digest(parsed.public_key().raw).into()))
    }
}

impl FromStr for CaPin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Pin(text.chars().take(80).collect());
        let digits =
            text.strip_prefix(PIN_PREFIX).filter(|hex| hex.len() == 64 && hex.is_ascii()).ok_or_else(refused)?;
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PIN_PREFIX}{}", super::hex(&self.0))
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
