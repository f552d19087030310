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

/// Exports the steps that ended between two statuses, and the operation's root if it ended. An operation that another one
/// replaced ends with the other's begin: its children would else have no parent.
///
/// `resumed`: this is the first look of an actor that goes on with what another began. Whether the last spans of that one
/// left, nobody knows, so the steps of a running operation are exported once more, with the same ids.
pub(super) fn export_ended(
    exporter: &Exporter,
    cluster: &LatticeCluster,
    before: Option<&LatticeClusterStatus>,
    after: &LatticeClusterStatus,
    resumed: bool,
) {
    if exporter.is_on() {
        for span in ended(cluster, before, after, resumed) {
            exporter.export(span);
        }
    }
}

fn ended(
    cluster: &LatticeCluster,
    before: Option<&LatticeClusterStatus>,
    after: &LatticeClusterStatus,
    resumed: bool,
) -> Vec<Finished> {
    let old = before.and_then(|status| status.operation.as_ref());
    let known = |old: &&Operation| !resumed || old.finished_at.is_some();
    let mut spans = Vec::new();
    let Some(operation) = &after.operation else { return spans };
    if let Some(replaced) = old.filter(|old| old.id != operation.id && old.finished_at.is_none()) {
        let at = &operation.started_at;
        let mut closed = Operation { finished_at: Some(at.clone()), ..replaced.clone() };
        for step in closed.steps.iter_mut().filter(|step| step.finished_at.is_none()) {
            step.finished_at = Some(at.clone());
        }
        let why = format!("replaced by {}", root_name(operation.type_));
        spans.extend(ended_of(cluster, Some(replaced).filter(known), &closed, Some(why)));
    }
    let same = old.filter(known).filter(|old| old.id == operation.id);
    spans.extend(ended_of(cluster, same, operation, None));
    spans
}

/// The spans of one operation that ended since `old`.
fn ended_of(
    cluster: &LatticeCluster,
    old: Option<&Operation>,
    operation: &Operation,
    error: Option<String>,
) -> Vec<Finished> {
    let Some(at) = root(operation) else { return Vec::new() };
    let was_ended = |step: &OperationStep| {
        old.is_some_and(|old| {
            old.steps.iter().any(|s| s.name == step.name && s.started_at == step.started_at && s.finished_at.is_some())
        })
    };
    let steps = operation.steps.iter().filter(|step| step.finished_at.is_some() && !was_ended(step));
    let mut spans: Vec<Finished> = steps.map(|step| step_span(cluster, &at, step)).collect();
    let root_was_ended = old.is_some_and(|old| old.finished_at.is_some());
    if let Some(end) = operation.finished_at.as_ref().filter(|_| !root_was_ended) {
        let mut attributes = attributes(cluster);
        attributes.push(("operation.id", operation.id.clone()));
        spans.push(Finished {
            name: root_name(operation.type_),
            at,
            parent: None,
            start: operation.started_at.0,
            end: end.0,
            error,
            attributes,
            links: Vec::new(),
        });
    }
    spans
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

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn time(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a time"))
    }

    fn step(name: &str, start: i64, end: Option<i64>) -> OperationStep {
        OperationStep { name: name.into(), started_at: time(start), finished_at: end.map(time) }
    }

    fn status(type_: OperationType, id: &str, steps: Vec<OperationStep>, end: Option<i64>) -> LatticeClusterStatus {
        let operation = Operation {
            type_,
            id: id.into(),
            started_at: time(1),
            finished_at: end.map(time),
            steps,
            traceparent: Some(format!("00-{id:0>32}-00f067aa0ba902b7-01")),
            eta: None,
        };
        LatticeClusterStatus { operation: Some(operation), ..LatticeClusterStatus::default() }
    }

    fn cluster() -> LatticeCluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "lattice.dev/v1alpha1", "kind": "LatticeCluster",
            "metadata": {"name": "backend", "uid": "u", "labels": {"lattice.dev/role": "backend", "other": "x"}},
            "spec": {
                "latticeImage": "i", "providerRef": "p",
                "provider": {"kubernetes": {"version": "1.32.0"}, "config": {"docker": {}}},
                "nodes": {"controlPlane": {"replicas": 1}},
            },
        }))
        .expect("a cluster")
    }

    #[test]
    fn a_step_is_exported_when_it_ends_and_never_again() {
        let provision = |end| status(OperationType::Provision, "a", vec![step("Pending", 1, end)], None);
        let (before, after) = (provision(None), provision(Some(2)));
        let spans = ended(&cluster(), Some(&before), &after, false);
        assert_eq!(spans.iter().map(|span| span.name).collect::<Vec<_>>(), ["phase.pending"]);
        assert!(ended(&cluster(), Some(&after), &after, false).is_empty());
    }

    #[test]
    fn a_successor_exports_the_steps_of_a_running_operation_once_more() {
        let runs = status(OperationType::Provision, "a", vec![step("Pending", 1, Some(2))], None);
        assert_eq!(ended(&cluster(), Some(&runs), &runs, true).len(), 1);
        let done = status(OperationType::Provision, "a", vec![step("Pending", 1, Some(2))], Some(2));
        assert!(ended(&cluster(), Some(&done), &done, true).is_empty(), "a restart in steady state exports nothing");
    }

    #[test]
    fn a_successor_makes_the_same_ids() {
        let after = status(OperationType::Provision, "a", vec![step("Pending", 1, Some(2))], Some(3));
        let ids = |spans: Vec<Finished>| spans.iter().map(|span| span.at.span_id()).collect::<Vec<_>>();
        assert_eq!(ids(ended(&cluster(), None, &after, false)), ids(ended(&cluster(), None, &after, false)));
        let spans = ended(&cluster(), None, &after, false);
        assert_eq!(
            spans[0].parent.map(|parent| parent.span_id()),
            Some(spans[1].at.span_id()),
            "phases hang below the root"
        );
    }

    #[test]
    fn an_operation_that_another_replaces_leaves_no_orphans() {
        let before = status(OperationType::Provision, "a", vec![step("Provisioning", 1, None)], None);
        let after = status(OperationType::Delete, "b", vec![step("Deleting", 5, None)], None);
        let spans = ended(&cluster(), Some(&before), &after, false);
        let names: Vec<_> = spans.iter().map(|span| (span.name, span.error.clone())).collect();
        let why = Some("replaced by cluster.delete".to_owned());
        assert_eq!(names, [("phase.provisioning", None), ("cluster.provision", why)]);
    }

    #[test]
    fn only_our_labels_go_to_spans() {
        let labels = attributes(&cluster()).into_iter().find(|(key, _)| *key == "cluster.labels");
        assert_eq!(labels.map(|(_, value)| value).as_deref(), Some("lattice.dev/role=backend"));
    }
}
