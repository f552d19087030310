//! A certificate chain with its private key, and a server's certificate that can be replaced while it serves.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Error, Identity, provider};

/// A certificate chain, leaf first, and the leaf's private key. `Debug` never shows the key.
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// What a TLS server shows: one chain for every client, replaceable without touching open connections.
pub struct ServerCertificate(RwLock<Arc<CertifiedKey>>);

impl Credentials {
    /// Joins a chain and its key; they are checked against each other when a connection is set up with them.
    ///
    /// # Errors
    /// [`Error::Empty`] without a certificate.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, Error> {
        if chain.is_empty() {
            return Err(Error::Empty("certificate chain"));
        }
        Ok(Self { chain, key })
    }

    /// Reads a chain and a key (PKCS#8, SEC1) from PEM.
    ///
    /// # Errors
    /// [`Error::Pem`] or [`Error::Empty`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| Error::Pem { what: "certificate chain", source })?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| Error::Pem { what: "private key", source })?;
        Self::new(chain, key)
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Whom the leaf speaks for.
    ///
    /// # Errors
    /// [`Error::Unacceptable`] when it is no certificate of ours.
    pub fn identity(&self) -> Result<Identity, Error> {
        Ok(Identity::of(&self.chain[0])?)
    }

    /// Copies chain and key: each connection attempt of an agent takes its own.
    pub fn duplicate(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key() }
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    fn certified(&self) -> Result<Arc<CertifiedKey>, Error> {
        CertifiedKey::from_der(self.chain.clone(), self.key(), &provider())
            .map(Arc::new)
            .map_err(|source| Error::Unusable { what: "certificate and key", source })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("certificates", &self.chain.len()).field("key", &"[redacted]").finish()
    }
}

impl ServerCertificate {
    /// Serves with `own` from now on.
    ///
    /// # Errors
    /// [`Error::Unusable`] when certificate and key do not fit.
    pub fn new(own: &Credentials) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self(RwLock::new(own.certified()?))))
    }

    /// Shows `own` to every client that comes after this call.
    ///
    /// # Errors
    /// As [`ServerCertificate::new`]; the old one stays.
    pub fn replace(&self, own: &Credentials) -> Result<(), Error> {
        let next = own.certified()?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate([redacted])")
    }
}
