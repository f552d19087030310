//! `LatticeCluster`: what a person asks for.

#![expect(unreachable_pub, reason = "derive(KubeSchema) makes copies of the types inside functions")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::{Backups, ComponentOverride, Monitoring, ParentConfig, SecretStore};
use super::nodes::Nodes;
use super::provider_config::ProviderConfig;
use super::status::LatticeClusterStatus;

/// A Kubernetes cluster with its platform, as asked for.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "lattice.dev",
    version = "v1alpha1",
    kind = "LatticeCluster",
    plural = "latticeclusters",
    shortname = "lc",
    category = "lattice",
    status = "LatticeClusterStatus",
    derive = "PartialEq",
    doc = "A Kubernetes cluster with its platform: one object in, a Ready cluster out.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name != 'system'")
        .message("metadata.name: use 1 to 40 lower-case letters, digits and '-', beginning and ending with a letter or digit, and not \"system\""),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Kubernetes", type_ = "string", json_path = ".status.kubernetesVersion", description = "Version that the nodes run."),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes.summary", description = "Nodes ready and desired."),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.providerRef"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.conditions[?(@.type==\"AgentConnected\")].status", description = "Whether the cluster's agent is connected."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.provider.config.proxmox) || (has(self.nodes.controlPlane.instanceType) && has(self.nodes.controlPlane.instanceType.cores))")
        .message("nodes.controlPlane.instanceType: provider proxmox makes machines by size; set cores, memoryGib and diskGib")
        .field_path(".nodes.controlPlane"),
    validation = Rule::new("!has(self.provider.config.proxmox) || !has(self.nodes.workerPools) || self.nodes.workerPools.all(name, has(self.nodes.workerPools[name].instanceType) && has(self.nodes.workerPools[name].instanceType.cores))")
        .message("nodes.workerPools.<name>.instanceType: provider proxmox makes machines by size; set cores, memoryGib and diskGib in every pool")
        .field_path(".nodes.workerPools")
)]
pub struct LatticeClusterSpec {
    /// Image that holds both daemons: repository, and a tag or digest.
    #[schemars(length(min = 1, max = 512), pattern(r"^[^\s]+$"))]
    pub lattice_image: String,

    /// Name of the InfraProvider that the cluster is made on. Immutable.
    #[schemars(length(min = 1, max = 253), pattern(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("providerRef is immutable: delete the cluster and create it on the other provider"))]
    pub provider_ref: String,

    /// Kubernetes, and what only the provider knows.
    pub provider: Provider,

    /// The machines.
    pub nodes: Nodes,

    /// Whether mesh, secret sync and load balancer belong to the cluster.
    #[serde(default = "yes")]
    pub services: bool,

    /// Metrics agent.
    #[serde(default)]
    pub monitoring: Monitoring,

    /// ClusterSecretStore that External Secrets gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_store: Option<SecretStore>,

    /// Backup scheduler.
    #[serde(default)]
    pub backups: Backups,

    /// Overrides of catalog entries, by component name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub components: BTreeMap<String, ComponentOverride>,

    /// Makes this cluster a parent of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_config: Option<ParentConfig>,

    /// Who manages the cluster once it is Ready.
    #[serde(default)]
    pub ownership: Ownership,

    /// What happens when the object is deleted.
    #[serde(default)]
    pub deletion: Deletion,

    /// Stops reconciling; status shows it.
    #[serde(default)]
    pub paused: bool,
}

/// Kubernetes, and what only the provider knows.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// The Kubernetes to install.
    pub kubernetes: Kubernetes,

    /// Exactly one provider's settings.
    pub config: ProviderConfig,
}

/// The Kubernetes to install.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.clusterNetwork) == has(oldSelf.clusterNetwork) && (!has(self.clusterNetwork) || self.clusterNetwork == oldSelf.clusterNetwork)")
        .message("clusterNetwork is immutable: a running cluster cannot change its pod and service networks")
)]
pub struct Kubernetes {
    /// Version, as `1.32.0` or `v1.32.0`.
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new(r"self.matches('^v?1[.][0-9]{1,3}[.][0-9]{1,4}$')").message("kubernetes.version must be major.minor.patch: write for example 1.32.0 or v1.32.0"))]
    pub version: String,

    /// How nodes become Kubernetes nodes. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("bootstrap is immutable: delete the cluster and create it anew"))]
    pub bootstrap: KubernetesBootstrap,

    /// Extra names of the API server's certificate: DNS names or IP addresses.
    #[serde(default, rename = "certSANs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253), pattern(r"^[A-Za-z0-9*.:-]+$")))]
    pub cert_sans: Vec<String>,

    /// Networks inside the cluster. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_network: Option<ClusterNetwork>,
}

/// Networks inside the cluster; by default two that do not overlap the node network.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetwork {
    /// Addresses of pods, as `10.244.0.0/16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 18))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,3}([.][0-9]{1,3}){3}/[0-9]{1,2}$')").message("clusterNetwork.podCidr must be an IPv4 network: write for example 10.244.0.0/16"))]
    pub pod_cidr: Option<String>,

    /// Addresses of Services, as `10.96.0.0/16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 18))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,3}([.][0-9]{1,3}){3}/[0-9]{1,2}$')").message("clusterNetwork.serviceCidr must be an IPv4 network: write for example 10.96.0.0/16"))]
    pub service_cidr: Option<String>,
}

/// How nodes become Kubernetes nodes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesBootstrap {
    /// kubeadm.
    #[default]
    Kubeadm,
    /// RKE2.
    Rke2,
    /// K3s.
    K3s,
}

/// Who manages the cluster once it is Ready.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Ownership {
    /// `parent` keeps it; `self` hands the cluster its own reins once Ready.
    #[serde(default)]
    pub mode: OwnershipMode,
}

/// Who manages the cluster once it is Ready.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OwnershipMode {
    /// The cluster itself.
    #[serde(rename = "self")]
    Itself,
    /// The parent.
    #[default]
    Parent,
}

/// What happens when the object is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// `Delete` removes the infrastructure, `Orphan` leaves it running and records it.
    #[serde(default)]
    pub policy: DeletionPolicy,

    /// Refuses to delete until cleared.
    #[serde(default)]
    pub protection: bool,
}

/// What happens to the infrastructure of a deleted cluster.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// It is removed.
    #[default]
    Delete,
    /// It is left running and recorded.
    Orphan,
}

fn yes() -> bool {
    true
}
