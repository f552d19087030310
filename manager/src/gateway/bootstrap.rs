//! The bootstrap port: the agent's manifest for a node that holds the join token, and the certificate for its agent.
//!
//! And the way back for an agent whose certificate is not in force ([`recover`]).
//!
//! HTTPS, JSON errors `{"reason":…,"message":…}`. Nothing else is served, and no answer says more about a cluster than
//! the caller's token or key proves.

mod answer;
mod recover;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use lattice_protocol::clock;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::limits::{ENROL_BODY_BYTES_MAX, REQUEST_HEAD_TIMEOUT};
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::tls::CaPin;
use lattice_protocol::token::JoinToken;
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::timeout;

use self::answer::{Problem, json, problem};
pub(super) use self::recover::Challenges;
use super::stop::Stop;
use super::{Shared, TunnelEvent, https};
use crate::store::ca::SigningRequest;
use crate::store::identity::Refusal;

/// Longest overlong body that is read to its end, bytes, and thrown away: a client that is still writing does not hear
/// why it is refused, only that the connection broke. Higher lets strangers keep us reading.
const OVERLONG_BYTES_MAX: usize = 2 << 20;

/// What an agent's manifest is rendered from.
#[derive(Clone, Debug)]
pub struct ManifestRequest {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its uid.
    pub uid: ClusterUid,
    /// The join token that the node showed, for the agent to enrol with.
    pub token: JoinToken,
    /// The CA's certificate as PEM.
    pub ca_pem: String,
    /// The pin of its key.
    pub ca_pin: CaPin,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// `host:port` of the tunnel, in order of preference.
    pub endpoints: Vec<String>,
    /// `https://host:port` of this port, in order of preference.
    pub bootstrap_urls: Vec<String>,
}

/// Why a manifest could not be rendered. The words go to the node.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ManifestError(pub String);

/// Renders the agent's manifest.
pub trait AgentManifests: fmt::Debug + Send + Sync {
    /// Renders the manifest (YAML documents) of one cluster's agent.
    fn manifest(&self, request: ManifestRequest) -> BoxFuture<'_, Result<String, ManifestError>>;
}

/// Body of `POST /v1/enrol`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnrolRequest {
    cluster: ClusterName,
    token: String,
    csr: String,
    kube_system_uid: String,
}

/// Answers the bootstrap port.
#[derive(Clone)]
struct Bootstrap(Arc<Shared>);

/// Serves the bootstrap port until `stop` asks to drain.
pub(super) fn serve(stop: &Stop, listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    https::serve(stop, "gateway.bootstrap", listener, tls, Bootstrap(shared));
}

impl https::Answer for Bootstrap {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>, from: SocketAddr) -> Response<Full<Bytes>> {
        let from = from.ip().to_canonical();
        let route = (request.method().clone(), request.uri().path().to_owned());
        let result = match (route.0, manifest_of(&route.1)) {
            (Method::GET, Some(cluster)) => self.manifest(cluster, request.headers(), from).await,
            (Method::POST, None) => self.post(&route.1, request, from).await,
            _ => Err(Problem::NotFound),
        };
        result.unwrap_or_else(|why| problem(&why))
    }
}

/// Reads a body that is not too long.
async fn whole(mut body: Incoming) -> Result<Bytes, Problem> {
    let (mut kept, mut seen) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::TooLarge)?.into_data() else { continue };
        seen += data.len();
        if seen <= ENROL_BODY_BYTES_MAX {
            kept.extend_from_slice(&data);
        } else if seen > OVERLONG_BYTES_MAX {
            break;
        }
    }
    if seen > ENROL_BODY_BYTES_MAX { Err(Problem::TooLarge) } else { Ok(kept.freeze()) }
}

impl Bootstrap {
    async fn post(
        &self,
        path: &str,
        request: Request<Incoming>,
        from: IpAddr,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        if !["/v1/enrol", "/v1/recover", "/v1/recover/challenge"].contains(&path) {
            return Err(Problem::NotFound);
        }
        if !self.0.attempts.allows(from, None) {
            return Err(Problem::Refused(Refusal::TooMany));
        }
        let body = timeout(REQUEST_HEAD_TIMEOUT, whole(request.into_body())).await.map_err(|_| Problem::TooSlow)??;
        match path {
            "/v1/enrol" => self.enrol(&body, from).await,
            "/v1/recover" => self.recover(&body, from).await,
            _ => self.challenge(&body, from),
        }
    }

    /// Reads a body; one that cannot be read counts as a refused attempt.
    fn read<T: serde::de::DeserializeOwned>(&self, body: &[u8], from: IpAddr) -> Result<T, Problem> {
        serde_json::from_slice(body).map_err(|_| {
            self.0.attempts.refused(from, None);
            Problem::Malformed
        })
    }

