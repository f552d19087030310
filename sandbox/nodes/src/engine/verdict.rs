//! What the faults that are set mean for one pod or node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{Engine, Key};
use crate::cache::Name;
use crate::faults::{Fault, WorkloadRef};
use crate::kubelet::Verdict;
use crate::meta;

impl Engine {
    pub(super) fn verdict(&self, pod: &Pod) -> Verdict {
        let mut verdict = Verdict::default();
        for fault in self.shared.faults.list() {
            match fault {
                Fault::Pull { workload } if self.belongs(pod, &workload) => verdict.pull_fails = true,
                Fault::Crash { workload } if self.belongs(pod, &workload) => verdict.crashes = true,
                Fault::Ready { workload, ready } if self.belongs(pod, &workload) => {
                    verdict.may_be_ready &= self.is_among_first(pod, &workload, ready);
                }
                _ => {}
            }
        }
        verdict
    }

    /// Says whether a fault keeps the node's kubelet from saying anything.
    pub(super) fn is_silenced(&self, node: &str) -> bool {
        self.shared.faults.list().iter().any(|fault| matches!(fault, Fault::NotReady { node: name } if name == node))
    }

    /// Says whether a fault keeps the node from joining.
    pub(super) fn never_joins(&self, node: &str) -> bool {
        self.shared.faults.list().iter().any(|fault| matches!(fault, Fault::NeverJoin { node: name } if name == node))
    }

    /// Looks at the siblings of a pod whose workload has a cap: one that goes makes room for another.
    pub(super) fn look_at_capped(&mut self, pod: &Arc<Pod>) {
        for fault in self.shared.faults.list() {
            let Fault::Ready { workload, .. } = fault else { continue };
            if !self.belongs(pod, &workload) {
                continue;
            }
            let siblings: Vec<Name> = self
                .world
                .pods
                .iter()
                .filter(|other| !Arc::ptr_eq(other, pod) && self.belongs(other, &workload))
                .map(|other| Name::of(other.as_ref()))
                .collect();
            for name in siblings {
                self.queue.add(Key::Pod(name));
            }
        }
    }

    /// Says whether the pod is the workload, or is controlled by it, directly or through another.
    fn belongs(&self, pod: &Pod, workload: &WorkloadRef) -> bool {
        let namespace = meta::namespace(&pod.metadata);
        if workload.matches("Pod", namespace, meta::name(&pod.metadata)) {
            return true;
        }
        let Some(owner) = meta::controller_of(&pod.metadata) else { return false };
        if workload.matches(&owner.kind, namespace, &owner.name) {
            return true;
        }
        let name = Name { namespace: namespace.to_owned(), name: owner.name.clone() };
        let grandowner = match owner.kind.as_str() {
            "ReplicaSet" => {
                self.world.replica_sets.get(&name).and_then(|set| meta::controller_of(&set.metadata).cloned())
            }
            "Job" => self.world.jobs.get(&name).and_then(|job| meta::controller_of(&job.metadata).cloned()),
            _ => None,
        };
        grandowner.is_some_and(|owner| workload.matches(&owner.kind, namespace, &owner.name))
    }

    /// Says whether the pod is one of the `limit` oldest of the workload.
    fn is_among_first(&self, pod: &Pod, workload: &WorkloadRef, limit: u32) -> bool {
        let age = |pod: &Pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created, meta::name(&pod.metadata).to_owned())
        };
        let mine = age(pod);
        let older = self
            .world
            .pods
            .iter()
            .filter(|other| meta::active(other) && self.belongs(other, workload) && age(other) < mine)
            .count();
        u32::try_from(older).is_ok_and(|older| older < limit)
    }
}
