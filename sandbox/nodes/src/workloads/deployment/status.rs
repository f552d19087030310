//! The status of a Deployment: counts, and the two conditions that `kubectl rollout status` reads.

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};

use super::{View, available_replicas, spec_replicas, status_replicas};
use crate::meta;
use crate::op::Plan;

/// What a condition is to say.
struct Claim {
    /// `None` where it cannot be known.
    status: Option<bool>,
    reason: &'static str,
    message: String,
}

impl View<'_> {
    /// Says whether the last status written describes a complete rollout of what is wanted now.
    pub(super) fn complete(&self) -> bool {
        self.deployment.status.as_ref().is_some_and(|status| self.is_complete(status))
    }

    fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = self.replicas();
        status.updated_replicas.unwrap_or(0) == wanted
            && status.replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
            && status.observed_generation >= self.deployment.metadata.generation
    }

    /// The status that is true now; `created` says that a ReplicaSet is being made in this step.
    pub(super) fn status(&self, created: bool, plan: &mut Plan) -> DeploymentStatus {
        let count = |number: i32| (number != 0).then_some(number);
        let sum = |of: fn(&k8s_openapi::api::apps::v1::ReplicaSet) -> i32| self.all().map(of).sum::<i32>();
        let available = sum(available_replicas);
        let old = self.deployment.status.clone().unwrap_or_default();
        let mut status = DeploymentStatus {
            available_replicas: count(available),
            collision_count: old.collision_count,
            conditions: old.conditions.clone(),
            observed_generation: self.deployment.metadata.generation,
            ready_replicas: count(sum(|set| set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0))),
            replicas: count(sum(status_replicas)),
            terminating_replicas: Some(sum(|set| {
                set.status.as_ref().and_then(|s| s.terminating_replicas).unwrap_or(0)
            })),
            unavailable_replicas: count((sum(spec_replicas) - available).max(0)),
            updated_replicas: count(self.new.map_or(0, status_replicas)),
        };
        let claim = self.available(available);
        self.set(&mut status, "Available", claim, false);
        self.progress(&old, &mut status, created, plan);
        self.failure(&mut status);
        status
    }

    fn available(&self, available: i32) -> Claim {
        let enough = available >= self.replicas() - self.limits().unavailable;
        Claim {
            status: Some(enough),
            reason: if enough { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
            message: if enough {
                "Deployment has minimum availability.".to_owned()
            } else {
                "Deployment does not have minimum availability.".to_owned()
            },
        }
    }

    fn progress(&self, old: &DeploymentStatus, status: &mut DeploymentStatus, created: bool, plan: &mut Plan) {
        let deadline = self.deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
        let deadline = deadline.unwrap_or(600);
        let current = condition(old, "Progressing").cloned();
        if deadline == i32::MAX {
            remove(status, "Progressing");
            return;
        }
        if let Some(claim) = self.pause_claim(current.as_ref()) {
            self.set(status, "Progressing", claim, true);
            return;
        }
        let reason = current.as_ref().and_then(|current| current.reason.as_deref());
        let settled = status.replicas == status.updated_replicas && reason == Some("NewReplicaSetAvailable");
        if created && self.new.is_none() {
            let set = self.new_set(0).and_then(|set| set.metadata.name).unwrap_or_default();
            let message = format!("Created new replica set \"{set}\"");
            self.set(
                status,
                "Progressing",
                Claim { status: Some(true), reason: "NewReplicaSetCreated", message },
                true,
            );
        } else if settled || self.paused() {
        } else if self.new.is_some() && self.is_complete(status) {
            let message = format!("{} has successfully progressed.", self.subject());
            self.set(
                status,
                "Progressing",
                Claim { status: Some(true), reason: "NewReplicaSetAvailable", message },
                true,
            );
        } else if current.is_none() && self.new.is_some() {
            let message = format!("Found new replica set \"{}\"", self.new_name());
            self.set(status, "Progressing", Claim { status: Some(true), reason: "FoundNewReplicaSet", message }, true);
        } else if moved(old, status) {
            let message = format!("{} is progressing.", self.subject());
            self.set(status, "Progressing", Claim { status: Some(true), reason: "ReplicaSetUpdated", message }, true);
        } else if let Some(since) = current.as_ref().and_then(|current| current.last_update_time.as_ref()) {
            let due = since.0 + jiff::SignedDuration::from_secs(deadline.into());
            if due > self.now {
                plan.wake_at(due, self.now);
            } else {
                let message = format!("{} has timed out progressing.", self.subject());
                let reason = "ProgressDeadlineExceeded";
                self.set(status, "Progressing", Claim { status: Some(false), reason, message }, false);
            }
        }
    }

    /// The claim for a Deployment that was just paused or resumed.
    fn pause_claim(&self, current: Option<&DeploymentCondition>) -> Option<Claim> {
        let said = current.and_then(|current| current.reason.as_deref()) == Some("DeploymentPaused");
        match (self.paused(), said) {
            (true, false) => {
                Some(Claim { status: None, reason: "DeploymentPaused", message: "Deployment is paused".to_owned() })
            }
            (false, true) => {
                Some(Claim { status: None, reason: "DeploymentResumed", message: "Deployment is resumed".to_owned() })
            }
            _ => None,
        }
    }

    /// Passes on that a ReplicaSet cannot make its pods.
    fn failure(&self, status: &mut DeploymentStatus) {
        let failed = self
            .all()
            .find_map(|set| set.status.as_ref()?.conditions.as_ref()?.iter().find(|one| one.type_ == "ReplicaFailure"));
        match failed {
            Some(failed) => {
                let claim = Claim {
                    status: Some(failed.status == "True"),
                    reason: "FailedCreate",
                    message: failed.message.clone().unwrap_or_default(),
                };
                self.set(status, "ReplicaFailure", claim, false);
            }
            None => remove(status, "ReplicaFailure"),
        }
    }

    fn subject(&self) -> String {
        match self.new {
            Some(_) => format!("ReplicaSet \"{}\"", self.new_name()),
            None => format!("Deployment \"{}\"", meta::name(&self.deployment.metadata)),
        }
    }

    fn new_name(&self) -> &str {
        self.new.map(|set| meta::name(&set.metadata)).unwrap_or_default()
    }

    /// Sets a condition; its times change only with it, or with `touch` whenever it is claimed anew.
    fn set(&self, status: &mut DeploymentStatus, kind: &str, claim: Claim, touch: bool) {
        let now = Some(meta::time(self.now));
        let value = match claim.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let old = condition(status, kind).cloned();
        let same = old.as_ref().is_some_and(|old| {
            old.status == value
                && old.reason.as_deref() == Some(claim.reason)
                && (!touch || old.message.as_ref() == Some(&claim.message))
        });
        if same && !touch {
            return;
        }
        let since = old.filter(|old| old.status == value).and_then(|old| old.last_transition_time);
        remove(status, kind);
        status.conditions.get_or_insert_default().push(DeploymentCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(claim.reason.to_owned()),
            message: Some(claim.message),
            last_update_time: now.clone(),
            last_transition_time: since.or(now),
        });
    }
}

/// Says whether a rollout came closer to its end between two statuses.
fn moved(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    new.updated_replicas > old.updated_replicas
        || outdated(new) < outdated(old)
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

fn condition<'s>(status: &'s DeploymentStatus, kind: &str) -> Option<&'s DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}
