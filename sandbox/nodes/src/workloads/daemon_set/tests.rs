use serde_json::json;

use super::*;
use crate::testing::{creates, deletes, node, object, pod, status};

fn set(spec: serde_json::Value) -> DaemonSet {
    let mut template = json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": []}});
    template["spec"]["hostNetwork"] = spec["hostNetwork"].clone();
    template["spec"]["tolerations"] = spec["tolerations"].clone();
    template["spec"]["nodeSelector"] = spec["nodeSelector"].clone();
    object(json!({
        "metadata": {"name": "d", "namespace": "n", "uid": "set", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template,
            "updateStrategy": spec["updateStrategy"]},
    }))
}

fn on(set: &DaemonSet, name: &str, node: &str, ready: bool, hash: &str) -> Arc<Pod> {
    let mut pod = pod(set, name, ready);
    pod.spec.as_mut().expect("a spec").node_name = Some(node.to_owned());
    pod.metadata.labels = Some([(revision::LABEL.to_owned(), hash.to_owned())].into());
    Arc::new(pod)
}

fn hash_of(set: &DaemonSet) -> String {
    revision::hash_of_daemons(set.spec.as_ref().expect("a spec"), set.status.as_ref())
}

fn tainted(name: &str, key: &str, effect: &str) -> Arc<Node> {
    let mut node = Arc::unwrap_or_clone(node(name));
    node.spec.get_or_insert_default().taints = Some(vec![object(json!({"key": key, "effect": effect}))]);
    Arc::new(node)
}

fn run(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Plan {
    decide(set, nodes, pods, Some(&hash_of(set)), Timestamp::UNIX_EPOCH)
}

#[test]
fn every_node_that_will_have_one_gets_a_pod_of_its_own() {
    let set = set(json!({"nodeSelector": {"pool": "a"}}));
    let mut chosen = Arc::unwrap_or_clone(node("chosen"));
    chosen.metadata.labels = Some([("pool".to_owned(), "a".to_owned())].into());
    let plan = run(&set, &[Arc::new(chosen), node("other")], &[]);
    let made = creates(&plan);
    assert_eq!(made.len(), 1);
    assert_eq!(target(made[0]), Some("chosen"));
}

#[test]
fn a_node_without_network_takes_only_those_that_tolerate_it() {
    let fresh = [tainted("fresh", "node.kubernetes.io/not-ready", "NoSchedule")];
    let plain = run(&set(json!({})), &fresh, &[]);
    assert!(creates(&plain).is_empty());
    let Some(Object::DaemonSet(written)) = status(&plain) else { panic!("a status") };
    assert_eq!(written.status.as_ref().map(|status| status.desired_number_scheduled), Some(0));
    let tolerant = set(json!({"tolerations": [{"operator": "Exists"}]}));
    assert_eq!(creates(&run(&tolerant, &fresh, &[])).len(), 1);
}

#[test]
fn a_running_pod_outlives_taints_that_only_refuse_new_ones() {
    let set = set(json!({}));
    let pods = [on(&set, "p", "a", true, &hash_of(&set))];
    assert!(deletes(&run(&set, &[tainted("a", "x", "NoSchedule")], &pods)).is_empty());
    assert_eq!(deletes(&run(&set, &[tainted("a", "x", "NoExecute")], &pods)), ["p"]);
    assert!(deletes(&run(&set, &[tainted("a", "node.kubernetes.io/not-ready", "NoExecute")], &pods)).is_empty());
}

#[test]
fn counts_are_per_node() {
    let set = set(json!({}));
    let hash = hash_of(&set);
    let pods = [on(&set, "p0", "a", true, &hash), on(&set, "p1", "b", false, "older")];
    let plan = run(&set, &[node("a"), node("b"), node("c")], &pods);
    let Some(Object::DaemonSet(written)) = status(&plan) else { panic!("a status") };
    let status = written.status.clone().expect("a status");
    assert_eq!(status.desired_number_scheduled, 3);
    assert_eq!(status.current_number_scheduled, 2);
    assert_eq!(status.number_ready, 1);
    assert_eq!(status.updated_number_scheduled, Some(1));
    assert_eq!(status.number_available, Some(1));
    assert_eq!(status.number_unavailable, Some(2));
}

#[test]
fn a_rollout_replaces_one_working_pod_at_a_time_and_broken_ones_at_once() {
    let set = set(json!({}));
    let nodes = [node("a"), node("b"), node("c")];
    let all_up =
        [on(&set, "p0", "a", true, "older"), on(&set, "p1", "b", true, "older"), on(&set, "p2", "c", true, "older")];
    assert_eq!(deletes(&run(&set, &nodes, &all_up)), ["p0"]);
    let one_down = [all_up[0].clone(), on(&set, "p1", "b", false, "older"), all_up[2].clone()];
    assert_eq!(deletes(&run(&set, &nodes, &one_down)), ["p1"]);
}

#[test]
fn a_rollout_with_surge_starts_the_new_pod_first() {
    let strategy = json!({"updateStrategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    let set = set(strategy);
    let nodes = [node("a"), node("b")];
    let old = [on(&set, "p0", "a", true, "older"), on(&set, "p1", "b", true, "older")];
    let plan = run(&set, &nodes, &old);
    assert!(deletes(&plan).is_empty());
    assert_eq!(creates(&plan).len(), 1);
    let both = [old[0].clone(), old[1].clone(), on(&set, "new", "a", true, &hash_of(&set))];
    assert_eq!(deletes(&run(&set, &nodes, &both)), ["p0"]);
}

#[test]
fn on_delete_waits_for_people() {
    let set = set(json!({"updateStrategy": {"type": "OnDelete"}}));
    assert!(deletes(&run(&set, &[node("a")], &[on(&set, "p", "a", true, "older")])).is_empty());
}
