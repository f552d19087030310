//! Bundles: applied, judged, kept, pruned, removed; with restarts in between.

use bytes::Bytes;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use lattice_protocol::transport::{Priority, Session, grpc_channel};
use lattice_protocol::v1::apply_response::Outcome;
use lattice_protocol::v1::component_report::State;
use lattice_protocol::v1::components_client::ComponentsClient;
use lattice_protocol::v1::{
    ApplyRequest, ComponentReport, Gate, IgnoredField, RemoveRequest, WatchComponentsRequest, WorkloadRef, gate,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::child::Child;
use crate::parent::Parent;
use crate::session::within;

fn client(session: &Session) -> ComponentsClient<Channel> {
    ComponentsClient::new(grpc_channel(session, Priority::Bulk))
}

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "demo"}, "data": {"key": value}})
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}})
}

fn daemon_set() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ztunnel", "namespace": "demo"},
        "spec": {"selector": {"matchLabels": {"app": "ztunnel"}},
                 "template": {"metadata": {"labels": {"app": "ztunnel"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    })
}

fn gate() -> Gate {
    let of = WorkloadRef { namespace: "demo".to_owned(), name: "ztunnel".to_owned() };
    Gate { kind: Some(gate::Kind::DaemonSet(of)) }
}

fn bundle(digest: &str, revision: u64, objects: &[Value], gates: Vec<Gate>) -> ApplyRequest {
    ApplyRequest {
        component: "mesh".to_owned(),
        digest: digest.to_owned(),
        revision,
        epoch: 1,
        objects: objects.iter().map(|object| Bytes::from(object.to_string())).collect(),
        gates,
        ignored: Vec::new(),
        version: "1".to_owned(),
    }
}

async fn apply(session: &Session, request: ApplyRequest) -> Outcome {
    within("an answer", async { client(session).apply(request).await }).await.unwrap().into_inner().outcome()
}

async fn watch(session: &Session) -> tonic::Streaming<ComponentReport> {
    client(session).watch(WatchComponentsRequest {}).await.unwrap().into_inner()
}

async fn until(
    reports: &mut tonic::Streaming<ComponentReport>,
    what: &str,
    is: impl Fn(&ComponentReport) -> bool,
) -> ComponentReport {
    within(what, async {
        loop {
            let report = reports.next().await.unwrap().unwrap();
            if is(&report) {
                return report;
            }
        }
    })
    .await
}

async fn healthy(reports: &mut tonic::Streaming<ComponentReport>, digest: &str) -> ComponentReport {
    until(reports, "a healthy component", |report| report.state() == State::Healthy && report.digest == digest).await
}

fn maps(child: &Child) -> Api<ConfigMap> {
    Api::namespaced(child.client.clone(), "demo")
}

async fn value_of(child: &Child, name: &str) -> Option<String> {
    maps(child).get_opt(name).await.unwrap().and_then(|map| map.data).map(|data| data["key"].clone())
}

/// Waits for a value by a watch of the test's own: looks again until it is there.
async fn becomes(child: &Child, name: &str, value: Option<&str>) {
    within(&format!("{name} = {value:?}"), async {
        while value_of(child, name).await.as_deref() != value {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_bundle_is_applied_kept_and_pruned() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let mut reports = watch(&session).await;
    let first = reports.next().await.unwrap().unwrap();
    assert!(first.synced && first.component.is_empty(), "nothing is held");

    assert_eq!(apply(&session, bundle("a", 1, &[], vec![])).await, Outcome::NeedObjects);
    let objects = [map("one", "1"), namespace(), map("two", "2")];
    assert_eq!(apply(&session, bundle("a", 1, &objects, vec![])).await, Outcome::Accepted);
    healthy(&mut reports, "a").await;
    assert_eq!(value_of(&child, "one").await.as_deref(), Some("1"));
    assert_eq!(apply(&session, bundle("a", 1, &[], vec![])).await, Outcome::Unchanged);

    // Drift is put back, with the parent away too.
    session.close(lattice_protocol::transport::CloseCode::Done, "away");
    let rival = PatchParams::apply("rival").force();
    let changed = map("one", "rival's");
    maps(&child).patch("one", &rival, &Patch::Apply(changed)).await.unwrap();
    becomes(&child, "one", Some("1")).await;
    maps(&child).delete("two", &DeleteParams::default()).await.unwrap();
    becomes(&child, "two", Some("2")).await;

    // What a new bundle no longer names goes, and nothing else.
    let session = within("a session", parent.session()).await;
    let mut reports = watch(&session).await;
    assert_eq!(apply(&session, bundle("b", 2, &[map("two", "2b")], vec![])).await, Outcome::Accepted);
    healthy(&mut reports, "b").await;
    assert_eq!(value_of(&child, "two").await.as_deref(), Some("2b"));
    becomes(&child, "one", None).await;
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(child.client.clone());
    assert!(namespaces.get_opt("demo").await.unwrap().is_some(), "a namespace is never pruned");
    assert_eq!(apply(&session, bundle("a", 1, &objects, vec![])).await, Outcome::Stale);

    within("removal", async {
        client(&session).remove(RemoveRequest { component: "mesh".to_owned(), epoch: 1, prune_crds: false }).await
    })
    .await
    .unwrap();
    until(&mut reports, "removal", |report| report.state() == State::Removed).await;
    assert_eq!(value_of(&child, "two").await, None);
    agent.stop().await;
}

#[tokio::test]
async fn a_killed_agent_goes_on_without_the_parent_and_writes_nothing_new() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let mut reports = watch(&session).await;
    apply(&session, bundle("a", 1, &[namespace(), map("one", "1")], vec![])).await;
    healthy(&mut reports, "a").await;
    let before = maps(&child).get("one").await.unwrap().metadata.resource_version;
    drop((agent, session));

    let _agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let mut reports = watch(&session).await;
    let first = within("what is held", reports.next()).await.unwrap().unwrap();
    assert!(first.synced && first.digest == "a" && first.state() == State::Healthy && first.revision == 1);
    assert_eq!(apply(&session, bundle("a", 1, &[], vec![])).await, Outcome::Unchanged);
    assert_eq!(maps(&child).get("one").await.unwrap().metadata.resource_version, before);
    // It is on guard again.
    maps(&child).delete("one", &DeleteParams::default()).await.unwrap();
    becomes(&child, "one", Some("1")).await;
}

#[tokio::test]
async fn a_gate_follows_the_world_with_honest_counts() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    child.node("edge-1", true).await;
    let _agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let mut reports = watch(&session).await;
    apply(&session, bundle("a", 1, &[namespace(), daemon_set()], vec![gate()])).await;
    let report = until(&mut reports, "a waiting component", |report| report.state() == State::Waiting).await;
    assert_eq!(report.reason, "DaemonSetNotReady");
    assert_eq!(report.message, "ztunnel: 0/1 nodes ready; not ready: edge-1 (no pod)");

    let pods = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(child.client.clone(), "demo");
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "ztunnel"}},
                     "spec": {"nodeName": "edge-1", "containers": [{"name": "c", "image": "i"}]}});
    pods.create(&Default::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let sets = Api::<k8s_openapi::api::apps::v1::DaemonSet>::namespaced(child.client.clone(), "demo");
    let status = json!({"status": {"observedGeneration": 1, "updatedNumberScheduled": 1, "numberReady": 1,
                                   "desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberMisscheduled": 0}});
    sets.patch_status("ztunnel", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    healthy(&mut reports, "a").await;

    // It falls ill again, and is still judged.
    child.node("edge-2", true).await;
    let report = until(&mut reports, "a sick component", |report| report.state() == State::Waiting).await;
    assert_eq!(report.message, "ztunnel: 1/2 nodes ready; not ready: edge-2 (no pod)");
}

#[tokio::test]
async fn a_contested_field_is_left_alone_and_the_rival_is_named() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let _agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let mut reports = watch(&session).await;
    apply(&session, bundle("a", 1, &[namespace(), map("one", "1")], vec![])).await;
    healthy(&mut reports, "a").await;
    for round in 1..=3 {
        let rival = PatchParams::apply("rival").force();
        let changed = map("one", &format!("rival's {round}"));
        maps(&child).patch("one", &rival, &Patch::Apply(changed)).await.unwrap();
        if round < 3 {
            becomes(&child, "one", Some("1")).await;
        }
    }
    let report = until(&mut reports, "a report of the rival", |report| report.reason == "DriftContested").await;
    assert_eq!(report.message, "left alone, contested: ConfigMap demo/one data.key (rival)");
    assert_eq!(report.state(), State::Healthy);
    assert_eq!(value_of(&child, "one").await.as_deref(), Some("rival's 3"));
}

