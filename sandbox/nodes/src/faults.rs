//! Faults that can be set and cleared while the cluster runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A workload by kind and name; without a namespace it matches in all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadRef {
    /// `Deployment`, `DaemonSet`, `StatefulSet`, `Job`, `ReplicaSet` or `Pod`, in any case.
    pub kind: String,
    /// Namespace, or any.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
}

impl WorkloadRef {
    /// Names a workload in any namespace.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), namespace: None, name: name.into() }
    }

    /// Says whether the object is the one meant.
    pub fn matches(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
            && self.name == name
            && self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
    }
}

/// Something that goes wrong for as long as it is set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// At most `ready` pods of the workload are ready; the others fail their readiness probe.
    Ready {
        /// Whose pods.
        workload: WorkloadRef,
        /// How many stay ready.
        ready: u32,
    },
    /// Images of the workload's pods that are not on the node yet cannot be pulled.
    Pull {
        /// Whose pods.
        workload: WorkloadRef,
    },
    /// Simulated containers of the workload exit with code 1 soon after their start.
    Crash {
        /// Whose pods.
        workload: WorkloadRef,
    },
    /// The node never registers (a joined node stays).
    NeverJoin {
        /// Name of the node.
        node: String,
    },
    /// The kubelet of the node goes silent, and the node becomes NotReady.
    NotReady {
        /// Name of the node.
        node: String,
    },
}

/// The faults of one cluster; a clone is another handle on the same.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    set: Mutex<BTreeSet<Fault>>,
    changed: Arc<Notify>,
}

impl Faults {
    /// Makes an empty set that tells `changed` about every change.
    pub(crate) fn waking(changed: Arc<Notify>) -> Self {
        Self { inner: Arc::new(Inner { set: Mutex::default(), changed }) }
    }

    /// Sets a fault; another cap on the same workload is replaced.
    pub fn set(&self, fault: Fault) {
        let mut set = self.lock();
        if let Fault::Ready { workload, .. } = &fault {
            set.retain(|old| !matches!(old, Fault::Ready { workload: other, .. } if other == workload));
        }
        set.insert(fault);
        drop(set);
        self.inner.changed.notify_one();
    }

    /// Clears a fault; the number of a cap does not matter. Says whether there was one.
    pub fn clear(&self, fault: &Fault) -> bool {
        let mut set = self.lock();
        let before = set.len();
        match fault {
            Fault::Ready { workload, .. } => {
                set.retain(|old| !matches!(old, Fault::Ready { workload: other, .. } if other == workload));
            }
            other => {
                set.remove(other);
            }
        }
        let cleared = set.len() != before;
        drop(set);
        if cleared {
            self.inner.changed.notify_one();
        }
        cleared
    }

    /// Clears all of them.
    pub fn clear_all(&self) {
        self.lock().clear();
        self.inner.changed.notify_one();
    }

    /// Lists what is set.
    pub fn list(&self) -> Vec<Fault> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Fault>> {
        self.inner.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_cap_replaces_the_first_and_any_number_clears_it() {
        let faults = Faults::default();
        let workload = WorkloadRef::new("DaemonSet", "ztunnel");
        let cap = |ready| Fault::Ready { workload: workload.clone(), ready };
        faults.set(cap(3));
        faults.set(cap(2));
        assert_eq!(faults.list(), vec![cap(2)]);
        assert!(faults.clear(&cap(0)));
        assert!(!faults.clear(&cap(0)));
        assert!(faults.list().is_empty());
    }

    #[test]
    fn a_workload_without_namespace_matches_in_all() {
        let any = WorkloadRef::new("daemonset", "ztunnel");
        assert!(any.matches("DaemonSet", "istio-system", "ztunnel"));
        assert!(!any.matches("Deployment", "istio-system", "ztunnel"));
        let one = WorkloadRef { namespace: Some("a".to_owned()), ..any };
        assert!(!one.matches("DaemonSet", "b", "ztunnel"));
    }
}
