use serde_json::json;

use super::*;
use crate::testing::{creates, deletes, object, pod, status};

fn set(replicas: i32) -> ReplicaSet {
    object(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "set", "generation": 3},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    }))
}

fn pods(set: &ReplicaSet, ready: &[bool]) -> Vec<Arc<Pod>> {
    ready.iter().enumerate().map(|(n, ready)| Arc::new(pod(set, &format!("p{n}"), *ready))).collect()
}

fn now() -> Timestamp {
    "2026-01-01T00:00:30Z".parse().expect("a time")
}

#[test]
fn missing_pods_are_made_of_the_template() {
    let set = set(3);
    let plan = decide(&set, &pods(&set, &[true]), None, now());
    let made = creates(&plan);
    assert_eq!(made.len(), 2);
    assert_eq!(made[0].metadata.generate_name.as_deref(), Some("web-"));
    assert!(meta::controlled_by(&made[0].metadata, "set"));
}

#[test]
fn surplus_pods_go_unready_ones_first() {
    let set = set(1);
    let plan = decide(&set, &pods(&set, &[true, false, true]), None, now());
    assert_eq!(deletes(&plan), ["p1", "p0"]);
}

#[test]
fn pods_that_are_going_are_replaced_and_counted_apart() {
    let set = set(1);
    let mut going = pod(&set, "p0", true);
    going.metadata.deletion_timestamp = Some(meta::time(now()));
    let plan = decide(&set, &[Arc::new(going)], None, now());
    assert_eq!(creates(&plan).len(), 1);
    let Some(Object::ReplicaSet(written)) = status(&plan) else { panic!("a status") };
    let written = written.status.as_ref().expect("a status");
    assert_eq!((written.replicas, written.terminating_replicas), (0, Some(1)));
}

#[test]
fn a_true_status_is_written_once() {
    let mut set = set(2);
    let pods = pods(&set, &[true, false]);
    let plan = decide(&set, &pods, None, now());
    let Some(Object::ReplicaSet(written)) = status(&plan) else { panic!("a status") };
    let counts = written.status.clone().expect("a status");
    assert_eq!((counts.replicas, counts.ready_replicas, counts.available_replicas), (2, Some(1), Some(1)));
    assert_eq!(counts.observed_generation, Some(3));
    set.status = written.status.clone();
    assert!(decide(&set, &pods, None, now()).ops.is_empty());
}

#[test]
fn a_pod_is_available_after_its_minimum_and_the_set_wakes_then() {
    let mut set = set(1);
    set.spec.as_mut().expect("a spec").min_ready_seconds = Some(60);
    let plan = decide(&set, &pods(&set, &[true]), None, now());
    assert_eq!(plan.wake, Some(std::time::Duration::from_secs(30)));
    let Some(Object::ReplicaSet(written)) = status(&plan) else { panic!("a status") };
    assert_eq!(written.status.as_ref().and_then(|status| status.available_replicas), None);
}

#[test]
fn a_refusal_shows_as_a_condition() {
    let set = set(1);
    let plan = decide(&set, &[], Some("quota exceeded"), now());
    let Some(Object::ReplicaSet(written)) = status(&plan) else { panic!("a status") };
    let conditions = written.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    assert_eq!(conditions[0].message.as_deref(), Some("quota exceeded"));
}
