//! DaemonSet: one pod on every node that will have it, rolled over a few at a time.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::events::Note;
use crate::meta::{self, Availability};
use crate::op::{CONTROLLERS, Object, Op, Plan};
use crate::scheduler::fit;
use crate::workloads::replica_set::delete;
use crate::workloads::{BURST_MAX, revision};

const COMPONENT: &str = "daemonset-controller";

/// What every pod of a DaemonSet tolerates: (key, effect).
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What those on the host's network tolerate besides.
const TOLERATED_ON_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// What a node has of a DaemonSet.
struct Place<'a> {
    node: &'a Node,
    wanted: bool,
    pods: Vec<&'a Pod>,
}

/// Decides for one DaemonSet; `pods` are those it controls, `recorded` its last recorded revision.
pub(crate) fn decide(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    recorded: Option<&str>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::new(CONTROLLERS);
    let Some(spec) = &set.spec else { return plan };
    let hash = revision::hash_of_daemons(spec, set.status.as_ref());
    let places = places(spec, nodes, pods);
    let status = status(set, spec, &places, &hash, now, &mut plan);
    if set.status.as_ref() != Some(&status) {
        plan.ops.push(Op::Status(Object::from(DaemonSet { status: Some(status), ..set.clone() })));
    }
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    if recorded != Some(&hash) {
        let labelled = (revision::LABEL, hash.as_str());
        plan.ops.push(revision::record(set, &spec.template, labelled, spec.revision_history_limit));
    }
    let before = plan.ops.len();
    manage(set, spec, &places, &hash, &mut plan);
    if plan.ops.len() == before {
        roll(set, spec, &places, &hash, now, &mut plan);
    }
    plan
}

fn places<'a>(spec: &DaemonSetSpec, nodes: &'a [Arc<Node>], pods: &'a [Arc<Pod>]) -> Vec<Place<'a>> {
    let pod_spec = spec.template.spec.clone().unwrap_or_default();
    let tolerations = tolerations(&pod_spec);
    let place = |node: &'a Arc<Node>| {
        let name = meta::name(&node.metadata);
        Place {
            node,
            wanted: fit::selected(&pod_spec, node) && fit::untolerated(node, &tolerations).is_none(),
            pods: pods.iter().filter(|pod| target(pod) == Some(name)).map(Arc::as_ref).collect(),
        }
    };
    nodes.iter().map(place).collect()
}

/// Creates what is missing, deletes what is too much, and clears failed pods away.
fn manage(set: &DaemonSet, spec: &DaemonSetSpec, places: &[Place<'_>], hash: &str, plan: &mut Plan) {
    for place in places {
        if plan.ops.len() >= BURST_MAX {
            return;
        }
        if !place.wanted {
            // A pod that runs already stays on a node that only refuses new ones.
            for pod in place.pods.iter().filter(|pod| meta::active(pod) && !may_stay(spec, place.node)) {
                plan.ops.push(delete(pod));
            }
            continue;
        }
        for failed in place.pods.iter().filter(|pod| meta::ended(pod) && pod.metadata.deletion_timestamp.is_none()) {
            let message = format!(
                "Found failed daemon pod {} on node {}, will try to kill it",
                crate::cache::Name::of(*failed),
                meta::name(&place.node.metadata)
            );
            plan.notes.push(Note::warning(COMPONENT, set, "FailedDaemonPod", message));
            plan.ops.push(delete(failed));
        }
        if place.pods.is_empty() {
            plan.ops.push(Op::Create(Object::from(new_pod(set, spec, place.node, hash))));
        }
        for surplus in active(place).skip(1 + surging(spec, place, hash)) {
            plan.ops.push(delete(surplus));
        }
    }
}

/// Replaces pods of older revisions, as many at a time as may be unavailable.
fn roll(set: &DaemonSet, spec: &DaemonSetSpec, places: &[Place<'_>], hash: &str, now: Timestamp, plan: &mut Plan) {
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return;
    }
    let wanted: Vec<&Place<'_>> = places.iter().filter(|place| place.wanted).collect();
    let surge = surge(spec, wanted.len());
    if surge > 0 {
        roll_with_surge(set, spec, &wanted, hash, surge, now, plan);
        return;
    }
    let total = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let limit = match rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
        Some(limit) => meta::resolve(Some(limit), "0", total, true).max(1),
        None => 1,
    };
    let up = |place: &&&Place<'_>| active(place).any(|pod| available(spec, pod, now));
    let mut budget = limit - (total - count(wanted.iter().filter(up)));
    for place in wanted {
        let Some(old) = active(place).find(|pod| !is_of(pod, hash)) else { continue };
        // A pod that does not work yet costs nothing to replace.
        let free = !available(spec, old, now);
        if free || budget > 0 {
            budget -= i32::from(!free);
            plan.ops.push(delete(old));
        }
    }
}

