//! ReplicaSet: as many pods as asked for, and a true count of them.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::cache::Name;
use crate::events::Note;
use crate::meta::{self, Availability};
use crate::op::{CONTROLLERS, Kind, Object, Op, Plan};
use crate::workloads::BURST_MAX;

const COMPONENT: &str = "replicaset-controller";

/// Decides for one ReplicaSet; `pods` are those it controls, `refusal` why its last pod was refused.
pub(crate) fn decide(set: &ReplicaSet, pods: &[Arc<Pod>], refusal: Option<&str>, now: Timestamp) -> Plan {
    let mut plan = Plan::new(CONTROLLERS);
    let status = status(set, pods, refusal, now, &mut plan);
    if set.status.as_ref() != Some(&status) {
        plan.ops.push(Op::Status(Object::from(ReplicaSet { status: Some(status), ..set.clone() })));
    }
    if set.metadata.deletion_timestamp.is_none() {
        scale(set, pods, &mut plan);
    }
    plan
}

fn scale(set: &ReplicaSet, pods: &[Arc<Pod>], plan: &mut Plan) {
    let wanted = usize::try_from(wanted(set)).unwrap_or_default();
    let active: Vec<&Arc<Pod>> = pods.iter().filter(|pod| meta::active(pod)).collect();
    if active.len() < wanted {
        for _ in 0..(wanted - active.len()).min(BURST_MAX) {
            plan.ops.extend(new_pod(set).map(Op::Create));
        }
    } else {
        for pod in surplus(&active, active.len() - wanted) {
            plan.ops.push(delete(pod));
            let message = format!("Deleted pod: {}", meta::name(&pod.metadata));
            plan.notes.push(Note::normal(COMPONENT, set, "SuccessfulDelete", message));
        }
    }
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn new_pod(set: &ReplicaSet) -> Option<Object> {
    let template = set.spec.as_ref()?.template.as_ref()?;
    let mut pod = meta::pod_of(template, set);
    pod.metadata.generate_name = Some(format!("{}-", meta::name(&set.metadata)));
    Some(Object::from(pod))
}

/// Tells about a pod that a ReplicaSet made.
pub(crate) fn created(set: &ReplicaSet, pod: &Pod) -> Note {
    let message = format!("Created pod: {}", meta::name(&pod.metadata));
    Note::normal(COMPONENT, set, "SuccessfulCreate", message)
}

/// Tells about a pod that was refused.
pub(crate) fn refused(set: &ReplicaSet, message: &str) -> Note {
    Note::warning(COMPONENT, set, "FailedCreate", format!("Error creating: {message}"))
}

/// Deletes a pod with its own grace period.
pub(crate) fn delete(pod: &Pod) -> Op {
    Op::Delete { kind: Kind::Pod, name: Name::of(pod), uid: meta::uid(&pod.metadata).to_owned(), grace: None }
}

/// Chooses the pods that are missed least: without a node, not running, not ready, newest first.
fn surplus<'a>(active: &[&'a Arc<Pod>], count: usize) -> Vec<&'a Arc<Pod>> {
    let mut ranked: Vec<&'a Arc<Pod>> = active.to_vec();
    ranked.sort_by_key(|pod| {
        (
            pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()),
            meta::phase(pod) == "Running",
            meta::ready(pod),
            Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
            meta::name(&pod.metadata).to_owned(),
        )
    });
    ranked.truncate(count.min(BURST_MAX));
    ranked
}

fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    refusal: Option<&str>,
    now: Timestamp,
    plan: &mut Plan,
) -> ReplicaSetStatus {
    let minimum = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let fully_labeled = |pod: &Pod| {
        labels
            .into_iter()
            .flatten()
            .all(|(key, value)| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value))
    };
    let (mut replicas, mut labeled, mut ready, mut available, mut terminating) = (0, 0, 0, 0, 0);
    for pod in pods.iter().filter(|pod| !meta::ended(pod)) {
        if pod.metadata.deletion_timestamp.is_some() {
            terminating += 1;
            continue;
        }
        replicas += 1;
        labeled += i32::from(fully_labeled(pod));
        ready += i32::from(meta::ready(pod));
        match meta::availability(pod, minimum, now) {
            Availability::Yes => available += 1,
            Availability::From(at) => plan.wake_at(at, now),
            Availability::No => {}
        }
    }
    let count = |number: i32| (number > 0).then_some(number);
    ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: count(labeled),
        ready_replicas: count(ready),
        available_replicas: count(available),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: failure(set, refusal, now),
    }
}

fn failure(set: &ReplicaSet, refusal: Option<&str>, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    let message = refusal?;
    let old = set.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let since = old.filter(|old| old.type_ == "ReplicaFailure").find_map(|old| old.last_transition_time.clone());
    Some(vec![ReplicaSetCondition {
        type_: "ReplicaFailure".to_owned(),
        status: "True".to_owned(),
        reason: Some("FailedCreate".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or_else(|| Some(meta::time(now))),
    }])
}

#[cfg(test)]
mod tests;
