//! Answers of the proxy itself, as Kubernetes' API writes them: clients then show the words.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use lattice_protocol::ids::ClusterName;
use lattice_protocol::limits::{REQUEST_BODY_BYTES_MAX, RESPONSE_HEAD_TIMEOUT};

use super::body::ProxyBody;

/// Why the cluster did not answer a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("this is the proxy of lattice-manager: use /clusters/<name>/<path of the Kubernetes API>")]
    NoCluster,
    #[error("a bearer token or a client certificate of the parent cluster is needed")]
    NoCredential,
    #[error("the credential is neither valid at the parent cluster nor the one of this cluster's kubeconfig")]
    WrongCredential,
    /// Also for a cluster that nobody knows.
    #[error(
        "user {user:?} may not {verb} latticeclusters/proxy \"{cluster}\" at the parent cluster; \
         a role with apiGroups [lattice.dev], resources [latticeclusters/proxy], verbs [{verb}] allows it"
    )]
    Forbidden { user: String, verb: &'static str, cluster: ClusterName },
    #[error("user {user:?} may not impersonate {whom} at the parent cluster")]
    MayNotImpersonate { user: String, whom: String },
    #[error(
        "{0:?} is a name of the parent cluster's own and means something else on this cluster: \
         ask with another user, or impersonate one (--as)"
    )]
    Reserved(String),
    #[error("{0}")]
    Bad(&'static str),
    #[error("the parent cluster's API, which vouches for people, does not answer; the request was not sent")]
    ParentAway,
    #[error("you have your fair share of requests to cluster {0} under way already; the request was not sent")]
    FairShare(ClusterName),
    /// Also for a cluster that nobody knows: who has no right to it learns nothing.
    #[error("no agent of cluster {0} is connected; the request was not sent")]
    AgentAway(ClusterName),
    #[error("the manager restarts; the request was not sent")]
    Stopping,
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
            Self::Forbidden { .. } | Self::MayNotImpersonate { .. } | Self::Reserved(_) => {
                (StatusCode::FORBIDDEN, "Forbidden")
            }
            Self::Bad(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::FairShare(_) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::AgentAway(_) | Self::Busy(_) | Self::ParentAway | Self::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
            }
            Self::Unasked(_) => (StatusCode::BAD_GATEWAY, "InternalError"),
            Self::Silent(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
        }
    }
}

/// Writes the answer. `waits` says that the caller may be told to try again in a moment: a person may. Cluster API never
/// is: its clients would wait for it inside their probe, fail it, and stay unhealthy for a minute after the agent is back.
pub(super) fn response(problem: &Problem, waits: bool) -> Response<ProxyBody> {
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
    if waits && matches!(code, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lattice\""));
    }
    response
}
