//! Labels and finalizers of the objects that we own.

use std::collections::BTreeMap;

use lattice_protocol::ids::{ClusterName, ClusterUid};

/// On a `LatticeCluster` for as long as anything made for it may exist.
pub const FINALIZER: &str = "lattice.dev/cluster";
/// On an InfraProvider and its credentials Secret while a cluster uses them.
pub const IN_USE_FINALIZER: &str = "lattice.dev/in-use";
/// Cluster API's label; its caches see only objects that carry it.
pub const CLUSTER_NAME_LABEL: &str = "cluster.x-k8s.io/cluster-name";
/// Binds an object to one life of a `LatticeCluster`; informers select by it.
pub const CLUSTER_UID_LABEL: &str = "lattice.dev/cluster-uid";

/// The labels on everything made for a cluster.
pub fn cluster_labels(name: &ClusterName, uid: &ClusterUid) -> BTreeMap<String, String> {
    BTreeMap::from([
        (CLUSTER_NAME_LABEL.to_owned(), name.as_str().to_owned()),
        (CLUSTER_UID_LABEL.to_owned(), uid.as_str().to_owned()),
    ])
}