    /// The answer to whoever gets a certificate.
    fn certified(&self, chain_pem: String, sequence: u64) -> Response<Full<Bytes>> {
        let authority = self.0.authorities.present();
        let body = serde_json::json!({
            "certificate": chain_pem,
            "caBundle": authority.bundle_pem(),
            "trustDomain": authority.fleet(),
            "sequence": sequence,
        });
        json(StatusCode::OK, &body)
    }

    async fn manifest(
        &self,
        cluster: &str,
        headers: &HeaderMap,
        from: IpAddr,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let shared = &self.0;
        let cluster: ClusterName = cluster.parse().map_err(|_| Problem::Refused(Refusal::Token))?;
        let token = bearer(headers).and_then(|text| JoinToken::parse(text).ok());
        let uid = self.judge(&cluster, token.as_ref(), from, |token| {
            shared.identities.check_token(&cluster, token, clock::now())
        })?;
        let authority = shared.authorities.present();
        let request = ManifestRequest {
            cluster: cluster.clone(),
            uid: uid.clone(),
            token: token.ok_or(Problem::Refused(Refusal::Token))?,
            ca_pem: authority.bundle_pem().to_owned(),
            ca_pin: *authority.pin(),
            trust_domain: authority.fleet().clone(),
            endpoints: shared.addresses.endpoints.clone(),
            bootstrap_urls: shared.addresses.bootstrap_urls.clone(),
        };
        let manifest = shared.manifests.manifest(request).await.map_err(|error| {
            tracing::error!(cluster.name = %cluster, error = %error, "the agent's manifest cannot be rendered");
            Problem::Manifest(error.to_string())
        })?;
        tracing::info!(cluster.name = %cluster, %from, "agent manifest fetched");
        shared.events.note(TunnelEvent::ManifestFetched { uid, from });
        let mut response = Response::new(Full::from(manifest));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
        Ok(response)
    }

    async fn enrol(&self, body: &[u8], from: IpAddr) -> Result<Response<Full<Bytes>>, Problem> {
        let shared = &self.0;
        let asked: EnrolRequest = self.read(body, from)?;
        let token = JoinToken::parse(&asked.token).ok();
        // An unknown name and a wrong token are refused here already, before a signature is checked for them.
        self.judge(&asked.cluster, token.as_ref(), from, |token| {
            shared.identities.check_token(&asked.cluster, token, clock::now())
        })?;
        let token = token.ok_or(Problem::Refused(Refusal::Token))?;
        let csr = SigningRequest::parse(&asked.csr);
        let csr = csr.map_err(|refused| self.refuse(&asked.cluster, Some(&token), from, refused.into()))?;
        let enrolled =
            shared.identities.enrol(&asked.cluster, &token, &csr, &asked.kube_system_uid, clock::now()).await;
        let enrolled = enrolled.map_err(|error| match error {
            crate::store::identity::Error::Refused(refusal) => self.refuse(&asked.cluster, Some(&token), from, refusal),
            other => {
                tracing::error!(cluster.name = %asked.cluster, error = %other, "an agent could not be enrolled");
                Problem::Unavailable(other.reason())
            }
        })?;
        tracing::info!(cluster.name = %asked.cluster, %from, repeated = enrolled.repeated, "agent enrolled");
        shared.events.note(TunnelEvent::Enrolled {
            uid: enrolled.uid,
            from,
            expires: enrolled.not_after,
            repeated: enrolled.repeated,
        });
        Ok(self.certified(enrolled.chain_pem, enrolled.sequence))
    }

    /// Hears an attempt, if its source and token may still make one, and counts a refusal.
    fn judge<T>(
        &self,
        cluster: &ClusterName,
        token: Option<&JoinToken>,
        from: IpAddr,
        check: impl FnOnce(&JoinToken) -> Result<T, Refusal>,
    ) -> Result<T, Problem> {
        if !self.0.attempts.allows(from, token.map(JoinToken::id)) {
            return Err(Problem::Refused(Refusal::TooMany));
        }
        let checked = token.ok_or(Refusal::Token).and_then(check);
        checked.map_err(|refusal| self.refuse(cluster, token, from, refusal))
    }

    fn refuse(&self, cluster: &ClusterName, token: Option<&JoinToken>, from: IpAddr, refusal: Refusal) -> Problem {
        let shared = &self.0;
        tracing::warn!(cluster.name = %cluster, %from, why = %refusal, "enrolment refused");
        shared.attempts.refused(from, token.map(JoinToken::id));
        shared.events.note(TunnelEvent::EnrolmentRefused {
            uid: shared.identities.uid_of(cluster),
            cluster: cluster.clone(),
            from,
            reason: answer::reason(refusal),
            why: refusal.to_string(),
        });
        Problem::Refused(refusal)
    }
}

/// The cluster's name in `/v1/clusters/<name>/agent.yaml`.
fn manifest_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/v1/clusters/")?.strip_suffix("/agent.yaml")?;
    (!name.contains('/')).then_some(name)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()?.strip_prefix("Bearer ").map(str::trim_ascii)
}
