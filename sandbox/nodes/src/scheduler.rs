//! Chooses a node for a pod, or says why there is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};

use crate::events::Note;
use crate::meta;
use crate::op::{Object, Op, Plan, SCHEDULER};

pub(crate) mod fit;
pub(crate) mod resources;

use resources::Usage;

pub(crate) const COMPONENT: &str = "default-scheduler";

/// Decides for one pod without a node; `pods` are all others, with where they are or will be.
pub(crate) fn decide(pod: &Pod, nodes: &[Arc<Node>], pods: &[(Arc<Pod>, String)], now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::new(SCHEDULER);
    match place(pod, nodes, pods) {
        Ok(node) => {
            let meta = &pod.metadata;
            let message = format!("Successfully assigned {}/{} to {node}", meta::namespace(meta), meta::name(meta));
            plan.ops.push(Op::Bind { pod: crate::cache::Name::of(pod), uid: meta::uid(meta).to_owned(), node });
            plan.notes.push(Note::normal(COMPONENT, pod, "Scheduled", message));
        }
        Err(message) => {
            if let Some(status) = unschedulable(pod, &message, now) {
                plan.ops.push(Op::Status(status));
                plan.notes.push(Note::warning(COMPONENT, pod, "FailedScheduling", message));
            }
        }
    }
    plan
}

/// Says whether this scheduler places the pod at all.
pub(crate) fn concerns(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_name.is_none()
        && meta::active(pod)
        && spec.scheduler_name.as_deref().is_none_or(|name| name == COMPONENT)
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
}

/// Chooses the fitting node with the most room; of equals the one with the fewest pods, then the first.
fn place(pod: &Pod, nodes: &[Arc<Node>], pods: &[(Arc<Pod>, String)]) -> Result<String, String> {
    let need = Usage::of(pod);
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(f64, usize, &str)> = None;
    for node in nodes {
        let name = meta::name(&node.metadata);
        let there: Vec<&Pod> = pods.iter().filter(|(_, at)| at == name).map(|(pod, _)| pod.as_ref()).collect();
        match fit::refusal(pod, node, &there, &need) {
            Some(why) => *refusals.entry(why).or_default() += 1,
            None => {
                let score = resources::load(node, &there, &need);
                let better = best.is_none_or(|(load, count, _)| (score, there.len()) < (load, count));
                if better {
                    best = Some((score, there.len(), name));
                }
            }
        }
    }
    match best {
        Some((_, _, name)) => Ok(name.to_owned()),
        None if nodes.is_empty() => Err("no nodes available to schedule pods".to_owned()),
        None => Err(explain(nodes.len(), &refusals)),
    }
}

fn explain(nodes: usize, refusals: &BTreeMap<String, usize>) -> String {
    let reasons: Vec<String> = refusals.iter().map(|(why, count)| format!("{count} {why}")).collect();
    format!(
        "0/{nodes} nodes are available: {}. preemption: 0/{nodes} nodes are available: \
         {nodes} Preemption is not helpful for scheduling.",
        reasons.join(", ")
    )
}

/// The pod with its refusal in the status, if it does not say so already.
fn unschedulable(pod: &Pod, message: &str, now: jiff::Timestamp) -> Option<Object> {
    let old = meta::pod_condition(pod, "PodScheduled");
    if old.is_some_and(|old| old.status == "False" && old.message.as_deref() == Some(message)) {
        return None;
    }
    let since = old.filter(|old| old.status == "False").and_then(|old| old.last_transition_time.clone());
    let mut pod = pod.clone();
    let generation = pod.metadata.generation;
    let status = pod.status.get_or_insert_default();
    status.phase.get_or_insert_with(|| "Pending".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or_else(|| Some(meta::time(now))),
        observed_generation: generation,
        ..PodCondition::default()
    });
    Some(Object::from(pod))
}

#[cfg(test)]
mod tests;
