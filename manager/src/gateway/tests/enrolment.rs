//! The bootstrap port.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use lattice_protocol::token::JoinToken;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{Enrolment, World};
use crate::gateway::TunnelEvent;

fn fetch(cluster: &str, authorization: &str) -> Request<Full<Bytes>> {
    let path = format!("/v1/clusters/{cluster}/agent.yaml");
    Request::get(path).header("authorization", authorization).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_node_fetches_the_manifest_as_often_as_it_likes() {
    let mut world = World::new().await;
    let token = world.token().await;
    for _ in 0..3 {
        let answer = world.bootstrap(fetch("backend", &format!("Bearer {}", *token.expose()))).await;
        assert_eq!(answer.status, 200);
        let expected = format!("# agent of backend at 127.0.0.1:{}\n", world.gateway.gateway_addr().port());
        assert_eq!(answer.body, expected);
        assert!(matches!(world.event().await, TunnelEvent::ManifestFetched { uid, .. } if uid == world.uid));
    }
    let enrolment = Enrolment::new();
    assert_eq!(world.enrol(&token, &enrolment).await.status, 200, "fetching does not use the token up");
}

#[tokio::test]
async fn whoever_lacks_the_token_gets_nothing_and_is_reported() {
    let mut world = World::new().await;
    let _ = world.token().await;
    let stranger = JoinToken::generate();
    let bearer = format!("Bearer {}", *stranger.expose());
    for (cluster, authorization) in [("backend", bearer.as_str()), ("backend", "Basic x"), ("nobody", &bearer)] {
        let answer = world.bootstrap(fetch(cluster, authorization)).await;
        assert_eq!(answer.status, 401, "{cluster} {authorization}");
        assert_eq!(
            answer.json(),
            json!({"reason": "EnrolmentRefused", "message": "the join token is not valid for this cluster"})
        );
        let TunnelEvent::EnrolmentRefused { uid, cluster: named, .. } = world.event().await else { panic!() };
        assert_eq!((uid.is_some(), named.as_str()), (cluster == "backend", cluster));
    }
}

#[tokio::test]
async fn one_certificate_per_token_whoever_comes_first() {
    let mut world = World::new().await;
    let token = world.token().await;
    let enrolments: Vec<_> = (0..20).map(|_| Enrolment::new()).collect();
    let answers = futures::future::join_all(enrolments.iter().map(|enrolment| world.enrol(&token, enrolment))).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        // Past ten refusals the token is guarded, whoever shows it.
        assert!([409, 429].contains(&lost.status), "{lost:?}");
    }
    assert_eq!(won[0].json()["trustDomain"], "test.example");
    assert_eq!(won[0].json()["caBundle"], world.gateway.ca_pem());
    let mut enrolled = 0;
    for _ in 0..answers.iter().filter(|answer| [200, 409].contains(&answer.status)).count() {
        enrolled += usize::from(matches!(world.event().await, TunnelEvent::Enrolled { .. }));
    }
    assert_eq!(enrolled, 1);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_certificate() {
    let world = World::new().await;
    let (token, enrolment) = (world.token().await, Enrolment::new());
    let (first, again) = (world.enrol(&token, &enrolment).await, world.enrol(&token, &enrolment).await);
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.json()["certificate"], again.json()["certificate"]);
}

#[tokio::test]
async fn requests_that_are_none_are_refused_before_they_cost() {
    let world = World::new().await;
    let token = world.token().await;
    let post = |body: String| Request::post("/v1/enrol").body(Full::from(body)).unwrap();
    let body = |csr: &str| {
        json!({"cluster": "backend", "token": *token.expose(), "csr": csr, "kubeSystemUid": "u"}).to_string()
    };
    for (request, status) in [
        (post("{".to_owned()), 400),
        (post(json!({"cluster": "../etc", "token": "", "csr": "", "kubeSystemUid": ""}).to_string()), 400),
        (post(body("no csr")), 400),
        (post(body(&"x".repeat(5 << 10))), 400),
        (post("x".repeat(17 << 10)), 413),
        (Request::get("/v1/enrol").body(Full::default()).unwrap(), 404),
        (Request::post("/v1/clusters/backend/agent.yaml").body(Full::default()).unwrap(), 404),
        (Request::get("/v1/clusters/a/b/agent.yaml").body(Full::default()).unwrap(), 404),
        (Request::get("/").body(Full::default()).unwrap(), 404),
    ] {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = world.bootstrap(request).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(answer.json()["message"].is_string());
        assert!(!format!("{answer:?}").contains(token.expose().rsplit('.').next().unwrap()));
    }
}

#[tokio::test]
async fn guessing_is_slow() {
    let world = World::new().await;
    let _ = world.token().await;
    let mut statuses = Vec::new();
    for _ in 0..25 {
        let bearer = format!("Bearer {}", *JoinToken::generate().expose());
        statuses.push(world.bootstrap(fetch("backend", &bearer)).await.status);
    }
    assert_eq!(statuses[..20], [401; 20]);
    assert_eq!(statuses[20..], [429; 5]);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let world = World::new().await;
    for port in [world.gateway.bootstrap_addr(), world.gateway.proxy_addr()] {
        let mut silent = tokio::net::TcpStream::connect(port).await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(8), silent.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "plain HTTP is answered with an alert and closed");
    }
}
