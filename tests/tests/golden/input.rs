//! Inputs of golden tests: objects as a person writes them.

use std::fs;
use std::sync::Arc;

use lattice_manager::api::{InfraProvider, LatticeCluster};
use lattice_manager::chart::BundleContext;
use lattice_manager::perform::{Subject, bundle_context, cluster_context};
use lattice_manager::render::ClusterContext;
use serde_json::Value;

use crate::files;

/// The uid that every cluster has here.
pub(crate) const UID: &str = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab";

/// A LatticeCluster and its InfraProvider, on the way that the manager takes them.
pub(crate) struct Input(Subject);

impl Input {
    /// Reads `cluster.yaml` of a folder below `tests/golden`.
    pub(crate) fn read(folder: &str) -> Self {
        let path = files::root().join("tests/golden").join(folder).join("cluster.yaml");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let (mut cluster, mut provider): (Option<LatticeCluster>, Option<InfraProvider>) = (None, None);
        for document in serde_saphyr::from_multiple::<Value>(text).expect("the input is YAML") {
            match document["kind"].as_str() {
                Some("LatticeCluster") => {
                    let mut read: LatticeCluster = serde_json::from_value(document).expect("a LatticeCluster");
                    read.metadata.uid = Some(UID.to_owned());
                    cluster = Some(read);
                }
                Some("InfraProvider") => {
                    provider = Some(serde_json::from_value(document).expect("an InfraProvider"));
                }
                other => panic!("{other:?} is no input"),
            }
        }
        let cluster: LatticeCluster = cluster.expect("there is a LatticeCluster");
        Self(Subject {
            name: cluster.metadata.name.as_deref().unwrap_or_default().parse().expect("a name"),
            uid: UID.parse().expect("a uid"),
            cluster: Arc::new(cluster),
            provider: provider.map(Arc::new),
        })
    }

    pub(crate) fn context(&self) -> ClusterContext {
        cluster_context(&self.0).expect("a spec that can be rendered")
    }

    pub(crate) fn bundle_context(&self) -> BundleContext {
        let crds = lattice_manager::api::crds();
        let crds: Vec<Value> = crds.iter().map(|crd| serde_json::to_value(crd).expect("plain data")).collect();
        bundle_context(&self.0, None, &crds).expect("a spec that can be rendered")
    }
}
