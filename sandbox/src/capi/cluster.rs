//! The Cluster controller: ties its objects together, mirrors them, and deletes them in order.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::conditions::{Condition, Status, entry, summary};
use super::kind::Kind;
use super::object::{CLUSTER_LABEL, Look as _, owner};
use super::plan::{Plan, Step, paused, with_owner};
use super::view::{View, cluster_label};

mod aggregate;
pub(crate) use aggregate::machines;
mod deletion;

const FINALIZER: &str = "cluster.cluster.x-k8s.io";

/// Everything of one Cluster that its controller looks at.
struct Parts {
    infra: Option<(Kind, Arc<DynamicObject>)>,
    control_plane: Option<(Kind, Arc<DynamicObject>)>,
    deployments: Vec<Arc<DynamicObject>>,
    sets: Vec<Arc<DynamicObject>>,
    masters: Vec<Arc<DynamicObject>>,
    workers: Vec<Arc<DynamicObject>>,
}

pub(crate) fn decide(cluster: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    if !cluster.has_finalizer(FINALIZER) {
        return if cluster.deleting() { Plan::default() } else { Plan::finalizer(cluster, FINALIZER) };
    }
    let (pause, alone) = paused(cluster, Some(cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let (masters, workers) = view.split_machines(cluster);
    let parts = Parts {
        infra: view.referred(cluster, "/spec/infrastructureRef"),
        control_plane: view.referred(cluster, "/spec/controlPlaneRef"),
        deployments: view.of_cluster(Kind::Deployment, cluster),
        sets: view.of_cluster(Kind::Set, cluster),
        masters,
        workers,
    };
    let mut plan = if cluster.deleting() { deletion::decide(cluster, &parts) } else { reconcile(cluster, &parts) };
    let deleting = plan.conditions.pop().unwrap_or_else(|| Condition::flag("Deleting", false, ""));
    plan.conditions = conditions(cluster, &parts, view, &deleting);
    plan.conditions.push(pause);
    plan.conditions.push(deleting);
    plan
}

/// Owner references, endpoint, phase and counters.
fn reconcile(cluster: &DynamicObject, parts: &Parts) -> Plan {
    let mut plan = Plan::default();
    let us = owner(Kind::Cluster, cluster, false);
    for (kind, object) in parts.infra.iter().chain(&parts.control_plane) {
        if !object.owned_by(Kind::Cluster, cluster.name(), false) {
            let body = json!({"metadata": {
                "labels": cluster_label(cluster.name()), "ownerReferences": with_owner(object, &us),
            }});
            plan.steps.push(Step::Patch(*kind, Arc::clone(object), body));
        }
    }
    let provisioned = provisioned(parts);
    if provisioned
        && cluster.at("/spec/controlPlaneEndpoint/host").is_none()
        && let Some(endpoint) = parts.infra.as_ref().and_then(|(_, infra)| infra.at("/spec/controlPlaneEndpoint"))
    {
        plan.merge_body(json!({"spec": {"controlPlaneEndpoint": endpoint}}));
    }
    if cluster.label(CLUSTER_LABEL).is_none() {
        plan.merge_body(json!({"metadata": {"labels": cluster_label(cluster.name())}}));
    }
    let before = cluster.text("/status/phase").unwrap_or_default();
    let phase = if provisioned { "Provisioned" } else { "Provisioning" };
    if before != phase {
        if provisioned && !cluster.flag("/status/initialization/infrastructureProvisioned") {
            plan.note(
                "InfrastructureReady",
                format!("Cluster {} InfrastructureProvisioned is now True", cluster.name()),
            );
        }
        plan.note(
            if provisioned { "Provisioned" } else { "Provisioning" },
            format!("Cluster {} is {phase}", cluster.name()),
        );
    }
    let mut initialization = Map::new();
    if provisioned {
        initialization.insert("infrastructureProvisioned".to_owned(), true.into());
    }
    if initialized(cluster, parts) {
        initialization.insert("controlPlaneInitialized".to_owned(), true.into());
        if !cluster.flag("/status/initialization/controlPlaneInitialized") {
            plan.note(
                "ControlPlaneInitialized",
                format!("Cluster {} ControlPlaneInitialized is now True", cluster.name()),
            );
        }
    }
    let mut status = json!({
        "phase": phase,
        "observedGeneration": cluster.generation(),
        "controlPlane": counters(parts.control_plane.iter().map(|(_, object)| object)),
        "workers": counters(&parts.deployments),
    });
    if !initialization.is_empty() {
        status["initialization"] = Value::Object(initialization);
    }
    plan.status = Some(status);
    plan
}

/// Sums of the counters of the objects that have them; what nobody has counted stays absent.
fn counters<'a>(objects: impl IntoIterator<Item = &'a Arc<DynamicObject>>) -> Value {
    let objects: Vec<_> = objects.into_iter().collect();
    let mut sums = Map::new();
    let mut sum = |name: &str, pointer: &str| {
        let known: Vec<i64> = objects.iter().filter_map(|object| object.number(pointer)).collect();
        if !known.is_empty() {
            sums.insert(name.to_owned(), known.iter().sum::<i64>().into());
        }
    };
    sum("desiredReplicas", "/spec/replicas");
    sum("replicas", "/status/replicas");
    sum("upToDateReplicas", "/status/upToDateReplicas");
    sum("readyReplicas", "/status/readyReplicas");
    sum("availableReplicas", "/status/availableReplicas");
    Value::Object(sums)
}

fn provisioned(parts: &Parts) -> bool {
    parts.infra.as_ref().is_some_and(|(_, infra)| infra.flag("/status/initialization/provisioned"))
}

/// Once set, never unset; waits for the machine's own reference to its Node as the real one does.
fn initialized(cluster: &DynamicObject, parts: &Parts) -> bool {
    cluster.flag("/status/initialization/controlPlaneInitialized")
        || parts
            .control_plane
            .as_ref()
            .is_some_and(|(_, object)| object.flag("/status/initialization/controlPlaneInitialized"))
}

/// All conditions but `Paused` and `Deleting`.
fn conditions(cluster: &DynamicObject, parts: &Parts, view: &View<'_>, deleting: &Condition) -> Vec<Condition> {
    let probe = probe(cluster, view);
    let infra = infrastructure(cluster, parts);
    let control_plane = control_plane_available(cluster, parts);
    let workers = aggregate::workers_available(&parts.deployments);
    let gates = cluster.at("/spec/availabilityGates").and_then(Value::as_array).into_iter().flatten();
    let mut needed = vec![deleting.clone(), probe.clone(), infra.clone(), control_plane.clone(), workers.clone()];
    for gate in gates {
        let name = gate.get("conditionType").and_then(Value::as_str).unwrap_or_default();
        needed.push(match cluster.condition(name) {
            Some(value) => Condition::read(value),
            None => Condition::unknown(name, "NotYetReported", format!("Condition {name} not yet reported")),
        });
    }
    let available = summary("Available", &needed, &["Deleting"], ["Available", "NotAvailable", "AvailableUnknown"]);
    let owners = || {
        parts
            .control_plane
            .iter()
            .map(|(kind, object)| (*kind, object))
            .chain(parts.deployments.iter().map(|object| (Kind::Deployment, object)))
    };
    vec![
        available,
        probe,
        infra,
        control_plane_initialized(cluster, parts),
        control_plane,
        workers,
        aggregate::any("RollingOut", owners()),
        Condition::flag("Remediating", false, ""),
        aggregate::any("ScalingDown", owners()),
        aggregate::any("ScalingUp", owners()),
        aggregate::machines("ControlPlaneMachinesReady", "Ready", &parts.masters),
        aggregate::machines("WorkerMachinesReady", "Ready", &parts.workers),
        aggregate::machines("ControlPlaneMachinesUpToDate", "UpToDate", &parts.masters),
        aggregate::machines("WorkerMachinesUpToDate", "UpToDate", &parts.workers),
    ]
}

fn probe(cluster: &DynamicObject, view: &View<'_>) -> Condition {
    let name = "RemoteConnectionProbe";
    if view.remote.connected {
        return Condition::yes(name, "ProbeSucceeded");
    }
    let message = if view.remote.lost {
        "Remote connection probe failed".to_owned()
    } else {
        "Remote connection not established yet".to_owned()
    };
    let _ = cluster;
    Condition::no(name, "ProbeFailed", message)
}

fn infrastructure(cluster: &DynamicObject, parts: &Parts) -> Condition {
    let name = "InfrastructureReady";
    let Some((kind, infra)) = &parts.infra else {
        let kind = cluster.text("/spec/infrastructureRef/kind").unwrap_or("infrastructure");
        return if cluster.deleting() {
            Condition::no(name, "ObjectDeleted", format!("{kind} has been deleted"))
        } else {
            Condition::no(name, "ObjectDoesNotExist", format!("{kind} does not exist"))
        };
    };
    if let Some(ready) = infra.condition("Ready") {
        let ready = Condition::read(ready).renamed(name);
        return match ready.status {
            Status::True => Condition::yes(name, "Ready"),
            Status::False => Condition { reason: "NotReady".to_owned(), ..ready },
            Status::Unknown => Condition { reason: "ReadyUnknown".to_owned(), ..ready },
        };
    }
    if provisioned(parts) {
        Condition::yes(name, "Ready")
    } else {
        Condition::no(name, "NotReady", format!("{} status.initialization.provisioned is false", kind.name()))
    }
}

fn control_plane_initialized(cluster: &DynamicObject, parts: &Parts) -> Condition {
    let name = "ControlPlaneInitialized";
    if initialized(cluster, parts) {
        Condition::yes(name, "Initialized")
    } else {
        Condition::no(name, "NotInitialized", "Control plane not yet initialized")
    }
}

fn control_plane_available(cluster: &DynamicObject, parts: &Parts) -> Condition {
    let name = "ControlPlaneAvailable";
    let Some((kind, object)) = &parts.control_plane else {
        let kind = cluster.text("/spec/controlPlaneRef/kind").unwrap_or("control plane");
        let reason = if cluster.deleting() { "ObjectDeleted" } else { "ObjectDoesNotExist" };
        let what = if cluster.deleting() { "has been deleted" } else { "does not exist" };
        return Condition::no(name, reason, format!("{kind} {what}"));
    };
    match object.condition("Available") {
        Some(value) => Condition::read(value).renamed(name),
        None => {
            let message = format!("{} status.initialization.controlPlaneInitialized is false", kind.name());
            Condition::no(name, "NotAvailable", message)
        }
    }
}

/// A point per object of a kind that is still there.
fn remaining(title: &str, names: &[&str]) -> Option<String> {
    (!names.is_empty()).then(|| entry(title, &names.join(", ")))
}
