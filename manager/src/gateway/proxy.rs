//! The Kubernetes API of the children: `https://<manager>/clusters/<name>/…` becomes one exchange with the cluster's
//! agent, which sends it to its own API server.
//!
//! **Guarantees**: an agent that is away is answered for at once, with 503 and a Kubernetes `Status`; 401 only for a
//! credential that was never valid. Both because of what Cluster API makes of the alternatives: on 401 it drops its
//! connection without patience, on silence its conditions stay false for minutes. **Invariant**: no answer of a child is
//! kept or made up here; an empty list that is not true makes Cluster API delete machines.

mod audit;
mod body;
mod caller;
mod claims;
mod headers;
mod memory;
mod path;
mod people;
mod place;
mod shares;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Limited;
use hyper::body::{Body as _, Incoming};
use lattice_protocol::ending::{self, EndingBody};
use lattice_protocol::ids::ClusterName;
use lattice_protocol::limits::{REQUEST_BODY_BYTES_MAX, RESPONSE_HEAD_TIMEOUT};
use lattice_protocol::transport::{self, ExchangeBody, PendingUpgrade};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::time::timeout;

use self::audit::Audit;
use self::body::ProxyBody;
pub(super) use self::caller::Credentials;
use self::caller::{Caller, Standing, bearer};
use self::path::Target;
pub(super) use self::people::People;
use self::place::Place;
pub(super) use self::place::Places;
pub(super) use self::shares::Shares;
use self::status::Problem;
use super::stop::Stop;
use super::{AgentSession, Shared, https};
use crate::store::access::{Right, User};

/// API group of `latticeclusters`.
const GROUP: &str = "lattice.dev";

/// Answers the proxy's port.
#[derive(Clone)]
struct Proxy {
    shared: Arc<Shared>,
    stop: Stop,
}

/// Serves the proxy until `stop` asks to drain.
pub(super) fn serve(stop: &Stop, listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    https::serve(stop, "gateway.proxy", listener, tls, Proxy { shared, stop: stop.clone() });
}

impl https::Answer for Proxy {
    type Body = ProxyBody;

    async fn answer(&self, request: Request<Incoming>, from: SocketAddr) -> Response<ProxyBody> {
        let Some(Target { cluster, path_and_query }) = path::target(request.uri()) else {
            return status::response(&Problem::NoCluster, false);
        };
        let metrics = self.shared.metrics.clone();
        let mut audit = Audit::new(metrics, cluster.clone(), request.method().clone(), path_and_query.path());
        let endless = ending::has_no_end(request.method(), &Uri::from(path_and_query.clone()));
        let mut waits = false;
        let answered = async {
            let caller = self.caller(&cluster, &request, &mut audit).await?;
            waits = matches!(caller, Caller::Person { .. });
            if self.stop.drain.is_cancelled() {
                return Err(Problem::Stopping);
            }
            let session = self.session(&cluster)?;
            let place = self.shared.places.take(&session, &caller)?;
            Ok((send(&session, &caller, request, path_and_query).await?, session, place))
        };
        let answered: Result<_, Problem> = answered.await;
        let problem = match answered {
            Ok((sent, session, place)) => match self.answer(&session, sent, endless, place, audit) {
                Ok(response) => return response,
                Err(refused) => {
                    let (problem, told) = *refused;
                    audit = told;
                    problem
                }
            },
            Err(problem) => problem,
        };
        tracing::debug!(%from, why = %problem, "a proxied request was not answered by its cluster");
        let response = status::response(&problem, waits);
        audit.answered(response.status());
        response.map(|body| body.audited(audit))
    }
}

impl Proxy {
    fn session(&self, cluster: &ClusterName) -> Result<Arc<AgentSession>, Problem> {
        self.shared.sessions.by_name(cluster).ok_or_else(|| Problem::AgentAway(cluster.clone()))
    }

