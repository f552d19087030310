//! The Machine controller: brings bootstrap, infrastructure and Node together, and takes them apart in order.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::conditions::Condition;
use super::kind::Kind;
use super::object::{CONTROL_PLANE_LABEL, Look as _, owner};
use super::plan::{Plan, RemoteStep, Step, paused, with_owner};
use super::view::View;

mod deletion;
mod state;

/// The Machine's finalizer.
pub(crate) const FINALIZER: &str = "machine.cluster.x-k8s.io";
/// Taint that a worker carries until its labels were written.
const UNINITIALIZED: &str = "node.cluster.x-k8s.io/uninitialized";

/// What a Machine consists of.
pub(super) struct Parts {
    pub(super) bootstrap: Option<(Kind, Arc<DynamicObject>)>,
    pub(super) infra: Option<(Kind, Arc<DynamicObject>)>,
    pub(super) node: Option<Arc<Node>>,
}

pub(crate) fn decide(machine: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    if !machine.has_finalizer(FINALIZER) {
        return if machine.deleting() { Plan::default() } else { Plan::finalizer(machine, FINALIZER) };
    }
    let Some(cluster) = view.cluster(machine) else { return Plan::default() };
    let (pause, alone) = paused(machine, Some(&cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let infra = view.referred(machine, "/spec/infrastructureRef");
    let id = infra
        .as_ref()
        .and_then(|(_, infra)| infra.text("/spec/providerID"))
        .or_else(|| machine.text("/spec/providerID"));
    let node = id.and_then(|id| view.remote.nodes.get(id)).cloned();
    let parts = Parts { bootstrap: view.referred(machine, "/spec/bootstrap/configRef"), infra, node };
    let (mut plan, deleting) = if machine.deleting() {
        deletion::decide(machine, &cluster, &parts, view)
    } else {
        (reconcile(machine, &parts, view), Condition::flag("Deleting", false, ""))
    };
    plan.conditions = state::conditions(machine, &cluster, &parts, &deleting, view);
    if machine.label(CONTROL_PLANE_LABEL).is_none() {
        plan.conditions.push(Condition::yes("UpToDate", "UpToDate"));
    }
    plan.conditions.push(pause);
    plan.conditions.push(deleting);
    if let Some(wait) = state::min_ready(machine, view) {
        plan.again = Some(wait);
    }
    plan
}

fn reconcile(machine: &Arc<DynamicObject>, parts: &Parts, view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let us = owner(Kind::Machine, machine, true);
    for (kind, object) in parts.bootstrap.iter().chain(&parts.infra) {
        if !object.owned_by(Kind::Machine, machine.name(), true) {
            let body = json!({"metadata": {"ownerReferences": with_owner(object, &us)}});
            plan.steps.push(Step::Patch(*kind, Arc::clone(object), body));
        }
    }
    let secret = parts.bootstrap.as_ref().filter(|(_, config)| config.flag("/status/initialization/dataSecretCreated"));
    let secret = secret.and_then(|(_, config)| config.text("/status/dataSecretName"));
    if let Some(secret) = secret.filter(|_| machine.text("/spec/bootstrap/dataSecretName").is_none()) {
        plan.merge_body(json!({"spec": {"bootstrap": {"dataSecretName": secret}}}));
    }
    let infra = parts.infra.as_ref().filter(|(_, infra)| infra.flag("/status/initialization/provisioned"));
    let id = infra.and_then(|(_, infra)| infra.text("/spec/providerID"));
    if let Some(id) = id.filter(|_| machine.text("/spec/providerID").is_none()) {
        plan.merge_body(json!({"spec": {"providerID": id}}));
    }
    let bootstrapped = secret.is_some() || machine.text("/spec/bootstrap/dataSecretName").is_some();
    let node = parts.node.as_ref().filter(|_| infra.is_some() && view.remote.initialized);
    adopt_node(&mut plan, machine, node.map(Arc::as_ref));
    let phase = match (node.is_some() || machine.at("/status/nodeRef").is_some(), infra.is_some(), bootstrapped) {
        (true, _, _) => "Running",
        (_, true, _) => "Provisioned",
        (_, _, true) => "Provisioning",
        _ => "Pending",
    };
    let infra = infra.map(|(_, infra)| infra.as_ref());
    let mut status = status(machine, phase, bootstrapped, infra, node.map(Arc::as_ref));
    if observes(machine, view) {
        status["observedGeneration"] = machine.generation().into();
    }
    plan.status = Some(status);
    plan
}

/// Whether a reconcile gets far enough to note the generation: with a machine there, only when its Node can be looked for.
fn observes(machine: &DynamicObject, view: &View<'_>) -> bool {
    machine.text("/spec/providerID").is_none() || (view.remote.initialized && view.remote.connected)
}

/// Writes labels and annotations to the Node, and takes the taint away.
fn adopt_node(plan: &mut Plan, machine: &DynamicObject, node: Option<&Node>) {
    let Some(node) = node else { return };
    let name = node.metadata.name.clone().unwrap_or_default();
    if machine.text("/status/nodeRef/name").is_none() {
        plan.note("SuccessfulSetNodeRef", name.clone());
    }
    let annotated = node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("cluster.x-k8s.io/machine"));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let tainted = taints.iter().any(|taint| taint.key == UNINITIALIZED);
    if annotated && !tainted {
        return;
    }
    let owner = machine.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let labels: Map<String, Value> = machine
        .metadata
        .labels
        .iter()
        .flatten()
        .filter(|(key, _)| synced(key))
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    let mut body = json!({"metadata": {"labels": labels, "annotations": {
        "cluster.x-k8s.io/cluster-name": machine.cluster_name(),
        "cluster.x-k8s.io/cluster-namespace": machine.namespace(),
        "cluster.x-k8s.io/machine": machine.name(),
        "cluster.x-k8s.io/owner-kind": owner.map(|owner| owner.kind.clone()),
        "cluster.x-k8s.io/owner-name": owner.map(|owner| owner.name.clone()),
    }}});
    if tainted {
        let left: Vec<_> = taints.into_iter().filter(|taint| taint.key != UNINITIALIZED).collect();
        body["spec"]["taints"] = json!(left);
    }
    plan.last.push(Step::Remote(RemoteStep::PatchNode(name, body)));
}

/// Labels that go from a Machine to its Node.
fn synced(key: &str) -> bool {
    let domain = key.split('/').next().unwrap_or_default();
    domain == "node-role.kubernetes.io"
        || domain == "node-restriction.kubernetes.io"
        || domain.ends_with(".node-restriction.kubernetes.io")
        || domain == "node.cluster.x-k8s.io"
        || domain.ends_with(".node.cluster.x-k8s.io")
}

fn status(
    machine: &DynamicObject,
    phase: &str,
    bootstrapped: bool,
    infra: Option<&DynamicObject>,
    node: Option<&Node>,
) -> Value {
    let mut status = Map::new();
    status.insert("phase".to_owned(), phase.into());
    if machine.text("/status/phase") != Some(phase) {
        let now = lattice_protocol::clock::to_seconds(lattice_protocol::clock::now());
        status.insert("lastUpdated".to_owned(), now.to_string().into());
    }
    let mut initialization = Map::new();
    if bootstrapped {
        initialization.insert("bootstrapDataSecretCreated".to_owned(), true.into());
    }
    if let Some(infra) = infra {
        initialization.insert("infrastructureProvisioned".to_owned(), true.into());
        if let Some(addresses) = infra.at("/status/addresses") {
            status.insert("addresses".to_owned(), addresses.clone());
        }
    }
    if !initialization.is_empty() {
        status.insert("initialization".to_owned(), Value::Object(initialization));
    }
    if let Some(node) = node {
        status.insert("nodeRef".to_owned(), json!({"name": node.metadata.name}));
        if let Some(info) = node.status.as_ref().and_then(|status| status.node_info.as_ref()) {
            let mut info = serde_json::to_value(info).unwrap_or_default();
            if let Some(info) = info.as_object_mut() {
                info.remove("swap");
            }
            status.insert("nodeInfo".to_owned(), info);
        }
    }
    Value::Object(status)
}
