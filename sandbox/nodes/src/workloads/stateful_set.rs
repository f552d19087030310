//! StatefulSet: pods with numbers, started in order and rolled over from the last to the first.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};

use crate::events::Note;
use crate::meta::{self, Availability};
use crate::op::{CONTROLLERS, Object, Op, Plan};
use crate::workloads::replica_set::delete;
use crate::workloads::{BURST_MAX, revision};

const COMPONENT: &str = "statefulset-controller";

/// One StatefulSet as its decision sees it.
struct View<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    pods: &'a [Arc<Pod>],
    hash: String,
    current: String,
    now: Timestamp,
}

/// Decides for one StatefulSet; `pods` are those it controls, `recorded` its last recorded revision.
pub(crate) fn decide(set: &StatefulSet, pods: &[Arc<Pod>], recorded: Option<&str>, now: Timestamp) -> Plan {
    let mut plan = Plan::new(CONTROLLERS);
    let Some(spec) = &set.spec else { return plan };
    let hash = revision::hash_of_set(spec, set.status.as_ref());
    let update = revision_name(set, &hash);
    let current = set.status.as_ref().and_then(|status| status.current_revision.clone()).unwrap_or(update);
    let view = View { set, spec, pods, hash, current, now };
    let status = view.status(&mut plan);
    if set.status.as_ref() != Some(&status) {
        plan.ops.push(Op::Status(Object::from(StatefulSet { status: Some(status), ..set.clone() })));
    }
    if set.metadata.deletion_timestamp.is_none() {
        if recorded != Some(&view.hash) {
            let labelled = (revision::SET_LABEL, view.hash.as_str());
            plan.ops.push(revision::record(set, &spec.template, labelled, spec.revision_history_limit));
        }
        view.manage(&mut plan);
    }
    plan
}

