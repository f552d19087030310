//! What one reconcile may look at, and how fast the simulated world goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::DynamicObject;

use super::cache::{Cache, Key};
use super::kind::Kind;
use super::machines::Machines;
use super::object::{CLUSTER_LABEL, CONTROL_PLANE_LABEL, Look as _};

/// Delays as they are in life; everything is divided by the speed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(f64);

impl Pace {
    /// Least wait between two looks at something that is polled, whatever the speed.
    const POLL_MIN: Duration = Duration::from_millis(50);

    /// A pace `speed` times faster than life; 0 leaves delays out.
    pub(crate) fn new(speed: f64) -> Self {
        Self(speed)
    }

    /// A delay of `seconds` in life.
    pub(crate) fn after(self, seconds: f64) -> Duration {
        if self.0 <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(seconds / self.0) }
    }

    /// A delay of `seconds` in life, but never a busy loop.
    pub(crate) fn poll(self, seconds: f64) -> Duration {
        self.after(seconds).max(Self::POLL_MIN)
    }
}

/// What is known of a workload cluster through its kubeconfig.
#[derive(Clone, Debug, Default)]
pub(crate) struct RemoteView {
    /// Whether a connection stands.
    pub(crate) connected: bool,
    /// Whether probes failed after the connection had stood, so often that it was given up.
    pub(crate) lost: bool,
    /// Whether the ConfigMap `kubeadm-config` was read.
    pub(crate) initialized: bool,
    /// Nodes by `spec.providerID`.
    pub(crate) nodes: BTreeMap<String, Arc<Node>>,
    /// Names of Nodes that a drain has emptied.
    pub(crate) drained: Vec<String>,
}

impl RemoteView {
    /// The Node of that name.
    pub(crate) fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.values().find(|node| node.metadata.name.as_deref() == Some(name))
    }
}

/// The world at one moment.
pub(crate) struct View<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) remote: RemoteView,
    pub(crate) machines: &'a dyn Machines,
    pub(crate) pace: Pace,
    pub(crate) now: Timestamp,
}

impl View<'_> {
    /// The Cluster that an object belongs to.
    pub(crate) fn cluster(&self, object: &DynamicObject) -> Option<Arc<DynamicObject>> {
        self.cache.get(Kind::Cluster, object.namespace(), object.cluster_name()?)
    }

    /// What a reference of `object` points at.
    pub(crate) fn referred(&self, object: &DynamicObject, pointer: &str) -> Option<(Kind, Arc<DynamicObject>)> {
        let reference = object.reference(pointer)?;
        Some((reference.kind, self.cache.get(reference.kind, object.namespace(), &reference.name)?))
    }

    /// Objects of a kind that belong to a Cluster, oldest first.
    pub(crate) fn of_cluster(&self, kind: Kind, cluster: &DynamicObject) -> Vec<Arc<DynamicObject>> {
        let mut all = self.cache.list(kind, cluster.namespace());
        all.retain(|one| one.cluster_name() == Some(cluster.name()));
        all.sort_by(|a, b| super::object::by_age(a, b));
        all
    }

    /// Machines that `owner` controls, oldest first.
    pub(crate) fn owned_machines(&self, kind: Kind, owner: &DynamicObject) -> Vec<Arc<DynamicObject>> {
        let mut all = self.cache.list(Kind::Machine, owner.namespace());
        all.retain(|one| one.owned_by(kind, owner.name(), true));
        all.sort_by(|a, b| super::object::by_age(a, b));
        all
    }

    /// Machines of a Cluster: of its control plane, and of its workers.
    pub(crate) fn split_machines(&self, cluster: &DynamicObject) -> (Vec<Arc<DynamicObject>>, Vec<Arc<DynamicObject>>) {
        self.of_cluster(Kind::Machine, cluster).into_iter().partition(|one| one.label(CONTROL_PLANE_LABEL).is_some())
    }

    /// Time that has passed since an object was first seen.
    pub(crate) fn age(&self, kind: Kind, object: &DynamicObject) -> Duration {
        let seen = self.cache.seen(&Key::new(kind, object.namespace(), object.name())).unwrap_or(self.now);
        self.now.duration_since(seen).try_into().unwrap_or(Duration::ZERO)
    }

    /// What is left of a delay that began with the object; zero once it is over.
    pub(crate) fn left(&self, kind: Kind, object: &DynamicObject, seconds: f64) -> Duration {
        self.pace.after(seconds).saturating_sub(self.age(kind, object))
    }
}

/// Labels that everything of a Cluster carries.
pub(crate) fn cluster_label(cluster: &str) -> serde_json::Value {
    serde_json::json!({ CLUSTER_LABEL: cluster })
}
