//! CronJobs: a Job whenever the schedule says so, and no more finished ones than are to be kept.

mod schedule;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::notes::{self, Note};
use super::{make, remove, store};
use crate::core::Core;
use crate::json;
use crate::kinds::Resource;
use crate::meta;
use crate::options::Propagation;
use crate::store::{Key, Stored};
use schedule::Schedule;

const CRON_JOBS: &str = "batch/cronjobs";
const JOBS: &str = "batch/jobs";
const COMPONENT: &str = "cronjob-controller";
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// How many missed times are looked through. Too few: a CronJob that slept long starts at an old time.
const MISSED_MAX: usize = 1000;

/// Starts what is due and clears up; returns when something is due next.
pub(crate) async fn look(core: &Core) -> Option<Timestamp> {
    let all = core.store.list(CRON_JOBS, "").1;
    if all.is_empty() {
        return None;
    }
    let kinds = core.registry.now();
    let (crons, jobs) = (kinds.find("batch", "v1", "cronjobs")?, kinds.find("batch", "v1", "jobs")?);
    let mut due: Option<Timestamp> = None;
    for stored in all {
        if let Some(next) = one(core, &crons, &jobs, &stored).await {
            due = Some(due.map_or(next, |due| due.min(next)));
        }
    }
    due
}

async fn one(core: &Core, crons: &Arc<Resource>, jobs: &Arc<Resource>, stored: &Arc<Stored>) -> Option<Timestamp> {
    let cron = stored.value();
    if meta::is_deleting(&cron) {
        return None;
    }
    let mut own: Vec<Value> = core.builtin_list(JOBS, &stored.key.namespace);
    own.retain(|job| {
        let owners = json::list(job, &["metadata", "ownerReferences"]);
        owners.iter().any(|owner| owner["controller"] == true && json::text(owner, &["uid"]) == meta::uid(&cron))
    });
    let mut new = cron.clone();
    strangers(core, &cron, &own);
    settle(core, &mut new, &own);
    forget(core, jobs, &cron, &own).await;
    let next = start(core, jobs, &cron, &mut new).await;
    if new != cron {
        store(core, crons, stored, new);
    }
    next
}

fn ended(job: &Value) -> Option<&str> {
    let mut conditions = json::list(job, &["status", "conditions"]).iter();
    let end =
        conditions.find(|one| one["status"] == "True" && (one["type"] == "Complete" || one["type"] == "Failed"))?;
    end["type"].as_str()
}

fn normal(core: &Core, cron: &Value, reason: &str, message: &str) {
    notes::tell(core, cron, Note { warning: false, reason, message, component: COMPONENT });
}

/// Tells of jobs that name the CronJob as their owner and were not made here.
fn strangers(core: &Core, cron: &Value, own: &[Value]) {
    let active = json::list(cron, &["status", "active"]);
    for job in own.iter().filter(|job| ended(job).is_none() && !meta::is_deleting(job)) {
        if active.iter().any(|reference| json::text(reference, &["uid"]) == meta::uid(job)) {
            continue;
        }
        let message = format!("Saw a job that the controller did not create or forgot: {}", meta::name(job));
        let note = Note { warning: true, reason: "UnexpectedJob", message: &message, component: COMPONENT };
        let since = json::text(job, &["metadata", "creationTimestamp"]).parse().unwrap_or(Timestamp::MIN);
        notes::tell_once(core, cron, note, since);
    }
}

/// Takes jobs that have ended off the list of those that run.
fn settle(core: &Core, cron: &mut Value, own: &[Value]) {
    let active = json::list(cron, &["status", "active"]).to_vec();
    let mut left = Vec::new();
    for reference in active {
        let job = own.iter().find(|job| meta::uid(job) == json::text(&reference, &["uid"]));
        match (job, job.and_then(ended)) {
            (Some(_), None) => left.push(reference),
            (Some(job), Some(how)) => {
                let message = format!("Saw completed job: {}, condition: {how}", meta::name(job));
                normal(core, cron, "SawCompletedJob", &message);
                if let ("Complete", Some(at)) = (how, json::at(job, &["status", "completionTime"])) {
                    json::set(cron, &["status", "lastSuccessfulTime"], at.clone());
                }
            }
            (None, _) => {
                let name = json::text(&reference, &["name"]);
                normal(core, cron, "MissingJob", &format!("Active job went missing: {name}"));
            }
        }
    }
    keep(cron, left);
}

fn keep(cron: &mut Value, active: Vec<Value>) {
    if active.is_empty() {
        json::remove(cron, &["status", "active"]);
    } else {
        json::set(cron, &["status", "active"], Value::Array(active));
    }
}

