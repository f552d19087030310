use super::*;

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("a test object")
}

fn node(name: &str, extra: serde_json::Value) -> Arc<Node> {
    let mut value = serde_json::json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
    });
    for (key, part) in extra.as_object().into_iter().flatten() {
        value[key] = part.clone();
    }
    Arc::new(object(value))
}

fn pod(spec: serde_json::Value) -> Pod {
    let mut value = serde_json::json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {
        "containers": [{"name": "main", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}],
    }});
    for (key, part) in spec.as_object().into_iter().flatten() {
        value["spec"][key] = part.clone();
    }
    object(value)
}

#[track_caller]
fn lands(spec: serde_json::Value, nodes: &[Arc<Node>], expected: Result<&str, &str>) {
    match (place(&pod(spec), nodes, &[]), expected) {
        (Ok(node), Ok(wanted)) => assert_eq!(node, wanted),
        (Err(message), Err(wanted)) => assert!(message.contains(wanted), "{message}"),
        (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
    }
}

#[test]
fn taints_selectors_and_room_decide() {
    let not_ready = serde_json::json!({"spec": {"taints": [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}});
    let labelled = serde_json::json!({"metadata": {"name": "b", "labels": {"pool": "gpu"}}});
    let tainted = [node("a", not_ready)];
    lands(serde_json::json!({}), &[], Err("no nodes available"));
    lands(
        serde_json::json!({}),
        &tainted,
        Err("0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }"),
    );
    lands(serde_json::json!({"tolerations": [{"operator": "Exists"}]}), &tainted, Ok("a"));
    let two = [node("a", serde_json::json!({})), node("b", labelled)];
    lands(serde_json::json!({"nodeSelector": {"pool": "gpu"}}), &two, Ok("b"));
    lands(
        serde_json::json!({"nodeSelector": {"pool": "none"}}),
        &two,
        Err("2 node(s) didn't match Pod's node affinity"),
    );
    let huge = serde_json::json!([{"name": "main", "resources": {"requests": {"memory": "64Gi"}}}]);
    lands(serde_json::json!({"containers": huge}), &two, Err("2 Insufficient memory"));
    let cordoned = [node("a", serde_json::json!({"spec": {"unschedulable": true}}))];
    lands(serde_json::json!({}), &cordoned, Err("1 node(s) were unschedulable"));
}

#[test]
fn a_daemon_pod_lands_on_the_node_it_names() {
    let two = [node("a", serde_json::json!({})), node("b", serde_json::json!({}))];
    let affinity = serde_json::json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]}}}});
    lands(affinity, &two, Ok("b"));
}

#[test]
fn pods_spread_over_nodes() {
    let two = [node("a", serde_json::json!({})), node("b", serde_json::json!({}))];
    let there = [(Arc::new(pod(serde_json::json!({}))), "a".to_owned())];
    assert_eq!(place(&pod(serde_json::json!({})), &two, &there).as_deref(), Ok("b"));
}

#[test]
fn host_ports_and_anti_affinity_keep_pods_apart() {
    let one = [node("a", serde_json::json!({}))];
    let with_port =
        serde_json::json!({"containers": [{"name": "m", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    let there = [(Arc::new(pod(with_port.clone())), "a".to_owned())];
    let refused = place(&pod(with_port), &one, &there).expect_err("the port is taken");
    assert!(refused.contains("free ports"), "{refused}");

    let mut other = pod(serde_json::json!({}));
    other.metadata.labels = Some([("app".to_owned(), "x".to_owned())].into());
    let apart = serde_json::json!({"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}]}}});
    let refused = place(&pod(apart), &one, &[(Arc::new(other), "a".to_owned())]).expect_err("it is not alone");
    assert!(refused.contains("anti-affinity"), "{refused}");
}

#[test]
fn the_same_refusal_is_written_once() {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let first = decide(&pod(serde_json::json!({})), &[], &[], now);
    let Some(Op::Status(Object::Pod(told))) = first.ops.first() else {
        panic!("the pod is told why it waits: {first:?}")
    };
    assert!(decide(told, &[], &[], now).ops.is_empty());
}
