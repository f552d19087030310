//! The Kubernetes API of the children: `https://<manager>/clusters/<name>/…` becomes one exchange with the cluster's
//! agent, which sends it to its own API server.
//!
//! **Guarantees**: an agent that is away is answered for at once, with 503 and a Kubernetes `Status`; 401 only for a
//! credential that was never valid. Both because of what Cluster API makes of the alternatives: on 401 it drops its
//! connection without patience, on silence its conditions stay false for minutes. **Invariant**: no answer of a child is
//! kept or made up here; an empty list that is not true makes Cluster API delete machines.

mod body;
mod caller;
mod headers;
mod path;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body_util::Limited;
use hyper::body::{Body as _, Incoming};
use lattice_protocol::ids::ClusterName;
use lattice_protocol::limits::{REQUEST_BODY_BYTES_MAX, RESPONSE_HEAD_TIMEOUT};
use lattice_protocol::transport::{self, ExchangeBody, PendingUpgrade};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use self::body::ProxyBody;
use self::caller::Caller;
pub(super) use self::caller::Credentials;
use self::path::Target;
use self::status::Problem;
use super::stop::Stop;
use super::{AgentSession, Shared, https};

/// Answers the proxy's port.
#[derive(Clone)]
struct Proxy(Arc<Shared>);

/// Serves the proxy until `stop` asks to drain.
pub(super) fn serve(stop: &Stop, listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    https::serve(stop, "gateway.proxy", listener, tls, Proxy(shared));
}

impl https::Answer for Proxy {
    type Body = ProxyBody;

    async fn answer(&self, request: Request<Incoming>, from: SocketAddr) -> Response<ProxyBody> {
        let method = request.method().clone();
        match self.forward(request).await {
            Ok(response) => response,
            Err(problem) => {
                tracing::debug!(%from, %method, why = %problem, "a proxied request was not answered by its cluster");
                status::response(&problem)
            }
        }
    }
}

impl Proxy {
    /// Who asks, whom, and whether it is there; then the exchange.
    async fn forward(&self, request: Request<Incoming>) -> Result<Response<ProxyBody>, Problem> {
        let Target { cluster, path_and_query } = path::target(request.uri()).ok_or(Problem::NoCluster)?;
        let caller = self.0.credentials.identify(&cluster, request.headers())?;
        let session = self.session(&cluster)?;
        exchange(&session, &caller, request, path_and_query).await
    }

    fn session(&self, cluster: &ClusterName) -> Result<Arc<AgentSession>, Problem> {
        self.0.sessions.by_name(cluster).ok_or_else(|| Problem::AgentAway(cluster.clone()))
    }
}

async fn exchange(
    session: &AgentSession,
    caller: &Caller,
    mut request: Request<Incoming>,
    path_and_query: http::uri::PathAndQuery,
) -> Result<Response<ProxyBody>, Problem> {
    let place = session.exchange_permit().ok_or_else(|| Problem::Busy(session.name().clone()))?;
    let upgrade = PendingUpgrade::take(&mut request);
    let (mut head, body) = request.into_parts();
    if body.size_hint().lower() > REQUEST_BODY_BYTES_MAX as u64 {
        return Err(Problem::TooLarge);
    }
    head.uri = path_and_query.into();
    head.version = http::Version::HTTP_11;
    headers::clean_request(&mut head.headers, caller);
    if let Some(upgrade) = &upgrade {
        upgrade.say(&mut head.headers);
    }
    if body.is_end_stream() && head.headers.get(CONTENT_LENGTH).is_none() {
        // Without this an empty body of unknown length would be sent in chunks.
        headers::say_no_body(&head.method, &mut head.headers);
    }
    let request = Request::from_parts(head, Limited::new(body, REQUEST_BODY_BYTES_MAX));
    let response = timeout(RESPONSE_HEAD_TIMEOUT, session.open_http(request))
        .await
        .map_err(|_| Problem::Silent(session.name().clone()))?
        .map_err(|error| failed(session, &error))?;
    answer(session, response, upgrade, place)
}

/// The agent's answer on its way to the caller, or both connections joined.
fn answer(
    session: &AgentSession,
    mut response: Response<ExchangeBody>,
    upgrade: Option<PendingUpgrade>,
    place: OwnedSemaphorePermit,
) -> Result<Response<ProxyBody>, Problem> {
    let place = match upgrade {
        Some(upgrade) => match upgrade.join(&mut response, place) {
            Ok(()) => return Ok(response.map(|_| ProxyBody::text(Bytes::new()))),
            Err(place) => place,
        },
        None if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            return Err(Problem::Unasked(session.name().clone()));
        }
        None => place,
    };
    let (mut head, body) = response.into_parts();
    headers::clean_response(&mut head.headers);
    head.version = http::Version::default();
    Ok(Response::from_parts(head, ProxyBody::exchange(body, place)))
}

fn failed(session: &AgentSession, error: &transport::Error) -> Problem {
    use std::error::Error as _;
    // The caller's own body was too long or broke off: its fault, not the agent's.
    let mut cause = error.source();
    while let Some(source) = cause {
        if source.is::<http_body_util::LengthLimitError>() {
            return Problem::TooLarge;
        }
        cause = source.source();
    }
    tracing::debug!(cluster.name = %session.name(), error = %error, "a proxied exchange failed");
    Problem::AgentAway(session.name().clone())
}