impl View<'_> {
    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn start(&self) -> i32 {
        self.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0)
    }

    fn in_parallel(&self) -> bool {
        self.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    fn pod(&self, ordinal: i32) -> Option<&Pod> {
        let wanted = format!("{}-{ordinal}", meta::name(&self.set.metadata));
        self.pods.iter().map(Arc::as_ref).find(|pod| meta::name(&pod.metadata) == wanted)
    }

    /// Creates upward, deletes downward, then rolls over; in order, one at a time, unless in parallel.
    fn manage(&self, plan: &mut Plan) {
        for ordinal in self.start()..self.start() + self.replicas() {
            if plan.ops.len() >= BURST_MAX {
                return;
            }
            match self.pod(ordinal) {
                None => {
                    self.create(ordinal, plan);
                    if !self.in_parallel() {
                        return;
                    }
                }
                Some(pod) if meta::ended(pod) && pod.metadata.deletion_timestamp.is_none() => {
                    plan.ops.push(delete(pod));
                    if !self.in_parallel() {
                        return;
                    }
                }
                Some(pod) if !self.in_parallel() && !self.available(pod) => return,
                Some(_) => {}
            }
        }
        let mut surplus: Vec<&Arc<Pod>> = self.pods.iter().filter(|pod| self.is_surplus(pod)).collect();
        surplus.sort_by_key(|pod| std::cmp::Reverse(ordinal(pod)));
        if !self.in_parallel() {
            if surplus.iter().any(|pod| pod.metadata.deletion_timestamp.is_some()) {
                return;
            }
            surplus.truncate(1);
        }
        let before = plan.ops.len();
        for pod in surplus.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let message = format!(
                "Delete Pod {} in StatefulSet {} successful",
                meta::name(&pod.metadata),
                meta::name(&self.set.metadata)
            );
            plan.ops.push(delete(pod));
            plan.notes.push(Note::normal(COMPONENT, self.set, "SuccessfulDelete", message));
        }
        if plan.ops.len() == before {
            self.roll(plan);
        }
    }

    fn roll(&self, plan: &mut Plan) {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return;
        }
        let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or(0);
        for ordinal in (self.start() + partition..self.start() + self.replicas()).rev() {
            let Some(pod) = self.pod(ordinal) else { return };
            if pod.metadata.deletion_timestamp.is_some() {
                return;
            }
            if !self.is_updated(pod) {
                plan.ops.push(delete(pod));
                return;
            }
            if !self.available(pod) {
                return;
            }
        }
    }

    fn create(&self, ordinal: i32, plan: &mut Plan) {
        let pod = self.new_pod(ordinal);
        for claim in self.claims(ordinal) {
            let message = format!(
                "Create Claim {} Pod {} in StatefulSet {} success",
                meta::name(&claim.metadata),
                meta::name(&pod.metadata),
                meta::name(&self.set.metadata)
            );
            plan.ops.push(Op::Ensure(Object::from(claim)));
            plan.notes.push(Note::normal(COMPONENT, self.set, "SuccessfulCreate", message));
        }
        let message = format!(
            "Create Pod {} in StatefulSet {} successful",
            meta::name(&pod.metadata),
            meta::name(&self.set.metadata)
        );
        plan.ops.push(Op::Create(Object::from(pod)));
        plan.notes.push(Note::normal(COMPONENT, self.set, "SuccessfulCreate", message));
    }

    fn new_pod(&self, ordinal: i32) -> Pod {
        let mut pod = meta::pod_of(&self.spec.template, self.set);
        let name = format!("{}-{ordinal}", meta::name(&self.set.metadata));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(revision::LABEL.to_owned(), revision_name(self.set, &self.hash));
        labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
        labels.insert("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string());
        pod.metadata.name = Some(name.clone());
        pod.metadata.generate_name = Some(format!("{}-", meta::name(&self.set.metadata)));
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(name);
        spec.subdomain = self.spec.service_name.clone().filter(|name| !name.is_empty());
        for template in self.spec.volume_claim_templates.iter().flatten() {
            let volume = meta::name(&template.metadata).to_owned();
            let volumes = spec.volumes.get_or_insert_default();
            volumes.retain(|known| known.name != volume);
            volumes.push(Volume {
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: self.claim_name(&volume, ordinal),
                    read_only: None,
                }),
                name: volume,
                ..Volume::default()
            });
        }
        pod
    }

    fn claim_name(&self, volume: &str, ordinal: i32) -> String {
        format!("{volume}-{}-{ordinal}", meta::name(&self.set.metadata))
    }

    /// The claims of one pod; they outlive it, and the StatefulSet.
    fn claims(&self, ordinal: i32) -> impl Iterator<Item = PersistentVolumeClaim> {
        self.spec.volume_claim_templates.iter().flatten().map(move |template| {
            let mut claim = template.clone();
            let name = self.claim_name(meta::name(&template.metadata), ordinal);
            claim.metadata.name = Some(name);
            claim.metadata.namespace.clone_from(&self.set.metadata.namespace);
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(self.spec.selector.match_labels.clone().unwrap_or_default());
            claim.status = None;
            claim
        })
    }

    fn status(&self, plan: &mut Plan) -> StatefulSetStatus {
        let update = revision_name(self.set, &self.hash);
        let minimum = self.spec.min_ready_seconds.unwrap_or(0);
        let (mut replicas, mut ready, mut available, mut updated, mut at_current) = (0, 0, 0, 0, 0);
        for pod in self.pods.iter().filter(|pod| !meta::ended(pod)) {
            replicas += 1;
            ready += i32::from(meta::ready(pod));
            match meta::availability(pod, minimum, self.now) {
                Availability::Yes => available += 1,
                Availability::From(at) => plan.wake_at(at, self.now),
                Availability::No => {}
            }
            updated += i32::from(self.is_updated(pod));
            at_current += i32::from(label(pod) == Some(&self.current));
        }
        let rolled = updated == self.replicas() && replicas == updated && ready == replicas;
        let nonzero = |number: i32| (number > 0).then_some(number);
        let old = self.set.status.as_ref();
        StatefulSetStatus {
            replicas,
            ready_replicas: nonzero(ready),
            // Always there, unlike the others.
            available_replicas: Some(available),
            updated_replicas: nonzero(updated),
            current_replicas: nonzero(if rolled { updated } else { at_current }),
            current_revision: Some(if rolled { update.clone() } else { self.current.clone() }),
            update_revision: Some(update),
            collision_count: Some(old.and_then(|old| old.collision_count).unwrap_or(0)),
            conditions: old.and_then(|old| old.conditions.clone()),
            observed_generation: self.set.metadata.generation,
        }
    }

    fn is_surplus(&self, pod: &Pod) -> bool {
        let range = self.start()..self.start() + self.replicas();
        ordinal(pod).is_none_or(|ordinal| !range.contains(&ordinal))
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        label(pod) == Some(&revision_name(self.set, &self.hash))
    }

    fn available(&self, pod: &Pod) -> bool {
        let minimum = self.spec.min_ready_seconds.unwrap_or(0);
        pod.metadata.deletion_timestamp.is_none() && meta::availability(pod, minimum, self.now) == Availability::Yes
    }
}

fn revision_name(set: &StatefulSet, hash: &str) -> String {
    format!("{}-{hash}", meta::name(&set.metadata))
}

fn label(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(revision::LABEL)
}

fn ordinal(pod: &Pod) -> Option<i32> {
    meta::name(&pod.metadata).rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests;
