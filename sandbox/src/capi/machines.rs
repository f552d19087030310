//! What makes machines: the seam between the infrastructure controllers and whoever simulates computers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// What a machine is switched on with.
#[derive(Clone, Serialize, Deserialize)]
pub struct Boot {
    /// Namespace of its objects.
    pub namespace: String,
    /// Its name, which is also its host name.
    pub name: String,
    /// Name of the Cluster that it belongs to.
    pub cluster: String,
    /// What `ds.meta_data` of cloud-init's templates says.
    pub metadata: BTreeMap<String, String>,
    /// The provider's id of the machine.
    pub provider_id: String,
    /// Whether the provider itself writes the id to the Node; else the kubelet must be told it.
    pub provider_sets_id: bool,
    /// Kubernetes version on its disk, with its `v`.
    pub version: String,
    /// CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The bootstrap data: a cloud-config. Holds secrets.
    pub user_data: String,
}

impl std::fmt::Debug for Boot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boot")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .field("user_data", &"[redacted]")
            .finish_non_exhaustive()
    }
}

/// What can be seen of a machine from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Power {
    /// It does not exist.
    Absent,
    /// It is being made, or starts.
    Starting,
    /// It runs, and its first commands do too.
    Running {
        /// Its addresses.
        addresses: Vec<String>,
        /// Whether the kubelet has registered.
        node: bool,
        /// Whether an API server runs on it.
        api_server: bool,
    },
    /// Its first commands failed.
    Failed {
        /// Its addresses.
        addresses: Vec<String>,
        /// Which command, and how.
        message: String,
    },
}

/// Makes machines.
pub trait Machines: Send + Sync + 'static {
    /// Switches a machine on; nothing happens when it runs already.
    fn boot(&self, boot: Boot);

    /// Looks at a machine.
    fn look(&self, namespace: &str, name: &str) -> Power;

    /// Destroys a machine for good.
    fn destroy(&self, namespace: &str, name: &str);

    /// Tells that a Cluster is gone, so that what its machines left behind can go too.
    fn cluster_gone(&self, namespace: &str, cluster: &str);

    /// Address and port at which the API of a Cluster will be reached, for providers that choose it themselves.
    fn endpoint(&self, namespace: &str, cluster: &str) -> (String, u16);

    /// Whether a person wants the infrastructure of a Cluster, or of one of its machines, to be stuck.
    fn stalled(&self, cluster: &str, machine: Option<&str>) -> bool;

    /// Tells the namespace in which [`Machines::look`] or [`Machines::stalled`] may have a new answer.
    fn changes(&self) -> broadcast::Receiver<String>;
}
