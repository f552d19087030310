//! What is known about a cluster when it is rendered. Separate from the resource's types on purpose: a field of the
//! resource can be renamed, defaulted or inherited without any template noticing.

use std::collections::BTreeMap;

use lattice_protocol::ids::{ClusterName, ClusterUid};
use serde::Serialize;

/// Everything that the objects of one cluster are made from: the spec with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterContext {
    /// Name of the LatticeCluster.
    pub name: ClusterName,
    /// `metadata.uid` of the LatticeCluster.
    pub uid: ClusterUid,
    /// Labels of the LatticeCluster: copied to the CAPI Cluster.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes version with its `v`: `v1.32.0`.
    pub kubernetes_version: String,
    /// Addresses of pods.
    pub pod_cidr: String,
    /// Addresses of Services.
    pub service_cidr: String,
    /// Names and addresses that a person wants in the API server's certificate.
    pub cert_sans: Vec<String>,
    /// Where the API server is reached, where that is known before the infrastructure exists.
    pub endpoint: Option<Endpoint>,
    /// The provider-specific part.
    pub provider: ProviderContext,
    /// The control-plane machines.
    pub control_plane: MachineContext,
    /// The worker machines by name of their pool.
    pub worker_pools: BTreeMap<String, MachineContext>,
}

/// Host and port of an API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Machines that are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineContext {
    /// How many; `None` hands the count to the cluster autoscaler.
    pub replicas: Option<u32>,
    /// Least and most machines that the autoscaler may make.
    pub scale: Option<(u32, u32)>,
    /// How large, where the spec says so in numbers.
    pub size: Option<MachineSize>,
    /// Labels of the nodes.
    pub labels: BTreeMap<String, String>,
    /// Taints of the nodes, beside those that Kubernetes sets itself.
    pub taints: Vec<Taint>,
    /// Failure domain of the machines.
    pub failure_domain: Option<String>,
}

/// Size of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MachineSize {
    /// Processor cores.
    pub cores: u32,
    /// Memory, GiB.
    pub memory_gib: u32,
    /// Boot disk, GiB.
    pub disk_gib: u32,
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taint {
    /// Key of the taint.
    pub key: String,
    /// Value; may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// The provider-specific part: in templates `provider.proxmox` or `provider.docker`, whichever it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderContext {
    /// Virtual machines of Proxmox VE.
    Proxmox(Box<ProxmoxContext>),
    /// Containers of Docker, or objects in memory, by Cluster API's Dev kinds.
    Docker(DockerContext),
}

impl ProviderContext {
    /// Name of the provider's folder: the type of its InfraProvider.
    pub fn folder(&self) -> &'static str {
        match self {
            ProviderContext::Proxmox(_) => "proxmox",
            ProviderContext::Docker(_) => "docker",
        }
    }
}

/// `provider.config.proxmox` with the provider's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProxmoxContext {
    /// Node that holds the VM template.
    pub source_node: String,
    /// Id of the VM template.
    pub template_id: u32,
    /// Network bridge.
    pub bridge: String,
    /// VLAN tag.
    pub vlan: Option<u32>,
    /// Address ranges of machines, each `A-B` with both ends written out.
    pub addresses: Vec<String>,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// Gateway of the machines.
    pub gateway: String,
    /// Name servers; at least one.
    pub dns_servers: Vec<String>,
    /// Nodes that machines may be placed on; at least one.
    pub allowed_nodes: Vec<String>,
    /// Storage for cloned disks; asks for a full clone.
    pub storage: Option<String>,
    /// Disk that is booted from, for example `scsi0`.
    pub boot_disk: String,
    /// Whether disks are copied instead of linked.
    pub full: bool,
    /// Keys of people who may log in to machines.
    pub ssh_authorized_keys: Vec<String>,
    /// Interface of the control plane's virtual address; found by kube-vip where absent.
    pub vip_interface: Option<String>,
}

/// `provider.config.docker`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DockerContext {
    /// Objects in memory instead of containers.
    pub in_memory: bool,
    /// Image of the nodes.
    pub image: Option<String>,
    /// Image of the load balancer.
    pub load_balancer: Option<ImageContext>,
}

/// An image, as far as it is not the provider's own choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageContext {
    /// Repository without the image's name.
    pub repository: Option<String>,
    /// Tag.
    pub tag: Option<String>,
}
