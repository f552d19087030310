//! Conditions: promises about a cluster, each with a reason, the numbers and a time.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lattice_protocol::clock;
use lattice_protocol::reason::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The spec was accepted and its preconditions hold.
pub const VALIDATED: &str = "Validated";
/// The cluster's infrastructure exists.
pub const INFRASTRUCTURE_READY: &str = "InfrastructureReady";
/// Cluster API has seen kubeadm init end.
pub const CONTROL_PLANE_INITIALIZED: &str = "ControlPlaneInitialized";
/// Every node is there and ready.
pub const NODES_READY: &str = "NodesReady";
/// The cluster's agent is connected.
pub const AGENT_CONNECTED: &str = "AgentConnected";
/// Two agents held the cluster's identity and both are locked out.
pub const IDENTITY_CONFLICT: &str = "IdentityConflict";
/// The clocks of agent and manager differ.
pub const CLOCK_SKEW: &str = "ClockSkew";
/// The agent's certificate was not renewed in time.
pub const CERTIFICATE_EXPIRING: &str = "CertificateExpiring";
/// After Ready something fell ill.
pub const DEGRADED: &str = "Degraded";
/// All of it together.
pub const READY: &str = "Ready";
/// The provider's credentials are usable (on an InfraProvider).
pub const CREDENTIALS_VALID: &str = "CredentialsValid";

/// Longest message of a condition, bytes; longer ones are cut.
pub const MESSAGE_BYTES_MAX: usize = 2048;

/// One promise: `metav1.Condition`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is promised.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,

    /// Whether it holds.
    pub status: ConditionStatus,

    /// Why, as one word of the closed list of reasons.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,

    /// Why, for a person: names the object and the numbers.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub message: String,

    /// When `status` changed last.
    pub last_transition_time: Time,

    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

/// A list of conditions by type, that keeps transition times right.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions(Vec<Condition>);

impl ConditionStatus {
    /// `True`, `False` or `Unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Condition {
    /// Whether the condition holds.
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }

    /// When `status` changed last.
    pub fn since(&self) -> Timestamp {
        self.last_transition_time.0
    }
}

impl Conditions {
    /// Starts from what the status held before.
    pub fn from_stored(stored: &[Condition]) -> Self {
        Self(stored.to_vec())
    }

    /// The condition of a type.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        self.0.iter().find(|c| c.type_ == type_)
    }

    /// Whether a condition is there and holds.
    pub fn is_true(&self, type_: &str) -> bool {
        self.get(type_).is_some_and(Condition::is_true)
    }

    /// Sets a condition; the transition time moves only when `status` does.
    pub fn set(
        &mut self,
        type_: &str,
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
        generation: Option<i64>,
        now: Timestamp,
    ) {
        let message = cut(message.into(), MESSAGE_BYTES_MAX);
        let reason = reason.as_str().to_owned();
        match self.0.iter_mut().find(|c| c.type_ == type_) {
            Some(c) => {
                if c.status != status {
                    c.status = status;
                    c.last_transition_time = Time(clock::to_seconds(now));
                }
                c.reason = reason;
                c.message = message;
                c.observed_generation = generation;
            }
            None => self.0.push(Condition {
                type_: type_.to_owned(),
                status,
                reason,
                message,
                last_transition_time: Time(clock::to_seconds(now)),
                observed_generation: generation,
            }),
        }
    }

    /// Drops conditions that `keep` refuses.
    pub fn retain(&mut self, keep: impl Fn(&Condition) -> bool) {
        self.0.retain(|c| keep(c));
    }

    /// The list, as the status carries it.
    pub fn into_stored(self) -> Vec<Condition> {
        self.0
    }
}

/// Cuts a text to at most `bytes_max`, at a character, with a mark that it was cut.
pub fn cut(mut text: String, bytes_max: usize) -> String {
    const MARK: &str = " …";
    if text.len() > bytes_max {
        let mut end = bytes_max.saturating_sub(MARK.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}
