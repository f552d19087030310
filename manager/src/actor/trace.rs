//! The trace of an operation: one root, a child per phase, and below a phase its effects, installs and gates.
//!
//! Root and phases live longer than a process may: their ids are made from the operation's `traceparent` and their names,
//! and they are exported as finished spans by whoever ends them, from the times in the status.

use jiff::Timestamp;
use lattice_protocol::telemetry::{Exporter, Finished, Traceparent};

use crate::api::{LatticeCluster, LatticeClusterStatus, Operation, OperationStep, OperationType};

/// The span that work done now belongs to: the running step of the running operation.
pub(super) fn current_step(status: &LatticeClusterStatus) -> Option<Traceparent> {
    let operation = status.operation.as_ref().filter(|operation| operation.finished_at.is_none())?;
    let root = root(operation)?;
    let step = operation.steps.iter().rev().find(|step| step.finished_at.is_none());
    Some(step.map_or(root, |step| at_step(&root, step)))
}

/// The operation's root span.
pub(super) fn root(operation: &Operation) -> Option<Traceparent> {
    operation.traceparent.as_deref()?.parse().ok()
}

/// Exports the steps that ended between two statuses, and the operation's root if it ended.
pub(super) fn export_ended(
    exporter: &Exporter,
    cluster: &LatticeCluster,
    before: Option<&LatticeClusterStatus>,
    after: &LatticeClusterStatus,
) {
    let Some(operation) = &after.operation else { return };
    let Some(at) = root(operation) else { return };
    let old = before.and_then(|status| status.operation.as_ref()).filter(|old| old.id == operation.id);
    for step in operation.steps.iter().filter(|step| step.finished_at.is_some()) {
        let was_ended = old.is_some_and(|old| {
            old.steps.iter().any(|s| s.name == step.name && s.started_at == step.started_at && s.finished_at.is_some())
        });
        if !was_ended {
            exporter.export(step_span(cluster, &at, step));
        }
    }
    let was_ended = old.is_some_and(|old| old.finished_at.is_some());
    if let Some(end) = operation.finished_at.as_ref().filter(|_| !was_ended) {
        let mut attributes = attributes(cluster);
        attributes.push(("operation.id", operation.id.clone()));
        exporter.export(Finished {
            name: root_name(operation.type_),
            at,
            parent: None,
            start: operation.started_at.0,
            end: end.0,
            error: None,
            attributes,
            links: Vec::new(),
        });
    }
}

/// Attributes of every span about a cluster: its ids, and the labels that a person gave it for this.
pub(super) fn attributes(cluster: &LatticeCluster) -> Vec<(&'static str, String)> {
    let meta = &cluster.metadata;
    let labels = meta.labels.iter().flatten().filter(|(key, _)| key.starts_with("lattice.dev/"));
    let labels = labels.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    let mut attributes = vec![
        ("cluster.name", meta.name.clone().unwrap_or_default()),
        ("cluster.uid", meta.uid.clone().unwrap_or_default()),
    ];
    if !labels.is_empty() {
        attributes.push(("cluster.labels", labels));
    }
    attributes
}

/// A finished span below `parent`, whose id anybody can make again from its name and subject.
pub(super) fn child(
    name: &'static str,
    subject: &str,
    parent: &Traceparent,
    (start, end): (Timestamp, Timestamp),
    attributes: Vec<(&'static str, String)>,
) -> Finished {
    let at = parent.named_child(&format!("{name}/{subject}"));
    Finished { name, at, parent: Some(*parent), start, end, error: None, attributes, links: Vec::new() }
}

fn step_span(cluster: &LatticeCluster, root: &Traceparent, step: &OperationStep) -> Finished {
    let end = step.finished_at.as_ref().map_or(step.started_at.0, |end| end.0);
    let mut attributes = attributes(cluster);
    attributes.push(("cluster.phase", step.name.clone()));
    Finished {
        name: step_name(&step.name),
        at: at_step(root, step),
        parent: Some(*root),
        start: step.started_at.0,
        end,
        error: None,
        attributes,
        links: Vec::new(),
    }
}

fn at_step(root: &Traceparent, step: &OperationStep) -> Traceparent {
    root.named_child(&format!("{}/{}", step.name, step.started_at.0))
}

fn root_name(type_: OperationType) -> &'static str {
    match type_ {
        OperationType::Provision => "cluster.provision",
        OperationType::Scale => "cluster.scale",
        OperationType::Upgrade => "cluster.upgrade",
        OperationType::Delete => "cluster.delete",
        OperationType::Pivot => "cluster.pivot",
    }
}

/// Span names are static; a step of a deletion is no phase.
fn step_name(step: &str) -> &'static str {
    match step {
        "Pending" => "phase.pending",
        "Provisioning" => "phase.provisioning",
        "Bootstrapping" => "phase.bootstrapping",
        "Ready" => "phase.ready",
        "Scaling" => "phase.scaling",
        "Upgrading" => "phase.upgrading",
        "Deleting" => "phase.deleting",
        _ => "operation.step",
    }
}
