//! Deletion of a Machine: drain, hooks, infrastructure, bootstrap, Node.

use std::sync::Arc;
use std::time::Duration;

use kube::api::DynamicObject;
use serde_json::json;

use super::super::conditions::{Condition, Status};
use super::super::kind::Kind;
use super::super::object::Look as _;
use super::super::plan::{Plan, RemoteStep, Step};
use super::super::view::View;
use super::{FINALIZER, Parts};

const PRE_DRAIN: &str = "pre-drain.delete.hook.machine.cluster.x-k8s.io/";
const PRE_TERMINATE: &str = "pre-terminate.delete.hook.machine.cluster.x-k8s.io/";
const NO_DRAIN: &str = "machine.cluster.x-k8s.io/exclude-node-draining";
/// Seconds of life between two looks at a drain.
const DRAIN_EVERY: f64 = 20.0;

/// The next step, and the condition `Deleting` that tells it.
pub(super) fn decide(
    machine: &Arc<DynamicObject>,
    cluster: &DynamicObject,
    parts: &Parts,
    view: &View<'_>,
) -> (Plan, Condition) {
    let (mut plan, reason, message) = step(machine, cluster, parts, view);
    if plan.body.is_none() {
        let mut status = json!({"phase": "Deleting"});
        if super::observes(machine, view) {
            status["observedGeneration"] = machine.generation().into();
        }
        plan.status = Some(status);
    }
    (plan, Condition::new("Deleting", Status::True, reason, message))
}

fn step(
    machine: &Arc<DynamicObject>,
    cluster: &DynamicObject,
    parts: &Parts,
    view: &View<'_>,
) -> (Plan, &'static str, String) {
    let mut plan = Plan::default();
    if hooked(machine, PRE_DRAIN) {
        return (plan, "WaitingForPreDrainHook", "Waiting for pre-drain hooks to be removed".to_owned());
    }
    let node = machine.text("/status/nodeRef/name").filter(|_| !cluster.deleting());
    if let Some(node) = node.filter(|_| must_drain(machine, view)) {
        plan.again = Some(view.pace.poll(DRAIN_EVERY).max(Duration::from_millis(100)));
        if view.remote.connected {
            plan.steps.push(Step::Remote(RemoteStep::Drain(node.to_owned())));
        }
        return (plan, "DrainingNode", format!("Draining Node {node}"));
    }
    if hooked(machine, PRE_TERMINATE) {
        return (plan, "WaitingForPreTerminateHook", "Waiting for pre-terminate hooks to be removed".to_owned());
    }
    if let Some((kind, infra)) = &parts.infra {
        delete(&mut plan, *kind, infra);
        return (plan, "WaitingForInfrastructureDeletion", format!("Waiting for {} to be deleted", kind.name()));
    }
    if let Some((kind, config)) = &parts.bootstrap {
        delete(&mut plan, *kind, config);
        return (plan, "WaitingForBootstrapDeletion", format!("Waiting for {} to be deleted", kind.name()));
    }
    if let Some(node) = node.filter(|node| view.remote.node(node).is_some() && must_delete_node(machine, view)) {
        plan.again = Some(view.pace.poll(1.0));
        if view.remote.connected {
            plan.steps.push(Step::Remote(RemoteStep::DeleteNode(node.to_owned())));
        }
        return (plan, "DeletingNode", format!("Deleting Node {node}"));
    }
    plan.body = Plan::without_finalizer(machine, FINALIZER).body;
    (plan, "DeletionCompleted", "Deletion completed".to_owned())
}

fn hooked(machine: &DynamicObject, prefix: &str) -> bool {
    machine.metadata.annotations.iter().flatten().any(|(key, _)| key.starts_with(prefix))
}

fn must_drain(machine: &DynamicObject, view: &View<'_>) -> bool {
    let node = machine.text("/status/nodeRef/name").unwrap_or_default();
    let gone = view.remote.connected && view.remote.node(node).is_none();
    let done = view.remote.drained.iter().any(|drained| drained == node);
    let timeout = machine.number("/spec/deletion/nodeDrainTimeoutSeconds").unwrap_or(0);
    !gone && !done && !machine.annotated(NO_DRAIN) && !passed(machine, timeout, view)
}

fn must_delete_node(machine: &DynamicObject, view: &View<'_>) -> bool {
    let timeout = machine.number("/spec/deletion/nodeDeletionTimeoutSeconds").unwrap_or(10);
    view.remote.connected || !passed(machine, timeout, view)
}

/// Whether so many seconds of life have passed since the deletion began; 0 never does.
fn passed(machine: &DynamicObject, seconds: i64, view: &View<'_>) -> bool {
    let Some(since) = machine.metadata.deletion_timestamp.as_ref().filter(|_| seconds > 0) else { return false };
    let age: Duration = view.now.duration_since(since.0).try_into().unwrap_or(Duration::ZERO);
    age >= view.pace.after(f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)))
}

fn delete(plan: &mut Plan, kind: Kind, object: &DynamicObject) {
    if !object.deleting() {
        plan.steps.push(Step::Delete(kind, object.name().to_owned()));
    }
}
