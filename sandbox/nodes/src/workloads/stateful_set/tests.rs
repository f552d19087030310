use serde_json::json;

use super::*;
use crate::testing::{creates, deletes, object, pod, status};

fn set(replicas: i32, extra: serde_json::Value) -> StatefulSet {
    let mut value = json!({
        "metadata": {"name": "db", "namespace": "n", "uid": "set", "generation": 1},
        "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}}},
    });
    for (key, part) in extra.as_object().into_iter().flatten() {
        value["spec"][key] = part.clone();
    }
    object(value)
}

fn update_revision(set: &StatefulSet) -> String {
    revision_name(set, &revision::hash_of_set(set.spec.as_ref().expect("a spec"), set.status.as_ref()))
}

fn one(set: &StatefulSet, ordinal: i32, ready: bool, revision: &str) -> Arc<Pod> {
    let mut pod = pod(set, &format!("db-{ordinal}"), ready);
    pod.metadata.labels = Some([(revision::LABEL.to_owned(), revision.to_owned())].into());
    Arc::new(pod)
}

fn run(set: &StatefulSet, pods: &[Arc<Pod>]) -> Plan {
    decide(set, pods, None, Timestamp::UNIX_EPOCH)
}

#[test]
fn pods_start_one_after_the_other() {
    let set = set(3, json!({}));
    let names = |plan: &Plan| creates(plan).iter().map(|pod| meta::name(&pod.metadata).to_owned()).collect::<Vec<_>>();
    let revision = update_revision(&set);
    assert_eq!(names(&run(&set, &[])), ["db-0"]);
    assert!(names(&run(&set, &[one(&set, 0, false, &revision)])).is_empty());
    assert_eq!(names(&run(&set, &[one(&set, 0, true, &revision)])), ["db-1"]);
    let parallel = self::set(3, json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(names(&run(&parallel, &[])), ["db-0", "db-1", "db-2"]);
}

#[test]
fn the_last_goes_first_when_scaled_down() {
    let set = set(1, json!({}));
    let revision = update_revision(&set);
    let pods = [one(&set, 0, true, &revision), one(&set, 1, true, &revision), one(&set, 2, true, &revision)];
    assert_eq!(deletes(&run(&set, &pods)), ["db-2"]);
}

#[test]
fn a_rollout_goes_from_the_last_to_the_first_and_honours_the_partition() {
    let set = set(3, json!({}));
    let revision = update_revision(&set);
    let old: Vec<Arc<Pod>> = (0..3).map(|n| one(&set, n, true, "db-old")).collect();
    assert_eq!(deletes(&run(&set, &old)), ["db-2"]);
    let halfway = [old[0].clone(), old[1].clone(), one(&set, 2, false, &revision)];
    assert!(deletes(&run(&set, &halfway)).is_empty());
    let strategy = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let held = self::set(3, strategy);
    let done =
        [one(&held, 0, true, "db-old"), one(&held, 1, true, "db-old"), one(&held, 2, true, &update_revision(&held))];
    assert!(deletes(&run(&held, &done)).is_empty());
}

#[test]
fn claims_are_made_before_their_pod() {
    let set = set(1, json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}));
    let plan = run(&set, &[]);
    let claims: Vec<&str> = plan
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Ensure(Object::PersistentVolumeClaim(claim)) => claim.metadata.name.as_deref(),
            _ => None,
        })
        .collect();
    assert_eq!(claims, ["data-db-0"]);
    let volumes = creates(&plan)[0].spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
    assert_eq!(volumes[0].persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str()), Some("data-db-0"));
}

#[test]
fn a_finished_rollout_makes_the_update_revision_current() {
    let mut set = set(1, json!({}));
    set.status = Some(object(json!({"replicas": 1, "currentRevision": "db-old"})));
    let plan = run(&set, &[one(&set, 0, true, &update_revision(&set))]);
    let Some(Object::StatefulSet(written)) = status(&plan) else { panic!("a status") };
    let written = written.status.as_ref().expect("a status");
    assert_eq!(written.current_revision, written.update_revision);
    assert_eq!(written.current_replicas, Some(1));
}
