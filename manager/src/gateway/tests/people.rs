//! People at the proxy: who is let in, in whose name they act, and what they are told when they are not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use lattice_protocol::token::TokenHash;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::world::{Agent, World, echo};
use crate::gateway::TunnelEvent;
use crate::store::access::{Error, Reviewer, Right, User};

/// A parent's API: tokens, rights ("user verb resource/subresource name"), and the client authority.
#[derive(Debug)]
pub(super) struct People {
    tokens: Mutex<HashMap<String, User>>,
    rights: Mutex<Vec<String>>,
    authority: Authority,
    away: AtomicBool,
    asked: AtomicUsize,
}

#[derive(Debug)]
struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    fn client(
        &self,
        name: &str,
        group: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![usage];
        let issuer_key = KeyPair::from_pem(&self.key.serialize_pem()).unwrap();
        let issuer = Issuer::from_ca_cert_der(self.certificate.der(), issuer_key).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

impl People {
    pub(super) fn new() -> Self {
        Self {
            tokens: Mutex::default(),
            rights: Mutex::default(),
            authority: Authority::new(),
            away: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        }
    }

    pub(super) fn knows(&self, token: &str, name: &str, groups: &[&str]) {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let user = User { name: name.to_owned(), uid: "7".to_owned(), groups, ..User::default() };
        self.tokens.lock().unwrap().insert(token.to_owned(), user);
    }

    pub(super) fn lets(&self, right: &str) {
        self.rights.lock().unwrap().push(right.to_owned());
    }

    fn answer<T>(&self, answer: T) -> Result<T, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) { Err(Error::Slow("question")) } else { Ok(answer) }
    }
}

impl Reviewer for People {
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, Error>> {
        async move { self.answer(self.tokens.lock().unwrap().get(token).cloned()) }.boxed()
    }

    fn allows<'a>(&'a self, user: &'a User, right: &'a Right) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let text = format!("{} {} {}/{} {}", user.name, right.verb, right.resource, right.subresource, right.name);
            self.answer(self.rights.lock().unwrap().contains(&text))
        }
        .boxed()
    }

    fn client_ca(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        async move { self.answer(Some(self.authority.certificate.pem())) }.boxed()
    }
}

pub(super) const NODES: &str = "/clusters/backend/api/v1/nodes?limit=500";

async fn world() -> (World, Agent) {
    let mut world = World::new().await;
    let agent = world.agent(echo()).await;
    assert!(matches!(world.event().await, TunnelEvent::Connected(_)));
    world.gateway.register_proxy_credential(&world.name, TokenHash::of(b"capi"));
    world.people.knows("janes", "jane", &["dev", "system:masters", "system:authenticated"]);
    world.people.lets("jane get latticeclusters/proxy backend");
    (world, agent)
}

fn with(token: &str, method: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(NODES).header("authorization", format!("Bearer {token}"));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(Full::default()).unwrap()
}

#[track_caller]
fn claims(told: &Value) -> (String, String, String) {
    let text = |name: &str| told["headers"][name].as_str().unwrap_or_default().to_owned();
    (text("impersonate-user"), text("impersonate-group"), text("impersonate-uid"))
}

#[tokio::test]
async fn a_person_acts_under_their_own_name_and_groups_and_not_as_the_parents_master() {
    let (world, _agent) = world().await;
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let answer = world.https(world.gateway.proxy_addr(), alpn, with("janes", "GET", &[])).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let told = answer.json();
        assert!(told["headers"].get("authorization").is_none());
        let (user, last_group, uid) = claims(&told);
        assert_eq!((user.as_str(), last_group.as_str(), uid.as_str()), ("jane", "system:authenticated", "7"));
        assert!(!told.to_string().contains("system:masters"));
    }
    assert_eq!(world.people.asked.load(Ordering::Relaxed), 2, "one question of each kind, the rest is remembered");
}

