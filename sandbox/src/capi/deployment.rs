//! The MachineDeployment controller: one MachineSet, replaced one machine at a time when the template changes.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::clones::object;
use super::cluster::machines as sum_machines;
use super::conditions::{Condition, Status};
use super::kind::Kind;
use super::object::{CLUSTER_LABEL, Look as _, by_age, owner, suffix};
use super::plan::{Plan, Step, paused, with_owner};
use super::view::View;

const FINALIZER: &str = "cluster.x-k8s.io/machinedeployment";
const REVISION: &str = "machinedeployment.clusters.x-k8s.io/revision";
const DESIRED: &str = "machinedeployment.clusters.x-k8s.io/desired-replicas";
const MAX: &str = "machinedeployment.clusters.x-k8s.io/max-replicas";
/// Label that tells the Machines of one template from those of another.
const HASH_LABEL: &str = "machine-template-hash";

pub(crate) fn decide(deployment: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    if !deployment.has_finalizer(FINALIZER) {
        return if deployment.deleting() { Plan::default() } else { Plan::finalizer(deployment, FINALIZER) };
    }
    let Some(cluster) = view.cluster(deployment) else { return Plan::default() };
    let (pause, alone) = paused(deployment, Some(&cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let mut sets = view.cache.list(Kind::Set, deployment.namespace());
    sets.retain(|set| set.owned_by(Kind::Deployment, deployment.name(), true));
    sets.sort_by(|a, b| by_age(a, b));
    let machines: Vec<_> = sets.iter().flat_map(|set| view.owned_machines(Kind::Set, set)).collect();
    let mut plan = Plan::default();
    let mut rolling = false;
    let deleting = if deployment.deleting() {
        delete(&mut plan, deployment, &sets, &machines)
    } else {
        adopt_templates(&mut plan, deployment, &cluster, view);
        rolling = reconcile_sets(&mut plan, deployment, &cluster, &sets, view);
        if !deployment.owned_by(Kind::Cluster, cluster.name(), false) {
            plan.own(deployment, &owner(Kind::Cluster, &cluster, false));
        }
        if deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION)).is_none() {
            plan.merge_body(json!({"metadata": {"annotations": {REVISION: "1"}}}));
        }
        Condition::flag("Deleting", false, "")
    };
    plan.conditions = conditions(deployment, &sets, &machines, rolling);
    plan.conditions.push(pause);
    plan.conditions.push(deleting);
    if plan.body.as_ref().is_none_or(|body| body["metadata"].get("finalizers").is_none()) {
        plan.status = Some(status(deployment, &cluster, &sets, &machines));
    }
    plan
}

/// Ties the templates to the Cluster, so that they go with it.
fn adopt_templates(plan: &mut Plan, deployment: &DynamicObject, cluster: &DynamicObject, view: &View<'_>) {
    for pointer in ["/spec/template/spec/infrastructureRef", "/spec/template/spec/bootstrap/configRef"] {
        if let Some((kind, template)) = view.referred(deployment, pointer)
            && !template.owned_by(Kind::Cluster, cluster.name(), false)
        {
            let owners = with_owner(&template, &owner(Kind::Cluster, cluster, false));
            plan.steps.push(Step::Patch(kind, template, json!({"metadata": {"ownerReferences": owners}})));
        }
    }
}

/// Makes the MachineSet of the current template and moves replicas to it. Tells whether a roll-out goes on.
fn reconcile_sets(
    plan: &mut Plan,
    deployment: &DynamicObject,
    cluster: &DynamicObject,
    sets: &[Arc<DynamicObject>],
    view: &View<'_>,
) -> bool {
    let wanted = replicas(deployment);
    let fingerprint = fingerprint(deployment);
    let current = |set: &&Arc<DynamicObject>| self::fingerprint(set) == fingerprint;
    let Some(new) = sets.iter().find(current) else {
        let start = if sets.is_empty() { wanted } else { 0 };
        create_set(plan, deployment, cluster, &fingerprint, start);
        return !sets.is_empty();
    };
    let old: Vec<_> = sets.iter().filter(|set| !current(set)).collect();
    let new_replicas = replicas(new);
    if old.is_empty() {
        resize(plan, new, wanted, wanted);
        return false;
    }
    let total: i64 = sets.iter().map(|set| replicas(set)).sum();
    let existing: i64 = sets.iter().map(|set| set.number("/status/replicas").unwrap_or(0)).sum();
    if new_replicas < wanted && total <= wanted && existing <= wanted {
        resize(plan, new, new_replicas + 1, wanted);
    }
    let available: i64 = sets.iter().map(|set| set.number("/status/availableReplicas").unwrap_or(0)).sum();
    let surplus = old.iter().find(|set| replicas(set) > 0);
    if let Some(set) = surplus.filter(|_| available > wanted && total > wanted) {
        resize(plan, set, replicas(set) - 1, wanted);
    }
    if new_replicas >= wanted {
        for set in old.iter().filter(|set| view.owned_machines(Kind::Set, set).is_empty() && replicas(set) == 0) {
            plan.last.push(Step::Delete(Kind::Set, set.name().to_owned()));
        }
    }
    old.iter().any(|set| !view.owned_machines(Kind::Set, set).is_empty()) || new_replicas < wanted
}

