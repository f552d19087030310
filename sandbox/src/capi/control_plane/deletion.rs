//! Deletion of a control plane: its Machines without drain and without waiting for etcd, then itself.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::json;

use super::super::conditions::{Condition, Status};
use super::super::kind::Kind;
use super::super::object::Look as _;
use super::super::plan::{Plan, Step, paused};
use super::super::view::View;
use super::{FINALIZER, HOOK, health};

pub(super) fn decide(plane: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    let cluster = view.cluster(plane);
    let (pause, alone) = paused(plane, cluster.as_deref());
    if alone && pause.status == Status::True {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let machines = view.owned_machines(Kind::ControlPlane, plane);
    let others = cluster.is_some_and(|cluster| {
        let (_, workers) = view.split_machines(&cluster);
        !workers.is_empty()
    });
    let mut plan = Plan::default();
    let initialized = plane.flag("/status/initialization/controlPlaneInitialized");
    let deleting = if others {
        Condition::new(
            "Deleting",
            Status::True,
            "WaitingForWorkersDeletion",
            "Waiting for worker Machines to be deleted",
        )
    } else if machines.is_empty() {
        plan.body = Plan::without_finalizer(plane, FINALIZER).body;
        Condition::new("Deleting", Status::True, "DeletionCompleted", "Deletion completed")
    } else {
        delete_machines(&mut plan, &machines);
        let count = machines.len();
        let plural = if count == 1 { "" } else { "s" };
        Condition::new(
            "Deleting",
            Status::True,
            "WaitingForMachineDeletion",
            format!("Deleting {count} Machine{plural}"),
        )
    };
    let seen = plane.is("Deleting") == Some("True");
    if seen && plan.body.is_none() {
        plan.steps.extend(health::machine_conditions(&machines, initialized, view));
    }
    let was = initialized;
    plan.conditions = health::conditions(plane, &machines, true, initialized, was, view);
    plan.conditions.push(pause);
    plan.conditions.push(deleting);
    if plan.body.is_none() {
        let count = |condition: &str| machines.iter().filter(|one| one.is(condition) == Some("True")).count();
        let mut status = json!({
            "observedGeneration": plane.generation(),
            "readyReplicas": count("Ready"), "availableReplicas": count("Available"),
        });
        if seen {
            status["replicas"] = machines.len().into();
            status["upToDateReplicas"] = count("UpToDate").into();
        }
        plan.status = Some(status);
    }
    plan
}

fn delete_machines(plan: &mut Plan, machines: &[Arc<DynamicObject>]) {
    for machine in machines {
        if machine.annotated(HOOK) {
            let body = json!({"metadata": {"annotations": {HOOK: null}}});
            plan.steps.push(Step::Patch(Kind::Machine, Arc::clone(machine), body));
        }
        if !machine.deleting() {
            plan.steps.push(Step::Delete(Kind::Machine, machine.name().to_owned()));
        }
    }
}
