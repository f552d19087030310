//! What a caller chooses: speed, network plug-in, runtime, and the shape of a node.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

/// How one simulated cluster behaves.
#[derive(Clone)]
pub struct NodesConfig {
    /// How many times faster than life pulls, starts, probes and backoffs run; 0 means at once
    /// (backoffs then keep a hundredth of their length, so that a crash loop is no busy loop).
    pub speed: f64,
    /// Which pods bring a node's network up; without a rule nodes are born with a network.
    pub cni: Option<CniRule>,
    /// Runs chosen pods as real processes.
    pub runtime: Option<Arc<dyn Runtime>>,
    /// Whether Events are written for scheduling, pulls, starts and failures.
    pub events: bool,
    /// Whether kubelets renew a Lease in `kube-node-lease` every 10 s. Off by default: a Lease is a write.
    pub leases: bool,
    /// Whether pods are placed on nodes. Without nodes nobody should: their pods then wait without a word, as on a real
    /// API server that has no scheduler.
    pub scheduler: bool,
    /// The first two octets of the pod network; each node gets a /24 of it.
    pub pod_network: [u8; 2],
}

impl Default for NodesConfig {
    fn default() -> Self {
        Self {
            speed: 1.0,
            cni: None,
            runtime: None,
            events: true,
            leases: false,
            scheduler: true,
            pod_network: [10, 244],
        }
    }
}

impl fmt::Debug for NodesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodesConfig")
            .field("speed", &self.speed)
            .field("cni", &self.cni)
            .field("runtime", &self.runtime.is_some())
            .field("events", &self.events)
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}

/// Says which DaemonSet is the network plug-in.
///
/// A hostNetwork pod of a DaemonSet that has one of the names, or that carries the label, brings
/// the network of its node up when it becomes ready. It stays up when the pod goes away later,
/// as a written CNI configuration does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniRule {
    /// Names of DaemonSets.
    pub daemon_sets: Vec<String>,
    /// A label (key, value) on the pod.
    pub label: Option<(String, String)>,
    /// Key of a taint that goes away with the network's coming up.
    pub taint: Option<String>,
    /// Reason of the node condition `NetworkUnavailable=False` that the plug-in sets.
    pub reason: String,
}

impl Default for CniRule {
    fn default() -> Self {
        Self {
            daemon_sets: vec!["cilium".to_owned()],
            label: None,
            taint: Some("node.cilium.io/agent-not-ready".to_owned()),
            reason: "CiliumIsUp".to_owned(),
        }
    }
}

/// A machine that joins the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name of the Node object.
    pub name: String,
    /// Its internal address; on loopback each node has one of its own.
    pub ip: IpAddr,
    /// Labels beside the well-known ones (host name, architecture, operating system).
    pub labels: BTreeMap<String, String>,
    /// Taints that the machine registers with.
    pub taints: Vec<Taint>,
    /// Version that the kubelet reports, with its `v`.
    pub kubelet_version: String,
    /// `spec.providerID`, if the machine knows it.
    pub provider_id: Option<String>,
    /// Folder of the machine: volumes and logs of real containers lie below it.
    pub folder: Option<PathBuf>,
    /// CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl NodeSpec {
    /// Describes a node of 4 CPUs and 8 GiB.
    pub fn new(name: impl Into<String>, ip: IpAddr) -> Self {
        Self {
            name: name.into(),
            ip,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            kubelet_version: "v1.36.2".to_owned(),
            provider_id: None,
            folder: None,
            cpus: 4,
            memory_mib: 8192,
        }
    }

    /// Makes it a control-plane node, as kubeadm labels and taints one.
    pub fn control_plane(mut self) -> Self {
        let key = "node-role.kubernetes.io/control-plane";
        self.labels.insert(key.to_owned(), String::new());
        self.labels.insert("node.kubernetes.io/exclude-from-external-load-balancers".to_owned(), String::new());
        self.taints.push(Taint { key: key.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
        self
    }
}
