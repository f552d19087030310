//! The hashes are those of a real Deployment controller, 1.36.

use k8s_openapi::api::apps::v1::{DaemonSetSpec, StatefulSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

use super::hash;
use crate::workloads::revision;

/// A template as it is stored, with what every pod gets by default.
fn template(app: &str, pod: Value, container: Value) -> PodTemplateSpec {
    let mut main = json!({
        "name": "m", "image": "i", "imagePullPolicy": "Always", "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    });
    let mut spec = json!({
        "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
        "securityContext": {}, "terminationGracePeriodSeconds": 30,
    });
    for (into, from) in [(&mut main, container), (&mut spec, pod)] {
        if let (Value::Object(into), Value::Object(from)) = (into, from) {
            into.extend(from);
        }
    }
    spec["containers"] = json!([main]);
    serde_json::from_value(json!({"metadata": {"labels": {"app": app}}, "spec": spec})).expect("a template")
}

#[track_caller]
fn assert_hash(app: &str, pod: Value, container: Value, wanted: &str) {
    assert_eq!(hash(&template(app, pod, container), None), wanted, "{app}");
}

#[test]
fn templates_have_the_hashes_that_real_controllers_give_them() {
    let port = json!({"name": "main", "image": "example.com/app:1", "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 80, "protocol": "TCP"}]});
    assert_hash("d", json!({}), port, "5655f78bbd");
    assert_hash("s", json!({}), json!({"name": "x", "image": "x"}), "5d76c97855");
    assert_hash("s-nodeselector", json!({"nodeSelector": {"z": "y", "a": "b"}}), json!({}), "84865d49c4");
    let toleration = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3});
    assert_hash("s-tolerations", json!({"tolerations": [toleration]}), json!({}), "676b9f857b");
    assert_hash(
        "s-securitycontext",
        json!({"securityContext": {"runAsNonRoot": true, "fsGroup": 3}}),
        json!({}),
        "6764b6c486",
    );
    let from = json!({"envFrom": [{"prefix": "x", "configMapRef": {"name": "c"}}]});
    assert_hash("c-envfrom", json!({}), from, "9dbb7586f");
    let probe = json!({"tcpSocket": {"port": 80}, "periodSeconds": 3, "timeoutSeconds": 1, "successThreshold": 1,
        "failureThreshold": 3});
    assert_hash("c-livenessprobe", json!({}), json!({"livenessProbe": probe}), "6bb974b98c");
}

#[test]
fn quantities_are_hashed_as_go_holds_them() {
    for (app, resource, quantity, wanted) in [
        ("r-cpu", "cpu", "1500m", "5fd8888c66"),
        ("r-one", "cpu", "1", "577755db95"),
        ("r-e", "memory", "1e6", "754d8dc86c"),
        ("r-mem", "memory", "64Mi", "f65965545"),
        ("r-gi", "memory", "1536Mi", "74d9685f7"),
    ] {
        let resources = json!({"resources": {"limits": {resource: quantity}}});
        assert_hash(app, json!({}), resources, wanted);
    }
}

#[test]
fn a_stateful_sets_revision_has_the_hash_that_a_real_controller_gives_it() {
    let main = json!({"name": "main", "image": "example.com/app:1", "imagePullPolicy": "IfNotPresent"});
    let spec = StatefulSetSpec { template: template("s", json!({}), main.clone()), ..StatefulSetSpec::default() };
    assert_eq!(revision::hash_of_set(&spec, None), "5665766955");
    let spec = DaemonSetSpec { template: template("s", json!({}), main), ..DaemonSetSpec::default() };
    assert_eq!(revision::hash_of_daemons(&spec, None), "67777798fd");
}
