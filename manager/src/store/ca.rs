//! The certificate authority of this parent: Secret `lattice-system/lattice-ca`, what it signs, and its rotation.
//!
//! [`CertificateAuthority`] is what signs at one moment; [`Authorities`] holds the present one and replaces it step by
//! step ([`rotation`]), each step one compare-and-swap of the Secret.
//!
//! **Guarantees**: a key leaves the Secret only into this process's memory, and behind a [`Safe`] it never is in either;
//! every certificate's content is ours, a request gives its public key and nothing else.

mod authority;
mod csr;
mod held;
mod keyring;
pub mod rotation;
mod signer;

use lattice_protocol::spiffe::{SpiffeId, TrustDomain};
use lattice_protocol::tls;

pub use self::authority::{CertificateAuthority, Issued};
pub use self::csr::{CsrRefused, SigningRequest};
pub use self::held::Authorities;
pub use self::signer::{Safe, Signer, SignerError, SocketSafe};

/// Secret that holds the CA, in `lattice-system`.
pub const SECRET_NAME: &str = "lattice-ca";

/// Why the CA could not be had, or did not sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret cannot be read or made.
    #[error(transparent)]
    Store(#[from] super::Error),
    /// The Secret exists and lacks something.
    #[error("secret {SECRET_NAME} lacks {0}")]
    Missing(&'static str),
    /// The Secret's certificate or key cannot be used.
    #[error("secret {SECRET_NAME} holds no CA that can be used")]
    Unusable(#[source] rcgen::Error),
    /// Certificate and TLS settings do not fit.
    #[error("the CA certificate cannot be used")]
    Tls(#[from] tls::Error),
    /// The Secret holds a CA of another fleet.
    #[error("secret {SECRET_NAME} holds the CA of another trust domain than {0}")]
    OtherFleet(TrustDomain),
    /// A certificate could not be signed.
    #[error("cannot sign a certificate for {id}")]
    Sign {
        /// Whom it was for.
        id: SpiffeId,
        /// The library's words.
        #[source]
        source: rcgen::Error,
    },
    /// A name for a server certificate is neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// A signer outside of this process failed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The key is kept outside of this process, and nobody said where.
    #[error("the key of secret {SECRET_NAME} is kept by a signer: run with --ca-signer")]
    SignerUnknown,
    /// The rotation may not take this step now.
    #[error(transparent)]
    Rotation(#[from] rotation::Refused),
}

#[cfg(test)]
mod tests;
