//! Deletion of a Cluster: workers, then the control plane, then the infrastructure, then itself.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::super::conditions::{Condition, Status};
use super::super::kind::Kind;
use super::super::object::Look as _;
use super::super::plan::{Plan, Step};
use super::{FINALIZER, Parts, remaining};

/// The next step; its condition `Deleting` is the last (and only) one of the plan.
pub(super) fn decide(cluster: &DynamicObject, parts: &Parts) -> Plan {
    let mut plan = step(cluster, parts);
    if plan.body.is_some() {
        return plan;
    }
    if cluster.text("/status/phase") != Some("Deleting") {
        plan.note("Deleting", format!("Cluster {} is Deleting", cluster.name()));
    }
    let mut status = json!({
        "phase": "Deleting",
        "observedGeneration": cluster.generation(),
        "controlPlane": super::counters(parts.control_plane.iter().map(|(_, object)| object)),
        "workers": super::counters(&parts.deployments),
    });
    for part in ["controlPlane", "workers"] {
        drop_stale(cluster, part, &mut status);
    }
    plan.status = Some(status);
    plan
}

fn step(cluster: &DynamicObject, parts: &Parts) -> Plan {
    let names = |objects: &[Arc<DynamicObject>]| objects.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>();
    if !parts.deployments.is_empty() || !parts.sets.is_empty() || !parts.workers.is_empty() {
        let all = [
            ("MachineDeployments", names(&parts.deployments)),
            ("MachineSets", names(&parts.sets)),
            ("Worker Machines", names(&parts.workers)),
        ];
        let message: Vec<String> = all
            .iter()
            .filter_map(|(title, names)| remaining(title, &names.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        let mut plan = deleting("WaitingForWorkersDeletion", message.join("\n"));
        delete(&mut plan, Kind::Deployment, &parts.deployments);
        let orphans: Vec<_> =
            parts.sets.iter().filter(|set| set.metadata.owner_references.is_none()).cloned().collect();
        delete(&mut plan, Kind::Set, &orphans);
        return plan;
    }
    if let Some((kind, object)) = &parts.control_plane {
        let mut plan = deleting("WaitingForControlPlaneDeletion", format!("Waiting for {} to be deleted", kind.name()));
        delete(&mut plan, *kind, std::slice::from_ref(object));
        return plan;
    }
    if let Some((kind, object)) = &parts.infra {
        let mut plan =
            deleting("WaitingForInfrastructureDeletion", format!("Waiting for {} to be deleted", kind.name()));
        delete(&mut plan, *kind, std::slice::from_ref(object));
        return plan;
    }
    let mut plan = deleting("DeletionCompleted", "Deletion completed".to_owned());
    plan.note("Deleted", format!("Cluster {} has been deleted", cluster.name()));
    plan.steps.push(Step::ClusterGone(cluster.name().to_owned()));
    plan.body = Plan::without_finalizer(cluster, FINALIZER).body;
    plan
}

fn deleting(reason: &str, message: String) -> Plan {
    Plan { conditions: vec![Condition::new("Deleting", Status::True, reason, message)], ..Plan::default() }
}

fn delete(plan: &mut Plan, kind: Kind, objects: &[Arc<DynamicObject>]) {
    for object in objects.iter().filter(|object| !object.deleting()) {
        plan.steps.push(Step::Delete(kind, object.name().to_owned()));
    }
}

/// Counters of objects that are gone must be removed by name.
fn drop_stale(cluster: &DynamicObject, part: &str, status: &mut Value) {
    let Some(old) = cluster.at(&format!("/status/{part}")).and_then(Value::as_object) else { return };
    let new: &mut Map<String, Value> = match status[part].as_object_mut() {
        Some(new) => new,
        None => return,
    };
    for key in old.keys() {
        if !new.contains_key(key) {
            new.insert(key.clone(), Value::Null);
        }
    }
}
