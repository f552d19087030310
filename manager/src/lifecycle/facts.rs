//! All of the world that a decision may look at. Who gathers it says what is not known yet, instead of guessing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;

use crate::api::{FieldError, InfraProvider, LatticeCluster, Reason};

/// What is known about one thing of the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Observed<T> {
    /// It is there, and like this.
    Known(T),
    /// It is certain that it is not there.
    Absent,
    /// Nobody has looked yet, or what was seen may be out of date.
    #[default]
    Unknown,
}

/// All that a decision about one cluster may look at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The object, with its status as last written or seen, whichever is newer.
    pub cluster: Arc<LatticeCluster>,
    /// The InfraProvider that `spec.providerRef` names.
    pub provider: Observed<Arc<InfraProvider>>,
    /// The provider's credentials Secret; `Absent` also when the provider names none.
    pub credentials: Observed<SecretFacts>,
    /// Kinds (`Kind.group/version`) that the cluster needs and the parent does not serve; `Known` and empty is good.
    pub missing_kinds: Observed<Vec<String>>,
    /// What is known of this manager.
    pub parent: ParentFacts,
    /// The namespace `lattice-<cluster>`.
    pub namespace: Observed<NamespaceFacts>,
    /// Secrets made for the cluster.
    pub secrets: SecretsFacts,
    /// Every object of Cluster API and its providers in the cluster's namespace, of every kind of
    /// [`super::mirror`]'s list that the parent serves; `Unknown` until all of them were listed once.
    pub objects: Observed<Vec<Arc<DynamicObject>>>,
    /// What is known of the cluster's agent.
    pub agent: AgentFacts,
    /// The component catalog, evaluated for this cluster.
    pub catalog: Arc<Catalog>,
    /// How long the provisioning of a like cluster took; looked at only before this one begins.
    pub typical: Option<SignedDuration>,
    /// Set when the cluster's actor failed so often that it is left alone.
    pub quarantine: Option<Quarantine>,
}

/// What is known of this manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentFacts {
    /// Addresses that agents can dial, as `host:port` of the gateway.
    pub addresses: Vec<String>,
    /// When this manager began to serve agents.
    pub started_at: Timestamp,
    /// No manager was here for a while before that, so whatever it knew of sessions has ended unseen.
    pub after_absence: bool,
    /// By how much this manager's own clock is ahead of its API server's, milliseconds; 0 while they agree. It works by
    /// the API server's.
    pub clock_ahead_ms: i64,
}

/// A Secret without its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// Keys whose value is not empty.
    pub keys: BTreeSet<String>,
    /// What is wrong with values, in words that do not quote them.
    pub problems: Vec<String>,
    /// It is being deleted.
    pub terminating: bool,
    /// It carries our finalizer [`crate::api::FINALIZER_IN_USE`].
    pub held: bool,
    /// It differs from what we would write now.
    pub stale: bool,
}

/// Secrets made for a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretsFacts {
    /// `<cluster>-enroll`.
    pub enrolment: Observed<SecretFacts>,
    /// `<cluster>-kubeconfig`.
    pub kubeconfig: Observed<SecretFacts>,
    /// `<cluster>-<provider>-credentials`.
    pub credentials: Observed<SecretFacts>,
    /// `lattice-identity-<uid>` in `lattice-system`.
    pub identity: Observed<SecretFacts>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// It is being deleted.
    pub terminating: bool,
    /// Uid of the LatticeCluster that its label names.
    pub cluster_uid: Option<String>,
}

/// What is known of a cluster's agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentFacts {
    /// The live session.
    pub session: Option<Session>,
    /// What this manager saw of the agent last, the live session apart.
    pub sighting: Option<Sighting>,
    /// What the agent said of the cluster in its live session.
    pub health: Observed<Health>,
    /// What happened around its identity lately and a person should hear of, the oldest first.
    pub incidents: Vec<Incident>,
    /// Since when and why the agent's identity is locked: two held it.
    pub locked: Option<(Timestamp, String)>,
    /// Its components by name, once the agent has named all it holds in its live session.
    pub reports: Observed<BTreeMap<String, Report>>,
}

