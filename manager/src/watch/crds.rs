//! Which kinds there are to watch: told by a watch of CustomResourceDefinitions, so that Cluster API may be installed,
//! changed or removed at any time without a restart and without polling.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use tokio_util::sync::CancellationToken;

use super::informer::{Informers, Sink};
use crate::lifecycle::mirror;
use crate::store::{CrdFacts, Kind};

/// Contract of Cluster API that we speak. A definition's label of this name lists the versions that follow it.
const CONTRACT: &str = "v1beta2";
/// Follows the definitions.
pub(super) struct CrdSink {
    informers: Informers,
    definitions: BTreeMap<Kind, CrdFacts>,
    running: BTreeMap<Kind, (String, CancellationToken)>,
    names: BTreeMap<String, Kind>,
    listed: bool,
}

impl CrdSink {
    pub(super) fn new(informers: Informers) -> Self {
        Self {
            informers,
            definitions: BTreeMap::new(),
            running: BTreeMap::new(),
            names: BTreeMap::new(),
            listed: false,
        }
    }

    fn follow(&mut self) {
        // Before the first list has ended, a kind that was not seen is not absent.
        if self.listed {
            self.informers.follow(&self.definitions, &mut self.running);
        }
    }
}

impl Sink<CustomResourceDefinition> for CrdSink {
    fn apply(&mut self, object: CustomResourceDefinition) {
        let name = object.name_any();
        let facts = definition::read(&object);
        if !definition::concerns_us(&facts) || self.definitions.get(&facts.kind) == Some(&facts) {
            return;
        }
        self.names.insert(name, facts.kind.clone());
        self.definitions.insert(facts.kind.clone(), facts);
        self.follow();
    }

    fn delete(&mut self, object: CustomResourceDefinition) {
        if let Some(kind) = self.names.remove(&object.name_any()) {
            self.definitions.remove(&kind);
            self.follow();
        }
    }

    fn listed(&mut self, keys: &BTreeSet<(String, String)>) {
        let (names, definitions) = (&mut self.names, &mut self.definitions);
        names.retain(|name, kind| {
            let stays = keys.contains(&(String::new(), name.clone()));
            if !stays {
                definitions.remove(kind);
            }
            stays
        });
        self.listed = true;
        self.follow();
    }
}

/// Whether objects of a definition are worth a watch, and served in a version that we can read.
pub(super) fn is_watched(crd: &CrdFacts) -> bool {
    definition::followed().any(|kind| kind == crd.kind) && crd.versions.contains(&crd.version)
}

/// Reading of definitions.
pub(super) mod definition {
    use super::{BTreeSet, CONTRACT, CrdFacts, CustomResourceDefinition, Kind, mirror};
    use crate::api::ProviderType;

    /// Every kind that some cluster may need.
    pub(in crate::watch) fn followed() -> impl Iterator<Item = Kind> {
        [ProviderType::Docker, ProviderType::Proxmox, ProviderType::Aws]
            .into_iter()
            .flat_map(mirror::kinds)
            .map(|(group, kind)| Kind::new(group, kind))
    }

    pub(in crate::watch) fn concerns_us(crd: &CrdFacts) -> bool {
        followed().any(|kind| kind == crd.kind)
    }

    pub(in crate::watch) fn read(crd: &CustomResourceDefinition) -> CrdFacts {
        let spec = &crd.spec;
        let versions: BTreeSet<String> =
            spec.versions.iter().filter(|version| version.served).map(|version| version.name.clone()).collect();
        let stored = spec.versions.iter().find(|version| version.storage).map(|version| version.name.clone());
        let label = crd.metadata.labels.as_ref().and_then(|labels| {
            labels.get(&format!("cluster.x-k8s.io/{CONTRACT}")).and_then(|v| v.rsplit('_').next()).map(str::to_owned)
        });
        let kind = Kind::new(&spec.group, &spec.names.kind);
        // Cluster API's own kinds are of one release: contract and version have one name.
        let version = if kind.group == mirror::INFRASTRUCTURE {
            label.filter(|version| versions.contains(version)).or(stored).unwrap_or_default()
        } else {
            CONTRACT.to_owned()
        };
        let established = crd
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Established" && condition.status == "True");
        CrdFacts { kind, plural: spec.names.plural.clone(), versions, version, established }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn crd(group: &str, kind: &str, versions: &[(&str, bool)], contract: Option<&str>) -> CrdFacts {
        let versions: Vec<_> =
            versions.iter().map(|(name, storage)| json!({"name": name, "served": true, "storage": storage})).collect();
        let labels = contract.map(|list| json!({"cluster.x-k8s.io/v1beta2": list}));
        let object = serde_json::from_value(json!({
            "metadata": {"name": "x", "labels": labels},
            "spec": {"group": group, "scope": "Namespaced", "versions": versions,
                     "names": {"kind": kind, "plural": format!("{}s", kind.to_lowercase())}},
            "status": {"conditions": [{"type": "Established", "status": "True", "lastTransitionTime": null,
                                       "reason": "", "message": ""}]},
        }))
        .expect("a definition");
        definition::read(&object)
    }

    #[test]
    fn the_contract_label_names_the_version_of_a_provider() {
        let versions = [("v1alpha1", true), ("v1alpha2", false)];
        let facts = crd(mirror::INFRASTRUCTURE, "ProxmoxCluster", &versions, Some("v1alpha2"));
        assert_eq!(facts.version, "v1alpha2");
        assert!(is_watched(&facts));
        let unlabelled = crd(mirror::INFRASTRUCTURE, "DevMachine", &[("v1beta2", true)], None);
        assert_eq!(unlabelled.version, "v1beta2");
    }

    #[test]
    fn foreign_kinds_and_old_contracts_are_not_watched() {
        assert!(!is_watched(&crd(mirror::INFRASTRUCTURE, "VSphereMachine", &[("v1beta2", true)], None)));
        assert!(!is_watched(&crd("cluster.x-k8s.io", "Cluster", &[("v1beta1", true)], None)));
        assert!(is_watched(&crd("cluster.x-k8s.io", "Cluster", &[("v1beta1", false), ("v1beta2", true)], None)));
    }
}