fn resize(plan: &mut Plan, set: &Arc<DynamicObject>, replicas: i64, desired: i64) {
    let body = json!({
        "metadata": {"annotations": {DESIRED: desired.to_string(), MAX: (desired + 1).to_string()}},
        "spec": {"replicas": replicas},
    });
    plan.steps.push(Step::Patch(Kind::Set, Arc::clone(set), body));
}

fn create_set(plan: &mut Plan, deployment: &DynamicObject, cluster: &DynamicObject, fingerprint: &str, replicas: i64) {
    let suffix = suffix();
    let name = format!("{}-{suffix}", deployment.name());
    let hash = format!("{fingerprint}-{suffix}");
    let mut labels = object(deployment.at("/spec/template/metadata/labels"));
    labels.insert(CLUSTER_LABEL.to_owned(), cluster.name().into());
    labels.insert("cluster.x-k8s.io/deployment-name".to_owned(), deployment.name().into());
    labels.insert(HASH_LABEL.to_owned(), hash.clone().into());
    let mut selector = object(deployment.at("/spec/selector/matchLabels"));
    selector.insert(HASH_LABEL.to_owned(), hash.into());
    let mut template = deployment.at("/spec/template").cloned().unwrap_or_else(|| json!({}));
    template["metadata"]["labels"] = Value::Object(labels.clone());
    let desired = self::replicas(deployment);
    let mut spec = json!({
        "clusterName": cluster.name(), "replicas": replicas,
        "selector": {"matchLabels": selector}, "template": template,
    });
    if let Some(order) = deployment.at("/spec/deletion/order") {
        spec["deletion"]["order"] = order.clone();
    }
    plan.steps.push(Step::Create(
        Kind::Set,
        json!({
            "metadata": {
                "name": name, "labels": labels,
                "annotations": {
                    "cluster.x-k8s.io/disable-machine-create": "false", REVISION: "1",
                    DESIRED: desired.to_string(), MAX: (desired + 1).to_string(),
                },
                "ownerReferences": [owner(Kind::Deployment, deployment, true)],
            },
            "spec": spec,
        }),
    ));
    let message = format!("Created MachineSet {}/{name} with {replicas} replicas", deployment.namespace());
    plan.steps.push(Step::Note(super::plan::Note { warning: false, reason: "SuccessfulCreate", message }));
}

/// What in the template makes other machines: all but labels, and what is changed in place.
fn fingerprint(deployment: &DynamicObject) -> String {
    let mut spec = object(deployment.at("/spec/template/spec"));
    for in_place in ["deletion", "minReadySeconds", "readinessGates", "taints"] {
        spec.remove(in_place);
    }
    let digest = Sha256::digest(Value::Object(spec).to_string().as_bytes());
    digest.iter().take(4).map(ToString::to_string).collect::<String>().chars().take(8).collect()
}

fn delete(
    plan: &mut Plan,
    deployment: &DynamicObject,
    sets: &[Arc<DynamicObject>],
    machines: &[Arc<DynamicObject>],
) -> Condition {
    for set in sets.iter().filter(|set| !set.deleting()) {
        plan.steps.push(Step::Delete(Kind::Set, set.name().to_owned()));
    }
    let message = if !machines.is_empty() {
        format!("Deleting {} Machines", machines.len())
    } else if !sets.is_empty() {
        format!("Deleting {} MachineSets", sets.len())
    } else {
        plan.body = Plan::without_finalizer(deployment, FINALIZER).body;
        "Deletion completed".to_owned()
    };
    Condition::new("Deleting", Status::True, "Deleting", message)
}

