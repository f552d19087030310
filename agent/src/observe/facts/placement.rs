//! On which nodes a DaemonSet should run: what its controller would decide, so that counts are honest before it did.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};

use super::super::objects::PodSpec;
use super::NodeFacts;

/// Taints that the DaemonSet controller tolerates for every pod that it makes.
const ALWAYS_TOLERATED: [&str; 6] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
];

/// The taint that it tolerates for pods on the host's network.
const TOLERATED_ON_HOST_NETWORK: &str = "node.kubernetes.io/network-unavailable";

/// The parts of a pod template that choose nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    selector: BTreeMap<String, String>,
    affinity: Option<NodeSelector>,
    tolerations: Vec<Toleration>,
    host_network: bool,
}

impl Placement {
    /// Takes them from a pod's spec.
    pub fn of(spec: &PodSpec) -> Self {
        let node_affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        Self {
            selector: spec.node_selector.clone().unwrap_or_default(),
            affinity: node_affinity
                .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.clone()),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            host_network: spec.host_network.unwrap_or_default(),
        }
    }

    /// Whether a DaemonSet with this template should have a pod on the node.
    pub fn includes(&self, name: &str, node: &NodeFacts) -> bool {
        let selected = self.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
        let preferred = self
            .affinity
            .as_ref()
            .is_none_or(|affinity| affinity.node_selector_terms.iter().any(|term| term_matches(term, name, node)));
        selected
            && preferred
            && node.taints.iter().all(|taint| taint.effect == "PreferNoSchedule" || self.tolerates(taint))
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        ALWAYS_TOLERATED.contains(&taint.key.as_str())
            || (self.host_network && taint.key == TOLERATED_ON_HOST_NETWORK)
            || self.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    let effect = empty(&toleration.effect) || toleration.effect.as_deref() == Some(&taint.effect);
    let exists = toleration.operator.as_deref() == Some("Exists");
    let key = if empty(&toleration.key) { exists } else { toleration.key.as_deref() == Some(&taint.key) };
    let value = exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && key && value
}

fn term_matches(term: &NodeSelectorTerm, name: &str, node: &NodeFacts) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without any requirement matches nothing (Kubernetes' own rule).
    (!labels.is_empty() || !fields.is_empty())
        && labels.iter().all(|wanted| matches(wanted, node.labels.get(&wanted.key).map(String::as_str)))
        && fields.iter().all(|wanted| wanted.key == "metadata.name" && matches(wanted, Some(name)))
}

fn matches(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let compare = |holds: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|bound| bound.parse().ok());
        matches!((value.and_then(|value| value.parse().ok()), bound), (Some(value), Some(bound)) if holds(value, bound))
    };
    match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}