#[tokio::test]
async fn without_the_right_a_person_is_refused_and_told_which_they_need() {
    let (world, _agent) = world().await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = world.proxy(with("janes", method, &[])).await;
        assert_eq!(answer.status, 403, "{method}");
        let told = answer.json();
        assert_eq!(told["reason"], "Forbidden");
        assert!(told["message"].as_str().unwrap().contains("latticeclusters/proxy"), "{told}");
    }
    let exec = with("janes", "GET", &[("connection", "Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(world.proxy(exec).await.status, 403, "an exec is no mere read");
    world.people.knows("joes", "joe", &[]);
    assert_eq!(world.proxy(with("joes", "GET", &[])).await.status, 403);
    assert_eq!(world.proxy(with("nobodys", "GET", &[])).await.status, 401);
}

#[tokio::test]
async fn somebody_else_is_impersonated_only_by_whom_the_parent_lets() {
    let (world, _agent) = world().await;
    let as_joe = [("impersonate-user", "joe"), ("impersonate-group", "ops")];
    let refused = world.proxy(with("janes", "GET", &as_joe)).await;
    assert_eq!(refused.status, 403);
    assert!(refused.json()["message"].as_str().unwrap().contains("impersonate users \"joe\""));

    world.people.knows("anns", "ann", &[]);
    for right in ["get latticeclusters/proxy backend", "impersonate users/ joe", "impersonate groups/ ops"] {
        world.people.lets(&format!("ann {right}"));
    }
    let told = world.proxy(with("anns", "GET", &as_joe)).await.json();
    assert_eq!(claims(&told), ("joe".to_owned(), "ops".to_owned(), String::new()));
    let masters = [("impersonate-user", "joe"), ("impersonate-group", "system:masters")];
    assert_eq!(world.proxy(with("anns", "GET", &masters)).await.status, 403);
    let headless = world.proxy(with("anns", "GET", &[("impersonate-group", "ops")])).await;
    assert_eq!((headless.status, headless.json()["reason"].as_str()), (400, Some("BadRequest")));
}

#[tokio::test]
async fn cluster_apis_credential_takes_no_claims_along() {
    let (world, _agent) = world().await;
    let told = world.proxy(with("capi", "DELETE", &[("impersonate-user", "joe")])).await.json();
    assert_eq!(claims(&told), (String::new(), String::new(), String::new()));
    assert_eq!(world.people.asked.load(Ordering::Relaxed), 0, "nobody is asked about Cluster API");
}

#[tokio::test]
async fn a_certificate_counts_that_the_parents_authority_vouches_for() {
    let (world, _agent) = world().await;
    let (client, server) = (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth);
    let stranger = Authority::new();
    for (own, status) in [
        (world.people.authority.client("jane", "dev", client.clone()), 200),
        (world.people.authority.client("joe", "dev", client.clone()), 403),
        (world.people.authority.client("jane", "dev", server), 401),
        (stranger.client("jane", "dev", client), 401),
    ] {
        for alpn in [&b"http/1.1"[..], b"h2"] {
            let asked = Request::get(NODES).body(Full::default()).unwrap();
            let own = (own.0.clone(), own.1.clone_key());
            let answer = world.open_as(world.gateway.proxy_addr(), alpn, asked, Some(own)).await;
            assert_eq!(answer.status().as_u16(), status);
            if status == 200 {
                let told: Value =
                    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
                assert_eq!(claims(&told).0, "jane");
            }
        }
    }
}

#[tokio::test]
async fn people_are_told_to_try_again_when_the_parent_or_the_agent_is_away() {
    let (mut world, agent) = world().await;
    world.people.away.store(true, Ordering::Relaxed);
    let answer = world.proxy(with("janes", "GET", &[])).await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (503, Some("ServiceUnavailable")));
    assert_eq!(world.proxy(with("capi", "GET", &[])).await.status, 200, "Cluster API does not need the parent's word");
    world.people.away.store(false, Ordering::Relaxed);
    agent.session.close(lattice_protocol::transport::CloseCode::Done, "");
    assert!(matches!(world.event().await, TunnelEvent::Lost { .. }));
    let answer = world.proxy(with("janes", "GET", &[])).await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (503, "1"));
}