fn conditions(
    deployment: &DynamicObject,
    sets: &[Arc<DynamicObject>],
    machines: &[Arc<DynamicObject>],
    rolling: bool,
) -> Vec<Condition> {
    let wanted = if deployment.deleting() { 0 } else { replicas(deployment) };
    let have = counted(deployment, sets, machines);
    vec![
        available(deployment, sets),
        Condition::flag("RollingOut", rolling, "Rolling out Machines that are not up to date"),
        Condition::flag("Remediating", false, ""),
        Condition::flag("ScalingDown", have > wanted, format!("Scaling down from {have} to {wanted} replicas")),
        Condition::flag("ScalingUp", have < wanted, format!("Scaling up from {have} to {wanted} replicas")),
        sum_machines("MachinesReady", "Ready", machines),
        sum_machines("MachinesUpToDate", "UpToDate", machines),
    ]
}

fn available(deployment: &DynamicObject, sets: &[Arc<DynamicObject>]) -> Condition {
    let name = "Available";
    let known: Vec<i64> = sets.iter().filter_map(|set| set.number("/status/availableReplicas")).collect();
    if known.is_empty() {
        return Condition::unknown(name, "WaitingForAvailableReplicasSet", "Waiting for status.availableReplicas set");
    }
    if deployment.deleting() && known.iter().sum::<i64>() == 0 {
        return Condition::no(name, "NotAvailable", "Deletion in progress");
    }
    let (have, wanted) = (known.iter().sum::<i64>(), replicas(deployment));
    if have >= wanted {
        return Condition::yes(name, "Available");
    }
    Condition::no(
        name,
        "NotAvailable",
        format!(
            "{have} available replicas, at least {wanted} required (spec.strategy.rollout.maxUnavailable is 0, \
             spec.replicas is {wanted})"
        ),
    )
}

/// Counters are those of the sets; what nobody has counted stays absent.
fn status(
    deployment: &DynamicObject,
    cluster: &DynamicObject,
    sets: &[Arc<DynamicObject>],
    machines: &[Arc<DynamicObject>],
) -> Value {
    let mut status = Map::new();
    for field in ["replicas", "readyReplicas", "availableReplicas", "upToDateReplicas"] {
        let known: Vec<i64> = sets.iter().filter_map(|set| set.number(&format!("/status/{field}"))).collect();
        if !known.is_empty() {
            status.insert(field.to_owned(), known.iter().sum::<i64>().into());
        }
    }
    let have = counted(deployment, sets, machines);
    for field in ["replicas", "upToDateReplicas"] {
        if let Some(count) = status.get_mut(field) {
            *count = count.as_i64().unwrap_or(0).min(have).into();
        }
    }
    let wanted = if deployment.deleting() { 0 } else { replicas(deployment) };
    let phase = match have.cmp(&wanted) {
        std::cmp::Ordering::Less => "ScalingUp",
        std::cmp::Ordering::Greater => "ScalingDown",
        std::cmp::Ordering::Equal => "Running",
    };
    status.insert("phase".to_owned(), phase.into());
    status.insert("observedGeneration".to_owned(), deployment.generation().into());
    let mut selector = vec![format!("{CLUSTER_LABEL}={}", cluster.name())];
    for (key, value) in object(deployment.at("/spec/selector/matchLabels")) {
        if key != CLUSTER_LABEL {
            selector.push(format!("{key}={}", value.as_str().unwrap_or_default()));
        }
    }
    status.insert("selector".to_owned(), selector.join(",").into());
    Value::Object(status)
}

fn replicas(object: &DynamicObject) -> i64 {
    object.number("/spec/replicas").unwrap_or(1)
}

/// Machines that the sets have counted; as before while new ones have not reported yet.
fn counted(deployment: &DynamicObject, sets: &[Arc<DynamicObject>], machines: &[Arc<DynamicObject>]) -> i64 {
    if machines.iter().any(|machine| machine.condition("Ready").is_none()) {
        return deployment.number("/status/replicas").unwrap_or(0);
    }
    sets.iter().filter_map(|set| set.number("/status/replicas")).sum()
}
