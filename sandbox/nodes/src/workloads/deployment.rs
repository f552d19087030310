//! Deployment: a ReplicaSet per template, rolled over within the surge and unavailability allowed.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::Name;
use crate::events::Note;
use crate::meta::{self, Labels};
use crate::op::{CONTROLLERS, Kind, Object, Op, Plan};
use crate::workloads::template;

mod rollout;
mod status;

const COMPONENT: &str = "deployment-controller";
const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that its ReplicaSets do not inherit.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// A Deployment with its ReplicaSets, the current one apart.
pub(crate) struct View<'a> {
    deployment: &'a Deployment,
    new: Option<&'a ReplicaSet>,
    /// The others, oldest first.
    old: Vec<&'a ReplicaSet>,
    now: Timestamp,
}

/// Decides for one Deployment; `sets` and `pods` are those it controls, directly or indirectly.
pub(crate) fn decide(deployment: &Deployment, sets: &[Arc<ReplicaSet>], pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::new(CONTROLLERS);
    let view = View::new(deployment, sets, now);
    if deployment.metadata.deletion_timestamp.is_none() {
        view.roll(pods, &mut plan);
        view.forget_history(&mut plan);
    }
    let created = plan.ops.iter().any(|op| matches!(op, Op::Create(_)));
    let mut told = deployment.clone();
    told.status = Some(view.status(created, &mut plan));
    view.carry_revision(&mut told);
    if told != *deployment {
        // First, so that a ReplicaSet that cannot be written does not hide what is true.
        plan.ops.insert(0, Op::Status(Object::from(told)));
    }
    plan
}

impl<'a> View<'a> {
    fn new(deployment: &'a Deployment, sets: &'a [Arc<ReplicaSet>], now: Timestamp) -> Self {
        let mut sets: Vec<&ReplicaSet> = sets.iter().map(Arc::as_ref).collect();
        sets.sort_by_key(|set| {
            (set.metadata.creation_timestamp.as_ref().map(|time| time.0), meta::name(&set.metadata))
        });
        let wanted = without_hash(template_of(deployment));
        let is_new =
            |set: &&ReplicaSet| without_hash(set.spec.as_ref().and_then(|spec| spec.template.as_ref())) == wanted;
        let new = sets.iter().copied().find(is_new);
        let old = sets.into_iter().filter(|set| new.is_none_or(|new| new.metadata.uid != set.metadata.uid)).collect();
        Self { deployment, new, old, now }
    }

    fn replicas(&self) -> i32 {
        self.deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn all(&self) -> impl Iterator<Item = &'a ReplicaSet> {
        self.old.iter().copied().chain(self.new)
    }

    fn paused(&self) -> bool {
        self.deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
    }

    fn revision_wanted(&self) -> i64 {
        let newest_old = self.old.iter().map(|set| revision(&set.metadata)).max().unwrap_or(0);
        newest_old + 1
    }

    /// The revision that the current ReplicaSet has, or is about to get.
    fn revision_now(&self) -> Option<String> {
        let new = self.new?;
        Some(revision(&new.metadata).max(self.revision_wanted()).to_string())
    }

    /// Notes the revision of the current ReplicaSet on the Deployment, where kubectl looks for it. It goes with the status,
    /// so that it is nobody's wish.
    fn carry_revision(&self, told: &mut Deployment) {
        if self.deployment.metadata.deletion_timestamp.is_some() {
            return;
        }
        let Some(wanted) = self.revision_now() else { return };
        let has = self.deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
        if has != Some(&wanted) {
            told.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), wanted);
        }
    }

    /// Deletes the oldest empty ReplicaSets beyond the history limit, once the rollout is complete.
    fn forget_history(&self, plan: &mut Plan) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or_default();
        if !self.complete() || self.old.len() <= limit {
            return;
        }
        let mut old = self.old.clone();
        old.sort_by_key(|set| revision(&set.metadata));
        let empty = |set: &&ReplicaSet| spec_replicas(set) == 0 && status_replicas(set) == 0;
        for set in old.into_iter().take(self.old.len() - limit).filter(empty) {
            plan.ops.push(Op::Delete {
                kind: Kind::ReplicaSet,
                name: Name::of(set),
                uid: meta::uid(&set.metadata).to_owned(),
                grace: None,
            });
        }
    }

    /// Makes the ReplicaSet of the current template.
    fn new_set(&self, replicas: i32) -> Option<ReplicaSet> {
        let spec = self.deployment.spec.as_ref()?;
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template::hash(&spec.template, collisions);
        let mut template = spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let mut selector = spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
        Some(ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", meta::name(&self.deployment.metadata))),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels.clone()),
                annotations: Some(self.set_annotations(None, self.revision_wanted())),
                owner_references: Some(vec![meta::owner_reference(self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                min_ready_seconds: spec.min_ready_seconds,
                replicas: Some(replicas),
                selector,
                template: Some(template),
            }),
            status: None,
        })
    }

    /// The annotations of the current ReplicaSet; what else it carries stays.
    fn set_annotations(&self, old: Option<&Labels>, revision_wanted: i64) -> Labels {
        let mut annotations = old.cloned().unwrap_or_default();
        let inherited = self.deployment.metadata.annotations.iter().flatten();
        annotations.extend(
            inherited
                .filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        if let Some(before) = annotations.get(REVISION).filter(|before| **before != revision_wanted.to_string()) {
            let history = annotations.get(REVISION_HISTORY).map(|older| format!("{older},")).unwrap_or_default();
            let history = format!("{history}{before}");
            annotations.insert(REVISION_HISTORY.to_owned(), history);
        }
        annotations.insert(REVISION.to_owned(), revision_wanted.to_string());
        annotations.extend(self.scale_annotations());
        annotations
    }

    fn scale_annotations(&self) -> [(String, String); 2] {
        let replicas = self.replicas();
        [(DESIRED.to_owned(), replicas.to_string()), (MAXIMUM.to_owned(), (replicas + self.limits().surge).to_string())]
    }

    fn scaled_note(&self, set: &str, from: i32, to: i32) -> Note {
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        Note::normal(COMPONENT, self.deployment, "ScalingReplicaSet", message)
    }
}

fn template_of(deployment: &Deployment) -> Option<&PodTemplateSpec> {
    deployment.spec.as_ref().map(|spec| &spec.template)
}

/// A template without the label that tells ReplicaSets apart, so that templates compare.
fn without_hash(template: Option<&PodTemplateSpec>) -> Option<PodTemplateSpec> {
    let mut template = template?.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.creation_timestamp = None;
    Some(template)
}

fn revision(meta: &ObjectMeta) -> i64 {
    meta.annotations.as_ref().and_then(|all| all.get(REVISION)?.parse().ok()).unwrap_or(0)
}

fn spec_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn status_replicas(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn available_replicas(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

#[cfg(test)]
mod tests;