    /// Who asks, and in whose name; refused unless the parent lets them.
    async fn caller(
        &self,
        cluster: &ClusterName,
        request: &Request<Incoming>,
        audit: &mut Audit,
    ) -> Result<Caller, Problem> {
        let token = bearer(request.headers());
        let token = token.as_deref();
        let standing = token.map(|token| self.shared.credentials.standing(cluster, token));
        if standing == Some(Standing::Registered) {
            audit.asked_by_cluster_api();
            return Ok(Caller::ClusterApi);
        }
        let people = &self.shared.people;
        let shown = request.extensions().get::<https::ClientCertificates>();
        let mut who = match shown {
            Some(shown) => people.by_certificate(&shown.0).await?,
            None => None,
        };
        if let (None, Some(token)) = (&who, token) {
            who = people.by_token(token).await?;
        }
        match (who, standing) {
            (Some(who), _) => {
                audit.asked_by(&who.name);
                self.person(cluster, who, request, audit).await
            }
            // It may be Cluster API's, whose credential is not registered yet: "not now", never "wrong". Not of a cluster
            // that does not exist: who has no credential must not find out by this which ones do.
            (None, Some(Standing::Unknown)) if !self.shared.cache.lacks_cluster(cluster.as_str()) => {
                Err(Problem::AgentAway(cluster.clone()))
            }
            (None, Some(_)) => Err(Problem::WrongCredential),
            (None, None) if shown.is_some() => Err(Problem::WrongCredential),
            (None, None) => Err(Problem::NoCredential),
        }
    }

    async fn person(
        &self,
        cluster: &ClusterName,
        who: Arc<User>,
        request: &Request<Incoming>,
        audit: &mut Audit,
    ) -> Result<Caller, Problem> {
        let people = &self.shared.people;
        let verb = verb(request);
        let right = Right {
            verb,
            group: GROUP,
            resource: "latticeclusters",
            subresource: "proxy".to_owned(),
            name: cluster.to_string(),
            ..Right::default()
        };
        if !people.allows(&who, right).await? {
            return Err(Problem::Forbidden { user: who.name.clone(), verb, cluster: cluster.clone() });
        }
        let Some(acts_as) = claims::asked(request.headers())? else {
            let acts_as = claims::own_name(&who)?;
            audit.acts_as(&acts_as);
            return Ok(Caller::Person { who, acts_as });
        };
        audit.acts_as(&acts_as);
        for right in claims::rights(&acts_as) {
            let whom = format!("{} {:?}", right.resource, right.name);
            if !people.allows(&who, right).await? {
                return Err(Problem::MayNotImpersonate { user: who.name.clone(), whom });
            }
        }
        Ok(Caller::Person { who, acts_as })
    }

    /// The agent's answer on its way to the caller, or both connections joined.
    fn answer(
        &self,
        session: &AgentSession,
        (mut response, upgrade): Sent,
        endless: bool,
        place: Place,
        mut audit: Audit,
    ) -> Result<Response<ProxyBody>, Box<(Problem, Audit)>> {
        let code = response.status();
        audit.answered(code);
        if code == StatusCode::SWITCHING_PROTOCOLS {
            let Some(upgrade) = upgrade else {
                return Err(Box::new((Problem::Unasked(session.name().clone()), audit)));
            };
            let held = self.stop.hold();
            upgrade.join(&mut response, self.stop.ending(), move |received, sent| {
                audit.carried(received, sent);
                drop((audit, place, held));
            });
            return Ok(response.map(|_| ProxyBody::text(Bytes::new())));
        }
        let response = EndingBody::wrap(response, endless, &self.stop.ending());
        let (mut head, body) = response.into_parts();
        headers::clean_response(&mut head.headers);
        head.version = http::Version::default();
        if body.is_endless() {
            head.extensions.insert(https::Endless);
        }
        Ok(Response::from_parts(head, ProxyBody::exchange(body, place, audit)))
    }
}

/// The verb of `latticeclusters/proxy` that a request needs, as Kubernetes has it for `pods/proxy`. Whoever opens a
/// connection into a pod does more than read, though WebSockets begin with GET.
fn verb(request: &Request<Incoming>) -> &'static str {
    let upgrades = request.headers().contains_key(http::header::UPGRADE);
    match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS if !upgrades => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "create",
    }
}

/// An answer that is on its way, and the caller's wish to upgrade.
type Sent = (Response<ExchangeBody>, Option<PendingUpgrade>);

async fn send(
    session: &AgentSession,
    caller: &Caller,
    mut request: Request<Incoming>,
    path_and_query: http::uri::PathAndQuery,
) -> Result<Sent, Problem> {
    // Any other protocol is not spoken here, and a server may leave a wish to upgrade unheard.
    let upgrade = if headers::upgrades(request.headers()) { PendingUpgrade::take(&mut request) } else { None };
    let (mut head, body) = request.into_parts();
    if body.size_hint().lower() > REQUEST_BODY_BYTES_MAX as u64 {
        return Err(Problem::TooLarge);
    }
    head.uri = path_and_query.into();
    head.version = http::Version::HTTP_11;
    headers::clean_request(&mut head.headers, caller)?;
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
    Ok((response, upgrade))
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

#[cfg(test)]
mod fuzz;
