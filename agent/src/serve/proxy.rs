//! The cluster's Kubernetes API for the parent: one HTTP exchange per stream, sent on with the agent's credentials.
//!
//! Requests are held whole, within a bound, because the client library sends nothing else; answers stream. The caller was
//! authenticated and authorised by the parent; what it may do here is what the agent's ServiceAccount may do, or what the
//! user may whom the parent asks to impersonate.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use kube::client::Body;
use lattice_protocol::claims;
use lattice_protocol::ending::{self, Ending, EndingBody};
use lattice_protocol::limits::REQUEST_BODY_BYTES_MAX;
use lattice_protocol::transport::{PendingUpgrade, Stream, serve_exchange};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Headers that belong to one hop (RFC 9110, 7.6.1), or name whom the parent talked to.
const DROPPED: [HeaderName; 9] = [
    HOST,
    UPGRADE,
    AUTHORIZATION,
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// Sends requests on to the local API server.
#[derive(Clone)]
pub struct Proxy {
    client: kube::Client,
    ending: Ending,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy")
    }
}

impl Proxy {
    /// Sends requests on through `client`, which must not repeat them by itself.
    pub fn new(client: kube::Client) -> Self {
        Self { client, ending: Ending::default() }
    }

    /// Hears of the process's end: it then takes no new request, and ends what has no end of its own.
    pub fn ending(self, ending: Ending) -> Self {
        Self { ending, ..self }
    }

    /// Serves the one exchange of a stream, which counts as `open` until it has ended, upgraded or not.
    pub async fn serve(&self, stream: Stream, open: TaskTrackerToken) {
        let (proxy, open) = (self.clone(), Mutex::new(Some(open)));
        let answer = service_fn(move |request| {
            let open = open.lock().unwrap_or_else(PoisonError::into_inner).take();
            let proxy = proxy.clone();
            async move { Ok::<_, Infallible>(proxy.answer(request, open).await) }
        });
        if let Err(error) = serve_exchange(stream, answer).await {
            tracing::debug!(error = %error, "proxied exchange broken off");
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, open: Option<TaskTrackerToken>) -> Response<AnswerBody> {
        if self.ending.drain.is_cancelled() {
            let message = "the cluster's agent restarts; the request was not sent";
            return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
        }
        let upgrade = PendingUpgrade::take(&mut request);
        let endless = ending::has_no_end(request.method(), request.uri());
        let mut request = match prepare(request).await {
            Ok(request) => request,
            Err((code, reason, message)) => return status(code, reason, &message),
        };
        if let Some(upgrade) = &upgrade {
            upgrade.say(request.headers_mut());
        }
        let mut response = match self.client.send(request).await {
            Ok(response) => response,
            Err(error) => {
                let why = crate::dial::chain(&error);
                tracing::debug!(error = %why, "local api does not answer");
                let message = format!("the cluster's own API server does not answer its agent: {why}");
                return status(StatusCode::BAD_GATEWAY, "ServiceUnavailable", &message);
            }
        };
        let protocol = response.headers().get(UPGRADE).cloned();
        drop_hop_headers(response.headers_mut());
        if let Some(upgrade) = upgrade {
            // Joining reads what the API server agreed to.
            if let Some(protocol) = protocol {
                response.headers_mut().insert(UPGRADE, protocol);
            }
            if upgrade.join(&mut response, self.ending.clone(), move |_, _| drop(open)) {
                return response.map(|_| Full::default().map_err(|never: Infallible| match never {}).boxed_unsync());
            }
            response.headers_mut().remove(UPGRADE);
        }
        EndingBody::wrap(response, endless, &self.ending).map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

/// Makes the request that goes to the local API server.
async fn prepare(request: Request<Incoming>) -> Result<Request<Body>, (StatusCode, &'static str, String)> {
    let bad = |message: &str| (StatusCode::BAD_REQUEST, "BadRequest", message.to_owned());
    let (mut parts, body) = request.into_parts();
    claims::check(&mut parts.headers).map_err(|unfit| {
        tracing::warn!(reason = %unfit, "a proxied request was refused");
        (StatusCode::FORBIDDEN, "Forbidden", format!("the cluster's agent does not send the request on: {unfit}"))
    })?;
    let path = parts.uri.path_and_query().ok_or_else(|| bad("the request names no path"))?;
    parts.uri = path.as_str().parse().map_err(|_| bad("the request's path is malformed"))?;
    drop_hop_headers(&mut parts.headers);
    let body = match Limited::new(body, REQUEST_BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let message = format!("the request's body is larger than {REQUEST_BODY_BYTES_MAX} bytes");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message));
        }
        Err(_) => return Err(bad("the request's body broke off")),
    };
    parts.version = http::Version::HTTP_11;
    Ok(Request::from_parts(parts, Body::from(body)))
}

fn drop_hop_headers(headers: &mut HeaderMap) {
    // What `Connection` names belongs to that hop as well.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&DROPPED) {
        headers.remove(name);
    }
}

/// An answer of our own, in the form that Kubernetes' clients read.
fn status(code: StatusCode, reason: &str, message: &str) -> Response<AnswerBody> {
    let body = serde_json::json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16(),
    });
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
