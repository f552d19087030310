//! The columns of workloads.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NONE, UNKNOWN, ago, labels, or};
use crate::json;
use crate::time;

fn number(object: &Value, path: &[&str]) -> i64 {
    json::at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

fn containers(object: &Value, key: &str) -> Value {
    containers_of(object, &["spec", "template"], key)
}

/// Lists something of the containers of a template.
pub(super) fn containers_of(object: &Value, template: &[&str], key: &str) -> Value {
    let template = json::at(object, template).unwrap_or(&Value::Null);
    let list = json::list(template, &["spec", "containers"]);
    list.iter().map(|container| json::text(container, &[key])).collect::<Vec<_>>().join(",").into()
}

fn selector(object: &Value, _: Timestamp) -> Value {
    or(&super::selector(json::at(object, &["spec", "selector"])), NONE)
}

fn ready_of(object: &Value, _: Timestamp) -> Value {
    let wanted = json::at(object, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    format!("{}/{wanted}", number(object, &["status", "readyReplicas"])).into()
}

const CONTAINERS: Column = Column("Containers", "string", 1, |o, _| containers(o, "name"));
const IMAGES: Column = Column("Images", "string", 1, |o, _| containers(o, "image"));
const SELECTOR: Column = Column("Selector", "string", 1, selector);

pub(super) const DEPLOYMENTS: &[Column] = &[
    Column("Ready", "string", 0, ready_of),
    Column("Up-to-date", "string", 0, |o, _| number(o, &["status", "updatedReplicas"]).into()),
    Column("Available", "string", 0, |o, _| number(o, &["status", "availableReplicas"]).into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const CONTROLLERS: &[Column] = &[
    Column("Desired", "integer", 0, |o, _| number(o, &["spec", "replicas"]).into()),
    Column("Current", "integer", 0, |o, _| number(o, &["status", "replicas"]).into()),
    Column("Ready", "integer", 0, |o, _| number(o, &["status", "readyReplicas"]).into()),
    AGE,
    CONTAINERS,
    IMAGES,
    Column("Selector", "string", 1, |o, _| labels(json::at(o, &["spec", "selector"]))),
];

pub(super) const REPLICA_SETS: &[Column] = &[
    Column("Desired", "integer", 0, |o, _| number(o, &["spec", "replicas"]).into()),
    Column("Current", "integer", 0, |o, _| number(o, &["status", "replicas"]).into()),
    Column("Ready", "integer", 0, |o, _| number(o, &["status", "readyReplicas"]).into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const STATEFUL_SETS: &[Column] = &[Column("Ready", "string", 0, ready_of), AGE, CONTAINERS, IMAGES];

pub(super) const DAEMON_SETS: &[Column] = &[
    Column("Desired", "integer", 0, |o, _| number(o, &["status", "desiredNumberScheduled"]).into()),
    Column("Current", "integer", 0, |o, _| number(o, &["status", "currentNumberScheduled"]).into()),
    Column("Ready", "integer", 0, |o, _| number(o, &["status", "numberReady"]).into()),
    Column("Up-to-date", "integer", 0, |o, _| number(o, &["status", "updatedNumberScheduled"]).into()),
    Column("Available", "integer", 0, |o, _| number(o, &["status", "numberAvailable"]).into()),
    Column("Node Selector", "string", 0, |o, _| labels(json::at(o, &["spec", "template", "spec", "nodeSelector"]))),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const JOBS: &[Column] = &[
    Column("Status", "string", 0, job_status),
    Column("Completions", "string", 0, |o, _| {
        let done = number(o, &["status", "succeeded"]);
        match (json::at(o, &["spec", "completions"]), number(o, &["spec", "parallelism"])) {
            (Some(wanted), _) => format!("{done}/{wanted}").into(),
            (None, many @ 2..) => format!("{done}/1 of {many}").into(),
            (None, _) => format!("{done}/1").into(),
        }
    }),
    Column("Duration", "string", 0, duration),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn job_status(object: &Value, _: Timestamp) -> Value {
    let conditions = json::list(object, &["status", "conditions"]);
    let holds = |kind: &str| conditions.iter().find(|c| c["type"] == kind).is_some_and(|c| c["status"] == "True");
    if let Some(ended) = ["Complete", "Failed"].into_iter().find(|kind| holds(kind)) {
        return ended.into();
    }
    if crate::meta::is_deleting(object) {
        return "Terminating".into();
    }
    let known = ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|kind| holds(kind));
    known.unwrap_or("Running").into()
}

fn duration(object: &Value, now: Timestamp) -> Value {
    let at = |key: &str| json::text(object, &["status", key]).parse::<Timestamp>().ok();
    match (at("startTime"), at("completionTime")) {
        (None, _) => "".into(),
        (Some(start), end) => {
            let end = end.unwrap_or(now);
            time::human((end.as_second() - start.as_second()).max(0)).into()
        }
    }
}

pub(super) const CRON_JOBS: &[Column] = &[
    Column("Schedule", "string", 0, |o, _| json::text(o, &["spec", "schedule"]).into()),
    Column("Timezone", "string", 0, |o, _| or(json::text(o, &["spec", "timeZone"]), NONE)),
    Column("Suspend", "boolean", 0, |o, _| if o["spec"]["suspend"] == true { "True" } else { "False" }.into()),
    Column("Active", "integer", 0, |o, _| json::list(o, &["status", "active"]).len().into()),
    Column("Last Schedule", "string", 0, |o, now| {
        let text = json::text(o, &["status", "lastScheduleTime"]);
        if text.is_empty() { NONE.into() } else { or(&ago(text, now), UNKNOWN) }
    }),
    AGE,
    Column("Containers", "string", 1, |o, _| containers_of(o, &["spec", "jobTemplate", "spec", "template"], "name")),
    Column("Images", "string", 1, |o, _| containers_of(o, &["spec", "jobTemplate", "spec", "template"], "image")),
    Column("Selector", "string", 1, |o, _| {
        or(&super::selector(json::at(o, &["spec", "jobTemplate", "spec", "selector"])), NONE)
    }),
];
