//! Inputs of golden tests: objects as a person writes them.

use std::fs;

use lattice_manager::api::defaults::{Resolved, resolve};
use lattice_manager::api::{InfraProvider, LatticeCluster};
use lattice_manager::render::ClusterContext;
use serde_json::Value;

use crate::files;

/// The uid that every cluster has here.
pub(crate) const UID: &str = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab";

/// A LatticeCluster and its InfraProvider.
pub(crate) struct Input {
    pub(crate) cluster: LatticeCluster,
    provider: Option<InfraProvider>,
}

impl Input {
    /// Reads `cluster.yaml` of a folder below `tests/golden`.
    pub(crate) fn read(folder: &str) -> Self {
        let path = files::root().join("tests/golden").join(folder).join("cluster.yaml");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let (mut cluster, mut provider) = (None, None);
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
        Self { cluster: cluster.expect("there is a LatticeCluster"), provider }
    }

    pub(crate) fn resolved(&self) -> Resolved {
        resolve(&self.cluster.spec, self.provider.as_ref().map(|provider| &provider.spec))
            .unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    pub(crate) fn context(&self) -> ClusterContext {
        ClusterContext::new(&self.cluster, &self.resolved()).expect("an object as from an API server")
    }
}
