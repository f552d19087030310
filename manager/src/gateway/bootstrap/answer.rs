//! Answers of the bootstrap port.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;
use lattice_protocol::limits::ENROL_BODY_BYTES_MAX;
use lattice_protocol::reason::Reason;
use serde::Serialize;

use crate::store::identity::Refusal;

/// Seconds that a caller should wait before it tries again after an error of ours.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");
/// The same after too many attempts: the length of their window.
const RETRY_AFTER_TOO_MANY_SECONDS: HeaderValue = HeaderValue::from_static("60");

/// Why a caller gets nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("there is nothing here: GET /v1/clusters/<name>/agent.yaml, POST /v1/enrol, /v1/recover[/challenge]")]
    NotFound,
    #[error("the body is not the JSON that is expected: for an enrolment, cluster, token, csr, kubeSystemUid")]
    Malformed,
    #[error("the body is longer than {ENROL_BODY_BYTES_MAX} bytes, or was cut")]
    TooLarge,
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error(transparent)]
    Refused(Refusal),
    #[error("the agent's manifest cannot be rendered: {0}")]
    Manifest(String),
    #[error("the parent's API is not available; try again")]
    Unavailable(Reason),
}

#[derive(Serialize)]
struct ProblemBody {
    reason: &'static str,
    message: String,
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Manifest(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(refusal) => match refusal {
                Refusal::Token => StatusCode::UNAUTHORIZED,
                Refusal::Replay => StatusCode::CONFLICT,
                Refusal::Revoked
                | Refusal::OtherCluster
                | Refusal::BoundKey
                | Refusal::Locked
                | Refusal::RecoveryLimit
                | Refusal::NotInForce => StatusCode::FORBIDDEN,
                Refusal::KubeSystemUid | Refusal::Csr(_) | Refusal::Challenge => StatusCode::BAD_REQUEST,
                Refusal::TooMany => StatusCode::TOO_MANY_REQUESTS,
            },
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Malformed | Self::TooLarge | Self::TooSlow => "BadRequest",
            // Whoever asks with a token that was used hears no more than anybody else whose enrolment is refused.
            Self::Refused(Refusal::Replay) => Reason::EnrolmentRefused.as_str(),
            Self::Refused(refusal) => reason(*refusal).as_str(),
            Self::Manifest(_) => Reason::RenderFailed.as_str(),
            Self::Unavailable(reason) => reason.as_str(),
        }
    }
}

/// The kind of a refusal, as an Event says it.
pub(super) fn reason(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Locked => Reason::IdentityConflict,
        Refusal::BoundKey | Refusal::RecoveryLimit | Refusal::Challenge | Refusal::NotInForce => {
            Reason::RecoveryRefused
        }
        Refusal::Replay => Reason::JoinTokenReplay,
        Refusal::Token
        | Refusal::Revoked
        | Refusal::OtherCluster
        | Refusal::KubeSystemUid
        | Refusal::Csr(_)
        | Refusal::TooMany => Reason::EnrolmentRefused,
    }
}

/// The answer to a caller who gets nothing.
pub(super) fn problem(why: &Problem) -> Response<Full<Bytes>> {
    let mut response = json(why.status(), &ProblemBody { reason: why.reason(), message: why.to_string() });
    match why.status() {
        StatusCode::TOO_MANY_REQUESTS => {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_TOO_MANY_SECONDS);
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        _ => {}
    }
    response
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let bytes = serde_json::to_vec(body).expect("our own bodies serialize");
    let mut response = Response::new(Full::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
