//! The KubeadmControlPlane controller: certificates, control-plane machines one at a time, and their health.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::clones::{Clone, object};
use super::conditions::Condition;
use super::kind::Kind;
use super::object::{CLUSTER_LABEL, CONTROL_PLANE_LABEL, Look as _, owner, suffix};
use super::plan::{Plan, Step, paused, with_owner};
use super::view::View;

mod certificates;
mod deletion;
mod health;

const FINALIZER: &str = "kubeadm.controlplane.cluster.x-k8s.io";
/// Annotation that holds a control-plane Machine's deletion until its etcd member is removed.
const HOOK: &str = "pre-terminate.delete.hook.machine.cluster.x-k8s.io/kcp-cleanup";
const NAME_LABEL: &str = "cluster.x-k8s.io/control-plane-name";

pub(crate) fn decide(plane: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    let cluster = view.cluster(plane);
    if plane.deleting() {
        return if plane.has_finalizer(FINALIZER) { deletion::decide(plane, view) } else { Plan::default() };
    }
    let Some(cluster) = cluster.filter(|cluster| plane.owned_by(Kind::Cluster, cluster.name(), false)) else {
        return Plan::default();
    };
    if !plane.has_finalizer(FINALIZER) {
        return Plan::finalizer(plane, FINALIZER);
    }
    let (pause, alone) = paused(plane, Some(&cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let machines = view.owned_machines(Kind::ControlPlane, plane);
    let mut plan = reconcile(plane, &cluster, &machines, view);
    plan.conditions.push(pause);
    plan.conditions.push(Condition::flag("Deleting", false, ""));
    plan
}

fn reconcile(plane: &DynamicObject, cluster: &DynamicObject, machines: &[Arc<DynamicObject>], view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    adopt_template(&mut plan, plane, cluster, view);
    let reported = plane.condition("ScalingUp").is_some();
    let infrastructure = reported && cluster.flag("/status/initialization/infrastructureProvisioned");
    let was_initialized = plane.flag("/status/initialization/controlPlaneInitialized");
    let initialized = was_initialized || (infrastructure && view.remote.initialized);
    let certified = plane.condition("CertificatesAvailable").is_some();
    if infrastructure && !certified {
        plan.steps.extend(certificates::secrets(plane, cluster));
    }
    if infrastructure {
        scale(&mut plan, plane, cluster, machines, was_initialized, view);
    }
    if certified {
        plan.steps.extend(health::machine_conditions(machines, was_initialized, view));
    }
    plan.conditions = health::conditions(plane, machines, infrastructure, initialized, was_initialized, view);
    if infrastructure {
        plan.conditions.insert(1, Condition::yes("CertificatesAvailable", "Available"));
    }
    plan.status = Some(status(plane, cluster, machines, initialized, view));
    plan
}

/// Ties the machine template to the Cluster, so that it goes with it.
fn adopt_template(plan: &mut Plan, plane: &DynamicObject, cluster: &DynamicObject, view: &View<'_>) {
    if let Some((kind, template)) = view.referred(plane, "/spec/machineTemplate/spec/infrastructureRef")
        && !template.owned_by(Kind::Cluster, cluster.name(), false)
    {
        let owners = with_owner(&template, &owner(Kind::Cluster, cluster, false));
        plan.steps.push(Step::Patch(kind, template, json!({"metadata": {"ownerReferences": owners}})));
    }
}

/// Creates the first machine, or one more, or deletes one: one step at a time.
fn scale(
    plan: &mut Plan,
    plane: &DynamicObject,
    cluster: &DynamicObject,
    machines: &[Arc<DynamicObject>],
    initialized: bool,
    view: &View<'_>,
) {
    let wanted = replicas(plane);
    let have = i64::try_from(machines.len()).unwrap_or(i64::MAX);
    if machines.is_empty() && wanted > 0 {
        create(plan, plane, cluster, true, view);
        return;
    }
    for machine in machines.iter().filter(|machine| machine.deleting()) {
        let waits = machine.condition("Deleting").is_some_and(|one| one["reason"] == "WaitingForPreTerminateHook");
        if waits && machine.annotated(HOOK) && view.remote.connected {
            plan.steps.push(Step::Patch(
                Kind::Machine,
                Arc::clone(machine),
                json!({"metadata": {"annotations": {HOOK: null}}}),
            ));
        }
    }
    let settled = machines.iter().all(|one| !one.deleting() && one.is("EtcdMemberHealthy") == Some("True"));
    if !initialized || !settled || !view.remote.connected {
        return;
    }
    if have < wanted {
        create(plan, plane, cluster, false, view);
    } else if have > wanted
        && let Some(oldest) = machines.first()
    {
        plan.steps.push(Step::Delete(Kind::Machine, oldest.name().to_owned()));
    }
}

fn create(plan: &mut Plan, plane: &DynamicObject, cluster: &DynamicObject, first: bool, view: &View<'_>) {
    let Some(infra) = plane.reference("/spec/machineTemplate/spec/infrastructureRef") else { return };
    let name = format!("{}-{}", plane.name(), suffix());
    let mut labels = object(plane.at("/spec/machineTemplate/metadata/labels"));
    labels.insert(CLUSTER_LABEL.to_owned(), cluster.name().into());
    labels.insert(CONTROL_PLANE_LABEL.to_owned(), "".into());
    labels.insert(NAME_LABEL.to_owned(), plane.name().into());
    let annotations = object(plane.at("/spec/machineTemplate/metadata/annotations"));
    let clone = Clone {
        maker: (Kind::ControlPlane, plane),
        cluster: cluster.name(),
        name: &name,
        labels: Value::Object(labels),
        annotations: Value::Object(annotations.clone()),
        infra: &infra,
    };
    let Some(machine) = clone.infra_machine(view) else { return };
    plan.steps.push(machine);
    plan.steps.push(clone.bootstrap(bootstrap_spec(plane, first)));
    let mut annotations = annotations;
    annotations.insert(HOOK.to_owned(), "".into());
    let clone = Clone { annotations: Value::Object(annotations), ..clone };
    plan.steps.push(clone.machine(machine_spec(plane), None));
}

/// The machine's part of the kubeadm configuration: `init` on the first, `join` on the others.
fn bootstrap_spec(plane: &DynamicObject, first: bool) -> Value {
    let mut spec = object(plane.at("/spec/kubeadmConfigSpec"));
    if first {
        spec.remove("joinConfiguration");
        let cluster = spec.entry("clusterConfiguration").or_insert_with(|| json!({}));
        cluster["featureGates"]["ControlPlaneKubeletLocalMode"] = true.into();
    } else {
        spec.remove("initConfiguration");
        spec.remove("clusterConfiguration");
        spec.entry("joinConfiguration").or_insert_with(|| json!({}))["controlPlane"] = json!({});
    }
    Value::Object(spec)
}

fn machine_spec(plane: &DynamicObject) -> Value {
    let mut spec = object(plane.at("/spec/machineTemplate/spec"));
    spec.remove("infrastructureRef");
    let mut gates: Vec<Value> =
        spec.remove("readinessGates").and_then(|value| value.as_array().cloned()).unwrap_or_default();
    gates.extend(health::GATES.iter().map(|name| json!({"conditionType": name})));
    spec.insert("readinessGates".to_owned(), gates.into());
    if let Some(version) = plane.at("/spec/version") {
        spec.insert("version".to_owned(), version.clone());
    }
    Value::Object(spec)
}

fn replicas(plane: &DynamicObject) -> i64 {
    plane.number("/spec/replicas").unwrap_or(1)
}

/// Counters, version, and what has been observed: the generation only once the workload cluster answers.
fn status(
    plane: &DynamicObject,
    cluster: &DynamicObject,
    machines: &[Arc<DynamicObject>],
    initialized: bool,
    view: &View<'_>,
) -> Value {
    let count = |condition: &str| machines.iter().filter(|one| one.is(condition) == Some("True")).count();
    let mut status = Map::new();
    status.insert("replicas".to_owned(), machines.len().into());
    status.insert("upToDateReplicas".to_owned(), count("UpToDate").into());
    status.insert("readyReplicas".to_owned(), count("Ready").into());
    status.insert("availableReplicas".to_owned(), count("Available").into());
    status.insert("selector".to_owned(), format!("{CLUSTER_LABEL}={},{CONTROL_PLANE_LABEL}", cluster.name()).into());
    let oldest = machines.iter().filter_map(|one| one.text("/spec/version")).min_by_key(|version| parse(version));
    if let Some(version) = oldest {
        status.insert("version".to_owned(), version.into());
    }
    if initialized {
        status.insert("initialization".to_owned(), json!({"controlPlaneInitialized": true}));
    }
    if initialized && view.remote.connected {
        status.insert("observedGeneration".to_owned(), plane.generation().into());
    }
    Value::Object(status)
}

/// `v1.34.0` as numbers, for comparison.
fn parse(version: &str) -> Vec<u64> {
    version.trim_start_matches('v').split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}
