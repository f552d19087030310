//! Certificate signing requests: proof that the asker holds a P-256 key, and that key. Everything else is ignored.

use std::fmt;

use lattice_protocol::limits::CSR_BYTES_MAX;
use lattice_protocol::tls::hex;
use rcgen::{CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PublicKey, PublicKeyData as _};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

/// Bytes of a P-256 public key, uncompressed (SEC 1, 2.3.3).
const P256_POINT_BYTES: usize = 65;

/// Why a signing request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrRefused {
    /// Longer than any honest request.
    #[error("the signing request is longer than {CSR_BYTES_MAX} bytes")]
    TooLong,
    /// Not a PEM `CERTIFICATE REQUEST`, or asks for extensions that no agent asks for.
    #[error("the signing request does not parse")]
    Malformed,
    /// Its signature is not by the key in it.
    #[error("the signing request is not signed by its own key")]
    NoProof,
    /// Another kind of key.
    #[error("the signing request's key is not P-256")]
    KeyKind,
}

/// A request whose signature was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningRequest {
    key: PublicKey,
    sha256: String,
}

impl SigningRequest {
    /// Reads and checks a request.
    ///
    /// # Errors
    /// [`CsrRefused`], and nothing is kept of it.
    pub fn parse(pem: &str) -> Result<Self, CsrRefused> {
        if pem.len() > CSR_BYTES_MAX {
            return Err(CsrRefused::TooLong);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| CsrRefused::Malformed)?;
        let parsed = CertificateSigningRequestParams::from_der(&der).map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => CsrRefused::NoProof,
            rcgen::Error::UnsupportedSignatureAlgorithm => CsrRefused::KeyKind,
            _ => CsrRefused::Malformed,
        })?;
        let key = parsed.public_key;
        if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != P256_POINT_BYTES {
            return Err(CsrRefused::KeyKind);
        }
        Ok(Self { key, sha256: hex(&Sha256::digest(&der)) })
    }

    /// SHA-256 of the request, by which the same one is known again.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// SHA-256 of the public key (DER `SubjectPublicKeyInfo`).
    pub fn key_sha256(&self) -> String {
        hex(&Sha256::digest(self.key.subject_public_key_info()))
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.key
    }
}

impl fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningRequest({})", &self.sha256[..12])
    }
}
