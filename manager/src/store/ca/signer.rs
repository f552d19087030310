//! Who holds the CA's private key.

use std::fmt;
use std::sync::Arc;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};

/// Why a signer did not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CA's key could not sign: {0}")]
pub struct SignerError(pub String);

/// Signs with the CA's private key. Ours keeps the key of the Secret in memory; another may be a module or a service
/// that never gives its key away. It is called from async code, so it must answer within milliseconds.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public key: an uncompressed P-256 point (SEC 1, 2.3.3), 65 bytes.
    fn public_point(&self) -> &[u8];

    /// Signs a message: ECDSA with SHA-256, DER (RFC 3279, 2.2.3).
    ///
    /// # Errors
    /// [`SignerError`] in words that hold no secret.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// A key in this process's memory. `Debug` never shows it.
pub(super) struct KeySigner(KeyPair);

/// A signer as the certificate library takes it.
#[derive(Clone, Debug)]
pub(super) struct Signing(pub(super) Arc<dyn Signer>);

impl KeySigner {
    pub(super) fn new(key: KeyPair) -> Self {
        Self(key)
    }
}

impl Signer for KeySigner {
    fn public_point(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        SigningKey::sign(&self.0, message).map_err(|error| SignerError(error.to_string()))
    }
}

impl fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySigner([redacted])")
    }
}

impl PublicKeyData for Signing {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signing {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
