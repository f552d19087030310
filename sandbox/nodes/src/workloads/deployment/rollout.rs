//! How replicas move from the old ReplicaSets to the new one.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::{DESIRED, View, available_replicas, revision, spec_replicas};
use crate::meta;
use crate::op::{Object, Op, Plan};

/// How far a rollout may go beyond and below the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl View<'_> {
    pub(super) fn limits(&self) -> Limits {
        let strategy = self.deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        if self.recreate() {
            return Limits { surge: 0, unavailable: 0 };
        }
        let replicas = self.replicas();
        let surge = meta::resolve(rolling.and_then(|r| r.max_surge.as_ref()), "25%", replicas, true);
        let unavailable = meta::resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), "25%", replicas, false);
        // Nothing could move if both were 0.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Limits { surge, unavailable: unavailable.min(replicas) }
    }

    fn recreate(&self) -> bool {
        let strategy = self.deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }

    /// Plans the next step of the rollout; the step after it is planned when this one is seen.
    pub(super) fn roll(&self, pods: &[Arc<Pod>], plan: &mut Plan) {
        if self.rescaled() && (self.paused() || self.new.is_some()) {
            self.scale_in_proportion(plan);
        } else if self.paused() {
        } else if self.recreate() {
            self.roll_recreate(pods, plan);
        } else if !self.scale_new(plan) {
            self.scale_old(plan);
        }
    }

    fn roll_recreate(&self, pods: &[Arc<Pod>], plan: &mut Plan) {
        let mut scaled = false;
        for set in self.old.iter().filter(|set| spec_replicas(set) > 0) {
            self.set_replicas(set, 0, plan);
            scaled = true;
        }
        let of_old =
            |pod: &Arc<Pod>| self.old.iter().any(|set| meta::controlled_by(&pod.metadata, meta::uid(&set.metadata)));
        if !scaled && !pods.iter().any(|pod| of_old(pod) && !meta::ended(pod)) {
            self.scale_new(plan);
        }
    }

    /// Makes or scales the current ReplicaSet; says whether anything is to be written.
    fn scale_new(&self, plan: &mut Plan) -> bool {
        let before = plan.ops.len();
        let wanted = self.new_replicas();
        match self.new {
            None => {
                if let Some(set) = self.new_set(wanted) {
                    let name = meta::name(&set.metadata).to_owned();
                    plan.ops.push(Op::Create(Object::from(set)));
                    if wanted > 0 {
                        plan.notes.push(self.scaled_note(&name, 0, wanted));
                    }
                }
            }
            Some(set) => self.refresh(set, wanted, plan),
        }
        plan.ops.len() > before
    }

    fn new_replicas(&self) -> i32 {
        let current = self.new.map_or(0, spec_replicas);
        let replicas = self.replicas();
        if self.recreate() || current > replicas {
            return replicas;
        }
        let total: i32 = self.all().map(spec_replicas).sum();
        let room = replicas + self.limits().surge - total;
        current + room.clamp(0, (replicas - current).max(0))
    }

    /// Brings the current ReplicaSet's replicas and annotations up to date.
    fn refresh(&self, set: &ReplicaSet, wanted: i32, plan: &mut Plan) {
        let mut fresh = set.clone();
        let revision = revision(&set.metadata).max(self.revision_wanted());
        fresh.metadata.annotations = Some(self.set_annotations(set.metadata.annotations.as_ref(), revision));
        if let Some(spec) = &mut fresh.spec {
            spec.replicas = Some(wanted);
            spec.min_ready_seconds = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        }
        if fresh != *set {
            let from = spec_replicas(set);
            plan.ops.push(Op::Replace(Object::from(fresh)));
            if from != wanted {
                plan.notes.push(self.scaled_note(meta::name(&set.metadata), from, wanted));
            }
        }
    }

    /// Scales the old ReplicaSets down as far as availability allows, broken pods first.
    fn scale_old(&self, plan: &mut Plan) {
        let Some(new) = self.new else { return };
        let minimum = self.replicas() - self.limits().unavailable;
        let total: i32 = self.all().map(spec_replicas).sum();
        let new_unavailable = spec_replicas(new) - available_replicas(new);
        let removable = total - minimum - new_unavailable;
        if removable <= 0 || self.old.iter().all(|set| spec_replicas(set) == 0) {
            return;
        }
        let mut left: Vec<i32> = self.old.iter().map(|set| spec_replicas(set)).collect();
        let mut broken_left = removable;
        for (set, replicas) in self.old.iter().zip(&mut left) {
            let broken = (*replicas - available_replicas(set)).clamp(0, broken_left);
            *replicas -= broken;
            broken_left -= broken;
        }
        let available: i32 = self.all().map(available_replicas).sum();
        let mut spare = (available - minimum).max(0);
        for replicas in &mut left {
            let healthy = (*replicas).min(spare);
            *replicas -= healthy;
            spare -= healthy;
        }
        for (set, replicas) in self.old.iter().zip(left) {
            if replicas != spec_replicas(set) {
                self.set_replicas(set, replicas, plan);
            }
        }
    }

    /// Says whether the wanted number changed since the ReplicaSets were last scaled.
    fn rescaled(&self) -> bool {
        let wanted = self.replicas().to_string();
        self.all().filter(|set| spec_replicas(set) > 0).any(|set| {
            let has = set.metadata.annotations.as_ref().and_then(|all| all.get(DESIRED));
            has.is_some_and(|has| *has != wanted)
        })
    }

    /// Shares a changed number among the ReplicaSets that are in use.
    fn scale_in_proportion(&self, plan: &mut Plan) {
        let in_use: Vec<&ReplicaSet> = self.all().filter(|set| spec_replicas(set) > 0).collect();
        if let [only] = in_use[..] {
            self.set_replicas(only, self.replicas(), plan);
            return;
        }
        let replicas = self.replicas();
        let allowed = if replicas > 0 { replicas + self.limits().surge } else { 0 };
        let total: i32 = in_use.iter().map(|set| spec_replicas(set)).sum();
        let mut to_add = allowed - total;
        let mut by_size = in_use;
        by_size.sort_by_key(|set| std::cmp::Reverse(spec_replicas(set)));
        let mut sizes: Vec<(&ReplicaSet, i32)> = Vec::new();
        for set in by_size {
            let size = spec_replicas(set);
            let share = i64::from(size) * i64::from(allowed) / i64::from(total.max(1));
            let step = i32::try_from(share).unwrap_or(size) - size;
            let step = if to_add >= 0 { step.clamp(0, to_add) } else { step.clamp(to_add, 0) };
            sizes.push((set, size + step));
            to_add -= step;
        }
        // What rounding left over goes to the largest.
        if let Some((_, size)) = sizes.first_mut() {
            *size = (*size + to_add).max(0);
        }
        for (set, size) in sizes {
            self.set_replicas(set, size, plan);
        }
    }

    fn set_replicas(&self, set: &ReplicaSet, replicas: i32, plan: &mut Plan) {
        let mut scaled = set.clone();
        scaled.metadata.annotations.get_or_insert_default().extend(self.scale_annotations());
        if let Some(spec) = &mut scaled.spec {
            spec.replicas = Some(replicas);
        }
        if scaled != *set {
            let from = spec_replicas(set);
            plan.ops.push(Op::Replace(Object::from(scaled)));
            if from != replicas {
                plan.notes.push(self.scaled_note(meta::name(&set.metadata), from, replicas));
            }
        }
    }
}
