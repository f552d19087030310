//! The agent's key (P-256) and the request for a certificate that is signed with it.

use std::fmt;

use lattice_protocol::spiffe::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use zeroize::Zeroizing;

/// A private key and the request made with it, both PEM. `Debug` shows neither.
pub(super) struct Request {
    pub(super) key: Zeroizing<String>,
    pub(super) csr: String,
}

impl Request {
    /// Makes a new key and asks for `id`. The parent takes the public key from the request and nothing else.
    pub(super) fn generate(id: &SpiffeId) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        let csr = params.serialize_request(&key)?.pem()?;
        Ok(Self { key: Zeroizing::new(key.serialize_pem()), csr })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request([redacted])")
    }
}