#[tokio::test]
async fn ignored_fields_are_not_repaired() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let _agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let mut reports = watch(&session).await;
    let ignored = IgnoredField { kind: "ConfigMap".to_owned(), name: String::new(), pointer: "/data/key".to_owned() };
    let request = bundle("a", 1, &[namespace(), map("one", "1"), map("two", "2")], vec![]);
    apply(&session, ApplyRequest { ignored: vec![ignored.clone()], ..request }).await;
    healthy(&mut reports, "a").await;
    let rival = PatchParams::apply("rival").force();
    let changed = map("one", "theirs");
    maps(&child).patch("one", &rival, &Patch::Apply(changed)).await.unwrap();
    // A new bundle rewrites the object, and leaves the field to whoever set it.
    let mut renewed = map("one", "1");
    renewed["data"]["new"] = json!("n");
    let request = bundle("b", 2, &[renewed, map("two", "2")], vec![]);
    apply(&session, ApplyRequest { ignored: vec![ignored], ..request }).await;
    healthy(&mut reports, "b").await;
    let data = maps(&child).get("one").await.unwrap().data.unwrap();
    assert_eq!((data["key"].as_str(), data["new"].as_str()), ("theirs", "n"));
}

#[tokio::test]
async fn a_refused_object_fails_the_component_and_is_tried_again() {
    let parent = Parent::start().await;
    let child = Child::start(&parent).await;
    let _agent = child.agent(&parent);
    let session = within("a session", parent.session()).await;
    let mut reports = watch(&session).await;
    // Its namespace does not exist yet.
    apply(&session, bundle("a", 1, &[map("one", "1")], vec![])).await;
    let report = until(&mut reports, "a failed component", |report| report.state() == State::Failed).await;
    assert_eq!((report.reason.as_str(), report.attempt), ("ComponentApplyFailed", 1));
    assert!(report.message.contains("ConfigMap demo/one") && report.next_attempt_unix_ms > 0, "{}", report.message);
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(child.client.clone());
    namespaces.create(&Default::default(), &serde_json::from_value(namespace()).unwrap()).await.unwrap();
    healthy(&mut reports, "a").await;
}
