use serde_json::json;

use super::*;
use crate::testing::{creates, deletes, object, pod, status};

fn job(spec: serde_json::Value) -> Job {
    let mut value = json!({
        "metadata": {"name": "j", "namespace": "n", "uid": "job", "generation": 1},
        "spec": {"completions": 1, "parallelism": 1, "selector": {},
            "template": {"spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}},
    });
    for (key, part) in spec.as_object().into_iter().flatten() {
        value["spec"][key] = part.clone();
    }
    object(value)
}

fn in_phase(job: &Job, name: &str, phase: &str) -> Arc<Pod> {
    let mut pod = pod(job, name, false);
    pod.status.get_or_insert_default().phase = Some(phase.to_owned());
    Arc::new(pod)
}

fn run(job: &Job, pods: &[Arc<Pod>]) -> Plan {
    decide(job, pods, Pace::new(0.0), Timestamp::UNIX_EPOCH)
}

fn written(plan: &Plan) -> JobStatus {
    let Some(Object::Job(job)) = status(plan) else { panic!("a status") };
    job.status.clone().expect("a status")
}

fn conditions(status: &JobStatus) -> Vec<&str> {
    status.conditions.iter().flatten().map(|one| one.type_.as_str()).collect()
}

#[test]
fn as_many_pods_run_as_allowed_and_still_needed() {
    let job = job(json!({"completions": 5, "parallelism": 2}));
    assert_eq!(creates(&run(&job, &[])).len(), 2);
    let four: Vec<Arc<Pod>> = (0..4).map(|n| in_phase(&job, &format!("p{n}"), "Succeeded")).collect();
    assert_eq!(creates(&run(&job, &four)).len(), 1);
}

#[test]
fn enough_successes_complete_it_once() {
    let mut job = job(json!({}));
    let pods = [in_phase(&job, "p", "Succeeded")];
    let status = written(&run(&job, &pods));
    assert_eq!(conditions(&status), ["SuccessCriteriaMet", "Complete"]);
    assert_eq!(status.succeeded, Some(1));
    assert!(status.completion_time.is_some());
    job.status = Some(status);
    assert!(run(&job, &pods).ops.is_empty());
}

#[test]
fn too_many_failures_end_it() {
    let job = job(json!({"backoffLimit": 0}));
    let plan = run(&job, &[in_phase(&job, "p", "Failed")]);
    assert_eq!(conditions(&written(&plan)), ["FailureTarget", "Failed"]);
    assert!(creates(&plan).is_empty());
}

#[test]
fn a_deadline_ends_it_and_its_pods() {
    let mut job = job(json!({"activeDeadlineSeconds": 10}));
    job.status = Some(object(json!({"startTime": "1969-12-31T00:00:00Z"})));
    let plan = run(&job, &[in_phase(&job, "p", "Running")]);
    assert_eq!(deletes(&plan), ["p"]);
    assert_eq!(conditions(&written(&plan)), ["FailureTarget", "Failed"]);
}

#[test]
fn indexed_pods_carry_their_index() {
    let job = job(json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"}));
    let indexes: Vec<Option<i32>> = creates(&run(&job, &[])).iter().map(|pod| index(pod)).collect();
    assert_eq!(indexes, [Some(0), Some(1), Some(2)]);
}

#[test]
fn a_suspended_job_runs_nothing() {
    let job = job(json!({"suspend": true}));
    let plan = run(&job, &[in_phase(&job, "p", "Running")]);
    assert_eq!(deletes(&plan), ["p"]);
    assert_eq!(conditions(&written(&plan)), ["Suspended"]);
    assert_eq!(plan.notes, [Note::normal(COMPONENT, &job, "Suspended", "Job suspended")]);
}

#[test]
fn indexes_are_written_in_runs() {
    assert_eq!(ranges(&[0, 2, 3, 4, 7, 8].into()), "0,2-4,7,8");
}
