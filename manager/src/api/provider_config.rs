//! `provider.config`: the only part of a spec that a provider owns.

#![expect(unreachable_pub, reason = "derive(KubeSchema) makes copies of the types inside functions")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provider::ProviderType;

/// Exactly one provider's settings.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.docker) ? 1 : 0) + (has(self.proxmox) ? 1 : 0) + (has(self.aws) ? 1 : 0) == 1")
        .message("provider.config must hold exactly one of docker, proxmox, aws: keep the one that matches the InfraProvider's type and remove the others"),
    validation = Rule::new("has(self.docker) == has(oldSelf.docker) && has(self.proxmox) == has(oldSelf.proxmox) && has(self.aws) == has(oldSelf.aws)")
        .message("the provider in provider.config is immutable: delete the cluster and create it on the other provider")
)]
pub struct ProviderConfig {
    /// Machines that are containers, or only simulated: Cluster API's development provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerConfig>,

    /// Virtual machines on Proxmox VE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxmox: Option<ProxmoxConfig>,

    /// Instances on AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsConfig>,
}

/// Virtual machines on Proxmox VE.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.controlPlaneEndpoint == oldSelf.controlPlaneEndpoint")
        .message("controlPlaneEndpoint is immutable: every node and certificate of the cluster knows it"),
    validation = Rule::new("!has(self.storage) || !has(self.full) || self.full")
        .message("full: a linked clone cannot choose its storage; set full to true or remove storage")
)]
pub struct ProxmoxConfig {
    /// Proxmox node that holds the template.
    #[schemars(length(min = 1, max = 63))]
    pub source_node: String,

    /// Number of the VM template that machines are cloned from.
    #[schemars(range(min = 100, max = 999_999_999))]
    pub template_id: u32,

    /// Address of the cluster's API server, outside the pool.
    #[schemars(length(min = 1, max = 253), pattern(r"^[A-Za-z0-9.:-]+$"))]
    pub control_plane_endpoint: String,

    /// Bridge that the machines are attached to.
    #[schemars(length(min = 1, max = 32))]
    pub bridge: String,

    /// Addresses of the machines.
    pub ipv4_pool: Ipv4Pool,

    /// Name servers of the machines; by default the provider's, else the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 45)))]
    pub dns_servers: Vec<String>,

    /// Proxmox nodes that machines may be put on; by default the provider's, else the source node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub allowed_nodes: Vec<String>,

    /// Storage of the machines' disks; by default the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub storage: Option<String>,

    /// Device of the boot disk, as `scsi0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), pattern(r"^[a-z]+[0-9]+$"))]
    pub boot_disk: Option<String>,

    /// VLAN tag of the machines' network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u32>,

    /// SSH public keys that may log in on the machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 4096)))]
    pub ssh_authorized_keys: Vec<String>,

    /// Interface that announces the control-plane endpoint; by default found by the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub vip_interface: Option<String>,

    /// Whether machines are full clones; by default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<bool>,
}

/// IPv4 addresses of machines.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Ipv4Pool {
    /// `A.B.C.D-E/len` or `A.B.C.D-A.B.C.E/len`.
    #[schemars(length(max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,3}([.][0-9]{1,3}){3}-([0-9]{1,3}[.]){0,3}[0-9]{1,3}/[0-9]{1,2}$')").message("ipv4Pool.range must be first-last/prefix: write for example 10.0.1.111-120/24 or 10.0.1.111-10.0.1.120/24"))]
    pub range: String,

    /// The machines' default route.
    #[schemars(length(max = 15))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,3}([.][0-9]{1,3}){3}$')").message("ipv4Pool.gateway must be an IPv4 address: write for example 10.0.1.1"))]
    pub gateway: String,
}

/// Cluster API's development provider; machine sizes cannot be honoured.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DockerConfig {
    /// What machines are.
    #[serde(default)]
    pub backend: DockerBackend,

    /// Image of a machine; by default the provider's for the Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// Image of the load balancer before the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<DockerLoadBalancer>,
}

/// What machines of the development provider are.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum DockerBackend {
    /// Containers.
    #[default]
    Docker,
    /// Nothing but objects in the provider's memory.
    InMemory,
}

/// Image of the load balancer before the control plane.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DockerLoadBalancer {
    /// Repository without the image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub image_repository: Option<String>,

    /// Tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub image_tag: Option<String>,
}

/// Instances on AWS.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AwsConfig {
    /// Region; required here or in the provider's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,

    /// Whether the control plane is EKS.
    #[serde(default)]
    pub managed: bool,

    /// Network to use instead of a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<AwsVpc>,

    /// Image of the instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub ami: Option<String>,

    /// Name of the key pair that may log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub ssh_key_name: Option<String>,

    /// Instance profile of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub iam_instance_profile: Option<String>,

    /// Availability zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub failure_domains: Vec<String>,

    /// Scheme of the control plane's load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), pattern(r"^(internet-facing|internal)$"))]
    pub load_balancer_scheme: Option<String>,
}

/// An existing AWS network.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AwsVpc {
    /// Id of the VPC.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,

    /// Ids of its subnets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub subnets: Vec<String>,
}

impl ProviderConfig {
    /// The providers whose settings are present; a valid config has exactly one.
    pub fn types(&self) -> Vec<ProviderType> {
        let mut types = Vec::new();
        if self.docker.is_some() {
            types.push(ProviderType::Docker);
        }
        if self.proxmox.is_some() {
            types.push(ProviderType::Proxmox);
        }
        if self.aws.is_some() {
            types.push(ProviderType::Aws);
        }
        types
    }
}
