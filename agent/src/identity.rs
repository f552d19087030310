//! Who the agent is: a key that it makes itself, and a certificate that the parent signs for it once.
//!
//! Both are kept in a Secret on the child, so that a restarted agent, or one on another node, goes on with the same
//! identity. Key and request are stored **before** the token is used: an agent that dies in between asks again with the
//! very same request, which the parent answers with the same certificate.

mod enrol;
mod key;
mod secret;

use std::path::PathBuf;

use lattice_protocol::ids::ClusterName;
use lattice_protocol::spiffe::{SpiffeId, TrustDomain};
use lattice_protocol::tls::{CaBundle, CaPin, Credentials};

pub use enrol::{BootstrapUrl, Refusal};
pub use secret::Keeper;

use crate::dial::via::Proxying;
use key::Request;
use secret::Stored;

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
    /// The parent refused.
    #[error("{url} refused the enrolment")]
    Refused {
        /// Which bootstrap port.
        url: String,
        /// Its words.
        #[source]
        source: Refusal,
    },
    /// The parent could not be asked.
    #[error("cannot enrol at {url}: {why}")]
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

/// The agent's identity and whom it trusts.
#[derive(Debug)]
pub struct Identity {
    /// Certificate and key.
    pub credentials: Credentials,
    /// The parent's CA.
    pub ca: CaBundle,
    /// When the certificate ends.
    pub not_after: jiff::Timestamp,
}

/// Returns the stored identity, or enrols and stores it. Tries once; callers wait between tries.
///
/// # Errors
/// [`Error`]; each of them may pass with time but [`Error::Damaged`].
#[tracing::instrument(name = "identity.enrol", skip_all, fields(cluster.name = %enrolment.cluster))]
pub async fn obtain(keeper: &Keeper, enrolment: &Enrolment, kube_system_uid: &str) -> Result<Identity, Error> {
    let request = match keeper.load().await? {
        Some(Stored::Enrolled(stored)) => return stored.check(&enrolment.id, keeper.name()),
        Some(Stored::Asked(request)) => request,
        None => {
            let request = Request::generate(&enrolment.id).map_err(Error::Key)?;
            keeper.keep_request(&request).await?;
            request
        }
    };
    let answer = enrol::enrol(enrolment, &request, kube_system_uid).await?;
    let stored = secret::Enrolled { key: request.key, certificate: answer.certificate, ca: answer.ca_bundle };
    let identity = stored.check(&enrolment.id, keeper.name())?;
    keeper.keep_certificate(&stored).await?;
    tracing::info!(expires = %identity.not_after, "enrolled");
    Ok(identity)
}

/// Forgets the certificate, so that the next [`obtain`] enrols anew with a new key.
///
/// # Errors
/// [`Error::Secret`].
pub async fn forget(keeper: &Keeper) -> Result<(), Error> {
    keeper.forget().await
}
