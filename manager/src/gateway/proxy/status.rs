//! Answers of the proxy itself, as Kubernetes' API writes them: clients then show the words.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use lattice_protocol::ids::ClusterName;
use lattice_protocol::limits::{REQUEST_BODY_BYTES_MAX, RESPONSE_HEAD_TIMEOUT};

use super::body::ProxyBody;

/// Why the cluster did not answer a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("this is the proxy of lattice-manager: use /clusters/<name>/<path of the Kubernetes API>")]
    NoCluster,
    #[error("a bearer token is needed")]
    NoCredential,
    #[error("the bearer token is not valid for this cluster")]
    WrongCredential,
    /// Also for a cluster that nobody knows: who has no right to it learns nothing.
    #[error("no agent of cluster {0} is connected; the request was not sent")]
    AgentAway(ClusterName),
    #[error("cluster {0} has too many requests under way; the request was not sent")]
    Busy(ClusterName),
    #[error("the API server of cluster {0} did not answer within {limit:?}", limit = RESPONSE_HEAD_TIMEOUT)]
    Silent(ClusterName),
    #[error("the API server of cluster {0} switched protocols unasked")]
    Unasked(ClusterName),
    #[error("the request's body is longer than {REQUEST_BODY_BYTES_MAX} bytes")]
    TooLarge,
}

impl Problem {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoCluster => (StatusCode::NOT_FOUND, "NotFound"),
            Self::NoCredential | Self::WrongCredential => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::AgentAway(_) | Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Unasked(_) => (StatusCode::BAD_GATEWAY, "InternalError"),
            Self::Silent(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
        }
    }
}

/// Writes the answer. Never with `Retry-After`: Cluster API's clients would wait for it inside their probe, fail it, and
/// stay unhealthy for a minute after the agent is back.
pub(super) fn response(problem: &Problem) -> Response<ProxyBody> {
    let (code, reason) = problem.status();
    let body = serde_json::json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": problem.to_string(),
        "reason": reason,
        "code": code.as_u16(),
    });
    let mut response = Response::new(ProxyBody::text(Bytes::from(body.to_string())));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lattice\""));
    }
    response
}
