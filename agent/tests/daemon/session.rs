//! Enrolment, session, health and proxy.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use lattice_apiserver::{Effect, Fault};
use lattice_protocol::transport::{CloseCode, Priority, Session, grpc_channel, http_exchange};
use lattice_protocol::v1::health_client::HealthClient;
use lattice_protocol::v1::{HealthReport, WatchHealthRequest};

use crate::child::Child;
use crate::parent::Parent;

/// Far longer than anything takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

async fn health(session: &Session) -> tonic::Streaming<HealthReport> {
    let mut client = HealthClient::new(grpc_channel(session, Priority::Control));
    client.watch(WatchHealthRequest { heartbeat_ms: 1_000 }).await.unwrap().into_inner()
}

async fn get(session: &Session, path: &str) -> (u16, serde_json::Value) {
    let request = http::Request::get(path)
        .header("host", "child")
        .header("authorization", "Bearer of-the-parent")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = http_exchange(session, request).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn an_agent_enrols_once_connects_and_reports_the_cluster() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    child.node("edge-1", true).await;
    let agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    assert_eq!(session.peer().id.to_string(), format!("spiffe://fleet.test/cluster/{}/agent", crate::parent::UID));
    let mut reports = within("health", health(&session)).await;
    let report = within("nodes", async {
        loop {
            let report = reports.next().await.unwrap().unwrap();
            if report.nodes_known && !report.api_resources.is_empty() {
                return report;
            }
        }
    })
    .await;
    assert_eq!((report.nodes[0].name.as_str(), report.nodes[0].ready), ("edge-1", true));
    assert!(report.api_resources.contains(&"apps/v1/DaemonSet".to_owned()));
    assert!(!report.kubernetes_version.is_empty() && !report.kube_system_uid.is_empty());

    child.node("edge-2", false).await;
    let report = within("the second node", async {
        loop {
            let report = reports.next().await.unwrap().unwrap();
            if let Some(node) = report.nodes.iter().find(|node| node.name == "edge-2" && node.reason == "Kubelet") {
                return node.clone();
            }
        }
    })
    .await;
    assert!(!report.ready);

    // A restarted agent has its identity already.
    agent.stop().await;
    let _agent = child.agent(&parent);
    within("a second session", parent.session()).await;
    assert_eq!(parent.enrolled.load(Ordering::Relaxed), 1);
    let secret = Api::<Secret>::namespaced(child.client.clone(), "lattice-system").get("lattice-agent-identity").await;
    let data = secret.unwrap().data.unwrap();
    assert_eq!(
        data.keys().map(String::as_str).collect::<Vec<_>>(),
        ["ca.crt", "sequence", "tls.crt", "tls.key", "token-sha256"]
    );
}

#[tokio::test]
async fn a_lost_session_is_followed_by_another() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let _agent = child.agent(&parent);
    for _ in 0..3 {
        let session = within("a session", parent.session()).await;
        session.close(CloseCode::Done, "test");
    }
}

#[tokio::test]
async fn the_parent_reads_the_clusters_api_with_the_agents_credentials() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    child.node("edge-1", true).await;
    let _agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let (code, nodes) = within("nodes", get(&session, "/api/v1/nodes")).await;
    assert_eq!((code, nodes["items"][0]["metadata"]["name"].as_str()), (200, Some("edge-1")));
    let (code, status) = within("an answer", get(&session, "/api/v1/nodes/none")).await;
    assert_eq!((code, status["reason"].as_str()), (404, Some("NotFound")));
}

#[tokio::test]
async fn a_watch_streams_through_the_proxy() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let _agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let request =
        http::Request::get("/api/v1/nodes?watch=1").header("host", "child").body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = within("the watch", http_exchange(&session, request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    child.node("edge-9", true).await;
    let mut body = answer.into_body();
    let frame = within("an event", body.frame()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(frame.data_ref().unwrap()).contains("edge-9"));
}

#[tokio::test]
async fn a_refused_agent_says_so_on_the_child_and_tries_again() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let token = child.folder().join("etc/lattice/enrol/token");
    std::fs::write(&token, &*lattice_protocol::token::JoinToken::generate().expose()).unwrap();
    let _agent = child.agent(&parent);
    let events = Api::<k8s_openapi::api::events::v1::Event>::all(child.client.clone());
    let note = within("an event", async {
        loop {
            let listed = events.list(&kube::api::ListParams::default()).await.unwrap();
            if let Some(event) =
                listed.items.into_iter().find(|event| event.reason.as_deref() == Some("EnrolmentFailed"))
            {
                return event.note.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(note.contains("TokenUnknown"), "{note}");
    std::fs::write(&token, &*parent.token.expose()).unwrap();
    within("a session", parent.session()).await;
}

#[tokio::test]
async fn a_refusal_of_the_api_arrives_once_and_unchanged() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let _agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let faults = child.server.faults();
    for code in [429, 503] {
        for (verb, method) in [("get", "GET"), ("create", "POST")] {
            // It strikes one request: whoever asked a second time would be let through.
            let refuse = Effect::Refuse { code, retry_after_seconds: Some(7) };
            let kind = "configmaps".to_owned();
            faults.add(Fault { verb: verb.to_owned(), kind, times: Some(1), ..Fault::new(refuse) });
            let path = "/api/v1/namespaces/default/configmaps";
            let path = if verb == "get" { format!("{path}/mine") } else { path.to_owned() };
            let request = http::Request::builder().method(method).uri(path).header("host", "child");
            let body = http_body_util::Full::<bytes::Bytes>::from(r#"{"metadata":{"name":"mine"}}"#);
            let answer = within("an answer", http_exchange(&session, request.body(body).unwrap())).await.unwrap();
            assert_eq!(answer.status().as_u16(), code, "{verb}");
            assert_eq!(answer.headers()["retry-after"], "7");
            let told = answer.into_body().collect().await.unwrap().to_bytes();
            let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
            assert_eq!((told["kind"].as_str(), told["code"].as_u64()), (Some("Status"), Some(u64::from(code))));
        }
    }
}

#[tokio::test]
async fn an_agent_that_stops_ends_its_watches_and_tells_others_to_ask_again() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let request =
        http::Request::get("/api/v1/nodes?watch=1").header("host", "child").body(Empty::<bytes::Bytes>::new()).unwrap();
    let watch = within("the watch", http_exchange(&session, request)).await.unwrap();
    let reading = async { within("the watch's end", watch.into_body().collect()).await };
    let (read, ()) = tokio::join!(reading, agent.stop());
    assert!(read.is_ok(), "an end, not a break: {read:?}");
}
