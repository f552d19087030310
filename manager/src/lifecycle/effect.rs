//! What can be done to the world: plans as data. Every effect is idempotent and content with "already done".

use std::fmt;
use std::time::Duration;

use crate::api::{ErrorClass, Reason};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Effect {
    /// What.
    pub kind: EffectKind,
    /// Generation of the LatticeCluster that it was decided under.
    pub generation: i64,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EffectKind {
    /// Renders every object and checks it against the installed schemas. Writes nothing.
    Render,
    /// Puts our finalizer on the LatticeCluster.
    AddFinalizer,
    /// Puts our finalizer on the InfraProvider and its credentials Secret.
    HoldProvider,
    /// Makes the namespace of the cluster's objects.
    EnsureNamespace,
    /// Copies the provider's credentials into the namespace.
    EnsureCredentials,
    /// Makes the join token and the enrolment Secret.
    EnsureEnrolment,
    /// Makes the kubeconfig Secret that leads Cluster API through the proxy.
    EnsureKubeconfig,
    /// Asks the API server whether it would take the objects. Writes nothing.
    DryRun,
    /// Applies rendered objects, those that differ.
    ApplyObjects(Stage),
    /// Hands a component's bundle to the agent.
    Install {
        /// Name of the component.
        component: String,
        /// Digest of the bundle that was decided on, when it is known.
        digest: Option<String>,
    },
    /// Takes a component off the child.
    Remove {
        /// Name of the component.
        component: String,
    },
    /// Deletes the CAPI Cluster.
    DeleteCluster,
    /// Deletes objects of Cluster API that no Cluster owns any more.
    DeleteLeftovers,
    /// Cuts the agent off for good and forgets its identity.
    RevokeIdentity,
    /// Takes our finalizer off the InfraProvider and its Secret, unless another cluster uses them.
    ReleaseProvider,
    /// Deletes the Secrets made for the cluster.
    DeleteSecrets,
    /// Deletes the namespace of the cluster's objects.
    DeleteNamespace,
    /// Takes our finalizer off the LatticeCluster.
    RemoveFinalizer,
}

/// Which of the rendered objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The cluster, its infrastructure, control plane and workers.
    Cluster,
    /// MachineHealthChecks; only after `ControlPlaneInitialized`, or they delete a healthy first machine.
    HealthChecks,
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, or already was.
    Done,
    /// It is not, or nobody can tell.
    Failed(Failure),
}

/// Why an effect did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Sets the pace of the retries.
    pub class: ErrorClass,
    /// One of the closed list.
    pub reason: Reason,
    /// For a person: names the object, holds no secret.
    pub message: String,
    /// Whether the world may have changed.
    pub certainty: Certainty,
    /// What the other side asked for before another try.
    pub retry_after: Option<Duration>,
}

/// Whether a failed effect may have changed the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It did not.
    NotDone,
    /// It may have; look again before the next try.
    MaybeDone,
}

impl EffectKind {
    /// A static name for spans and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Render => "render",
            Self::AddFinalizer => "add_finalizer",
            Self::HoldProvider => "hold_provider",
            Self::EnsureNamespace => "ensure_namespace",
            Self::EnsureCredentials => "ensure_credentials",
            Self::EnsureEnrolment => "ensure_enrolment",
            Self::EnsureKubeconfig => "ensure_kubeconfig",
            Self::DryRun => "dry_run",
            Self::ApplyObjects(Stage::Cluster) => "apply_objects",
            Self::ApplyObjects(Stage::HealthChecks) => "apply_health_checks",
            Self::Install { .. } => "install",
            Self::Remove { .. } => "remove",
            Self::DeleteCluster => "delete_cluster",
            Self::DeleteLeftovers => "delete_leftovers",
            Self::RevokeIdentity => "revoke_identity",
            Self::ReleaseProvider => "release_provider",
            Self::DeleteSecrets => "delete_secrets",
            Self::DeleteNamespace => "delete_namespace",
            Self::RemoveFinalizer => "remove_finalizer",
        }
    }
}

impl fmt::Display for EffectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install { component, .. } | Self::Remove { component } => write!(f, "{} {component}", self.name()),
            Self::Render
            | Self::AddFinalizer
            | Self::HoldProvider
            | Self::EnsureNamespace
            | Self::EnsureCredentials
            | Self::EnsureEnrolment
            | Self::EnsureKubeconfig
            | Self::DryRun
            | Self::ApplyObjects(_)
            | Self::DeleteCluster
            | Self::DeleteLeftovers
            | Self::RevokeIdentity
            | Self::ReleaseProvider
            | Self::DeleteSecrets
            | Self::DeleteNamespace
            | Self::RemoveFinalizer => f.write_str(self.name()),
        }
    }
}
