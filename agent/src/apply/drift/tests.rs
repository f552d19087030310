//! Drift: seen, named, put back or left alone.

use serde_json::json;

use super::super::object::hash;
use super::*;

fn key(kind: &str) -> Key {
    Key {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: "ns".to_owned(),
        name: "x".to_owned(),
    }
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "x", "labels": {"app.kubernetes.io/name": "x"}},
        "spec": {
            "replicas": 2, "paused": null, "nodeSelector": {},
            "template": {"spec": {"containers": [{"name": "main", "image": "i:1", "env": [{"name": "A", "value": "1"}]}]}},
        },
    })
}

/// The same as the server gives it back: defaults, status, and what others added beside ours.
fn live() -> Value {
    json!({
        "metadata": {"name": "x", "uid": "u", "labels": {"app.kubernetes.io/name": "x", "other": "y"}, "generation": 1},
        "spec": {
            "replicas": 2, "progressDeadlineSeconds": 600,
            "template": {"spec": {"restartPolicy": "Always", "containers": [
                {"name": "sidecar", "image": "s"},
                {"name": "main", "image": "i:1", "imagePullPolicy": "IfNotPresent",
                 "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            ]}},
        },
        "status": {"replicas": 2},
    })
}

fn paths(live: &Value) -> Vec<String> {
    differences(&deployment(), live).into_iter().map(|difference| difference.path).collect()
}

#[test]
fn what_others_add_is_no_drift() {
    assert!(differences(&deployment(), &live()).is_empty());
    let mut later = live();
    later["status"]["replicas"] = json!(1);
    later["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "2"});
    assert_eq!(hash(&project(&deployment(), &live())), hash(&project(&deployment(), &later)));
}

#[test]
fn a_changed_or_removed_field_is_drift_and_is_named() {
    #[track_caller]
    fn drifts(change: impl FnOnce(&mut Value), path: &str) {
        let mut changed = live();
        change(&mut changed);
        assert_ne!(hash(&project(&deployment(), &live())), hash(&project(&deployment(), &changed)));
        assert_eq!(paths(&changed), [path]);
    }
    drifts(|live| live["spec"]["replicas"] = json!(5), "spec.replicas");
    drifts(
        |live| live["spec"]["template"]["spec"]["containers"][1]["image"] = json!("i:2"),
        "spec.template.spec.containers[main].image",
    );
    drifts(
        |live| drop(live["metadata"]["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/name")),
        "metadata.labels[app.kubernetes.io/name]",
    );
}

#[test]
fn a_list_without_names_is_ours_as_a_whole() {
    let wanted = json!({"spec": {"args": ["a", "b"]}});
    let same = json!({"spec": {"args": ["a", "b"]}});
    let longer = json!({"spec": {"args": ["a", "b", "c"]}});
    assert_eq!(hash(&project(&wanted, &same)), hash(&project(&wanted, &wanted)));
    assert_ne!(hash(&project(&wanted, &longer)), hash(&project(&wanted, &same)));
}

#[test]
fn the_servers_way_of_writing_a_value_is_no_drift() {
    let wanted = json!({"spec": {"limits": {"cpu": "0.1"}}});
    let written = json!({"spec": {"limits": {"cpu": "100m"}}});
    let taken_after_our_write = hash(&project(&wanted, &written));
    assert_eq!(hash(&project(&wanted, &written.clone())), taken_after_our_write);
}

fn ignored(kind: &str, pointer: &str) -> Vec<IgnoredField> {
    vec![IgnoredField { kind: kind.to_owned(), name: String::new(), pointer: pointer.to_owned() }]
}

#[test]
fn ignored_fields_are_left_to_whoever_set_them() {
    let fields = ignored("Deployment", "/spec/replicas");
    let mut scaled = live();
    scaled["spec"]["replicas"] = json!(7);

    let mut shape = deployment();
    without_ignored(&key("Deployment"), &mut shape, &fields);
    assert_eq!(hash(&project(&shape, &live())), hash(&project(&shape, &scaled)));

    let mut write = deployment();
    yield_ignored(&key("Deployment"), &mut write, &scaled, &fields);
    assert!(write["spec"].get("replicas").is_none(), "a scaled Deployment keeps its scale");
    let mut write = deployment();
    yield_ignored(&key("Deployment"), &mut write, &live(), &fields);
    assert_eq!(write["spec"]["replicas"], 2, "nobody else set it, so it stays ours");
    let mut write = deployment();
    yield_ignored(&key("StatefulSet"), &mut write, &scaled, &fields);
    assert_eq!(write["spec"]["replicas"], 2, "the rule is for another kind");
}

#[test]
fn a_star_stands_for_every_item() {
    let fields = ignored("ValidatingWebhookConfiguration", "/webhooks/*/clientConfig/caBundle");
    let wanted = json!({"webhooks": [{"name": "a", "clientConfig": {"caBundle": ""}}, {"name": "b", "clientConfig": {"caBundle": ""}}]});
    let found = json!({"webhooks": [{"name": "b", "clientConfig": {"caBundle": "Q0E="}}, {"name": "a", "clientConfig": {"caBundle": "Q0E="}}]});
    let mut write = wanted.clone();
    yield_ignored(&key("ValidatingWebhookConfiguration"), &mut write, &found, &fields);
    assert_eq!(write, json!({"webhooks": [{"name": "a", "clientConfig": {}}, {"name": "b", "clientConfig": {}}]}));
    let mut shape = wanted;
    without_ignored(&key("ValidatingWebhookConfiguration"), &mut shape, &fields);
    assert_eq!(shape["webhooks"][1], json!({"name": "b", "clientConfig": {}}));
}

#[test]
fn pointers_unescape() {
    let fields = ignored("Deployment", "/metadata/annotations/a.b~1c");
    let mut value = json!({"metadata": {"annotations": {"a.b/c": "1", "d": "2"}}});
    without_ignored(&key("Deployment"), &mut value, &fields);
    assert_eq!(value, json!({"metadata": {"annotations": {"d": "2"}}}));
}

#[test]
fn every_named_difference_can_be_left_alone() {
    for path in
        ["spec.replicas", "spec.template.spec.containers[main].image", "metadata.labels[app.kubernetes.io/name]"]
    {
        let mut write = deployment();
        leave_alone(&mut write, path);
        assert_eq!(paths(&write), [path], "exactly this field is gone");
    }
    let mut write = deployment();
    leave_alone(&mut write, "spec.none[0].such");
    assert_eq!(write, deployment());
}

#[test]
fn the_rival_is_who_owns_the_field_now() {
    let mut live = live();
    live["metadata"]["managedFields"] = json!([
        {"manager": "lattice-agent-istio", "time": "2026-01-01T00:00:09Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "kubectl-edit", "time": "2026-01-01T00:00:01Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "hpa", "time": "2026-01-01T00:00:05Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "other", "time": "2026-01-01T00:00:07Z",
         "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:image": {}}}}}}}},
    ]);
    let of = |path| rival(&live, path, "lattice-agent-istio");
    assert_eq!(of("spec.replicas").as_deref(), Some("hpa"));
    assert_eq!(of("spec.template.spec.containers[main].image").as_deref(), Some("other"));
    assert_eq!(of("spec.template.spec.containers[main].args"), None);
}

#[test]
fn the_third_contest_within_ten_minutes_is_lost() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut contests = Contests::default();
    let note = |contests: &mut Contests, second| {
        contests.note(&key("Deployment"), "spec.replicas", Some("hpa".to_owned()), at(second))
    };
    assert!(note(&mut contests, 0));
    assert!(note(&mut contests, 100));
    assert!(note(&mut contests, 650), "the first is too long ago by now");
    assert!(!note(&mut contests, 699));
    assert!(!note(&mut contests, 9_999), "what is lost stays lost");
    assert_eq!(contests.lost(&key("Deployment")).collect::<Vec<_>>(), ["spec.replicas"]);
    let told = contests.describe().unwrap();
    assert_eq!(told, "left alone, contested: Deployment ns/x spec.replicas (hpa)");
}
