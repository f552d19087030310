use serde_json::json;

use super::*;
use crate::testing::{object, status};

fn deployment(replicas: i32, image: &str) -> Deployment {
    object(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "dep", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
    }))
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn run(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Plan {
    decide(deployment, sets, &[], now())
}

/// The ReplicaSets that a plan writes, with their wanted replicas.
fn writes(plan: &Plan) -> Vec<(String, i32)> {
    let write = |op: &Op| match op {
        Op::Create(Object::ReplicaSet(set)) | Op::Replace(Object::ReplicaSet(set)) => {
            Some((meta::name(&set.metadata).to_owned(), spec_replicas(set)))
        }
        _ => None,
    };
    plan.ops.iter().filter_map(write).collect()
}

/// The ReplicaSet that a Deployment makes, as if its pods were there.
fn made(deployment: &Deployment, replicas: i32, available: i32) -> ReplicaSet {
    let mut set = run(deployment, &[])
        .ops
        .into_iter()
        .find_map(|op| match op {
            Op::Create(Object::ReplicaSet(set)) => Some(*set),
            _ => None,
        })
        .expect("a ReplicaSet");
    set.metadata.uid = Some(format!("uid-{}", meta::name(&set.metadata)));
    set.spec.as_mut().expect("a spec").replicas = Some(replicas);
    set.status = Some(object(json!({
        "replicas": replicas, "readyReplicas": available, "availableReplicas": available})));
    set
}

fn condition(plan: &Plan, kind: &str) -> (String, String) {
    let Some(Object::Deployment(written)) = status(plan) else { panic!("a status: {plan:?}") };
    let conditions = written.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let found = conditions.into_iter().find(|one| one.type_ == kind).expect("the condition");
    (found.status, found.reason.unwrap_or_default())
}

/// Writes what a plan says into the Deployment.
fn settle(deployment: &mut Deployment, plan: &Plan) {
    for op in &plan.ops {
        if let Op::Status(Object::Deployment(written)) = op {
            *deployment = (**written).clone();
        }
    }
}

#[test]
fn the_first_look_makes_the_replica_set() {
    let deployment = deployment(3, "v1");
    let plan = run(&deployment, &[]);
    let [(name, 3)] = &writes(&plan)[..] else { panic!("{plan:?}") };
    assert!(name.starts_with("web-"));
    assert_eq!(condition(&plan, "Progressing"), ("True".to_owned(), "NewReplicaSetCreated".to_owned()));
    assert_eq!(condition(&plan, "Available"), ("False".to_owned(), "MinimumReplicasUnavailable".to_owned()));
}

#[test]
fn a_complete_rollout_says_so_and_then_is_silent() {
    let mut deployment = deployment(3, "v1");
    let sets = [Arc::new(made(&deployment, 3, 3))];
    let plan = run(&deployment, &sets);
    assert_eq!(condition(&plan, "Progressing"), ("True".to_owned(), "NewReplicaSetAvailable".to_owned()));
    assert_eq!(condition(&plan, "Available"), ("True".to_owned(), "MinimumReplicasAvailable".to_owned()));
    settle(&mut deployment, &plan);
    let revision = deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION)).cloned();
    assert_eq!(revision.as_deref(), Some("1"));
    let again = run(&deployment, &sets);
    assert!(again.ops.is_empty(), "{again:?}");
}

#[test]
fn a_new_template_rolls_within_surge_and_unavailability() {
    let old_deployment = deployment(4, "v1");
    let old = Arc::new(made(&old_deployment, 4, 4));
    let deployment = deployment(4, "v2");
    let first = run(&deployment, &[Arc::clone(&old)]);
    // 25 % of 4 is one pod more; nothing is taken away before it is seen.
    assert_eq!(writes(&first).iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1]);

    let fresh = Arc::new(with_revision(made(&deployment, 1, 0), "2"));
    let second = run(&deployment, &[Arc::clone(&old), Arc::clone(&fresh)]);
    // One may be unavailable, and the new pod is not up yet: one old pod goes.
    assert_eq!(writes(&second), [(meta::name(&old.metadata).to_owned(), 3)]);

    let old = Arc::new(made(&old_deployment, 3, 3));
    let fresh = Arc::new(with_revision(made(&deployment, 1, 1), "2"));
    let third = run(&deployment, &[old, Arc::clone(&fresh)]);
    assert_eq!(writes(&third), [(meta::name(&fresh.metadata).to_owned(), 2)]);
}

