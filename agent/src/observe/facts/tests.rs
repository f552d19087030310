//! Objects as Kubernetes gives them, cut down.

use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> PodFacts {
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "x"}}, "spec": {"nodeName": "edge-7", "containers": []}, "status": status});
    PodFacts::of(&serde_json::from_value(pod).unwrap())
}

fn container(name: &str, ready: bool, restarts: i32, state: Value) -> Value {
    json!({"name": name, "ready": ready, "restartCount": restarts, "image": "i", "imageID": "", "state": state})
}

#[track_caller]
fn troubles(status: Value, expected: &str) {
    let pod = pod(status);
    assert!(!pod.ready);
    assert_eq!(pod.trouble, expected);
}

#[test]
fn a_pods_trouble_is_told_in_a_word_or_two() {
    let pull = container("c", false, 0, json!({"waiting": {"reason": "ImagePullBackOff"}}));
    troubles(json!({"phase": "Pending", "containerStatuses": [pull.clone()]}), "ImagePullBackOff");
    let crash = container("c", false, 4, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    troubles(json!({"phase": "Running", "containerStatuses": [crash]}), "CrashLoopBackOff, 4 restarts");
    let probe = container("c", false, 1, json!({"running": {}}));
    troubles(json!({"phase": "Running", "containerStatuses": [probe]}), "not ready, 1 restart");
    troubles(json!({"phase": "Pending"}), "Pending");
    troubles(json!({}), "Pending");
    troubles(json!({"phase": "Failed", "reason": "Evicted"}), "Evicted");
    let unscheduled = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]);
    troubles(json!({"phase": "Pending", "conditions": unscheduled}), "Unschedulable");
}

#[test]
fn a_stuck_init_container_is_named() {
    let done = container("mount", true, 0, json!({"terminated": {"exitCode": 0}}));
    let stuck = container("config", false, 4, json!({"running": {}}));
    let waits = container("c", false, 0, json!({"waiting": {"reason": "PodInitializing"}}));
    troubles(
        json!({"phase": "Pending", "initContainerStatuses": [done, stuck], "containerStatuses": [waits]}),
        "init:config, 4 restarts",
    );
    let fails = container("config", false, 2, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    troubles(json!({"initContainerStatuses": [fails]}), "init:config CrashLoopBackOff, 2 restarts");
}

#[test]
fn a_ready_pod_has_no_trouble() {
    let pod = pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    assert!(pod.ready && pod.trouble.is_empty() && pod.node == "edge-7" && pod.labels["app"] == "x");
}

#[test]
fn a_node_that_never_reported_is_not_ready() {
    let node: Node = serde_json::from_value(
        json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}}}),
    )
    .unwrap();
    let facts = NodeFacts::of(&node);
    assert!(!facts.ready.holds && facts.control_plane);
    assert_eq!(facts.ready.reason, "NoCondition");
}

#[test]
fn a_crd_whose_names_are_taken_is_not_established() {
    let crd = |conditions: Value| {
        let crd = json!({"metadata": {"name": "a"}, "spec": {"group": "g", "names": {"kind": "K", "plural": "ks"}, "scope": "Cluster", "versions": []}, "status": {"conditions": conditions}});
        CrdFacts::of(&serde_json::from_value(crd).unwrap()).0
    };
    let yes = |kind: &str| json!({"type": kind, "status": "True", "reason": "R"});
    assert!(crd(json!([yes("NamesAccepted"), yes("Established")])).holds);
    let taken = json!({"type": "NamesAccepted", "status": "False", "reason": "PluralConflict"});
    let verdict = crd(json!([taken, yes("Established")]));
    assert!(!verdict.holds && verdict.reason == "PluralConflict");
    assert!(!crd(json!([])).holds);
}

#[test]
fn workloads_are_cut_down_to_their_counts() {
    let set = json!({
        "metadata": {"name": "d", "generation": 3},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"spec": {"hostNetwork": true, "containers": []}}},
        "status": {"observedGeneration": 2, "desiredNumberScheduled": 4, "numberReady": 3, "updatedNumberScheduled": 4,
                   "currentNumberScheduled": 4, "numberMisscheduled": 0},
    });
    let facts = DaemonSetFacts::of(&serde_json::from_value(set).unwrap()).0;
    assert_eq!((facts.generation, facts.observed_generation, facts.desired, facts.ready), (3, 2, 4, 3));
    let deployment = json!({
        "metadata": {"name": "d", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"spec": {"containers": []}}},
        "status": {"conditions": [
            {"type": "Available", "status": "True"},
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
        ]},
    });
    let facts = DeploymentFacts::of(&serde_json::from_value(deployment).unwrap()).0;
    assert_eq!(facts.desired, 1, "a Deployment without replicas means one");
    assert!(facts.done.unwrap().holds && facts.failed.unwrap().reason == "ProgressDeadlineExceeded");
}

mod placement {
    use super::*;

    fn node(labels: Value, taints: Value) -> NodeFacts {
        let node = json!({"metadata": {"name": "n", "labels": labels}, "spec": {"taints": taints}});
        NodeFacts::of(&serde_json::from_value(node).unwrap())
    }

    fn placement(spec: Value) -> Placement {
        let mut spec = spec;
        spec["containers"] = json!([]);
        Placement::of(&serde_json::from_value(spec).unwrap())
    }

    #[track_caller]
    fn includes(spec: Value, labels: Value, taints: Value, expected: bool) {
        assert_eq!(placement(spec).includes("n", &node(labels, taints)), expected);
    }

    fn affinity(requirement: Value) -> Value {
        let term = json!([{"matchExpressions": [requirement]}]);
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": term}}}})
    }

    #[test]
    fn selectors_and_affinity_choose_nodes() {
        includes(json!({}), json!({}), json!([]), true);
        let linux = json!({"nodeSelector": {"kubernetes.io/os": "linux"}});
        includes(linux.clone(), json!({"kubernetes.io/os": "linux"}), json!([]), true);
        includes(linux, json!({}), json!([]), false);
        let gpu = affinity(json!({"key": "gpu", "operator": "In", "values": ["a", "b"]}));
        includes(gpu.clone(), json!({"gpu": "b"}), json!([]), true);
        includes(gpu, json!({"gpu": "c"}), json!([]), false);
        let fargate = affinity(json!({"key": "fargate", "operator": "DoesNotExist"}));
        includes(fargate.clone(), json!({}), json!([]), true);
        includes(fargate, json!({"fargate": ""}), json!([]), false);
        let old = affinity(json!({"key": "age", "operator": "Gt", "values": ["3"]}));
        includes(old.clone(), json!({"age": "4"}), json!([]), true);
        includes(old, json!({"age": "x"}), json!([]), false);
    }

    #[test]
    fn taints_keep_pods_away_unless_they_are_tolerated() {
        let master = json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]);
        includes(json!({}), json!({}), master.clone(), false);
        includes(json!({"tolerations": [{"operator": "Exists"}]}), json!({}), master.clone(), true);
        let only_value = json!({"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "value": "x"}]});
        includes(only_value, json!({}), master, false);
        let no_network = json!([{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]);
        includes(json!({}), json!({}), no_network.clone(), false);
        includes(json!({"hostNetwork": true}), json!({}), no_network, true);
        let cordoned = json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
        includes(json!({}), json!({}), cordoned, true);
        let rather_not = json!([{"key": "old", "effect": "PreferNoSchedule"}]);
        includes(json!({}), json!({}), rather_not, true);
    }
}
