//! One kubelet: what it remembers of its machine and of the pods there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::config::NodeSpec;
use crate::meta;

pub(crate) mod container;
pub(crate) mod environment;
pub(crate) mod pod;
pub(crate) mod prepare;
pub(crate) mod probe;
pub(crate) mod real;
pub(crate) mod script;
pub(crate) mod status;
pub(crate) mod volumes;

use pod::PodMemory;

/// Component name in events.
pub(crate) const COMPONENT: &str = "kubelet";

/// What faults and the world say about one pod right now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// Its images cannot be pulled.
    pub(crate) pull_fails: bool,
    /// Its simulated containers crash.
    pub(crate) crashes: bool,
    /// It may become and stay ready.
    pub(crate) may_be_ready: bool,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { pull_fails: false, crashes: false, may_be_ready: true }
    }
}

/// A kubelet's memory; all of it can be rebuilt from the API.
#[derive(Debug)]
pub(crate) struct Kubelet {
    pub(crate) spec: Arc<NodeSpec>,
    pub(crate) life: u64,
    /// Whether this life of the machine has registered its Node; a Node that somebody deletes
    /// afterwards does not come back.
    pub(crate) registered: bool,
    /// Whether pods with a network of their own can start.
    pub(crate) network: bool,
    /// Images on the machine.
    pub(crate) images: HashSet<String>,
    pub(crate) pods: HashMap<String, PodMemory>,
    /// Pod uid to the last part of its address.
    addresses: BTreeMap<String, u8>,
}

impl Kubelet {
    pub(crate) fn new(spec: Arc<NodeSpec>, life: u64, network: bool) -> Self {
        Self {
            spec,
            life,
            registered: false,
            network,
            images: HashSet::new(),
            pods: HashMap::new(),
            addresses: BTreeMap::new(),
        }
    }

    /// The address of a pod: the host's, or one of the node's own range, the same as long as it lives.
    pub(crate) fn address(&mut self, pod: &Pod, node: Option<&Node>) -> String {
        if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
            return self.spec.ip.to_string();
        }
        let range = node.and_then(|node| node.spec.as_ref()?.pod_cidr.as_deref()).unwrap_or("10.244.0.0/24");
        let prefix = range.rsplit_once('.').map_or("10.244.0", |(prefix, _)| prefix);
        let uid = meta::uid(&pod.metadata);
        if let Some(last) = self.addresses.get(uid) {
            return format!("{prefix}.{last}");
        }
        let known = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.rsplit_once('.')?.1.parse().ok());
        let taken: HashSet<u8> = self.addresses.values().copied().collect();
        let last = known.or_else(|| (2..=254).find(|last| !taken.contains(last))).unwrap_or(254);
        self.addresses.insert(uid.to_owned(), last);
        format!("{prefix}.{last}")
    }

    /// Forgets a pod that is gone; its real processes are asked to end, and what it had on disk goes.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.addresses.remove(uid);
        let Some(memory) = self.pods.remove(uid) else { return };
        memory.stop_all();
        if let Some(machine) = self.spec.folder.as_ref().filter(|_| memory.real)
            && let Err(error) = volumes::remove(&machine.join("pods").join(uid))
        {
            tracing::debug!(%error, "volumes of a pod could not be removed");
        }
    }

    /// Ends everything that really runs.
    pub(crate) fn stop_all(&self) {
        self.pods.values().for_each(PodMemory::stop_all);
    }
}
