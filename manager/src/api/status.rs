//! `LatticeCluster.status`: where the cluster is, why, and what happens next. Never a secret.

#![expect(unreachable_pub, reason = "derive(KubeSchema) makes copies of the types inside functions")]

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// Where the cluster is, why, and what happens next.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LatticeClusterStatus {
    /// Where the operation is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// One sentence that says what is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,

    /// Generation of the spec that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,

    /// Components, in the order of their start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub components: Vec<ComponentStatus>,

    /// Counts of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,

    /// Address of the cluster's API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,

    /// Version that nodes run, not what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub kubernetes_version: Option<String>,

    /// The agent's connection; written when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,

    /// The running operation, or the last one with its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,

    /// The last failure that is not healed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,

    /// Who reconciles the cluster's objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<OwnershipStatus>,

    /// How far the deletion is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionStatus>,

    /// The spec that the cluster's objects were applied from last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedSpec>,
}

/// Where the operation on a cluster is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Accepted; preconditions are checked, nothing is created.
    Pending,
    /// Objects are applied, the infrastructure is made.
    Provisioning,
    /// The first machine is up; agent, components and workers join.
    Bootstrapping,
    /// All of it is there and healthy, or was; watched and repaired.
    Ready,
    /// Replica counts change.
    Scaling,
    /// Versions or machine templates change.
    Upgrading,
    /// The object is being deleted.
    Deleting,
}

/// A component of the platform.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Name, as in the catalog.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// Version that is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub version: Option<String>,

    /// What it is at.
    pub state: ComponentState,

    /// The numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,

    /// When `state` was entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,

    /// Failed attempts in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,

    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,

    /// Components that must be healthy first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub waiting_for: Vec<String>,
}

/// What a component is at.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ComponentState {
    /// Waits for other components or the agent.
    Waiting,
    /// Sent to the agent, being applied.
    Installing,
    /// Applied; a gate does not hold yet.
    Progressing,
    /// Every gate holds.
    Healthy,
    /// It was healthy and a gate does not hold any more.
    Unhealthy,
    /// The last apply failed; it is tried again.
    Failed,
    /// Being removed.
    Removing,
}

/// Counts of nodes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodesStatus {
    /// Ready and desired of all together, as `3/4`.
    #[schemars(length(max = 32))]
    pub summary: String,

    /// Control plane.
    pub control_plane: NodeCounts,

    /// Worker pools, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub worker_pools: BTreeMap<String, NodeCounts>,
}

/// Counts of the nodes of one group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Asked for.
    pub desired: u32,
    /// Joined and ready.
    pub ready: u32,
    /// Running the version and template asked for.
    pub up_to_date: u32,
}

/// The agent's connection.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Whether it is connected.
    pub connected: bool,

    /// Since when `connected` is as it is. A manager that is restarted and finds its agent again does not begin anew; one
    /// that was away for longer does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,

    /// `quic` or `tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub transport: Option<String>,

    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub version: Option<String>,

    /// Round trip when the connection came up, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u32>,

    /// When it was last heard of; set when it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,

    /// Why the last connection ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub last_error: Option<String>,

    /// When its certificate expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Time>,
}

/// One run of provision, scale, upgrade, delete or pivot.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What is done.
    #[serde(rename = "type")]
    pub type_: OperationType,

    /// Names this run.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,

    /// When it began.
    pub started_at: Time,

    /// When it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,

    /// Its steps so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub steps: Vec<OperationStep>,

    /// W3C trace context of the operation's root span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub traceparent: Option<String>,

    /// When it should end, judged by earlier ones of the same provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<Time>,
}

/// A step of an operation.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OperationStep {
    /// Name: the phase, or the deletion's step.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,

    /// When it began.
    pub started_at: Time,

    /// When it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// What an operation does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum OperationType {
    /// From nothing to Ready.
    Provision,
    /// Other replica counts.
    Scale,
    /// Other versions or templates.
    Upgrade,
    /// To nothing.
    Delete,
    /// Hands the cluster its own reins.
    Pivot,
}

/// A failure that is not healed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// Sets the pace of the retries.
    pub class: ErrorClass,

    /// One word of the closed list of reasons.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,

    /// For a person: names the object.
    #[schemars(length(max = 4096))]
    pub message: String,

    /// When it first failed.
    pub since: Time,

    /// Failed attempts in a row.
    pub attempts: u32,

    /// When it is tried again; absent when only a change of spec or world helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,
}

/// Sets the pace of retries.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Asked to slow down.
    Throttled,
    /// Likely to pass by itself.
    Transient,
    /// Waits for something else that the message names.
    Dependency,
    /// Credentials or permissions.
    Auth,
    /// The spec or a template is wrong; retried slowly.
    Misconfigured,
    /// None of these.
    Unknown,
}

/// Who reconciles the cluster's objects.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OwnershipStatus {
    /// `parent` or `self`.
    #[schemars(length(max = 16))]
    pub owner: String,

    /// Fencing number; rises with every change of owner.
    pub epoch: u64,
}

/// How far a deletion is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeletionStatus {
    /// Step, as `2/6 DeletingInfrastructure`.
    #[schemars(length(max = 64))]
    pub step: String,

    /// What is not gone yet, as `Machine backend-cp-x7k2p (proxmox://…)`; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub remaining: Vec<String>,
}

/// A spec that was applied.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppliedSpec {
    /// Generation of the object.
    pub generation: i64,

    /// Digest of the part that objects are rendered from.
    #[schemars(length(max = 64))]
    pub digest: String,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Provisioning,
        Self::Bootstrapping,
        Self::Ready,
        Self::Scaling,
        Self::Upgrading,
        Self::Deleting,
    ];

    /// The name as in `status.phase`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Provisioning => "Provisioning",
            Self::Bootstrapping => "Bootstrapping",
            Self::Ready => "Ready",
            Self::Scaling => "Scaling",
            Self::Upgrading => "Upgrading",
            Self::Deleting => "Deleting",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OperationType {
    /// The name as in `status.operation.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Scale => "scale",
            Self::Upgrade => "upgrade",
            Self::Delete => "delete",
            Self::Pivot => "pivot",
        }
    }
}
