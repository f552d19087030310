//! What a spec leaves out, filled in: from the provider's defaults, else from sound ones.

use super::Reason;
use super::address::{Network, Range};
use super::cluster::LatticeClusterSpec;
use super::provider::{InfraProviderSpec, ProxmoxDefaults};
use super::provider_config::{DockerConfig, ProxmoxConfig};
use super::validate::{Errors, FieldError};
use super::version::KubernetesVersion;

/// Pod networks to choose from, the usual first: one that does not overlap the node network is taken.
const POD_CIDRS: [&str; 3] = ["10.244.0.0/16", "172.28.0.0/16", "192.168.0.0/16"];

/// Service networks to choose from.
const SERVICE_CIDRS: [&str; 3] = ["10.96.0.0/16", "172.29.0.0/16", "198.18.0.0/16"];

/// Boot disk of the usual Proxmox templates.
const BOOT_DISK: &str = "scsi0";

/// Port of a cluster's API server.
pub const API_SERVER_PORT: u16 = 6443;

/// A spec with everything filled in that objects are rendered from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Kubernetes.
    pub version: KubernetesVersion,
    /// Addresses of pods.
    pub pod_cidr: Network,
    /// Addresses of Services.
    pub service_cidr: Network,
    /// Host of the API server, where it is known before the infrastructure exists.
    pub endpoint_host: Option<String>,
    /// The provider's part.
    pub provider: ResolvedProvider,
}

/// The provider's part of a resolved spec.
#[derive(Clone, Debug, PartialEq)]
pub enum ResolvedProvider {
    /// Proxmox VE.
    Proxmox(Box<ResolvedProxmox>),
    /// Cluster API's development provider.
    Docker(DockerConfig),
}

/// `provider.config.proxmox` with everything filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedProxmox {
    /// Node that holds the template.
    pub source_node: String,
    /// Number of the template.
    pub template_id: u32,
    /// Bridge of the machines.
    pub bridge: String,
    /// VLAN tag.
    pub vlan: Option<u32>,
    /// Addresses of machines.
    pub addresses: Range,
    /// Default route.
    pub gateway: String,
    /// Name servers; at least one.
    pub dns_servers: Vec<String>,
    /// Nodes that machines may be put on; at least one.
    pub allowed_nodes: Vec<String>,
    /// Storage of the disks.
    pub storage: Option<String>,
    /// Device of the boot disk.
    pub boot_disk: String,
    /// Full clones.
    pub full: bool,
    /// Keys that may log in.
    pub ssh_authorized_keys: Vec<String>,
    /// Interface that announces the endpoint.
    pub vip_interface: Option<String>,
}

/// Fills in what a spec leaves out.
///
/// # Errors
///
/// Every field that cannot be read or filled, each with its path.
pub fn resolve(spec: &LatticeClusterSpec, provider: Option<&InfraProviderSpec>) -> Result<Resolved, Vec<FieldError>> {
    let mut errors = Errors::default();
    let version = errors.take("spec.provider.kubernetes.version", spec.provider.kubernetes.version.parse());
    let config = &spec.provider.config;
    let part = match (&config.proxmox, &config.docker) {
        (Some(proxmox), None) => {
            let defaults = provider.and_then(|p| p.defaults.as_ref()).and_then(|d| d.proxmox.as_ref());
            resolve_proxmox(proxmox, defaults, &mut errors).map(|p| ResolvedProvider::Proxmox(Box::new(p)))
        }
        (None, Some(docker)) => Some(ResolvedProvider::Docker(docker.clone())),
        // Neither or both is an error of its own, see `validate`.
        (Some(_), Some(_)) | (None, None) => None,
    };
    let nodes = match &part {
        Some(ResolvedProvider::Proxmox(proxmox)) => Some(proxmox.addresses.network()),
        Some(ResolvedProvider::Docker(_)) | None => None,
    };
    let network = spec.provider.kubernetes.cluster_network.clone().unwrap_or_default();
    let path = "spec.provider.kubernetes.clusterNetwork";
    let service_given =
        network.service_cidr.as_ref().and_then(|text| errors.take(&format!("{path}.serviceCidr"), text.parse()));
    let pod_given = network.pod_cidr.as_ref().and_then(|text| errors.take(&format!("{path}.podCidr"), text.parse()));
    let taken: Vec<Network> = nodes.into_iter().chain(service_given).collect();
    let pod_cidr = pod_given.unwrap_or_else(|| choose(&POD_CIDRS, &taken));
    let taken: Vec<Network> = nodes.into_iter().chain([pod_cidr]).collect();
    let service_cidr = service_given.unwrap_or_else(|| choose(&SERVICE_CIDRS, &taken));
    let endpoint_host = config.proxmox.as_ref().map(|proxmox| proxmox.control_plane_endpoint.clone());
    match (errors.into_result(), version, part) {
        (Ok(()), Some(version), Some(provider)) => {
            Ok(Resolved { version, pod_cidr, service_cidr, endpoint_host, provider })
        }
        (Err(errors), _, _) => Err(errors),
        (Ok(()), _, _) => Err(vec![FieldError {
            path: "spec.provider.config".to_owned(),
            message: "set exactly one of docker, proxmox, aws".to_owned(),
            reason: Reason::InvalidSpec,
        }]),
    }
}

/// Fills in `provider.config.proxmox`.
fn resolve_proxmox(
    config: &ProxmoxConfig,
    defaults: Option<&ProxmoxDefaults>,
    errors: &mut Errors,
) -> Option<ResolvedProxmox> {
    let none = ProxmoxDefaults::default();
    let defaults = defaults.unwrap_or(&none);
    let addresses = errors.take("spec.provider.config.proxmox.ipv4Pool.range", config.ipv4_pool.range.parse())?;
    let list = |own: &[String], given: &[String], sound: &str| {
        let first = if own.is_empty() { given } else { own };
        if first.is_empty() { vec![sound.to_owned()] } else { first.to_vec() }
    };
    let ssh_keys =
        if config.ssh_authorized_keys.is_empty() { &defaults.ssh_authorized_keys } else { &config.ssh_authorized_keys };
    Some(ResolvedProxmox {
        source_node: config.source_node.clone(),
        template_id: config.template_id,
        bridge: config.bridge.clone(),
        vlan: config.vlan.or(defaults.vlan),
        addresses,
        gateway: config.ipv4_pool.gateway.clone(),
        dns_servers: list(&config.dns_servers, &defaults.dns_servers, &config.ipv4_pool.gateway),
        allowed_nodes: list(&config.allowed_nodes, &defaults.allowed_nodes, &config.source_node),
        storage: config.storage.clone().or_else(|| defaults.storage.clone()),
        boot_disk: config
            .boot_disk
            .clone()
            .or_else(|| defaults.boot_disk.clone())
            .unwrap_or_else(|| BOOT_DISK.to_owned()),
        full: config.full.or(defaults.full).unwrap_or(true),
        ssh_authorized_keys: ssh_keys.clone(),
        vip_interface: config.vip_interface.clone().or_else(|| defaults.vip_interface.clone()),
    })
}

/// The first candidate that overlaps nothing that is taken; the first of all when each does, for validation to refuse.
fn choose(candidates: &[&str], taken: &[Network]) -> Network {
    let read = |text: &&str| text.parse::<Network>().expect("the candidates are networks");
    candidates
        .iter()
        .map(read)
        .find(|network| taken.iter().all(|other| !network.overlaps(other)))
        .unwrap_or_else(|| read(&candidates[0]))
}
