//! What can go wrong between us and the parent's API, and what an actor needs to know of it.

use std::time::Duration;

use lattice_protocol::reason::Reason;

/// Whether a failed call may have changed the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Nothing was changed: try again.
    NotDone,
    /// The change may have been made and its answer lost: look before trying again.
    MaybeDone,
}

/// A call to the parent's API that did not succeed. Names the object, never its contents.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered with a refusal.
    #[error("could not {verb} {object}: {message}")]
    Refused {
        /// What was tried.
        verb: &'static str,
        /// Kind, namespace and name.
        object: String,
        /// HTTP status.
        code: u16,
        /// The API's own word for it, for example `Conflict`.
        reason: String,
        /// The API server's words.
        message: String,
        /// What the API server asked for before another try.
        retry_after: Option<Duration>,
    },
    /// No answer came, or one that cannot be read.
    #[error("could not {verb} {object}: no usable answer from the API server")]
    Unanswered {
        /// What was tried.
        verb: &'static str,
        /// Kind, namespace and name.
        object: String,
        /// Whether the change may have been made.
        certainty: Certainty,
        /// The transport's error, unless time ran out.
        #[source]
        source: Option<Box<kube::Error>>,
    },
    /// The Lease is not held, so nothing may be written.
    #[error("this manager does not hold its Lease")]
    NotLeader,
    /// The object cannot be sent as it is.
    #[error("{object} cannot be sent")]
    Malformed {
        /// Kind, namespace and name.
        object: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The object exists and is being deleted, so it can be neither used nor made again yet.
    #[error("{object} is being deleted")]
    Terminating {
        /// Kind, namespace and name.
        object: String,
    },
}

impl Error {
    pub(super) fn from_kube(verb: &'static str, object: &str, error: kube::Error, unanswered: Certainty) -> Self {
        let object = object.to_owned();
        match error {
            kube::Error::Api(status) => Self::Refused {
                verb,
                object,
                code: status.code,
                reason: status.reason.clone(),
                message: redact(&status.message),
                retry_after: status
                    .details
                    .as_ref()
                    .filter(|details| details.retry_after_seconds > 0)
                    .map(|details| Duration::from_secs(u64::from(details.retry_after_seconds))),
            },
            other => Self::Unanswered { verb, object, certainty: unanswered, source: Some(Box::new(other)) },
        }
    }

    pub(super) fn timeout(verb: &'static str, object: &str, certainty: Certainty) -> Self {
        Self::Unanswered { verb, object: object.to_owned(), certainty, source: None }
    }

    /// The reason that conditions and Events carry for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused { code: 401 | 403, .. } => Reason::AccessDenied,
            Self::Refused { code: 429 | 502..=504, .. } | Self::Unanswered { .. } | Self::NotLeader => {
                Reason::ApiUnavailable
            }
            Self::Refused { .. } | Self::Malformed { .. } => Reason::ApplyFailed,
            Self::Terminating { .. } => Reason::ObjectTerminating,
        }
    }

    /// Whether the world may have changed although the call failed.
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::Unanswered { certainty, .. } => *certainty,
            // An API server that answers 5xx to a write may have made it: a gateway's 504 is no proof.
            Self::Refused { code: 500..=599, .. } => Certainty::MaybeDone,
            Self::Refused { .. } | Self::NotLeader | Self::Malformed { .. } | Self::Terminating { .. } => {
                Certainty::NotDone
            }
        }
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Whether somebody else wrote in between, or owns a field.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }

    /// Whether the API refuses us access.
    pub fn is_access_denied(&self) -> bool {
        matches!(self, Self::Refused { code: 401 | 403, .. })
    }

    /// Whether the same call may succeed later with nothing changed by a person.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code, 409 | 429 | 500..=599),
            Self::Unanswered { .. } | Self::NotLeader | Self::Terminating { .. } => true,
            Self::Malformed { .. } => false,
        }
    }

    /// Whether the API server asked for fewer requests.
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Refused { code: 429, .. })
    }
}

/// Cuts a message of the API server to what a condition can carry. An API server quotes the offending object in some
/// answers, so quoted values are cut short.
fn redact(message: &str) -> String {
    const CHARS_MAX: usize = 1_024;
    let mut text: String = message.chars().take(CHARS_MAX).collect();
    if text.len() < message.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> Error {
        Error::Refused {
            verb: "apply",
            object: "Secret lattice-a/b".into(),
            code,
            reason: String::new(),
            message: "no".into(),
            retry_after: None,
        }
    }

    #[test]
    fn a_write_without_an_answer_may_have_been_made() {
        assert_eq!(Error::timeout("apply", "x", Certainty::MaybeDone).certainty(), Certainty::MaybeDone);
        assert_eq!(refused(504).certainty(), Certainty::MaybeDone);
        assert_eq!(refused(422).certainty(), Certainty::NotDone);
    }

    #[test]
    fn a_refusal_tells_whether_waiting_helps() {
        for (code, transient, reason) in [
            (403, false, Reason::AccessDenied),
            (409, true, Reason::ApplyFailed),
            (422, false, Reason::ApplyFailed),
            (429, true, Reason::ApiUnavailable),
            (503, true, Reason::ApiUnavailable),
        ] {
            assert_eq!(refused(code).is_transient(), transient, "{code}");
            assert_eq!(refused(code).reason(), reason, "{code}");
        }
    }
}
