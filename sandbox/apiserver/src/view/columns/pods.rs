//! The columns of pods, whose status is the reason that tells most.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NONE, ago, or};
use crate::json;
use crate::meta;

pub(super) const COLUMNS: &[Column] = &[
    Column("Ready", "string", 0, ready),
    Column("Status", "string", 0, |o, _| status(o).into()),
    Column("Restarts", "string", 0, restarts),
    AGE,
    Column("IP", "string", 1, |o, _| or(json::text(o, &["status", "podIP"]), NONE)),
    Column("Node", "string", 1, |o, _| or(json::text(o, &["spec", "nodeName"]), NONE)),
    Column("Nominated Node", "string", 1, |o, _| or(json::text(o, &["status", "nominatedNodeName"]), NONE)),
    Column("Readiness Gates", "string", 1, gates),
];

fn ready(object: &Value, _: Timestamp) -> Value {
    let total = json::list(object, &["spec", "containers"]).len();
    let ready = json::list(object, &["status", "containerStatuses"]).iter().filter(|c| c["ready"] == true).count();
    format!("{ready}/{total}").into()
}

fn restarts(object: &Value, now: Timestamp) -> Value {
    let statuses = json::list(object, &["status", "containerStatuses"]);
    let total: i64 = statuses.iter().filter_map(|container| container["restartCount"].as_i64()).sum();
    let last = statuses
        .iter()
        .map(|container| json::text(container, &["lastState", "terminated", "finishedAt"]))
        .max()
        .unwrap_or_default();
    if total == 0 || last.is_empty() {
        total.to_string().into()
    } else {
        format!("{total} ({} ago)", ago(last, now)).into()
    }
}

fn gates(object: &Value, _: Timestamp) -> Value {
    let gates = json::list(object, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return NONE.into();
    }
    let conditions = json::list(object, &["status", "conditions"]);
    let met = gates
        .iter()
        .filter(|gate| conditions.iter().any(|c| c["type"] == gate["conditionType"] && c["status"] == "True"))
        .count();
    format!("{met}/{}", gates.len()).into()
}

/// Says a pod's state in one word, as `kubectl get` does.
fn status(object: &Value) -> String {
    let phase = json::text(object, &["status", "phase"]);
    let reason = json::text(object, &["status", "reason"]);
    let mut out = if reason.is_empty() { phase } else { reason }.to_owned();
    if let Some(initial) = initialising(object) {
        out = initial;
    } else {
        let mut running = false;
        for container in json::list(object, &["status", "containerStatuses"]).iter().rev() {
            let waiting = json::text(container, &["state", "waiting", "reason"]);
            let ended = json::text(container, &["state", "terminated", "reason"]);
            if !waiting.is_empty() {
                waiting.clone_into(&mut out);
            } else if !ended.is_empty() {
                ended.clone_into(&mut out);
            } else if let Some(end) = json::at(container, &["state", "terminated"]) {
                out = format!("ExitCode:{}", end["exitCode"]);
            } else if container["ready"] == true && json::at(container, &["state", "running"]).is_some() {
                running = true;
            }
        }
        if out == "Completed" && running {
            "Running".clone_into(&mut out);
        }
    }
    if meta::is_deleting(object) && !matches!(phase, "Succeeded" | "Failed") {
        "Terminating".clone_into(&mut out);
    }
    out
}

fn initialising(object: &Value) -> Option<String> {
    let total = json::list(object, &["spec", "initContainers"]).len();
    for (index, container) in json::list(object, &["status", "initContainerStatuses"]).iter().enumerate() {
        if json::at(container, &["state", "terminated", "exitCode"]).is_some_and(|code| *code == 0)
            || container["started"] == true
        {
            continue;
        }
        let ended = json::text(container, &["state", "terminated", "reason"]);
        let waiting = json::text(container, &["state", "waiting", "reason"]);
        if !ended.is_empty() {
            return Some(format!("Init:{ended}"));
        }
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return Some(format!("Init:{waiting}"));
        }
        return Some(format!("Init:{index}/{total}"));
    }
    None
}
