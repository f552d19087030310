//! The Node object: what a kubelet reports, and what the node life cycle makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec as Spec, NodeStatus,
    NodeSystemInfo, Pod, PodCondition, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};

use crate::config::{CniRule, NodeSpec};
use crate::events::Note;
use crate::meta;
use crate::op::{CONTROLLERS, KUBELET, Object, Op, Plan};
use crate::pace::fnv32;
use crate::scheduler::fit::tolerates;

/// What a kubelet says while nothing brings its network up.
pub(crate) const NO_NETWORK: &str = "container runtime network not ready: NetworkReady=false \
     reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// How long kubelets may keep what they read, in seconds; large clusters say more than 0.
const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// Why nothing is known of a node that no kubelet ever reported on.
const NEVER: &str = "NodeStatusNeverUpdated";
const COMPONENT: &str = "node-controller";

/// Pods that a node takes.
const PODS_MAX: u32 = 110;

/// Makes the Node that a machine registers.
pub(crate) fn register(spec: &NodeSpec, network: bool, cni: Option<&CniRule>, now: Timestamp) -> Node {
    let mut labels: BTreeMap<String, String> = [
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/hostname", spec.name.as_str()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    labels.extend(spec.labels.clone());
    let mut taints = spec.taints.clone();
    if !network {
        taints.push(taint(NOT_READY, "NoSchedule", None));
    }
    let node = Node {
        metadata: ObjectMeta { name: Some(spec.name.clone()), labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(Spec {
            provider_id: spec.provider_id.clone(),
            taints: (!taints.is_empty()).then_some(taints),
            ..Spec::default()
        }),
        status: None,
    };
    Node { status: Some(status(&node, spec, network, cni, now)), ..node }
}

/// Gives the node its range of the pod network: the first that no other node has.
pub(crate) fn pod_range(network: [u8; 2], nodes: &[Arc<Node>]) -> String {
    let range = |third: u8| format!("{}.{}.{third}.0/24", network[0], network[1]);
    let taken = |range: &String| {
        nodes.iter().any(|node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_ref()) == Some(range))
    };
    (0..=255).map(range).find(|range| !taken(range)).unwrap_or_else(|| range(255))
}

/// Decides what a living kubelet writes.
pub(crate) fn report(node: &Node, spec: &NodeSpec, network: bool, cni: Option<&CniRule>, now: Timestamp) -> Plan {
    let mut plan = Plan::new(KUBELET);
    let status = status(node, spec, network, cni, now);
    if node.status.as_ref() != Some(&status) {
        plan.ops.push(Op::Status(Object::from(Node { status: Some(status), ..node.clone() })));
    }
    plan
}

fn status(node: &Node, spec: &NodeSpec, network: bool, cni: Option<&CniRule>, now: Timestamp) -> NodeStatus {
    let old = node.status.clone().unwrap_or_default();
    let capacity: BTreeMap<String, Quantity> = [
        ("cpu", spec.cpus.to_string()),
        ("memory", format!("{}Ki", spec.memory_mib * 1024)),
        ("pods", PODS_MAX.to_string()),
        ("ephemeral-storage", "51200000Ki".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), Quantity(value)))
    .into();
    let address = |kind: &str, address: &str| NodeAddress { type_: kind.to_owned(), address: address.to_owned() };
    let mut conditions = vec![
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        if network {
            ("Ready", "True", "KubeletReady", "kubelet is posting ready status")
        } else {
            ("Ready", "False", "KubeletNotReady", NO_NETWORK)
        },
    ];
    if let (true, Some(cni)) = (network, cni) {
        conditions.insert(0, ("NetworkUnavailable", "False", &cni.reason, "network plug-in is running on this node"));
    }
    NodeStatus {
        addresses: Some(vec![address("InternalIP", &spec.ip.to_string()), address("Hostname", &spec.name)]),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(merge(&old, &conditions, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: 10250 }) }),
        node_info: Some(system_info(spec)),
        ..old
    }
}

