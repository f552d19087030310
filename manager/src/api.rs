//! The resources `LatticeCluster` and `InfraProvider`: types, defaults, validation. No decisions, no I/O.
//!
//! What the API server can check by itself is in the schema and its CEL rules ([`crd`]); what needs the world is in
//! [`validate`], as pure functions that return every error at once.

pub mod address;
pub mod cluster;
pub mod condition;
pub mod crd;
pub mod defaults;
pub mod features;
pub mod nodes;
pub mod provider;
pub mod provider_config;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;
pub mod validate;
pub mod version;

pub use cluster::{
    ClusterNetwork, Deletion, DeletionPolicy, Kubernetes, KubernetesBootstrap, LatticeCluster, LatticeClusterSpec,
    Ownership, OwnershipMode, Provider,
};
pub use condition::{Condition, ConditionStatus, Conditions};
pub use crd::{crds, crds_yaml};
pub use features::{
    BackupLocation, Backups, ComponentOverride, Monitoring, ParentConfig, ParentService, ParentServiceType, SecretRef,
    SecretStore,
};
pub use lattice_protocol::ids::{ClusterName, ClusterUid};
pub use lattice_protocol::reason::Reason;
pub use nodes::{ControlPlane, InstanceType, Nodes, Taint, TaintEffect, WorkerPool};
pub use provider::{
    InfraProvider, InfraProviderDefaults, InfraProviderSpec, InfraProviderStatus, NamespacedSecretRef, ProviderPhase,
    ProviderType, ProxmoxDefaults,
};
pub use provider_config::{
    AwsConfig, AwsVpc, DockerBackend, DockerConfig, DockerLoadBalancer, Ipv4Pool, ProviderConfig, ProxmoxConfig,
};
pub use status::{
    AgentStatus, AppliedSpec, ComponentState, ComponentStatus, DeletionStatus, ErrorClass, LastError,
    LatticeClusterStatus, NodeCounts, NodesStatus, Operation, OperationStep, OperationType, OwnershipStatus, Phase,
};
pub use validate::{FieldError, validate};
pub use version::KubernetesVersion;

/// API group of our resources.
pub const GROUP: &str = "lattice.dev";

/// Version of our resources.
pub const VERSION: &str = "v1alpha1";

/// Finalizer on a `LatticeCluster`: what was made for it is removed before the object goes.
pub const FINALIZER: &str = "lattice.dev/cluster";

/// Finalizer on an `InfraProvider` and its credentials Secret while a cluster uses them.
pub const FINALIZER_IN_USE: &str = "lattice.dev/in-use";

/// Label on every object made for a cluster: uid of its `LatticeCluster`.
pub const LABEL_CLUSTER_UID: &str = "lattice.dev/cluster-uid";

/// Label on every object made for a cluster, Cluster API's own: name of the cluster.
pub const LABEL_CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";

/// Namespace of our own objects, on the parent and on every child.
pub const SYSTEM_NAMESPACE: &str = "lattice-system";
