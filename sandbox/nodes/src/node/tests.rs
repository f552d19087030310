use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::*;
use crate::testing::{deletes, object, pod, status as written};

fn spec() -> NodeSpec {
    NodeSpec::new("n1", IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)))
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn keys(node: &Node) -> Vec<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    taints
        .iter()
        .map(|taint| format!("{}:{}", taint.key.rsplit('/').next().unwrap_or_default(), taint.effect))
        .collect()
}

fn replaced(plan: &Plan) -> Node {
    plan.ops
        .iter()
        .find_map(|op| match op {
            Op::Replace(Object::Node(node)) => Some((**node).clone()),
            _ => None,
        })
        .expect("a replaced node")
}

#[test]
fn a_node_is_born_without_network_and_says_why() {
    let cni = CniRule::default();
    let node = register(&spec(), false, Some(&cni), now());
    assert_eq!(condition(&node, "Ready"), Some("False"));
    assert_eq!(keys(&node), ["not-ready:NoSchedule"]);
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let ready = conditions.iter().find(|one| one.type_ == "Ready").expect("Ready");
    assert_eq!(ready.reason.as_deref(), Some("KubeletNotReady"));
    assert!(ready.message.as_deref().is_some_and(|text| text.ends_with("cni plugin not initialized")));
}

#[test]
fn a_network_makes_it_ready_and_the_taints_go() {
    let cni = CniRule::default();
    let mut node = register(&spec(), false, Some(&cni), now());
    node.spec.get_or_insert_default().taints.get_or_insert_default().push(taint(
        "node.cilium.io/agent-not-ready",
        "NoExecute",
        None,
    ));
    let node = replaced(&watch_over(&node, false, Some(&cni), &[], now()));
    assert_eq!(keys(&node), ["not-ready:NoSchedule", "agent-not-ready:NoExecute", "not-ready:NoExecute"]);
    let plan = report(&node, &spec(), true, Some(&cni), now());
    let Some(Object::Node(up)) = written(&plan) else { panic!("a status") };
    assert_eq!(condition(up, "Ready"), Some("True"));
    assert_eq!(condition(up, "NetworkUnavailable"), Some("False"));
    let free = replaced(&watch_over(up, false, Some(&cni), &[], now()));
    assert!(keys(&free).is_empty());
    assert!(watch_over(&free, false, Some(&cni), &[], now()).ops.is_empty());
    assert!(report(&free, &spec(), true, Some(&cni), now()).ops.is_empty());
}

#[test]
fn a_silent_node_is_given_up_and_its_pods_leave_when_their_time_is_over() {
    let node = register(&spec(), true, None, now());
    let lost = watch_over(&node, true, None, &[], now());
    let Some(Object::Node(lost)) = written(&lost) else { panic!("a status") };
    assert_eq!(condition(lost, "Ready"), Some("Unknown"));
    let tainted = replaced(&watch_over(lost, true, None, &[], now()));
    assert_eq!(keys(&tainted), ["unreachable:NoSchedule", "unreachable:NoExecute"]);

    let mut patient = pod(&tainted, "patient", true);
    patient.spec.as_mut().expect("a spec").tolerations = Some(vec![object(json!({
        "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": 300}))]);
    let pods = [Arc::new(patient), Arc::new(pod(&tainted, "other", true))];
    let plan = watch_over(&tainted, true, None, &pods, now());
    assert_eq!(deletes(&plan), ["other"]);
    assert_eq!(plan.wake, Some(std::time::Duration::from_mins(5)));
    let unready = plan.ops.iter().filter(|op| matches!(op, Op::Status(Object::Pod(_)))).count();
    assert_eq!(unready, 2);
    let later = now() + SignedDuration::from_secs(300);
    assert!(deletes(&watch_over(&tainted, true, None, &pods, later)).contains(&"patient"));
}

#[test]
fn ranges_of_the_pod_network_are_not_given_twice() {
    let mut first = register(&spec(), true, None, now());
    first.spec.get_or_insert_default().pod_cidr = Some("10.244.0.0/24".to_owned());
    assert_eq!(pod_range([10, 244], &[Arc::new(first)]), "10.244.1.0/24");
}

#[test]
fn only_a_ready_host_network_pod_of_the_named_daemon_set_brings_the_network_up() {
    let owner = |name: &str| -> k8s_openapi::api::apps::v1::DaemonSet {
        object(json!({"metadata": {"name": name, "uid": name}, "spec": {"selector": {}, "template": {}}}))
    };
    let cni = CniRule::default();
    for (name, on_host, ready, expected) in [
        ("cilium", true, true, true),
        ("cilium", true, false, false),
        ("cilium", false, true, false),
        ("cilium-envoy", true, true, false),
    ] {
        let mut pod = pod(&owner(name), "p", ready);
        pod.spec.as_mut().expect("a spec").host_network = Some(on_host);
        assert_eq!(brings_network_up(&cni, &pod), expected, "{name} {on_host} {ready}");
    }
}
