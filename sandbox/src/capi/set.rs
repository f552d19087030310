//! The MachineSet controller: keeps a number of Machines of one template.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::clones::{Clone, object};
use super::cluster::machines as sum_machines;
use super::conditions::{Condition, Status, entry};
use super::kind::Kind;
use super::object::{CLUSTER_LABEL, Look as _, suffix};
use super::plan::{Note, Plan, Step, paused};
use super::view::View;

const FINALIZER: &str = "cluster.x-k8s.io/machineset";
const SET_LABEL: &str = "cluster.x-k8s.io/set-name";
/// Seconds of life after which a MachineSet asks again whether it may create Machines.
const PREFLIGHT_EVERY: f64 = 15.0;
/// Most Machines that one reconcile creates.
const CREATE_MAX: i64 = 10;

pub(crate) fn decide(set: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    if !set.has_finalizer(FINALIZER) {
        return if set.deleting() { Plan::default() } else { Plan::finalizer(set, FINALIZER) };
    }
    let Some(cluster) = view.cluster(set) else { return Plan::default() };
    let (pause, alone) = paused(set, Some(&cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let machines = view.owned_machines(Kind::Set, set);
    let mut plan = Plan::default();
    let mut blocked = None;
    let deleting = if set.deleting() {
        delete(&mut plan, set, &machines)
    } else {
        blocked = scale(&mut plan, set, &cluster, &machines, view);
        Condition::flag("Deleting", false, "")
    };
    let created = plan.steps.iter().filter(|step| matches!(step, Step::Create(Kind::Machine, _))).count();
    plan.conditions = conditions(set, &machines, created, blocked.as_deref());
    plan.conditions.push(pause);
    plan.conditions.push(deleting);
    if plan.body.is_none() {
        plan.status = Some(status(set, &machines, created));
    }
    plan
}

/// Creates or deletes Machines; returns why it may not create any.
fn scale(
    plan: &mut Plan,
    set: &DynamicObject,
    cluster: &DynamicObject,
    machines: &[Arc<DynamicObject>],
    view: &View<'_>,
) -> Option<String> {
    let wanted = replicas(set);
    let have = i64::try_from(machines.len()).unwrap_or(i64::MAX);
    if have > wanted {
        let alive = machines.iter().filter(|machine| !machine.deleting()).count();
        let surplus = i64::try_from(alive).unwrap_or(i64::MAX) - wanted;
        for machine in victims(set, machines).take(usize::try_from(surplus).unwrap_or(0)) {
            plan.steps.push(Step::Delete(Kind::Machine, machine.name().to_owned()));
            plan.steps.push(note("SuccessfulDelete", format!("Deleted Machine {:?}", machine.name())));
        }
        return None;
    }
    if have == wanted {
        return None;
    }
    if let Some(why) = preflight(cluster, view) {
        plan.again = Some(view.pace.poll(PREFLIGHT_EVERY));
        return Some(why);
    }
    set.condition("ScalingUp")?;
    for _ in 0..(wanted - have).min(CREATE_MAX) {
        create(plan, set, cluster, view);
    }
    None
}

/// Machines to delete first: those that a person marked, those without a Node, then by age as asked for.
fn victims<'a>(
    set: &DynamicObject,
    machines: &'a [Arc<DynamicObject>],
) -> impl Iterator<Item = &'a Arc<DynamicObject>> {
    let mut all: Vec<_> = machines.iter().filter(|machine| !machine.deleting()).collect();
    if set.text("/spec/deletion/order") != Some("Oldest") {
        all.reverse();
    }
    all.sort_by_key(|machine| {
        let marked = machine.annotated("cluster.x-k8s.io/delete-machine");
        (!marked, machine.text("/status/nodeRef/name").is_some())
    });
    all.into_iter()
}

/// Why no Machine may be created now: the control plane is not stable.
fn preflight(cluster: &DynamicObject, view: &View<'_>) -> Option<String> {
    let (kind, plane) = view.referred(cluster, "/spec/controlPlaneRef")?;
    let title = format!("{} {}/{}", kind.name(), cluster.namespace(), cluster.name());
    match plane.text("/status/version") {
        None => Some(format!("{title} is provisioning (\"ControlPlaneIsStable\" preflight check failed)")),
        Some(version) if plane.text("/spec/version") != Some(version) => {
            Some(format!("{title} is upgrading (\"ControlPlaneIsStable\" preflight check failed)"))
        }
        Some(_) => None,
    }
}

