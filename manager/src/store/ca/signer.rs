//! Who holds the CA's private key.

mod socket;

use std::fmt;
use std::sync::Arc;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};

pub use self::socket::SocketSafe;

/// Why a signer did not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CA's signer: {0}")]
pub struct SignerError(pub String);

/// Signs with the CA's private key. Ours keeps the key of the Secret in memory; another may be a module or a service
/// that never gives its key away.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public key: an uncompressed P-256 point (SEC 1, 2.3.3), 65 bytes.
    fn public_point(&self) -> &[u8];

    /// Signs a message: ECDSA with SHA-256, DER (RFC 3279, 2.2.3). May wait for an answer, within a bound of its own: it is
    /// called where that holds nothing else up.
    ///
    /// # Errors
    /// [`SignerError`] in words that hold no secret.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// A place outside of this process where the keys of CAs are made and stay. [`SocketSafe`] asks a program for all of it.
pub trait Safe: fmt::Debug + Send + Sync {
    /// Makes a key and gives the name by which it is found from now on.
    ///
    /// # Errors
    /// [`SignerError`]. A key whose name got lost is never used.
    fn make(&self) -> Result<String, SignerError>;

    /// Finds the key of that name.
    ///
    /// # Errors
    /// [`SignerError`].
    fn find(&self, name: &str) -> Result<Arc<dyn Signer>, SignerError>;
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
        self.0.sign(message).map_err(|error| {
            // The library's error has no room for words.
            tracing::error!(error = %error, "the CA's key did not sign");
            rcgen::Error::RemoteKeyError
        })
    }
}
