//! Gates, judged by tables.

use k8s_openapi::api::core::v1::Taint;

use super::*;
use crate::observe::facts::{
    ApiServiceFacts, CrdFacts, DaemonSetFacts, DeploymentFacts, JobFacts, Placement, StatefulSetFacts,
};

const NAMESPACE: &str = "istio-system";

fn workload(kind: fn(v1::WorkloadRef) -> Wanted, name: &str) -> v1::Gate {
    v1::Gate { kind: Some(kind(v1::WorkloadRef { namespace: NAMESPACE.to_owned(), name: name.to_owned() })) }
}

fn labels(app: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), app.to_owned())])
}

fn node(ready: bool) -> NodeFacts {
    let reason = if ready { String::new() } else { "KubeletNotReady".to_owned() };
    NodeFacts { ready: Verdict { holds: ready, reason, ..Verdict::default() }, ..NodeFacts::default() }
}

fn pod(app: &str, node: &str, trouble: &str) -> PodFacts {
    PodFacts {
        labels: labels(app),
        node: node.to_owned(),
        ready: trouble.is_empty(),
        terminating: false,
        trouble: trouble.to_owned(),
    }
}

/// A workload of which `ready` of `desired` pods are up and of the latest spec.
fn counts(app: &str, desired: i32, ready: i32) -> WorkloadFacts {
    WorkloadFacts {
        generation: 1,
        observed_generation: 1,
        desired,
        updated: desired,
        ready,
        available: ready,
        total: desired,
        done: Some(Verdict { holds: ready >= desired, ..Verdict::default() }),
        selector: labels(app),
        ..WorkloadFacts::default()
    }
}

/// Nodes `edge-1` … and a table for each kind, all listed and empty.
fn world(nodes: usize) -> World {
    let mut world = World {
        nodes: (1..=nodes).map(|place| (format!("edge-{place}"), node(true))).collect(),
        crds: Table::from_iter([]),
        api_services: Table::from_iter([]),
        ..World::default()
    };
    world.daemon_sets.insert(NAMESPACE.to_owned(), Table::from_iter([]));
    world.deployments.insert(NAMESPACE.to_owned(), Table::from_iter([]));
    world.stateful_sets.insert(NAMESPACE.to_owned(), Table::from_iter([]));
    world.jobs.insert(NAMESPACE.to_owned(), Table::from_iter([]));
    world.pods.insert(NAMESPACE.to_owned(), Table::from_iter([]));
    world
}

fn with_pods(mut world: World, pods: Vec<PodFacts>) -> World {
    let rows = pods.into_iter().enumerate().map(|(place, pod)| (format!("pod-{place}"), pod));
    world.pods.insert(NAMESPACE.to_owned(), rows.collect());
    world
}

fn with_daemon_set(mut world: World, set: WorkloadFacts) -> World {
    world.daemon_sets.insert(NAMESPACE.to_owned(), Table::from_iter([("ztunnel".to_owned(), DaemonSetFacts(set))]));
    world
}

fn with_deployment(mut world: World, set: WorkloadFacts) -> World {
    world.deployments.insert(NAMESPACE.to_owned(), Table::from_iter([("istiod".to_owned(), DeploymentFacts(set))]));
    world
}

#[track_caller]
fn holds(gate: &v1::Gate, world: &World) {
    assert_eq!(judge(gate, world), Standing::Holds);
}

#[track_caller]
fn says(gate: &v1::Gate, world: &World, reason: Reason, message: &str) {
    assert_eq!(judge(gate, world), Standing::Fails { reason, message: message.to_owned() });
}

fn ztunnel() -> v1::Gate {
    workload(Wanted::DaemonSet, "ztunnel")
}

fn istiod() -> v1::Gate {
    workload(Wanted::Deployment, "istiod")
}