fn system_info(spec: &NodeSpec) -> NodeSystemInfo {
    let id = |salt: &str| {
        let words = [0, 1, 2, 3].map(|n| fnv32(&[&spec.name, salt, &n.to_string()]));
        let [a, b, c, d] = words;
        format!("{a:08x}-{:04x}-{:04x}-{:04x}-{:04x}{d:08x}", b >> 16, b & 0xffff, c >> 16, c & 0xffff)
    };
    NodeSystemInfo {
        architecture: "amd64".to_owned(),
        boot_id: id("boot"),
        container_runtime_version: "containerd://2.1.4".to_owned(),
        kernel_version: "6.8.0-simulated".to_owned(),
        kube_proxy_version: String::new(),
        kubelet_version: spec.kubelet_version.clone(),
        machine_id: id("machine").replace('-', ""),
        operating_system: "linux".to_owned(),
        os_image: "Simulated Linux".to_owned(),
        system_uuid: id("system"),
        ..NodeSystemInfo::default()
    }
}

/// Puts the kubelet's conditions in the place of old ones; times change only with the status.
fn merge(old: &NodeStatus, wanted: &[(&str, &str, &str, &str)], now: Timestamp) -> Vec<NodeCondition> {
    let find = |kind: &str| old.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let mut all: Vec<NodeCondition> = wanted
        .iter()
        .map(|(kind, status, reason, message)| {
            let old = find(kind);
            let same = old.filter(|old| old.status == *status && old.reason.as_deref() == Some(*reason));
            let since = old.filter(|old| old.status == *status).and_then(|old| old.last_transition_time.clone());
            NodeCondition {
                type_: (*kind).to_owned(),
                status: (*status).to_owned(),
                reason: Some((*reason).to_owned()),
                message: Some((*message).to_owned()),
                last_heartbeat_time: same.map_or_else(|| Some(meta::time(now)), |old| old.last_heartbeat_time.clone()),
                last_transition_time: since.or_else(|| Some(meta::time(now))),
            }
        })
        .collect();
    let others = old.conditions.iter().flatten();
    all.extend(others.filter(|other| !wanted.iter().any(|(kind, ..)| *kind == other.type_)).cloned());
    all
}