/// Deletes the oldest jobs that have ended beyond those that are kept.
async fn forget(core: &Core, jobs: &Arc<Resource>, cron: &Value, own: &[Value]) {
    for (how, limit, usual) in [("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)]
    {
        let limit = json::at(cron, &["spec", limit]).and_then(Value::as_u64).unwrap_or(usual);
        let mut done: Vec<&Value> =
            own.iter().filter(|job| ended(job) == Some(how) && !meta::is_deleting(job)).collect();
        done.sort_by_key(|job| json::text(job, &["status", "startTime"]).to_owned());
        let surplus = done.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for job in done.into_iter().take(surplus) {
            let name = meta::name(job);
            remove(core, jobs, meta::namespace(job), name, Some(meta::uid(job)), Some(Propagation::Background)).await;
            normal(core, cron, "SuccessfulDelete", &format!("Deleted job {name}"));
        }
    }
}

/// Starts a job if its time has come; returns when the next comes.
async fn start(core: &Core, jobs: &Arc<Resource>, cron: &Value, new: &mut Value) -> Option<Timestamp> {
    if cron["spec"]["suspend"] == true {
        return None;
    }
    let zone = json::at(cron, &["spec", "timeZone"]).and_then(Value::as_str);
    let schedule = Schedule::parse(json::text(cron, &["spec", "schedule"]), zone)?;
    let now = core.config.clock.now();
    let time = |path: &[&str]| json::text(cron, path).parse::<Timestamp>().ok();
    let since = time(&["status", "lastScheduleTime"]).or_else(|| time(&["metadata", "creationTimestamp"]))?;
    let deadline = json::at(cron, &["spec", "startingDeadlineSeconds"]).and_then(Value::as_i64);
    let since = match deadline {
        Some(seconds) => since.max(now - SignedDuration::from_secs(seconds)),
        None => since,
    };
    let times = std::iter::successors(schedule.next(since), |at| schedule.next(*at));
    let due = times.take_while(|at| *at <= now).take(MISSED_MAX).last();
    let next = schedule.next(now);
    let Some(due) = due else { return next };
    let active = json::list(new, &["status", "active"]).to_vec();
    match json::text(cron, &["spec", "concurrencyPolicy"]) {
        "Forbid" if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            let note = Note { warning: false, reason: "JobAlreadyActive", message, component: COMPONENT };
            notes::tell_once(core, cron, note, due);
            return next;
        }
        "Replace" => {
            for reference in &active {
                let (name, uid) = (json::text(reference, &["name"]), json::text(reference, &["uid"]));
                remove(core, jobs, meta::namespace(cron), name, Some(uid), Some(Propagation::Background)).await;
                normal(core, cron, "SuccessfulDelete", &format!("Deleted job {name}"));
            }
            keep(new, Vec::new());
        }
        _ => {}
    }
    let name = format!("{}-{}", meta::name(cron), due.as_second() / 60);
    let key = Key::new(meta::namespace(cron), &name);
    let fresh = core.store.get(JOBS, &key).is_none();
    if fresh {
        make(core, jobs, meta::namespace(cron), job(cron, &name, due)).await;
    }
    if let Some(made) = core.builtin(JOBS, meta::namespace(cron), &name) {
        if fresh {
            normal(core, cron, "SuccessfulCreate", &format!("Created job {name}"));
        }
        let mut active = json::list(new, &["status", "active"]).to_vec();
        active.push(json!({
            "kind": "Job", "namespace": meta::namespace(cron), "name": name, "uid": meta::uid(&made),
            "apiVersion": "batch/v1", "resourceVersion": json::text(&made, &["metadata", "resourceVersion"]),
        }));
        keep(new, active);
        json::set(new, &["status", "lastScheduleTime"], crate::time::seconds(due).into());
    }
    next
}

fn job(cron: &Value, name: &str, due: Timestamp) -> Value {
    let template = &cron["spec"]["jobTemplate"];
    let mut annotations = json::at(template, &["metadata", "annotations"]).cloned().unwrap_or(json!({}));
    annotations[SCHEDULED] = crate::time::seconds(due).into();
    let mut job = json!({
        "kind": "Job", "apiVersion": "batch/v1",
        "metadata": {
            "name": name, "namespace": meta::namespace(cron), "annotations": annotations,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": meta::name(cron),
                "uid": meta::uid(cron), "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": template["spec"],
    });
    if let Some(labels) = json::at(template, &["metadata", "labels"]) {
        job["metadata"]["labels"] = labels.clone();
    }
    job
}