fn create(plan: &mut Plan, set: &DynamicObject, cluster: &DynamicObject, view: &View<'_>) {
    let Some(infra) = set.reference("/spec/template/spec/infrastructureRef") else { return };
    let Some(bootstrap) = set.reference("/spec/template/spec/bootstrap/configRef") else { return };
    let name = format!("{}-{}", set.name(), suffix());
    let mut labels = object(set.at("/spec/template/metadata/labels"));
    labels.insert(CLUSTER_LABEL.to_owned(), cluster.name().into());
    labels.insert(SET_LABEL.to_owned(), set.name().into());
    let clone = Clone {
        maker: (Kind::Set, set),
        cluster: cluster.name(),
        name: &name,
        labels: Value::Object(labels),
        annotations: Value::Object(object(set.at("/spec/template/metadata/annotations"))),
        infra: &infra,
    };
    let (Some(config), Some(machine)) = (clone.bootstrap_from(view, &bootstrap), clone.infra_machine(view)) else {
        return;
    };
    plan.steps.push(config);
    plan.steps.push(machine);
    let mut spec = object(set.at("/spec/template/spec"));
    spec.remove("bootstrap");
    spec.remove("infrastructureRef");
    plan.steps.push(clone.machine(Value::Object(spec), Some(super::machine::FINALIZER)));
    plan.steps.push(note("SuccessfulCreate", format!("Created Machine {name:?}")));
}

fn note(reason: &'static str, message: String) -> Step {
    Step::Note(Note { warning: false, reason, message })
}

fn delete(plan: &mut Plan, set: &DynamicObject, machines: &[Arc<DynamicObject>]) -> Condition {
    for machine in machines.iter().filter(|machine| !machine.deleting()) {
        plan.steps.push(Step::Delete(Kind::Machine, machine.name().to_owned()));
    }
    let message = if machines.is_empty() {
        plan.body = Plan::without_finalizer(set, FINALIZER).body;
        "Deletion completed".to_owned()
    } else {
        format!("Deleting {} Machines", machines.len())
    };
    Condition::new("Deleting", Status::True, "Deleting", message)
}

/// Machines that this reconcile creates count, and have reported nothing yet.
fn conditions(
    set: &DynamicObject,
    machines: &[Arc<DynamicObject>],
    created: usize,
    blocked: Option<&str>,
) -> Vec<Condition> {
    let wanted = if set.deleting() { 0 } else { replicas(set) };
    let have = i64::try_from(machines.len() + created).unwrap_or(i64::MAX);
    let mut up = format!("Scaling up from {have} to {wanted} replicas");
    if let Some(why) = blocked {
        up = format!("{up} is blocked because:\n* {why}");
    }
    let ready = match created {
        0 => sum_machines("MachinesReady", "Ready", machines),
        _ => Condition::unknown("MachinesReady", "ReadyUnknown", "Condition Ready not yet reported by new Machines"),
    };
    vec![
        Condition::flag("Remediating", false, ""),
        Condition::flag("ScalingDown", have > wanted, format!("Scaling down from {have} to {wanted} replicas")),
        Condition::flag("ScalingUp", have < wanted, up),
        ready,
        sum_machines("MachinesUpToDate", "UpToDate", machines),
    ]
}

fn status(set: &DynamicObject, machines: &[Arc<DynamicObject>], created: usize) -> Value {
    let count = |condition: &str| machines.iter().filter(|one| one.is(condition) == Some("True")).count();
    let selector: Vec<String> = object(set.at("/spec/selector/matchLabels"))
        .iter()
        .map(|(key, value)| entry(key, value.as_str().unwrap_or_default()))
        .map(|line| line.trim_start_matches("* ").replace(": ", "="))
        .collect();
    json!({
        "replicas": machines.len() + created, "readyReplicas": count("Ready"), "availableReplicas": count("Available"),
        "upToDateReplicas": count("UpToDate"), "observedGeneration": set.generation(), "selector": selector.join(","),
    })
}

fn replicas(set: &DynamicObject) -> i64 {
    set.number("/spec/replicas").unwrap_or(1)
}
