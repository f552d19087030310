//! `components/<name>/component.yaml`: what a component is, before any of it is rendered.

use std::collections::BTreeMap;

use lattice_protocol::v1;
use serde::Deserialize;

use super::{Error, Selection};
use crate::render::{self, Library};

/// A component's description.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Component {
    /// The condition of the cluster that tells how it is.
    pub(super) condition: String,
    /// What must be healthy before it starts.
    #[serde(default)]
    pub(super) needs: Vec<NeedEntry>,
    /// Expression over `spec`: whether a cluster has it unless its spec says otherwise.
    pub(super) enabled_when: String,
    /// Version by Kubernetes minor; `*` stands for every minor that is not named.
    versions: BTreeMap<String, String>,
    /// What must hold before dependents start.
    pub(super) gates: Vec<Gate>,
    /// Fields that controllers on the child rewrite.
    #[serde(default)]
    pub(super) ignored: Vec<Ignored>,
}

/// A dependency, as written down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NeedEntry {
    pub(super) component: String,
    /// Comes from what the product promises: vanishes when the other one is off.
    #[serde(default)]
    policy: bool,
}

/// A dependency of a component on another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The other component.
    pub name: String,
    /// Whether it comes from the product's promise (and vanishes when the other one is off) or from need.
    pub policy: bool,
}

/// What the graph and the status know of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentSummary {
    /// Name of its folder.
    pub name: String,
    /// The condition that tells how it is.
    pub condition: String,
    /// What must be healthy before it starts.
    pub needs: Vec<Need>,
    /// Whether this cluster has it.
    pub enabled: bool,
    /// The version that this cluster gets, if it has it.
    pub version: Option<String>,
}

/// What must hold before dependents start. Exactly one field.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Gate {
    DaemonSet(Workload),
    Deployment(Workload),
    StatefulSet(Workload),
    Job(Workload),
    Crd(String),
    ApiService(String),
    Nodes(Nodes),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workload {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Nodes {
    #[serde(default)]
    without_taints: Vec<String>,
}

/// A field that is never repaired.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ignored {
    kind: String,
    #[serde(default)]
    name: String,
    pointer: String,
}

/// Path of a component's description.
pub(super) fn description(name: &str) -> String {
    format!("components/{name}/component.yaml")
}

impl Component {
    /// Reads and checks one description.
    pub(super) fn load(library: &Library, name: &str) -> Result<Self, Error> {
        let path = description(name);
        let wrong = |problem: String| Error::Render(render::Error::Description { path: path.clone(), problem });
        let text = library.text(&path).ok_or_else(|| wrong("is missing".to_owned()))?;
        let component: Component =
            serde_saphyr::from_str(text).map_err(|error| wrong(error.without_snippet().to_string()))?;
        if !is_condition(&component.condition) {
            return Err(wrong(format!("condition {:?} is no name in CamelCase", component.condition)));
        }
        if let Some(key) = component.versions.keys().find(|key| key.as_str() != "*" && minor_of(key).is_none()) {
            return Err(wrong(format!("versions has {key:?}, which is no Kubernetes minor such as \"1.32\"")));
        }
        if component.gates.is_empty() {
            return Err(wrong("has no gates: nothing would ever say whether it works".to_owned()));
        }
        if component.needs.iter().any(|need| need.component == name) {
            return Err(wrong("needs itself".to_owned()));
        }
        if let Some(ignored) = component.ignored.iter().find(|ignored| !ignored.pointer.starts_with('/')) {
            return Err(wrong(format!("ignored pointer {:?} is no JSON pointer", ignored.pointer)));
        }
        Ok(component)
    }

    /// The version for a cluster.
    pub(super) fn version(&self, name: &str, selection: &Selection) -> Result<String, Error> {
        if let Some(wanted) = selection.overrides.get(name).and_then(|wanted| wanted.version.as_deref()) {
            let mut known: Vec<String> = self.versions.values().map(|version| own(version)).collect();
            known.sort();
            known.dedup();
            if known.iter().any(|version| version == wanted) {
                return Ok(wanted.to_owned());
            }
            return Err(Error::UnknownVersion { component: name.to_owned(), version: wanted.to_owned(), known });
        }
        let minor = minor_of(&selection.kubernetes_version).map(|(major, minor)| format!("{major}.{minor}"));
        minor
            .and_then(|minor| self.versions.get(&minor))
            .or_else(|| self.versions.get("*"))
            .map(|version| own(version))
            .ok_or_else(|| Error::NoVersion {
                component: name.to_owned(),
                kubernetes: selection.kubernetes_version.clone(),
                known: self.versions.keys().cloned().collect(),
            })
    }
}

impl NeedEntry {
    pub(super) fn to_need(&self) -> Need {
        Need { name: self.component.clone(), policy: self.policy }
    }
}

impl Gate {
    /// The gate as the agent takes it.
    pub(super) fn to_wire(&self) -> v1::Gate {
        use v1::gate::Kind;
        let workload = |workload: &Workload| v1::WorkloadRef {
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
        };
        let kind = match self {
            Gate::DaemonSet(found) => Kind::DaemonSet(workload(found)),
            Gate::Deployment(found) => Kind::Deployment(workload(found)),
            Gate::StatefulSet(found) => Kind::StatefulSet(workload(found)),
            Gate::Job(found) => Kind::Job(workload(found)),
            Gate::Crd(name) => Kind::Crd(name.clone()),
            Gate::ApiService(name) => Kind::ApiService(name.clone()),
            Gate::Nodes(nodes) => Kind::Nodes(v1::NodesGate { without_taints: nodes.without_taints.clone() }),
        };
        v1::Gate { kind: Some(kind) }
    }
}

impl Ignored {
    /// The field as the agent takes it.
    pub(super) fn to_wire(&self) -> v1::IgnoredField {
        v1::IgnoredField { kind: self.kind.clone(), name: self.name.clone(), pointer: self.pointer.clone() }
    }
}

/// `self` is the version of the binary: a component that is made of Lattice's own image.
fn own(version: &str) -> String {
    if version == "self" { env!("CARGO_PKG_VERSION").to_owned() } else { version.to_owned() }
}

/// Major and minor of `1.32`, `1.32.0` or `v1.32.0+rke2r1`.
fn minor_of(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v').unwrap_or(version).split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn is_condition(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}
