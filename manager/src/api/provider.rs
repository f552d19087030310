//! `InfraProvider`: where machines come from, and with whose credentials.

#![expect(unreachable_pub, reason = "derive(KubeSchema) makes copies of the types inside functions")]

use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// Where machines come from, and with whose credentials.
#[expect(clippy::duplicated_attributes, reason = "columns of one type are no duplicates")]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "lattice.dev",
    version = "v1alpha1",
    kind = "InfraProvider",
    plural = "infraproviders",
    shortname = "infra",
    category = "lattice",
    status = "InfraProviderStatus",
    derive = "PartialEq",
    doc = "Where the machines of clusters come from, and with whose credentials.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Credentials",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"CredentialsValid\")].status"
    ),
    printcolumn(name = "Clusters", type_ = "integer", json_path = ".status.clusters"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type != 'proxmox' || has(self.credentialsSecretRef)")
        .message("credentialsSecretRef: required for type proxmox; a Secret with the keys url, token and secret"),
    validation = Rule::new("!has(self.defaults) || !has(self.defaults.proxmox) || self.type == 'proxmox'")
        .message("defaults.proxmox: only for type proxmox; remove it")
)]
pub struct InfraProviderSpec {
    /// Kind of infrastructure. Immutable.
    #[serde(rename = "type")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("type is immutable: create another InfraProvider"))]
    pub type_: ProviderType,

    /// Secret with the credentials; its keys depend on the type (proxmox: `url`, `token`, `secret`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<NamespacedSecretRef>,

    /// Values for what a cluster's `provider.config` leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<InfraProviderDefaults>,
}

/// Kind of infrastructure.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum ProviderType {
    /// Cluster API's development provider.
    Docker,
    /// Proxmox VE.
    Proxmox,
    /// AWS.
    Aws,
}

/// A Secret by name and namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Namespace of the Secret.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

/// Values for what a cluster's `provider.config` leaves out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InfraProviderDefaults {
    /// For `provider.config.proxmox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxmox: Option<ProxmoxDefaults>,

    /// For `provider.config.aws`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsDefaults>,
}

/// Values for what `provider.config.proxmox` leaves out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProxmoxDefaults {
    /// Name servers of the machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 45)))]
    pub dns_servers: Vec<String>,

    /// Proxmox nodes that machines may be put on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub allowed_nodes: Vec<String>,

    /// Storage of the machines' disks.
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

    /// Interface that announces the control-plane endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub vip_interface: Option<String>,

    /// Whether machines are full clones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<bool>,

    /// Addresses for Services of type LoadBalancer, as `10.0.1.200-10.0.1.220`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub load_balancer_pool: Option<String>,
}

/// Values for what `provider.config.aws` leaves out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AwsDefaults {
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
}

/// What is known of a provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InfraProviderStatus {
    /// Whether clusters can be made on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ProviderPhase>,

    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,

    /// Generation of the spec that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,

    /// Clusters that use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<u32>,
}

/// Whether clusters can be made on a provider.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderPhase {
    /// They can.
    Ready,
    /// Not yet; the conditions say why.
    NotReady,
}

impl ProviderType {
    /// The name as in `spec.type` and `provider.config`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Proxmox => "proxmox",
            Self::Aws => "aws",
        }
    }
}

impl fmt::Display for ProviderType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