fn with_revision(mut set: ReplicaSet, revision: &str) -> ReplicaSet {
    set.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.to_owned());
    set
}

#[test]
fn the_second_template_gets_the_next_revision() {
    let old = Arc::new(made(&deployment(1, "v1"), 1, 1));
    let plan = run(&deployment(1, "v2"), &[old]);
    let revision = plan.ops.iter().find_map(|op| match op {
        Op::Create(Object::ReplicaSet(set)) => Some(revision(&set.metadata)),
        _ => None,
    });
    assert_eq!(revision, Some(2));
}

#[test]
fn recreate_empties_the_old_before_it_makes_the_new() {
    let old = made(&deployment(2, "v1"), 2, 2);
    let mut deployment = deployment(2, "v2");
    deployment.spec.as_mut().expect("a spec").strategy = Some(object(json!({"type": "Recreate"})));
    let sets = [Arc::new(old.clone())];
    assert_eq!(writes(&run(&deployment, &sets)), [(meta::name(&old.metadata).to_owned(), 0)]);

    let mut emptied = old;
    emptied.spec.as_mut().expect("a spec").replicas = Some(0);
    let last = Arc::new(crate::testing::pod(&emptied, "last", true));
    let sets = [Arc::new(emptied)];
    assert!(writes(&decide(&deployment, &sets, &[last], now())).is_empty());
    assert_eq!(writes(&run(&deployment, &sets)).len(), 1);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let old = made(&deployment(2, "v1"), 2, 2);
    let mut deployment = deployment(5, "v2");
    deployment.spec.as_mut().expect("a spec").paused = Some(true);
    let plan = run(&deployment, &[Arc::new(old.clone())]);
    assert_eq!(writes(&plan), [(meta::name(&old.metadata).to_owned(), 5)]);
    assert_eq!(condition(&plan, "Progressing").1, "DeploymentPaused");
}

#[test]
fn a_rollout_that_stands_still_exceeds_its_deadline() {
    let mut deployment = deployment(1, "v1");
    let sets = [Arc::new(made(&deployment, 1, 0))];
    let plan = run(&deployment, &sets);
    settle(&mut deployment, &plan);
    let plan = run(&deployment, &sets);
    assert_eq!(plan.wake, Some(std::time::Duration::from_mins(10)));
    let late = now() + jiff::SignedDuration::from_secs(600);
    let plan = decide(&deployment, &sets, &[], late);
    assert_eq!(condition(&plan, "Progressing"), ("False".to_owned(), "ProgressDeadlineExceeded".to_owned()));
}

#[test]
fn old_replica_sets_beyond_the_history_limit_go() {
    let mut deployment = deployment(1, "v3");
    deployment.spec.as_mut().expect("a spec").revision_history_limit = Some(1);
    let old = |image: &str, revision: &str| {
        let mut set = with_revision(made(&self::deployment(1, image), 0, 0), revision);
        set.status = Some(object(json!({"replicas": 0})));
        Arc::new(set)
    };
    let sets = [old("v1", "1"), old("v2", "2"), Arc::new(with_revision(made(&deployment, 1, 1), "3"))];
    let plan = run(&deployment, &sets);
    settle(&mut deployment, &plan);
    let plan = run(&deployment, &sets);
    assert_eq!(crate::testing::deletes(&plan), [meta::name(&sets[0].metadata)]);
}

#[test]
fn replicas_are_shared_in_proportion_when_scaled_in_the_middle_of_a_rollout() {
    let old = Arc::new(made(&deployment(10, "v1"), 8, 8));
    let mut deployment = deployment(10, "v2");
    let fresh = Arc::new(with_revision(made(&deployment, 5, 2), "2"));
    deployment.spec.as_mut().expect("a spec").replicas = Some(20);
    let plan = run(&deployment, &[Arc::clone(&old), Arc::clone(&fresh)]);
    let total: i32 = writes(&plan).iter().map(|(_, n)| *n).sum();
    // 20 and a quarter more.
    assert_eq!(total, 25);
    assert_eq!(writes(&plan).len(), 2);
}
