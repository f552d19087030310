//! Job: pods until enough of them succeeded, or too many failed.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use crate::events::Note;
use crate::meta;
use crate::op::{CONTROLLERS, Kind, Object, Op, Plan};
use crate::pace::Pace;
use crate::workloads::BURST_MAX;
use crate::workloads::replica_set::delete;

const COMPONENT: &str = "job-controller";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Wait after the first failed pod; doubles, up to the pace's bound.
const RETRY_FIRST: std::time::Duration = std::time::Duration::from_secs(10);

/// One Job as its decision sees it.
struct View<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    pods: &'a [Arc<Pod>],
    now: Timestamp,
}

/// How a Job ends.
struct End {
    condition: &'static str,
    reason: &'static str,
    message: String,
}

/// Decides for one Job; `pods` are those it controls.
pub(crate) fn decide(job: &Job, pods: &[Arc<Pod>], pace: Pace, now: Timestamp) -> Plan {
    let mut plan = Plan::new(CONTROLLERS);
    let Some(spec) = &job.spec else { return plan };
    let view = View { job, spec, pods, now };
    if view.finished() {
        view.forget(&mut plan);
        return plan;
    }
    let end = view.end(&mut plan);
    let status = view.status(end.as_ref());
    view.tell_of_suspension(&status, &mut plan);
    if job.status.as_ref() != Some(&status) {
        plan.ops.push(Op::Status(Object::from(Job { status: Some(status), ..job.clone() })));
    }
    if let Some(end) = end {
        let note = if end.condition == "Complete" { Note::normal } else { Note::warning };
        let reason = if end.condition == "Complete" { "Completed" } else { end.reason };
        plan.notes.push(note(COMPONENT, job, reason, end.message));
        view.delete_active(&mut plan);
    } else if view.suspended() {
        view.delete_active(&mut plan);
    } else if job.metadata.deletion_timestamp.is_none() {
        view.manage(pace, &mut plan);
    }
    plan
}

