//! Who the agent is: keys that it makes itself, and certificates that the parent signs for them.
//!
//! All is kept in a Secret on the child, so that a restarted agent, or one on another node, goes on with the same
//! identity. Key and request are stored **before** they are sent: an agent that dies in between asks again with the very
//! same request, which the parent answers with the same certificate. The first key is what the identity is bound to: with
//! it the agent comes back by itself when it slept past the end of its certificate.

mod ask;
mod enrol;
mod key;
mod recover;
mod secret;
mod wallet;

use std::path::PathBuf;

use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::spiffe::{SpiffeId, TrustDomain};
use lattice_protocol::tls::{CaBundle, CaPin, Credentials, Serial};

pub use ask::{BootstrapUrl, Refusal};
pub use secret::Keeper;
pub use wallet::{Prepared, Wallet};

use crate::dial::via::Proxying;

/// Why there is no identity yet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret on the child could not be read or written.
    #[error("identity Secret {name}")]
    Secret {
        /// Name of the Secret.
        name: String,
        /// The API server's words.
        #[source]
        source: Box<kube::Error>,
    },
    /// The stored identity is damaged, or belongs to another cluster.
    #[error("identity Secret {name} cannot be used: {why}")]
    Damaged {
        /// Name of the Secret.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file that enrolment needs cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The join token is malformed.
    #[error("the join token in {path} is none")]
    Token {
        /// The file.
        path: String,
    },
    /// The CA is not the one that was pinned, or cannot be read.
    #[error("the parent's CA cannot be used")]
    Ca(#[source] lattice_protocol::tls::Error),
    /// Key or request could not be made.
    #[error("a key could not be made")]
    Key(#[source] rcgen::Error),
    /// Something else wrote the Secret meanwhile; it is read again at the next try.
    #[error("identity Secret {name} was changed by somebody else")]
    Raced {
        /// Name of the Secret.
        name: String,
    },
    /// There is no identity to renew.
    #[error("there is no identity yet")]
    None,
    /// The parent refused.
    #[error("{url} refused")]
    Refused {
        /// Which bootstrap port.
        url: String,
        /// Its words.
        #[source]
        source: Refusal,
    },
    /// The parent could not be asked.
    #[error("cannot ask {url}: {why}")]
    Unreachable {
        /// Which bootstrap port.
        url: String,
        /// What failed.
        why: String,
    },
    /// The parent's answer holds no certificate for us.
    #[error("{url} answered with a certificate that cannot be used: {why}")]
    Answer {
        /// Which bootstrap port.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Whether the parent said no, as against not being reached.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// What enrolment is done with.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// The id that the certificate will carry.
    pub id: SpiffeId,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// Where the parent takes enrolments.
    pub urls: Vec<BootstrapUrl>,
    /// PEM file with the parent's CA.
    pub ca_file: PathBuf,
    /// Key that this CA must have.
    pub ca_pin: CaPin,
    /// File with the join token.
    pub token_file: PathBuf,
    /// Proxies on the way to the parent.
    pub proxying: Proxying,
}

impl Enrolment {
    fn cluster_uid(&self) -> Result<ClusterUid, Error> {
        self.id.cluster().cloned().ok_or(Error::None)
    }
}

/// The agent's identity and whom it trusts.
#[derive(Debug)]
pub struct Identity {
    /// Certificate and key.
    pub credentials: Credentials,
    /// The parent's CA.
    pub ca: CaBundle,
    /// When the certificate ends.
    pub not_after: jiff::Timestamp,
    /// Its serial number.
    pub serial: Serial,
    /// Which certificate of this identity it is.
    pub sequence: u64,
}
