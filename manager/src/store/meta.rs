//! Labels of the objects that we own.

use std::collections::BTreeMap;

use crate::api::{ClusterName, ClusterUid, LABEL_CLUSTER_NAME, LABEL_CLUSTER_UID};

/// The labels on everything made for a cluster.
pub fn cluster_labels(name: &ClusterName, uid: &ClusterUid) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_CLUSTER_NAME.to_owned(), name.as_str().to_owned()),
        (LABEL_CLUSTER_UID.to_owned(), uid.as_str().to_owned()),
    ])
}
