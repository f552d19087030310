//! Why an effect did not succeed, and what the lifecycle needs to know of it.

use crate::api::{ErrorClass, Reason, validate};
use crate::lifecycle::{Certainty, Failure};
use crate::{chart, gateway, render, store};

/// Why an effect did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parent's API did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A template makes no object.
    #[error(transparent)]
    Render(#[from] render::Error),
    /// A component's bundle cannot be made.
    #[error(transparent)]
    Chart(#[from] chart::Error),
    /// Identities could not be changed.
    #[error(transparent)]
    Gateway(#[from] gateway::Error),
    /// The spec lacks something, or holds what cannot be.
    #[error("{}", list(.0))]
    Spec(Vec<validate::FieldError>),
    /// The API server would not take an object.
    #[error("{object} would be refused: {message}")]
    DryRun {
        /// The object.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// The credentials that the provider names do not exist.
    #[error("Secret {namespace}/{name} with the provider's credentials does not exist")]
    CredentialsMissing {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The provider does not exist.
    #[error("InfraProvider {0} does not exist")]
    ProviderMissing(String),
    /// No address is known that nodes could reach us at.
    #[error("this manager has no external address")]
    NoAddress,
    /// An object of the name exists that was not made for this cluster.
    #[error("{object} exists and belongs to something else")]
    Foreign {
        /// The object.
        object: String,
    },
    /// The agent is not connected.
    #[error("the agent of {cluster} is not connected")]
    AgentAway {
        /// The cluster.
        cluster: String,
    },
    /// The agent did not take a command.
    #[error("the agent refused {what}: {message}")]
    Agent {
        /// The command.
        what: String,
        /// Its words.
        message: String,
        /// Whether it may have taken it all the same.
        certainty: Certainty,
    },
    /// Work that the component actor does was sent here.
    #[error("component {component} is installed by its own actor")]
    NotHere {
        /// The component.
        component: String,
    },
}

impl Error {
    /// The reason that conditions and Events carry for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Store(error) => error.reason(),
            Self::Render(_) | Self::Chart(_) => Reason::RenderFailed,
            Self::Gateway(error) => error.reason(),
            Self::Spec(errors) => validate::reason_of(errors),
            Self::DryRun { .. } => Reason::DryRunRefused,
            Self::CredentialsMissing { .. } => Reason::CredentialsNotFound,
            Self::ProviderMissing(_) => Reason::ProviderNotFound,
            Self::NoAddress => Reason::ParentAddressUnknown,
            Self::Foreign { .. } => Reason::ApplyFailed,
            Self::AgentAway { .. } => Reason::AgentAway,
            Self::Agent { .. } => Reason::ComponentApplyFailed,
            Self::NotHere { .. } => Reason::InternalError,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) if error.is_throttled() => ErrorClass::Throttled,
            Self::Store(error) if error.is_access_denied() => ErrorClass::Auth,
            Self::Store(store::Error::Terminating { .. })
            | Self::CredentialsMissing { .. }
            | Self::ProviderMissing(_)
            | Self::AgentAway { .. } => ErrorClass::Dependency,
            Self::Store(error) if error.is_transient() => ErrorClass::Transient,
            Self::Store(_)
            | Self::Render(_)
            | Self::Chart(_)
            | Self::Spec(_)
            | Self::DryRun { .. }
            | Self::NoAddress
            | Self::Foreign { .. } => ErrorClass::Misconfigured,
            Self::Gateway(error) => match error.reason() {
                Reason::AccessDenied => ErrorClass::Auth,
                Reason::ApiUnavailable | Reason::FieldConflict => ErrorClass::Transient,
                _ => ErrorClass::Unknown,
            },
            Self::Agent { .. } => ErrorClass::Transient,
            Self::NotHere { .. } => ErrorClass::Unknown,
        }
    }

    fn certainty(&self) -> Certainty {
        let store = match self {
            Self::Store(error) => error.certainty(),
            Self::Gateway(_) => store::Certainty::MaybeDone,
            Self::Agent { certainty, .. } => return *certainty,
            _ => store::Certainty::NotDone,
        };
        match store {
            store::Certainty::NotDone => Certainty::NotDone,
            store::Certainty::MaybeDone => Certainty::MaybeDone,
        }
    }

    /// What the lifecycle takes in. The message is the whole chain of causes; none of them quotes a secret.
    pub fn into_failure(self) -> Failure {
        let retry_after = match &self {
            Self::Store(store::Error::Refused { retry_after, .. }) => *retry_after,
            _ => None,
        };
        Failure {
            class: self.class(),
            reason: self.reason(),
            message: chain(&self),
            certainty: self.certainty(),
            retry_after,
        }
    }
}

/// An error with its causes, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

fn list(errors: &[validate::FieldError]) -> String {
    errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect::<Vec<_>>().join("; ")
}
