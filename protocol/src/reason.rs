//! Every reason that a condition, an Event, a metric or an error of Lattice can carry: one closed list, the same string
//! everywhere, with what to check first. `docs/reasons.md` is made from it.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $check:literal,)+) => {
        /// Why something is as it is. The variant's name is the string in `status.conditions[].reason`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The string that conditions, Events and metrics carry.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ }
            }

            /// What it means, one or more sentences.
            pub fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// What a person should check first.
            pub fn check_first(self) -> &'static str {
                match self { $(Reason::$name => $check,)+ }
            }
        }

        impl std::str::FromStr for Reason {
            type Err = Unknown;

            fn from_str(text: &str) -> Result<Self, Unknown> {
                match text { $(stringify!($name) => Ok(Reason::$name),)+ _ => Err(Unknown(text.to_owned())) }
            }
        }
    };
}

/// A text that is no reason of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no reason known to this version")]
pub struct Unknown(pub String);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

reasons! {
    /// The condition holds.
    AsExpected => "Nothing.",
    /// Nobody has looked yet.
    NotYetKnown => "Wait a moment; if it stays, see whether lattice-manager runs and holds its Lease.",
    /// The step before this one has not ended.
    WaitingForEarlierStep => "The condition that the message names.",
    /// A person paused the cluster; nothing is reconciled.
    Paused => "spec.paused of the LatticeCluster.",
    /// A field of the spec is wrong; the message names each field and the cure.
    InvalidSpec => "The fields in the message; edit the LatticeCluster, nothing needs a restart.",
    /// A field asks for something that this version cannot do yet.
    NotYetSupported => "The field in the message; remove it or set it to its default.",
    /// The Kubernetes version is not in the version matrix.
    VersionNotSupported => "spec.provider.kubernetes.version against the versions in the message.",
    /// The address pool holds fewer addresses than the nodes and their replacements need.
    AddressPoolTooSmall => "The pool's range and the node counts in the message.",
    /// Networks of the cluster overlap.
    NetworkOverlap => "clusterNetwork, the node network and the ranges in the message.",
    /// The InfraProvider that providerRef names does not exist.
    ProviderNotFound => "kubectl get infra; create the provider or correct spec.providerRef (immutable: recreate).",
    /// The provider's type and the part of provider.config that is set differ.
    ProviderMismatch => "spec.provider.config and the InfraProvider's spec.type.",
    /// The InfraProvider exists and is not Ready.
    ProviderNotReady => "kubectl describe infra: its conditions say what is missing.",
    /// The Secret with the provider's credentials does not exist.
    CredentialsNotFound => "credentialsSecretRef of the InfraProvider: the Secret's name and namespace.",
    /// The Secret lacks a key or holds one that cannot be right.
    CredentialsInvalid => "The keys named in the message.",
    /// The credentials are present and well-formed; they were not tried against the provider.
    CredentialsWellFormed => "Nothing; the first machine will show whether the provider takes them.",
    /// The Cluster API kinds that this cluster needs are not installed on the parent.
    ClusterApiNotInstalled => "kubectl get crd | grep cluster.x-k8s.io; install Cluster API and the provider.",
    /// No address is known that an agent could dial.
    ParentAddressUnknown => "--external-address of lattice-manager run.",
    /// A template could not be rendered.
    RenderFailed => "The template and line in the message.",
    /// The parent's API refused a rendered object in a dry run.
    DryRunRefused => "The object and the API server's words in the message.",
    /// The parent's API refused or failed a write.
    ApplyFailed => "The object and the API server's words in the message.",
    /// The parent's API does not answer.
    ApiUnavailable => "The parent's API server, and the network from lattice-manager to it.",
    /// The parent's API refuses what the manager needs.
    AccessDenied => "RBAC of lattice-manager's ServiceAccount: verb and resource are in the message.",
    /// Somebody else owns a field that we set.
    FieldConflict => "The field and its manager in the message.",
    /// An object that we need is being deleted; it is made again once it is gone.
    ObjectTerminating => "The finalizers of the object in the message.",
    /// The infrastructure of the cluster is being made.
    InfrastructureProvisioning => "The infrastructure object and the provider's controller named in the message.",
    /// Cluster API has not reported on the infrastructure yet.
    InfrastructureUnknown => "Whether the provider's controller runs: kubectl get pods -A | grep -e cap.",
    /// The provider reports a failure of the infrastructure.
    InfrastructureFailed => "The provider's own words in the message.",
    /// The first control-plane machine is not up yet.
    WaitingForFirstMachine => "The Machine in the message and its infrastructure object.",
    /// kubeadm init has not been seen to end.
    ControlPlaneNotInitialized => "The agent's connection first: Cluster API reads the new cluster through it.",
    /// Some nodes are missing or not ready.
    NodesNotReady => "The nodes in the message.",
    /// No agent has ever been seen: no fetch of its manifest, no enrolment, no dial.
    NeverDialled => "From the first node: can it reach the parent's address in the message? Then cloud-init's log on the node.",
    /// The node fetched the agent's manifest; the agent itself has not been seen.
    ManifestFetched => "kubectl -n lattice-system get pods on the child: is the agent's image pulled?",
    /// An agent tried to enrol and was refused.
    EnrolmentRefused => "The refusal in the message.",
    /// A join token that one agent has used was shown again with another request.
    JoinTokenReplay => "The address in the message: who else has read the join token of that cluster's nodes?",
    /// An agent came back with its bound key after its certificate had ended or was not taken.
    IdentityRecovered => "Nothing, if the cluster was switched off or cut off; otherwise why its certificate was not renewed.",
    /// An agent without a certificate in force tried to come back and was refused.
    RecoveryRefused => "The refusal in the message; a wiped agent is let in by lattice-manager enrol.",
    /// Two agents held one identity; both are locked out until a person has looked.
    IdentityConflict => "docs/identity-conflict.md: find the clone, then run lattice-manager enrol for the cluster.",
    /// One agent holds the cluster's identity.
    IdentityHeldOnce => "Nothing.",
    /// The clocks of agent and manager agree.
    ClocksAgree => "Nothing.",
    /// The agent's certificate is near its end and was not renewed.
    CertificateExpiring => "lattice-manager's log for this cluster: why the renewal fails; the agent comes back by itself even after the end.",
    /// The agent enrolled and has not connected yet.
    EnrolledNotConnected => "UDP and TCP from the node to the gateway's address in the message.",
    /// An agent's handshake failed.
    HandshakeFailed => "The TLS error in the message: clock, CA, certificate.",
    /// Agent and manager are more than one minor version apart; the agent is refused.
    VersionsApart => "Both versions in the message: upgrade the older one, one minor version at a time.",
    /// The agent is connected.
    Connected => "Nothing.",
    /// The agent was connected and the connection was lost.
    ConnectionLost => "The node's network and the agent's pod; the agent dials again by itself.",
    /// The manager has just started; agents are on their way back.
    ManagerRestarted => "Nothing for 45 seconds.",
    /// A newer session of the same identity took over.
    Superseded => "Whether two agents run with one identity.",
    /// The wall clocks of agent and manager differ by more than a minute.
    ClockSkew => "Time synchronisation on the node and on the parent.",
    /// The component waits for those that the message names.
    WaitingForDependencies => "The components in the message.",
    /// The component's bundle is being applied.
    Installing => "Nothing; the message says what it is at.",
    /// A DaemonSet is not ready on every node.
    DaemonSetNotReady => "The nodes in the message and their pods' waiting reasons.",
    /// A Deployment is not available.
    DeploymentNotAvailable => "The pods' waiting reasons in the message.",
    /// A StatefulSet is not ready.
    StatefulSetNotReady => "The pods' waiting reasons in the message.",
    /// A Job has not completed.
    JobNotComplete => "The Job's pods.",
    /// A CustomResourceDefinition is not established.
    CrdNotEstablished => "kubectl describe crd: NamesAccepted and Established.",
    /// An APIService is not available.
    ApiServiceNotAvailable => "kubectl describe apiservice, and the pods behind its Service.",
    /// Nodes still carry a taint that the component should remove.
    NodesTainted => "The nodes and taints in the message.",
    /// The component's objects were refused by the child's API.
    ComponentApplyFailed => "The object and the API server's words in the message.",
    /// A field is set again and again by somebody else; it is left alone.
    DriftContested => "The field and the rival manager in the message.",
    /// The agent is away, so the component's state is the last one known.
    AgentAway => "The condition AgentConnected.",
    /// Every required component is healthy, every node ready, the agent connected.
    AllHealthy => "Nothing.",
    /// After Ready something fell ill.
    ComponentsUnhealthy => "The components in the message; each has a condition of its own.",
    /// The operation goes on.
    InProgress => "status.message and status.operation.",
    /// The cluster's actor failed again and again; it is left alone until its spec changes. Deletion still works.
    Quarantined => "lattice-manager's log for this cluster; then change the spec, or update lattice-manager.",
    /// The cluster's actor failed and is rebuilt.
    InternalError => "lattice-manager's log for this cluster.",
    /// The cluster is being deleted.
    Deleting => "status.deletion: the step and what remains.",
    /// Deletion is refused by spec.deletion.protection.
    DeletionProtected => "spec.deletion.protection.",
    /// Deletion waits for objects that are not gone yet.
    DeletionWaiting => "The objects in the message and their finalizers.",
    /// An object of the cluster was changed or deleted by somebody and was put back.
    DriftRepaired => "The object in the message, and who changed it: kubectl get -o yaml --show-managed-fields.",
    /// The provider makes all machines alike, whatever size was asked for.
    SizesNotHonoured => "instanceType in the spec; remove it, or use a provider that has sizes.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_and_fits_a_condition() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            assert!(reason.as_str().len() <= 128, "{reason} is too long for an Event's reason");
            assert!(
                !reason.meaning().is_empty() && reason.check_first().ends_with(['.', '?']),
                "{reason} explains itself"
            );
        }
    }
}