#[test]
fn a_daemon_set_is_counted_against_the_nodes_it_should_run_on() {
    let ready: Vec<_> = (1..=4).map(|place| pod("ztunnel", &format!("edge-{place}"), "")).collect();
    holds(&ztunnel(), &with_pods(with_daemon_set(world(4), counts("ztunnel", 4, 4)), ready.clone()));

    let mut sick = ready.clone();
    sick[2] = pod("ztunnel", "edge-3", "ImagePullBackOff");
    says(
        &ztunnel(),
        &with_pods(with_daemon_set(world(4), counts("ztunnel", 4, 3)), sick),
        Reason::DaemonSetNotReady,
        "ztunnel: 3/4 nodes ready; not ready: edge-3 (ImagePullBackOff)",
    );
    // A fourth node has joined, and the controller has not noticed yet: it says 3 of 3.
    says(
        &ztunnel(),
        &with_pods(with_daemon_set(world(4), counts("ztunnel", 3, 3)), ready[..3].to_vec()),
        Reason::DaemonSetNotReady,
        "ztunnel: 3/4 nodes ready; not ready: edge-4 (no pod)",
    );
}

#[test]
fn nodes_without_a_ready_pod_are_named_up_to_a_bound() {
    let pods = vec![pod("ztunnel", "edge-1", ""), pod("ztunnel", "edge-7", "init:config, 4 restarts")];
    says(
        &ztunnel(),
        &with_pods(with_daemon_set(world(9), counts("ztunnel", 9, 1)), pods),
        Reason::DaemonSetNotReady,
        "ztunnel: 1/9 nodes ready; not ready: edge-7 (init:config, 4 restarts), edge-2 (no pod), edge-3 (no pod), edge-4 (no pod) and 4 more",
    );
}

#[test]
fn zero_of_zero_is_not_ready() {
    says(
        &ztunnel(),
        &with_daemon_set(world(0), counts("ztunnel", 0, 0)),
        Reason::DaemonSetNotReady,
        "ztunnel: 0/0 nodes ready; no node that it should run on exists",
    );
    says(
        &istiod(),
        &with_deployment(world(1), counts("istiod", 0, 0)),
        Reason::DeploymentNotAvailable,
        "istiod: 0/0 available; it is scaled to nothing",
    );
}