/// Something that happened around an agent's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Counts the incidents of this process: a later one has a higher number.
    pub number: u64,
    /// What.
    pub reason: Reason,
    /// In words that hold no secret.
    pub note: String,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// When it came up.
    pub since: Timestamp,
    /// `quic` or `tcp`.
    pub transport: String,
    /// Round trip when it came up, milliseconds.
    pub rtt_ms: Option<u32>,
    /// When the agent's certificate expires.
    pub certificate_expires: Option<Timestamp>,
    /// From when on it is a reason to warn that it was not renewed.
    pub certificate_late: Option<Timestamp>,
}

/// What the manager saw of an agent that is not connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub at: Timestamp,
    /// What.
    pub seen: Seen,
}

/// A sign of life of an agent, or of its trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A node fetched the agent's manifest.
    ManifestFetched,
    /// An enrolment was refused, for this reason.
    EnrolmentRefused(String),
    /// The agent has its certificate.
    Enrolled,
    /// A handshake with the gateway failed, like this.
    HandshakeFailed(String),
    /// Its version does not work with this manager's; both are in the words.
    Incompatible(String),
    /// A session ended, for this reason.
    Lost(String),
}

/// What an agent says of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Version of the agent.
    pub agent_version: String,
    /// Version of the child's API server.
    pub kubernetes_version: String,
    /// Every node, once all were listed.
    pub nodes: Option<Vec<NodeFacts>>,
    /// By how much the agent's clock is ahead of ours, milliseconds.
    pub clock_ahead_ms: i64,
}

/// A node, as its agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name of the Node.
    pub name: String,
    /// Condition Ready is True.
    pub ready: bool,
    /// It carries the control-plane label.
    pub control_plane: bool,
    /// Version of its kubelet.
    pub kubelet_version: String,
    /// Reason of the Ready condition when it is not True.
    pub reason: String,
    /// Message of the Ready condition when it is not True.
    pub message: String,
    /// Its provider id.
    pub provider_id: String,
}

/// What an agent reports of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Digest of the bundle that the agent holds.
    pub digest: String,
    /// What it is at.
    pub state: ReportState,
    /// One of the closed list of reasons; empty when healthy.
    pub reason: String,
    /// The numbers.
    pub message: String,
    /// When `state` was entered.
    pub since: Option<Timestamp>,
    /// Failed attempts in a row.
    pub attempt: u32,
    /// When it is tried again.
    pub next_attempt: Option<Timestamp>,
    /// Version that is installed.
    pub version: String,
}

/// What a component is at on the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportState {
    /// Recorded, nothing applied.
    Pending,
    /// Being applied.
    Applying,
    /// Applied; a gate does not hold.
    Waiting,
    /// Every gate holds.
    Healthy,
    /// The last apply failed.
    Failed,
    /// Being removed.
    Removing,
    /// Removed.
    Removed,
}

/// The component catalog, evaluated for one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Every entry, also those that the cluster does not have.
    pub components: Vec<Component>,
    /// What of the spec the catalog cannot take: an override that it refuses, a bundle that cannot be made.
    pub problems: Vec<FieldError>,
}

/// A catalog entry, evaluated for one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Name of the entry.
    pub name: String,
    /// Type of its condition.
    pub condition: String,
    /// What it needs.
    pub needs: Vec<Need>,
    /// The cluster has it.
    pub enabled: bool,
    /// Digest of the bundle that we would send now; `None` while it cannot be made.
    pub digest: Option<String>,
}

/// An edge of the component graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Name of the other component.
    pub name: String,
    /// It comes from the product's promise, not from need: it vanishes when the other one is off.
    pub policy: bool,
}

/// Why a cluster is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Since when.
    pub since: Timestamp,
    /// What the failures said, for a person.
    pub message: String,
}

impl<T> Observed<T> {
    /// The value, when it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown => None,
        }
    }

    /// Whether it is certain that there is none.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Whether nobody can tell.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

impl<T> From<Option<T>> for Observed<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Known)
    }
}