/// Starts new pods beside the old ones, and deletes an old one once its successor is available.
fn roll_with_surge(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    wanted: &[&Place<'_>],
    hash: &str,
    surge: usize,
    now: Timestamp,
    plan: &mut Plan,
) {
    let doubled = |place: &&&Place<'_>| place.pods.len() > 1;
    let mut room = surge.saturating_sub(wanted.iter().filter(doubled).count());
    for place in wanted {
        let Some(old) = active(place).find(|pod| !is_of(pod, hash)) else { continue };
        let new = active(place).find(|pod| is_of(pod, hash));
        // The old pod goes when its successor works, or when it does not work itself.
        if new.map_or(!available(spec, old, now), |new| available(spec, new, now)) {
            plan.ops.push(delete(old));
        } else if new.is_none() && room > 0 && place.pods.len() == 1 {
            room -= 1;
            plan.ops.push(Op::Create(Object::from(new_pod(set, spec, place.node, hash))));
        }
    }
}

fn surge(spec: &DaemonSetSpec, wanted: usize) -> usize {
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
    let total = i32::try_from(wanted).unwrap_or(i32::MAX);
    usize::try_from(meta::resolve(surge, "0", total, true)).unwrap_or_default()
}

/// 1 while an old pod and its successor may share the node.
fn surging(spec: &DaemonSetSpec, place: &Place<'_>, hash: &str) -> usize {
    let mixed = active(place).any(|pod| is_of(pod, hash)) && active(place).any(|pod| !is_of(pod, hash));
    usize::from(mixed && surge(spec, 1) > 0)
}

fn status(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    places: &[Place<'_>],
    hash: &str,
    now: Timestamp,
    plan: &mut Plan,
) -> DaemonSetStatus {
    let minimum = spec.min_ready_seconds.unwrap_or(0);
    let old = set.status.as_ref();
    let mut status = DaemonSetStatus {
        collision_count: old.and_then(|old| old.collision_count),
        conditions: old.and_then(|old| old.conditions.clone()),
        observed_generation: set.metadata.generation,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut up) = (0, 0);
    for place in places {
        if !place.wanted {
            status.number_misscheduled += i32::from(active(place).next().is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        // The newest pod of the current revision speaks for the node, else any.
        let pod = active(place).find(|pod| is_of(pod, hash) && meta::ready(pod)).or_else(|| active(place).next());
        let Some(pod) = pod else { continue };
        status.current_number_scheduled += 1;
        updated += i32::from(active(place).any(|pod| is_of(pod, hash)));
        status.number_ready += i32::from(meta::ready(pod));
        match meta::availability(pod, minimum, now) {
            Availability::Yes => up += 1,
            Availability::From(at) => plan.wake_at(at, now),
            Availability::No => {}
        }
    }
    let nonzero = |number: i32| (number > 0).then_some(number);
    status.updated_number_scheduled = nonzero(updated);
    status.number_available = nonzero(up);
    status.number_unavailable = nonzero(status.desired_number_scheduled - up);
    status
}

fn new_pod(set: &DaemonSet, spec: &DaemonSetSpec, node: &Node, hash: &str) -> Pod {
    let mut pod = meta::pod_of(&spec.template, set);
    pod.metadata.generate_name = Some(format!("{}-", meta::name(&set.metadata)));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(revision::LABEL.to_owned(), hash.to_owned());
    labels.insert("pod-template-generation".to_owned(), set.metadata.generation.unwrap_or(1).to_string());
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.tolerations = Some(tolerations(pod_spec));
    pin(pod_spec, meta::name(&node.metadata));
    pod
}

/// Makes the node's name the only place where the pod may go.
fn pin(spec: &mut PodSpec, node: &str) {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        match_expressions: None,
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let node_affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    node_affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod was made for.
fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = &spec.node_name {
        return Some(node);
    }
    let required =
        spec.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let field = required.node_selector_terms.first()?.match_fields.as_ref()?.first()?;
    field.values.as_ref()?.first().map(String::as_str)
}

fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let on_host = (spec.host_network == Some(true)).then_some(TOLERATED_ON_HOST);
    for (key, effect) in TOLERATED.into_iter().chain(on_host) {
        let added = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !all.contains(&added) {
            all.push(added);
        }
    }
    all
}

/// Says whether a running pod may stay: only `NoExecute` taints and selectors drive it away.
fn may_stay(spec: &DaemonSetSpec, node: &Node) -> bool {
    let pod_spec = spec.template.spec.clone().unwrap_or_default();
    let tolerations = tolerations(&pod_spec);
    let mut node = node.clone();
    if let Some(taints) = node.spec.as_mut().and_then(|spec| spec.taints.as_mut()) {
        taints.retain(|taint| taint.effect == "NoExecute");
    }
    fit::selected(&pod_spec, &node) && fit::untolerated(&node, &tolerations).is_none()
}

fn active<'p>(place: &'p Place<'_>) -> impl Iterator<Item = &'p Pod> {
    place.pods.iter().copied().filter(|pod| meta::active(pod))
}

fn is_of(pod: &Pod, hash: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(revision::LABEL)).is_some_and(|label| label == hash)
}

fn available(spec: &DaemonSetSpec, pod: &Pod, now: Timestamp) -> bool {
    meta::availability(pod, spec.min_ready_seconds.unwrap_or(0), now) == Availability::Yes
}

fn count<T>(items: impl Iterator<Item = T>) -> i32 {
    i32::try_from(items.count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
