//! Whether a pod may run on a node: taints, selectors, affinity, ports, room.

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, Taint, Toleration};

use super::resources::{self, Usage};
use crate::meta;

/// Says why the node will not do, in the scheduler's words; `None` if it will.
pub(super) fn refusal(pod: &Pod, node: &Node, there: &[&Pod], need: &Usage) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if !named_by_affinity(spec, node) {
        return Some("node(s) didn't satisfy plugin(s) [NodeAffinity]".to_owned());
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if cordoned && !tolerates_all(&[unschedulable()], tolerations) {
        return Some("node(s) were unschedulable".to_owned());
    }
    if let Some(taint) = untolerated(node, tolerations) {
        let value = taint.value.as_deref().unwrap_or_default();
        return Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
    }
    if !selected(spec, node) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    if there.iter().any(|other| ports_clash(spec, other)) {
        return Some("node(s) didn't have free ports for the requested pod ports".to_owned());
    }
    if anti_affinity(pod, there) {
        return Some("node(s) didn't match pod anti-affinity rules".to_owned());
    }
    resources::shortage(node, there, need)
}

/// Says whether node selector and required node affinity allow the node.
pub(crate) fn selected(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let by_selector = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    by_selector && required_terms(spec).is_none_or(|terms| terms.iter().any(|term| term_holds(term, node)))
}

/// The first taint that keeps the pod away.
pub(crate) fn untolerated<'n>(node: &'n Node, tolerations: &[Toleration]) -> Option<&'n Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let hard = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    taints.iter().filter(hard).find(|taint| !tolerations.iter().any(|one| tolerates(one, taint)))
}

fn tolerates_all(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    taints.iter().all(|taint| tolerations.iter().any(|one| tolerates(one, taint)))
}

/// Says whether a toleration covers a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let nonempty = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    if nonempty(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if nonempty(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => {
            nonempty(&toleration.key).is_some()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
    }
}

fn unschedulable() -> Taint {
    Taint { key: "node.kubernetes.io/unschedulable".to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() }
}

fn required_terms(spec: &PodSpec) -> Option<&[NodeSelectorTerm]> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(&required.node_selector_terms)
}

fn term_holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let holds = |operator: &str, value: Option<&str>, wanted: Option<&[String]>| {
        meta::requirement_holds(operator, value, wanted.unwrap_or_default())
    };
    expressions.iter().all(|one| holds(&one.operator, label(&one.key), one.values.as_deref()))
        && fields.iter().all(|one| holds(&one.operator, node.metadata.name.as_deref(), one.values.as_deref()))
}

/// A pod of a DaemonSet names its node by a field: no other node is worth a longer word.
fn named_by_affinity(spec: &PodSpec, node: &Node) -> bool {
    let names_node = |term: &NodeSelectorTerm| {
        term.match_fields.as_ref().is_some_and(|fields| fields.iter().any(|field| field.key == "metadata.name"))
    };
    match required_terms(spec) {
        Some(terms) if !terms.is_empty() && terms.iter().all(names_node) => {
            terms.iter().any(|term| term_holds(term, node))
        }
        _ => true,
    }
}

fn ports_clash(spec: &PodSpec, other: &Pod) -> bool {
    let Some(other) = &other.spec else { return false };
    let theirs: Vec<(i32, &str)> = host_ports(other).collect();
    !theirs.is_empty() && host_ports(spec).any(|mine| theirs.contains(&mine))
}

fn host_ports(spec: &PodSpec) -> impl Iterator<Item = (i32, &str)> {
    let network = spec.host_network == Some(true);
    spec.containers.iter().flat_map(|container| container.ports.iter().flatten()).filter_map(move |port| {
        let number = port.host_port.filter(|port| *port > 0).or(network.then_some(port.container_port))?;
        Some((number, port.protocol.as_deref().unwrap_or("TCP")))
    })
}

/// Says whether a pod on the node is one that this pod must not share a host with.
///
/// Only the topology of single hosts is known here; wider ones are taken as satisfied.
fn anti_affinity(pod: &Pod, there: &[&Pod]) -> bool {
    let terms = pod.spec.as_ref().and_then(|spec| {
        spec.affinity.as_ref()?.pod_anti_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
    });
    let own = meta::namespace(&pod.metadata);
    let meant = |term: &PodAffinityTerm, other: &Pod| {
        let namespace = meta::namespace(&other.metadata);
        let there = match term.namespaces.as_deref() {
            None | Some([]) => namespace == own,
            Some(names) => names.iter().any(|name| name == namespace),
        };
        let labels = other.metadata.labels.as_ref();
        there && term.label_selector.as_ref().is_some_and(|selector| meta::selects(selector, labels))
    };
    terms
        .into_iter()
        .flatten()
        .filter(|term| term.topology_key == "kubernetes.io/hostname")
        .any(|term| there.iter().any(|other| meant(term, other)))
}