#[test]
fn nodes_that_the_pods_do_not_tolerate_do_not_count() {
    let mut world = with_pods(
        with_daemon_set(world(2), counts("ztunnel", 1, 1)),
        vec![pod("ztunnel", "edge-1", ""), pod("other", "edge-2", "")],
    );
    let taint = Taint { key: "dedicated".to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    let tainted = NodeFacts { taints: vec![taint], ..node(true) };
    world.nodes = [("edge-1".to_owned(), node(true)), ("edge-2".to_owned(), tainted)].into_iter().collect();
    holds(&ztunnel(), &world);
    // A taint that every DaemonSet tolerates counts: the pod must be there.
    let taint =
        Taint { key: "node.kubernetes.io/not-ready".to_owned(), effect: "NoExecute".to_owned(), ..Taint::default() };
    let unready = NodeFacts { taints: vec![taint], ..node(false) };
    world.nodes = [("edge-1".to_owned(), node(true)), ("edge-2".to_owned(), unready)].into_iter().collect();
    says(&ztunnel(), &world, Reason::DaemonSetNotReady, "ztunnel: 1/2 nodes ready; not ready: edge-2 (no pod)");
}

#[test]
fn a_pod_that_is_going_does_not_count_as_ready() {
    let going = PodFacts { terminating: true, ..pod("ztunnel", "edge-1", "") };
    let sick = with_pods(with_daemon_set(world(1), counts("ztunnel", 1, 1)), vec![going.clone()]);
    says(&ztunnel(), &sick, Reason::DaemonSetNotReady, "ztunnel: 0/1 nodes ready; not ready: edge-1 (terminating)");
    // Beside its replacement it does no harm.
    let pods = vec![going, pod("ztunnel", "edge-1", "")];
    holds(&ztunnel(), &with_pods(with_daemon_set(world(1), counts("ztunnel", 1, 1)), pods));
}

#[test]
fn nothing_is_believed_before_the_controller_saw_the_latest_spec() {
    let pods = vec![pod("ztunnel", "edge-1", "")];
    let behind = WorkloadFacts { generation: 2, updated: 0, ..counts("ztunnel", 1, 1) };
    says(
        &ztunnel(),
        &with_pods(with_daemon_set(world(1), behind), pods),
        Reason::DaemonSetNotReady,
        "ztunnel: 1/1 nodes ready; 0/1 updated to the latest spec",
    );
    let behind = WorkloadFacts { generation: 2, ..counts("istiod", 2, 2) };
    says(
        &istiod(),
        &with_deployment(world(1), behind),
        Reason::DeploymentNotAvailable,
        "istiod: 2/2 available; its controller has not seen the latest spec",
    );
    let rolling = WorkloadFacts { updated: 1, total: 3, ..counts("istiod", 2, 2) };
    says(
        &istiod(),
        &with_deployment(world(1), rolling),
        Reason::DeploymentNotAvailable,
        "istiod: 2/2 available; 1/2 updated to the latest spec",
    );
}

#[test]
fn a_deployment_says_what_its_pods_wait_for() {
    holds(&istiod(), &with_deployment(world(1), counts("istiod", 2, 2)));
    let pods = vec![pod("istiod", "edge-1", ""), pod("istiod", "", "Unschedulable"), pod("ztunnel", "edge-1", "x")];
    says(
        &istiod(),
        &with_pods(with_deployment(world(1), counts("istiod", 2, 1)), pods),
        Reason::DeploymentNotAvailable,
        "istiod: 1/2 available; not ready: no node (Unschedulable)",
    );
    let failed = Verdict { reason: "ProgressDeadlineExceeded".to_owned(), ..Verdict::default() };
    let stuck = WorkloadFacts { failed: Some(failed), ..counts("istiod", 2, 0) };
    says(
        &istiod(),
        &with_deployment(world(1), stuck),
        Reason::DeploymentNotAvailable,
        "istiod: 0/2 available; ProgressDeadlineExceeded",
    );
}

#[test]
fn what_does_not_exist_is_not_ready() {
    let empty = world(1);
    says(&ztunnel(), &empty, Reason::DaemonSetNotReady, "ztunnel: the DaemonSet does not exist");
    says(&istiod(), &empty, Reason::DeploymentNotAvailable, "istiod: the Deployment does not exist");
    says(
        &workload(Wanted::StatefulSet, "db"),
        &empty,
        Reason::StatefulSetNotReady,
        "db: the StatefulSet does not exist",
    );
    says(&workload(Wanted::Job, "setup"), &empty, Reason::JobNotComplete, "setup: the Job does not exist");
    let crd = v1::Gate { kind: Some(Wanted::Crd("a.b.c".to_owned())) };
    says(&crd, &empty, Reason::CrdNotEstablished, "a.b.c: the CustomResourceDefinition does not exist");
    let service = v1::Gate { kind: Some(Wanted::ApiService("v1.x".to_owned())) };
    says(&service, &empty, Reason::ApiServiceNotAvailable, "v1.x: the APIService does not exist");
}

#[test]
fn conditions_speak_for_the_other_kinds() {
    let mut world = world(1);
    let not = |reason: &str, message: &str| Verdict {
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..Verdict::default()
    };
    let yes = Verdict { holds: true, ..Verdict::default() };
    world.crds =
        [("a".to_owned(), CrdFacts(yes.clone())), ("b".to_owned(), CrdFacts(Verdict::default()))].into_iter().collect();
    let refused = not("MissingEndpoints", "no endpoints for service");
    world.api_services = [("v1.x".to_owned(), ApiServiceFacts(refused))].into_iter().collect();
    let done = JobFacts(WorkloadFacts { done: Some(yes), ..counts("j", 1, 1) });
    let failed =
        JobFacts(WorkloadFacts { done: None, failed: Some(not("BackoffLimitExceeded", "")), ..counts("j", 1, 0) });
    world
        .jobs
        .insert(NAMESPACE.to_owned(), [("done".to_owned(), done), ("failed".to_owned(), failed)].into_iter().collect());
    let set = StatefulSetFacts(counts("db", 3, 2));
    world.stateful_sets.insert(NAMESPACE.to_owned(), [("db".to_owned(), set)].into_iter().collect());

    holds(&v1::Gate { kind: Some(Wanted::Crd("a".to_owned())) }, &world);
    says(
        &v1::Gate { kind: Some(Wanted::Crd("b".to_owned())) },
        &world,
        Reason::CrdNotEstablished,
        "b: nothing was reported yet",
    );
    says(
        &v1::Gate { kind: Some(Wanted::ApiService("v1.x".to_owned())) },
        &world,
        Reason::ApiServiceNotAvailable,
        "v1.x: MissingEndpoints: no endpoints for service",
    );
    holds(&workload(Wanted::Job, "done"), &world);
    says(
        &workload(Wanted::Job, "failed"),
        &world,
        Reason::JobNotComplete,
        "failed: 0/1 completed; BackoffLimitExceeded",
    );
    says(&workload(Wanted::StatefulSet, "db"), &world, Reason::StatefulSetNotReady, "db: 2/3 available");
}

#[test]
fn nodes_must_be_ready_and_free_of_the_components_taints() {
    let gate = |taints: &[&str]| v1::Gate {
        kind: Some(Wanted::Nodes(v1::NodesGate {
            without_taints: taints.iter().map(|taint| (*taint).to_owned()).collect(),
        })),
    };
    let mut world = world(2);
    holds(&gate(&[]), &world);
    says(
        &gate(&[]),
        &World { nodes: Table::from_iter([]), ..world.clone() },
        Reason::NodesNotReady,
        "0/0 nodes ready; no node exists",
    );
    let taint = Taint { key: "node.cilium.io/agent-not-ready".to_owned(), ..Taint::default() };
    let tainted = NodeFacts { taints: vec![taint], ..node(true) };
    world.nodes = [("edge-1".to_owned(), node(true)), ("edge-2".to_owned(), tainted)].into_iter().collect();
    holds(&gate(&["other"]), &world);
    says(
        &gate(&["node.cilium.io/agent-not-ready"]),
        &world,
        Reason::NodesTainted,
        "1/2 nodes free of taints; tainted: edge-2 (node.cilium.io/agent-not-ready)",
    );
    world.nodes = [("edge-1".to_owned(), node(true)), ("edge-2".to_owned(), node(false))].into_iter().collect();
    says(&gate(&[]), &world, Reason::NodesNotReady, "1/2 nodes ready; not ready: edge-2 (KubeletNotReady)");
}

#[test]
fn what_was_not_listed_is_unknown_and_never_ready() {
    assert_eq!(judge(&ztunnel(), &World::default()), Standing::Unknown);
    assert_eq!(judge_all(&[ztunnel(), istiod()], &World::default()), Standing::Unknown);
    assert_eq!(judge_all(&[], &World::default()), Standing::Holds);
    let unknown_kind = v1::Gate { kind: None };
    assert!(matches!(judge(&unknown_kind, &world(1)), Standing::Fails { reason: Reason::NotYetSupported, .. }));
}

#[test]
fn every_failing_gate_is_told_and_the_first_gives_the_reason() {
    let told = judge_all(&[istiod(), ztunnel()], &with_deployment(world(1), counts("istiod", 1, 1)));
    let message = "ztunnel: the DaemonSet does not exist".to_owned();
    assert_eq!(told, Standing::Fails { reason: Reason::DaemonSetNotReady, message });
    let told = judge_all(&[istiod(), ztunnel()], &world(1));
    let message = "istiod: the Deployment does not exist; ztunnel: the DaemonSet does not exist".to_owned();
    assert_eq!(told, Standing::Fails { reason: Reason::DeploymentNotAvailable, message });
}

#[test]
fn a_gate_needs_exactly_what_it_is_judged_by() {
    let kinds = |gate: &v1::Gate| needs(gate).into_iter().map(|scope| scope.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&ztunnel()), [Kind::Node, Kind::DaemonSet, Kind::Pod]);
    assert_eq!(kinds(&istiod()), [Kind::Deployment, Kind::Pod]);
    assert_eq!(Placement::default(), Placement::of(&crate::observe::objects::PodSpec::default()));
}

#[test]
fn what_a_watch_showed_before_our_own_write_is_not_judged() {
    let mut generations = Generations::default();
    let shown = with_deployment(world(1), counts("istiod", 2, 2));
    assert!(!generations.are_behind(&[istiod()], &shown));
    generations.note("Deployment", NAMESPACE, "istiod", &serde_json::json!({"generation": 2}));
    assert!(generations.are_behind(&[istiod()], &shown), "the watch still shows generation 1");
    assert!(!generations.are_behind(&[ztunnel()], &shown));
    let newer = WorkloadFacts { generation: 2, ..counts("istiod", 2, 2) };
    assert!(!generations.are_behind(&[istiod()], &with_deployment(world(1), newer)));
    assert!(generations.are_behind(&[istiod()], &World::default()), "nothing is known of what was just made");
}
