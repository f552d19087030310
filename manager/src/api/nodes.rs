//! The machines of a cluster.

#![expect(unreachable_pub, reason = "derive(KubeSchema) makes copies of the types inside functions")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machines.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Machines that run the control plane.
    pub control_plane: ControlPlane,

    /// Machines that run workloads, by pool name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(name, name.size() <= 20 && name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && name != 'cp')")
        .message("workerPools: name each pool with 1 to 20 lower-case letters, digits and '-', beginning and ending with a letter or digit, and not \"cp\""))]
    pub worker_pools: BTreeMap<String, WorkerPool>,
}

/// Machines that run the control plane.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    /// How many; odd, so that etcd keeps a quorum.
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = Rule::new("self % 2 == 1").message("controlPlane.replicas must be odd, so that etcd keeps a quorum: use 1, 3, 5 or 7"))]
    pub replicas: u32,

    /// Size or named type of each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<InstanceType>,

    /// Labels of the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 63})))]
    pub labels: BTreeMap<String, String>,

    /// Taints of the nodes, instead of the usual control-plane taint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub taints: Vec<Taint>,
}

/// Machines that run workloads.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.replicas) ? !has(self.min) && !has(self.max) : has(self.min) && has(self.max)")
        .message("set either replicas, or both min and max (which hands the count to the cluster autoscaler)"),
    validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
        .message("min must not be greater than max")
)]
pub struct WorkerPool {
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub replicas: Option<u32>,

    /// Fewest machines when the cluster autoscaler holds the count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub min: Option<u32>,

    /// Most machines when the cluster autoscaler holds the count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub max: Option<u32>,

    /// Size or named type of each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<InstanceType>,

    /// Labels of the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 63})))]
    pub labels: BTreeMap<String, String>,

    /// Taints of the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub taints: Vec<Taint>,

    /// The provider's failure domain that the machines are put into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub failure_domain: Option<String>,
}

/// Size of a machine, or a type that the provider has a name for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.name) ? !has(self.cores) && !has(self.memoryGib) && !has(self.diskGib) : has(self.cores) && has(self.memoryGib) && has(self.diskGib)")
        .message("instanceType: set either name, or all of cores, memoryGib and diskGib")
)]
pub struct InstanceType {
    /// Processor cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub cores: Option<u32>,

    /// Memory, GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16384))]
    pub memory_gib: Option<u32>,

    /// Boot disk, GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 65536))]
    pub disk_gib: Option<u32>,

    /// A type that the provider has a name for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub name: Option<String>,
}

/// A taint of a node.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// Label key that the taint is about.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// Value; empty when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,

    /// What happens to pods that do not tolerate it.
    pub effect: TaintEffect,
}

/// What happens to pods that do not tolerate a taint.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    /// They are not scheduled here.
    NoSchedule,
    /// They are scheduled elsewhere when possible.
    PreferNoSchedule,
    /// They are evicted.
    NoExecute,
}

impl WorkerPool {
    /// Machines that the pool is to have at first: the fixed count, or the autoscaler's least.
    pub fn desired(&self) -> u32 {
        self.replicas.or(self.min).unwrap_or(0)
    }
}

impl Nodes {
    /// Machines of all pools and the control plane together.
    pub fn desired(&self) -> u32 {
        self.worker_pools.values().map(WorkerPool::desired).fold(self.control_plane.replicas, u32::saturating_add)
    }
}