/// The Lease by which a living kubelet shows that it lives.
pub(crate) fn lease(node: &Node, now: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: node.metadata.name.clone(),
            namespace: Some("kube-node-lease".to_owned()),
            owner_references: Some(vec![OwnerReference {
                controller: None,
                block_owner_deletion: None,
                ..meta::owner_reference(node)
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: node.metadata.name.clone(),
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

/// Decides what the node life cycle does about a node; `silent` says that its kubelet stopped
/// reporting long enough ago, `pods` are those on it.
pub(crate) fn watch_over(node: &Node, silent: bool, cni: Option<&CniRule>, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::new(CONTROLLERS);
    if silent {
        declare_unknown(node, now, &mut plan);
    }
    if plan.ops.is_empty() {
        let taints = taints(node, cni, now);
        let mut wanted = node.clone();
        wanted.metadata.annotations.get_or_insert_default().entry(TTL.to_owned()).or_insert_with(|| "0".to_owned());
        if node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default() != taints {
            wanted.spec.get_or_insert_default().taints = (!taints.is_empty()).then_some(taints);
        }
        if wanted != *node {
            plan.ops.push(Op::Replace(Object::from(wanted)));
        }
    }
    for pod in pods {
        if condition(node, "Ready") == Some("Unknown") && meta::ready(pod) {
            plan.ops.push(Op::Status(Object::from(unready(pod, now))));
        }
        evict(node, pod, now, &mut plan);
    }
    plan
}

fn declare_unknown(node: &Node, now: Timestamp, plan: &mut Plan) {
    let mut status = node.status.clone().unwrap_or_default();
    let known = |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let reported = |kind: &str| known(kind).is_some_and(|condition| condition.reason.as_deref() != Some(NEVER));
    let kinds = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
    let unknown = kinds.map(|kind| {
        if reported(kind) {
            (kind, "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
        } else {
            (kind, "Unknown", NEVER, "Kubelet never posted node status.")
        }
    });
    let conditions = merge(&status, &unknown, now);
    if status.conditions.as_ref() != Some(&conditions) {
        status.conditions = Some(conditions);
        plan.ops.push(Op::Status(Object::from(Node { status: Some(status), ..node.clone() })));
    }
}

/// The taints that the node ought to have; those of others stay.
fn taints(node: &Node, cni: Option<&CniRule>, now: Timestamp) -> Vec<Taint> {
    let has = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let network_up = condition(node, "NetworkUnavailable") == Some("False");
    let cni_taint = cni.and_then(|cni| cni.taint.as_deref()).filter(|_| network_up);
    let ours = |taint: &Taint| {
        matches!(taint.key.as_str(), NOT_READY | UNREACHABLE | UNSCHEDULABLE) || cni_taint == Some(&taint.key)
    };
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match condition(node, "Ready") {
        Some("True") | None => {}
        // Where nothing ever ran there is nothing to drive away.
        Some("Unknown") if never_reported(node) => wanted.push((UNREACHABLE, "NoSchedule")),
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        _ => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let keep =
        |taint: &Taint| !ours(taint) || wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
    let mut all: Vec<Taint> = has.into_iter().filter(keep).collect();
    for (key, effect) in wanted {
        if !all.iter().any(|taint| taint.key == key && taint.effect == effect) {
            all.push(taint(key, effect, Some(now)));
        }
    }
    all
}

/// Says whether no kubelet ever reported on a node.
pub(crate) fn never_reported(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    ready.is_none_or(|ready| ready.reason.as_deref() == Some(NEVER))
}

/// What is told of a new node.
pub(crate) fn registered(node: &Node) -> Note {
    let name = meta::name(&node.metadata);
    let message = format!("Node {name} event: Registered Node {name} in Controller");
    Note::normal(COMPONENT, node, "RegisteredNode", message)
}

/// What is told of a node that is gone.
pub(crate) fn removed(node: &Node) -> Note {
    let name = meta::name(&node.metadata);
    let message = format!("Node {name} event: Removing Node {name} from Controller");
    Note::normal(COMPONENT, node, "RemovingNode", message)
}

fn taint(key: &str, effect: &str, since: Option<Timestamp>) -> Taint {
    Taint { key: key.to_owned(), effect: effect.to_owned(), value: None, time_added: since.map(meta::time) }
}

/// Deletes a pod that does not tolerate a `NoExecute` taint, once its toleration's time is over.
fn evict(node: &Node, pod: &Pod, now: Timestamp, plan: &mut Plan) {
    if !meta::active(pod) {
        return;
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let covering: Vec<_> = tolerations.iter().filter(|one| tolerates(one, taint)).collect();
        let limit = covering.iter().filter_map(|one| one.toleration_seconds).min();
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let due = match (covering.is_empty(), limit) {
            (true, _) => now,
            (false, None) => continue,
            (false, Some(seconds)) => since + SignedDuration::from_secs(seconds.max(0)),
        };
        if due <= now {
            plan.ops.push(crate::workloads::replica_set::delete(pod));
            return;
        }
        plan.wake_at(due, now);
    }
}

fn unready(pod: &Pod, now: Timestamp) -> Pod {
    let mut pod = pod.clone();
    let conditions = pod.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
    for condition in conditions.filter(|condition| condition.type_ == "Ready") {
        *condition = PodCondition {
            status: "False".to_owned(),
            reason: Some("NodeNotReady".to_owned()),
            last_transition_time: Some(meta::time(now)),
            ..condition.clone()
        };
    }
    pod
}

/// The status of one of the node's conditions.
pub(crate) fn condition<'n>(node: &'n Node, kind: &str) -> Option<&'n str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// Says whether the pod is one that brings its node's network up, and does so now.
pub(crate) fn brings_network_up(cni: &CniRule, pod: &Pod) -> bool {
    let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let owner = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "DaemonSet");
    let named = owner.is_some_and(|owner| cni.daemon_sets.contains(&owner.name));
    let labelled = cni
        .label
        .as_ref()
        .is_some_and(|(key, value)| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value));
    on_host && owner.is_some() && (named || labelled) && meta::ready(pod)
}

#[cfg(test)]
mod tests;
