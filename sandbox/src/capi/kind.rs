//! The kinds that the controllers know, with their groups, versions and plurals.

use kube::api::{ApiResource, GroupVersionKind};

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Cluster,
    ControlPlane,
    Deployment,
    Set,
    Machine,
    HealthCheck,
    Bootstrap,
    BootstrapTemplate,
    InfraCluster(Provider),
    InfraMachine(Provider),
    InfraTemplate(Provider),
}

/// An infrastructure provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Provider {
    /// Cluster API's own for development.
    Dev,
    /// Proxmox VE.
    Proxmox,
}

impl Provider {
    /// Every provider.
    pub(crate) const ALL: [Provider; 2] = [Provider::Dev, Provider::Proxmox];

    fn kinds(self) -> [&'static str; 3] {
        match self {
            Provider::Dev => ["DevCluster", "DevMachine", "DevMachineTemplate"],
            Provider::Proxmox => ["ProxmoxCluster", "ProxmoxMachine", "ProxmoxMachineTemplate"],
        }
    }

    fn version(self) -> &'static str {
        match self {
            Provider::Dev => "v1beta2",
            Provider::Proxmox => "v1alpha2",
        }
    }

    /// The finalizers of its cluster and of its machine.
    pub(crate) fn finalizers(self) -> [&'static str; 2] {
        match self {
            Provider::Dev => {
                ["dockercluster.infrastructure.cluster.x-k8s.io", "dockermachine.infrastructure.cluster.x-k8s.io"]
            }
            Provider::Proxmox => {
                ["proxmoxcluster.infrastructure.cluster.x-k8s.io", "proxmoxmachine.infrastructure.cluster.x-k8s.io"]
            }
        }
    }
}

impl Kind {
    /// Every kind, in the order in which their watches start.
    pub(crate) fn all() -> Vec<Kind> {
        let mut kinds = vec![
            Kind::Cluster,
            Kind::ControlPlane,
            Kind::Deployment,
            Kind::Set,
            Kind::Machine,
            Kind::HealthCheck,
            Kind::Bootstrap,
            Kind::BootstrapTemplate,
        ];
        for provider in Provider::ALL {
            kinds.extend([Kind::InfraCluster(provider), Kind::InfraMachine(provider), Kind::InfraTemplate(provider)]);
        }
        kinds
    }

    /// The kind's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Cluster => "Cluster",
            Kind::ControlPlane => "KubeadmControlPlane",
            Kind::Deployment => "MachineDeployment",
            Kind::Set => "MachineSet",
            Kind::Machine => "Machine",
            Kind::HealthCheck => "MachineHealthCheck",
            Kind::Bootstrap => "KubeadmConfig",
            Kind::BootstrapTemplate => "KubeadmConfigTemplate",
            Kind::InfraCluster(provider) => provider.kinds()[0],
            Kind::InfraMachine(provider) => provider.kinds()[1],
            Kind::InfraTemplate(provider) => provider.kinds()[2],
        }
    }

    /// Its API group.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Kind::ControlPlane => "controlplane.cluster.x-k8s.io",
            Kind::Bootstrap | Kind::BootstrapTemplate => "bootstrap.cluster.x-k8s.io",
            Kind::InfraCluster(_) | Kind::InfraMachine(_) | Kind::InfraTemplate(_) => "infrastructure.cluster.x-k8s.io",
            Kind::Cluster | Kind::Deployment | Kind::Set | Kind::Machine | Kind::HealthCheck => "cluster.x-k8s.io",
        }
    }

    /// The version that it is read and written in.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Kind::InfraCluster(provider) | Kind::InfraMachine(provider) | Kind::InfraTemplate(provider) => {
                provider.version()
            }
            _ => "v1beta2",
        }
    }

    /// `group/version`.
    pub(crate) fn api_version(self) -> String {
        format!("{}/{}", self.group(), self.version())
    }

    /// What kube clients need to know.
    pub(crate) fn resource(self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group(), self.version(), self.name());
        ApiResource::from_gvk_with_plural(&gvk, &format!("{}s", self.name().to_ascii_lowercase()))
    }

    /// The kind of a reference, if it is one of ours.
    pub(crate) fn of(group: &str, name: &str) -> Option<Kind> {
        Kind::all().into_iter().find(|kind| kind.name() == name && kind.group() == group)
    }
}
