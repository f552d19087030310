//! A Machine's conditions.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::DynamicObject;
use serde_json::Value;

use super::super::conditions::{Condition, Status, summary};
use super::super::kind::Kind;
use super::super::object::Look as _;
use super::super::view::View;
use super::Parts;

/// All conditions but `UpToDate`, `Paused` and `Deleting`.
pub(super) fn conditions(
    machine: &DynamicObject,
    cluster: &DynamicObject,
    parts: &Parts,
    deleting: &Condition,
    view: &View<'_>,
) -> Vec<Condition> {
    let bootstrap = mirror(
        "BootstrapConfigReady",
        machine,
        "/spec/bootstrap/configRef/kind",
        parts.bootstrap.as_ref(),
        "dataSecretCreated",
    );
    let infra =
        mirror("InfrastructureReady", machine, "/spec/infrastructureRef/kind", parts.infra.as_ref(), "provisioned");
    let [ready, healthy] = node(machine, cluster, parts, view);
    let mut needed = vec![
        match deleting.status {
            Status::True => {
                let message = format!("Machine deletion in progress, stage: {}", deleting.reason);
                Condition { message, ..deleting.clone() }
            }
            _ => deleting.clone(),
        },
        bootstrap.clone(),
        infra.clone(),
        healthy.clone(),
    ];
    if let Some(check) = machine.condition("HealthCheckSucceeded") {
        needed.push(Condition::read(check));
    }
    for gate in machine.at("/spec/readinessGates").and_then(Value::as_array).into_iter().flatten() {
        let name = gate.get("conditionType").and_then(Value::as_str).unwrap_or_default();
        needed.push(match machine.condition(name) {
            Some(value) => Condition::read(value),
            None => Condition::unknown(name, "NotYetReported", format!("Condition {name} not yet reported")),
        });
    }
    let sum = summary("Ready", &needed, &["Deleting"], ["Ready", "NotReady", "ReadyUnknown"]);
    vec![available(machine, &sum, view), sum, bootstrap, infra, healthy, ready, Condition::flag("Updating", false, "")]
}

/// Mirrors the condition `Ready` of a part, or says what its status lacks.
fn mirror(
    name: &str,
    machine: &DynamicObject,
    kind: &str,
    part: Option<&(Kind, Arc<DynamicObject>)>,
    initialization: &str,
) -> Condition {
    let Some((kind, object)) = part else {
        let kind = machine.text(kind).unwrap_or("object");
        return if machine.deleting() || machine.condition(name).is_some() {
            Condition::no(name, "ObjectDeleted", format!("{kind} has been deleted"))
        } else {
            Condition::no(name, "ObjectDoesNotExist", format!("{kind} does not exist"))
        };
    };
    match object.condition("Ready").map(Condition::read) {
        Some(ready) => {
            let reason = match ready.status {
                Status::True => "Ready",
                Status::False => "NotReady",
                Status::Unknown => "ReadyUnknown",
            };
            Condition { reason: reason.to_owned(), ..ready.renamed(name) }
        }
        None if object.flag(&format!("/status/initialization/{initialization}")) => Condition::yes(name, "Ready"),
        None => {
            let message = format!("{} status.initialization.{initialization} is false", kind.name());
            Condition::no(name, "NotReady", message)
        }
    }
}

/// `NodeReady` and `NodeHealthy`.
fn node(machine: &DynamicObject, cluster: &DynamicObject, parts: &Parts, view: &View<'_>) -> [Condition; 2] {
    let both = |status, reason: &str, message: &str| {
        [Condition::new("NodeReady", status, reason, message), Condition::new("NodeHealthy", status, reason, message)]
    };
    let infra = machine.text("/spec/infrastructureRef/kind").unwrap_or("infrastructure");
    let known = machine.text("/status/nodeRef/name");
    if let Some(name) = known.filter(|_| parts.node.is_none()) {
        if !view.remote.connected {
            return keep(machine).unwrap_or_else(|| both(Status::Unknown, "ConnectionDown", "The connection is down"));
        }
        return both(Status::False, "NodeDeleted", &format!("Node {name} has been deleted"));
    }
    if !cluster.flag("/status/initialization/controlPlaneInitialized") {
        return both(Status::Unknown, "InspectionFailed", "Waiting for Cluster control plane to be initialized");
    }
    if let Some(node) = &parts.node {
        return of_node(node);
    }
    let id = machine.text("/spec/providerID");
    let message = match id {
        None => format!("Waiting for {infra} to report spec.providerID"),
        Some(id) => format!("Waiting for a Node with spec.providerID {id} to exist"),
    };
    both(Status::Unknown, "InspectionFailed", &message)
}

/// The two conditions as they are stored.
fn keep(machine: &DynamicObject) -> Option<[Condition; 2]> {
    let read = |name: &str| machine.condition(name).map(Condition::read);
    Some([read("NodeReady")?, read("NodeHealthy")?])
}

fn of_node(node: &Node) -> [Condition; 2] {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = Condition::unknown("NodeReady", "NodeReadyUnknown", "Node.Ready is not reported");
    let mut bad = Vec::new();
    for condition in conditions {
        let message = condition.message.clone().unwrap_or_default();
        let good = if condition.type_ == "Ready" { "True" } else { "False" };
        if condition.type_ == "Ready" {
            ready = match condition.status.as_str() {
                "True" => Condition::yes("NodeReady", "NodeReady"),
                "False" => Condition::no("NodeReady", "NodeNotReady", message.clone()),
                _ => Condition::unknown("NodeReady", "NodeReadyUnknown", message.clone()),
            };
        }
        let watched = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"].contains(&condition.type_.as_str());
        if watched && condition.status != good {
            bad.push((condition.status.clone(), format!("* Node.{}: {message}", condition.type_)));
        }
    }
    let healthy = if bad.is_empty() && ready.status == Status::True {
        Condition::yes("NodeHealthy", "NodeHealthy")
    } else {
        let unknown = bad.iter().all(|(status, _)| status == "Unknown");
        let text = bad.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        if unknown {
            Condition::unknown("NodeHealthy", "NodeHealthUnknown", text)
        } else {
            Condition::no("NodeHealthy", "NodeNotHealthy", text)
        }
    };
    [ready, healthy]
}

fn available(machine: &DynamicObject, ready: &Condition, view: &View<'_>) -> Condition {
    if ready.status != Status::True {
        return Condition::no("Available", "NotReady", "");
    }
    let wait = machine.number("/spec/minReadySeconds").unwrap_or(0);
    if wait > 0 && (machine.is("Ready") != Some("True") || min_ready(machine, view).is_some()) {
        return Condition::no("Available", "WaitingForMinReadySeconds", "");
    }
    Condition::yes("Available", "Available")
}

/// What is left of `minReadySeconds`, for a Machine that is Ready and not Available.
pub(super) fn min_ready(machine: &DynamicObject, view: &View<'_>) -> Option<Duration> {
    let wait = machine.number("/spec/minReadySeconds").filter(|wait| *wait > 0)?;
    let ready = machine.condition("Ready").filter(|ready| ready["status"] == "True")?;
    let since: jiff::Timestamp = ready["lastTransitionTime"].as_str()?.parse().ok()?;
    let passed: Duration = view.now.duration_since(since).try_into().unwrap_or(Duration::ZERO);
    let left = view.pace.after(f64::from(u32::try_from(wait).unwrap_or(u32::MAX))).saturating_sub(passed);
    (!left.is_zero()).then_some(left)
}
