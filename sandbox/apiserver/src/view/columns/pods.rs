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
    Column("IP", "string", 1, |o, _| {
        let first = json::list(o, &["status", "podIPs"]).first().map_or("", |first| json::text(first, &["ip"]));
        or(if first.is_empty() { json::text(o, &["status", "podIP"]) } else { first }, NONE)
    }),
    Column("Node", "string", 1, |o, _| or(json::text(o, &["spec", "nodeName"]), NONE)),
    Column("Nominated Node", "string", 1, |o, _| or(json::text(o, &["status", "nominatedNodeName"]), NONE)),
    Column("Readiness Gates", "string", 1, gates),
];

/// Says whether a container that runs first goes on beside the others.
fn is_sidecar(object: &Value, name: &Value) -> bool {
    let container = json::list(object, &["spec", "initContainers"]).iter().find(|container| container["name"] == *name);
    container.is_some_and(|container| container["restartPolicy"] == "Always")
}

fn ready(object: &Value, _: Timestamp) -> Value {
    let first = json::list(object, &["spec", "initContainers"]).iter();
    let total = json::list(object, &["spec", "containers"]).len()
        + first.filter(|container| container["restartPolicy"] == "Always").count();
    let initial = initialising(object).is_some() && !initialised(object);
    let runs = |container: &&Value| container["ready"] == true && json::at(container, &["state", "running"]).is_some();
    let own = json::list(object, &["status", "containerStatuses"]).iter().filter(|_| !initial).filter(runs).count();
    let beside = json::list(object, &["status", "initContainerStatuses"]).iter();
    let beside = beside.filter(|container| container["ready"] == true && is_sidecar(object, &container["name"]));
    format!("{}/{total}", own + beside.count()).into()
}

/// Counts restarts: those of the containers that run first while they do, then those of the others.
fn restarts(object: &Value, now: Timestamp) -> Value {
    let initial = initialising(object).is_some() && !initialised(object);
    let first = json::list(object, &["status", "initContainerStatuses"]).iter();
    let first = first.filter(|container| initial || is_sidecar(object, &container["name"]));
    let own = json::list(object, &["status", "containerStatuses"]).iter().filter(|_| !initial);
    let statuses: Vec<&Value> = first.chain(own).collect();
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

fn holds(object: &Value, kind: &str) -> bool {
    let conditions = json::list(object, &["status", "conditions"]);
    conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Says whether the containers that run first are done, as far as the pod itself knows.
fn initialised(object: &Value) -> bool {
    holds(object, "Initialized")
}

/// Says a pod's state in one word, as `kubectl get` does.
fn status(object: &Value) -> String {
    let phase = json::text(object, &["status", "phase"]);
    let reason = json::text(object, &["status", "reason"]);
    let mut out = if reason.is_empty() { phase } else { reason }.to_owned();
    let gated = |condition: &Value| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated";
    if json::list(object, &["status", "conditions"]).iter().any(gated) {
        "SchedulingGated".clone_into(&mut out);
    }
    let initial = initialising(object);
    let stuck = initial.is_some() && !initialised(object);
    if let Some(initial) = initial {
        out = initial;
    }
    if !stuck {
        of_containers(object, &mut out);
    }
    if meta::is_deleting(object) && reason == "NodeLost" {
        "Unknown".clone_into(&mut out);
    } else if meta::is_deleting(object) && !matches!(phase, "Succeeded" | "Failed") {
        "Terminating".clone_into(&mut out);
    }
    out
}

/// Lets the containers speak for the pod; the first of those that have something to say wins.
fn of_containers(object: &Value, out: &mut String) {
    let (mut running, mut failed) = (false, String::new());
    for container in json::list(object, &["status", "containerStatuses"]).iter().rev() {
        let waiting = json::text(container, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            waiting.clone_into(out);
        } else if let Some(end) = json::at(container, &["state", "terminated"]) {
            *out = how_it_ended(end);
            if end["exitCode"] != 0 {
                failed.clone_from(out);
            }
        } else if container["ready"] == true && json::at(container, &["state", "running"]).is_some() {
            running = true;
        }
    }
    if out == "Completed" {
        if running && holds(object, "Ready") {
            "Running".clone_into(out);
        } else if !failed.is_empty() {
            *out = failed;
        } else if running {
            "NotReady".clone_into(out);
        }
    }
}

fn how_it_ended(end: &Value) -> String {
    let signal = end["signal"].as_i64().filter(|signal| *signal != 0);
    match (json::text(end, &["reason"]), signal) {
        ("", Some(signal)) => format!("Signal:{signal}"),
        ("", None) => format!("ExitCode:{}", end["exitCode"]),
        (reason, _) => reason.to_owned(),
    }
}

fn initialising(object: &Value) -> Option<String> {
    let total = json::list(object, &["spec", "initContainers"]).len();
    for (index, container) in json::list(object, &["status", "initContainerStatuses"]).iter().enumerate() {
        let ended = json::at(container, &["state", "terminated"]);
        if ended.is_some_and(|end| end["exitCode"] == 0)
            || (container["started"] == true && is_sidecar(object, &container["name"]))
        {
            continue;
        }
        let waiting = json::text(container, &["state", "waiting", "reason"]);
        return Some(match ended {
            Some(end) => format!("Init:{}", how_it_ended(end)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{total}"),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(object: &Value, wanted: (&str, &str, &str)) {
        let now = Timestamp::UNIX_EPOCH;
        let (ready, restarts) = (ready(object, now), restarts(object, now));
        assert_eq!((ready.as_str().unwrap(), status(object).as_str(), restarts.as_str().unwrap()), wanted);
    }

    #[test]
    fn a_pod_says_what_keeps_it() {
        let gated = json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}});
        check(&gated, ("0/1", "SchedulingGated", "0"));
        let killed = json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "restartCount": 3, "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}});
        check(&killed, ("0/1", "Init:Signal:9", "3"));
        let half = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": {"phase": "Running",
            "containerStatuses": [
                {"name": "a", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                {"name": "b", "ready": true, "restartCount": 0, "state": {"running": {}}}]}});
        check(&half, ("1/2", "NotReady", "0"));
    }

    #[test]
    fn a_sidecar_counts_as_a_container() {
        let pod = json!({"spec": {"containers": [{"name": "a"}],
            "initContainers": [{"name": "s", "restartPolicy": "Always"}]}, "status": {"phase": "Running",
            "initContainerStatuses": [
                {"name": "s", "ready": true, "started": true, "restartCount": 2, "state": {"running": {}}}],
            "containerStatuses": [{"name": "a", "ready": true, "restartCount": 1, "state": {"running": {}}}]}});
        check(&pod, ("2/2", "Running", "3"));
    }
}