impl View<'_> {
    fn finished(&self) -> bool {
        let conditions = self.job.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")
    }

    fn tell_of_suspension(&self, status: &JobStatus, plan: &mut Plan) {
        let held = |status: Option<&JobStatus>| {
            let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            conditions.into_iter().any(|one| one.type_ == "Suspended" && one.status == "True")
        };
        match (held(self.job.status.as_ref()), held(Some(status))) {
            (false, true) => plan.notes.push(Note::normal(COMPONENT, self.job, "Suspended", "Job suspended")),
            (true, false) => plan.notes.push(Note::normal(COMPONENT, self.job, "Resumed", "Job resumed")),
            _ => {}
        }
    }

    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| meta::active(pod))
    }

    fn ended(&self, phase: &'static str) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(move |pod| meta::phase(pod) == phase)
    }

    fn succeeded(&self) -> i32 {
        if self.indexed() {
            return i32::try_from(self.done_indexes().len()).unwrap_or(i32::MAX);
        }
        count(self.ended("Succeeded"))
    }

    fn done_indexes(&self) -> BTreeSet<i32> {
        self.ended("Succeeded").filter_map(|pod| index(pod)).collect()
    }

    /// Deletes a finished Job when its time is over.
    fn forget(&self, plan: &mut Plan) {
        let Some(ttl) = self.spec.ttl_seconds_after_finished else { return };
        let conditions = self.job.status.as_ref().and_then(|status| status.conditions.as_ref());
        let finished =
            conditions.into_iter().flatten().filter_map(|one| one.last_transition_time.as_ref()).map(|t| t.0).max();
        let Some(due) = finished.map(|at| at + SignedDuration::from_secs(ttl.into())) else { return };
        if due > self.now {
            plan.wake_at(due, self.now);
        } else if self.job.metadata.deletion_timestamp.is_none() {
            plan.ops.push(Op::Delete {
                kind: Kind::Job,
                name: crate::cache::Name::of(self.job),
                uid: meta::uid(&self.job.metadata).to_owned(),
                grace: None,
            });
        }
    }

    fn end(&self, plan: &mut Plan) -> Option<End> {
        let failed = count(self.ended("Failed"));
        if failed > self.spec.backoff_limit.unwrap_or(6) {
            return Some(End {
                condition: "Failed",
                reason: "BackoffLimitExceeded",
                message: "Job has reached the specified backoff limit".to_owned(),
            });
        }
        let started = self.job.status.as_ref().and_then(|status| status.start_time.as_ref());
        if let (Some(limit), Some(started)) = (self.spec.active_deadline_seconds, started) {
            let due = started.0 + SignedDuration::from_secs(limit);
            if due <= self.now {
                return Some(End {
                    condition: "Failed",
                    reason: "DeadlineExceeded",
                    message: "Job was active longer than specified deadline".to_owned(),
                });
            }
            plan.wake_at(due, self.now);
        }
        let complete = match self.spec.completions {
            Some(wanted) => self.succeeded() >= wanted,
            None => self.succeeded() > 0 && self.active().next().is_none(),
        };
        (complete && !self.suspended()).then(|| End {
            condition: "Complete",
            reason: "CompletionsReached",
            message: "Reached expected number of succeeded pods".to_owned(),
        })
    }

    fn status(&self, end: Option<&End>) -> JobStatus {
        let old = self.job.status.clone().unwrap_or_default();
        let nonzero = |number: i32| (number > 0).then_some(number);
        let now = meta::time(self.now);
        let terminating = self.pods.iter().filter(|pod| !meta::ended(pod) && pod.metadata.deletion_timestamp.is_some());
        let active = if end.is_some() { 0 } else { count(self.active()) };
        let ready = self.active().filter(|pod| meta::ready(pod));
        JobStatus {
            active: nonzero(active),
            ready: Some(if end.is_some() { 0 } else { count(ready) }),
            succeeded: nonzero(self.succeeded().max(old.succeeded.unwrap_or(0))),
            failed: nonzero(count(self.ended("Failed")).max(old.failed.unwrap_or(0))),
            terminating: Some(count(terminating)),
            start_time: if self.suspended() { None } else { old.start_time.or(Some(now.clone())) },
            completion_time: end.filter(|end| end.condition == "Complete").map(|_| now.clone()),
            completed_indexes: self.indexed().then(|| ranges(&self.done_indexes())).filter(|text| !text.is_empty()),
            uncounted_terminated_pods: Some(UncountedTerminatedPods::default()),
            conditions: self.conditions(old.conditions, end),
            failed_indexes: old.failed_indexes,
        }
    }

    fn conditions(&self, old: Option<Vec<JobCondition>>, end: Option<&End>) -> Option<Vec<JobCondition>> {
        let mut conditions = old.unwrap_or_default();
        let mut set = |kind: &str, value: bool, reason: &str, message: &str| {
            let status = if value { "True" } else { "False" };
            if conditions.iter().any(|one| one.type_ == kind && one.status == status) {
                return;
            }
            conditions.retain(|one| one.type_ != kind);
            conditions.push(JobCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_probe_time: Some(meta::time(self.now)),
                last_transition_time: Some(meta::time(self.now)),
            });
        };
        if let Some(end) = end {
            let first = if end.condition == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
            set(first, true, end.reason, &end.message);
            set(end.condition, true, end.reason, &end.message);
        }
        let was_suspended = self.job.status.as_ref().is_some_and(|status| {
            status.conditions.iter().flatten().any(|one| one.type_ == "Suspended" && one.status == "True")
        });
        if self.suspended() {
            set("Suspended", true, "JobSuspended", "Job suspended");
        } else if was_suspended {
            set("Suspended", false, "JobResumed", "Job resumed");
        }
        (!conditions.is_empty()).then_some(conditions)
    }

    fn delete_active(&self, plan: &mut Plan) {
        plan.ops.extend(self.active().map(|pod| delete(pod)));
    }

    /// Keeps as many pods at work as allowed and still needed.
    fn manage(&self, pace: Pace, plan: &mut Plan) {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let active = count(self.active());
        let wanted = match self.spec.completions {
            Some(completions) => parallelism.min(completions - self.succeeded()),
            None if self.succeeded() > 0 => active,
            None => parallelism,
        };
        if active > wanted {
            let surplus = usize::try_from(active - wanted).unwrap_or_default();
            plan.ops.extend(self.active().take(surplus).map(|pod| delete(pod)));
            return;
        }
        if active < wanted && self.must_wait(pace, plan) {
            return;
        }
        let missing = usize::try_from(wanted - active).unwrap_or_default().min(BURST_MAX);
        let mut free = self.free_indexes().into_iter();
        for _ in 0..missing {
            let index = if self.indexed() { free.next() } else { None };
            if self.indexed() && index.is_none() {
                return;
            }
            plan.ops.push(Op::Create(Object::from(self.new_pod(index))));
        }
    }

    /// Says whether the last failure is too fresh for another try.
    fn must_wait(&self, pace: Pace, plan: &mut Plan) -> bool {
        let failed = u32::try_from(self.ended("Failed").count()).unwrap_or(u32::MAX);
        let last = self.ended("Failed").filter_map(|pod| ended_at(pod)).max();
        let (Some(last), true) = (last, failed > 0) else { return false };
        let wait = pace.backoff(RETRY_FIRST, failed);
        let due = last + SignedDuration::try_from(wait).unwrap_or_default();
        if due > self.now {
            plan.wake_at(due, self.now);
        }
        due > self.now
    }

    fn free_indexes(&self) -> BTreeSet<i32> {
        let taken: BTreeSet<i32> = self.active().filter_map(|pod| index(pod)).chain(self.done_indexes()).collect();
        (0..self.spec.completions.unwrap_or(0)).filter(|index| !taken.contains(index)).collect()
    }

    fn new_pod(&self, index: Option<i32>) -> Pod {
        let mut pod = meta::pod_of(&self.spec.template, self.job);
        let name = meta::name(&self.job.metadata);
        pod.metadata.generate_name = Some(match index {
            Some(index) => format!("{name}-{index}-"),
            None => format!("{name}-"),
        });
        let labels = pod.metadata.labels.get_or_insert_default();
        for (key, value) in [
            ("batch.kubernetes.io/controller-uid", meta::uid(&self.job.metadata)),
            ("batch.kubernetes.io/job-name", name),
            ("controller-uid", meta::uid(&self.job.metadata)),
            ("job-name", name),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        if let Some(index) = index {
            labels.insert(INDEX.to_owned(), index.to_string());
            pod.metadata.annotations.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
            for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
                container.env.get_or_insert_default().push(index_variable());
            }
        }
        pod
    }
}

fn index_variable() -> EnvVar {
    EnvVar {
        name: "JOB_COMPLETION_INDEX".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn index(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ends = statuses.iter().filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    ends.map(|time| time.0).max()
}

/// Tells about a pod that a Job made.
pub(crate) fn created(job: &Job, pod: &Pod) -> Note {
    let message = format!("Created pod: {}", meta::name(&pod.metadata));
    Note::normal(COMPONENT, job, "SuccessfulCreate", message)
}

/// Writes indexes as Kubernetes does: `0,2-4,7`.
fn ranges(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for &index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let texts = runs.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

fn count<T>(items: impl Iterator<Item = T>) -> i32 {
    i32::try_from(items.count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
