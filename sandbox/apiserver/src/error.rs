//! What can go wrong when a server is made or served.

use std::net::SocketAddr;
use std::path::PathBuf;

/// An error of the embedder's calls; clients of the API get `Status` answers instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key could not be made or read.
    #[error("certificate {name} could not be made")]
    Certificate {
        /// Whose certificate.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The TLS settings were refused.
    #[error("TLS settings were refused")]
    Tls(#[source] rustls::Error),
    /// An address could not be bound.
    #[error("address {addr} could not be bound")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The state folder could not be read or written.
    #[error("state file {} could not be used", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The state folder holds something that is no state.
    #[error("state file {} line {line} is not readable", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A ServiceAccount does not exist.
    #[error("service account {namespace}/{name} does not exist")]
    NoServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}
