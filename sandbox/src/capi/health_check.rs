//! The MachineHealthCheck controller, without remediation: it counts, and tells each healthy Machine so.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::conditions::{Condition, Status};
use super::kind::Kind;
use super::object::{Look as _, owner};
use super::plan::{Plan, Step, paused};
use super::view::View;

/// Reconciles of other objects that one of a health check is as long as.
pub(crate) const LOOK_EVERY_UNITS: u32 = 15;

pub(crate) fn decide(check: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    if check.deleting() {
        return Plan::default();
    }
    let Some(cluster) = view.cluster(check) else { return Plan::default() };
    let (pause, alone) = paused(check, Some(&cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let mut machines = view.of_cluster(Kind::Machine, &cluster);
    machines.retain(|machine| selected(check, machine));
    let healthy: Vec<_> = machines.iter().filter(|machine| machine.is("NodeReady") == Some("True")).collect();
    let mut plan = Plan::default();
    for machine in &healthy {
        let condition = Condition::yes("HealthCheckSucceeded", "HealthCheckSucceeded");
        if machine.is("HealthCheckSucceeded") != Some("True") {
            plan.steps.push(Step::Conditions(Kind::Machine, Arc::clone(machine), vec![condition]));
        }
    }
    if !check.owned_by(Kind::Cluster, cluster.name(), false) {
        plan.own(check, &owner(Kind::Cluster, &cluster, false));
    }
    plan.conditions = vec![Condition::new("RemediationAllowed", Status::True, "RemediationAllowed", ""), pause];
    let mut targets: Vec<&str> = machines.iter().map(|machine| machine.name()).collect();
    targets.sort_unstable();
    let mut status = json!({
        "expectedMachines": machines.len(), "currentHealthy": healthy.len(),
        "remediationsAllowed": healthy.len(), "observedGeneration": check.generation(),
    });
    if !targets.is_empty() || check.at("/status/targets").is_some() {
        status["targets"] = json!(targets);
    }
    plan.status = Some(status);
    plan
}

fn selected(check: &DynamicObject, machine: &DynamicObject) -> bool {
    let labels = check.at("/spec/selector/matchLabels").and_then(Value::as_object);
    labels.is_some_and(|labels| labels.iter().all(|(key, value)| machine.label(key) == value.as_str()))
}
