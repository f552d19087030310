//! Networks: none may overlap another, and the pool must hold an address for every machine.

use std::net::Ipv4Addr;

use super::Errors;
use crate::api::Reason;
use crate::api::address::Network;
use crate::api::cluster::LatticeClusterSpec;
use crate::api::defaults::{Resolved, ResolvedProvider, ResolvedProxmox};

const CLUSTER_NETWORK: &str = "spec.provider.kubernetes.clusterNetwork";
const POOL: &str = "spec.provider.config.proxmox.ipv4Pool";

pub(super) fn check(spec: &LatticeClusterSpec, resolved: &Resolved, errors: &mut Errors) {
    let (pods, services) = (resolved.pod_cidr, resolved.service_cidr);
    if pods.overlaps(&services) {
        let message = format!("pods {pods} and services {services} overlap: choose networks that share no address");
        errors.add(CLUSTER_NETWORK, Reason::NetworkOverlap, message);
    }
    match &resolved.provider {
        ResolvedProvider::Proxmox(proxmox) => {
            let nodes = proxmox.addresses.network();
            overlap("podCidr", pods, nodes, errors);
            overlap("serviceCidr", services, nodes, errors);
            pool(spec, proxmox, errors);
        }
        ResolvedProvider::Docker(_) => {}
    }
}

fn overlap(field: &str, network: Network, nodes: Network, errors: &mut Errors) {
    if network.overlaps(&nodes) {
        errors.add(
            format!("{CLUSTER_NETWORK}.{field}"),
            Reason::NetworkOverlap,
            format!("{network} overlaps the node network {nodes}: choose one that shares no address with it"),
        );
    }
}

fn pool(spec: &LatticeClusterSpec, proxmox: &ResolvedProxmox, errors: &mut Errors) {
    let range = proxmox.addresses;
    // A machine is replaced by adding its successor first: one more for the control plane and one for every pool.
    let nodes = spec.nodes.desired();
    let surge =
        1 + u32::try_from(spec.nodes.worker_pools.values().filter(|p| p.desired() > 0).count()).unwrap_or(u32::MAX);
    let needed = nodes.saturating_add(surge);
    if needed > range.size() {
        errors.add(
            format!("{POOL}.range"),
            Reason::AddressPoolTooSmall,
            format!(
                "{range} holds {} addresses, and {nodes} nodes with {surge} more while machines are replaced need {needed}: enlarge the range or ask for fewer nodes",
                range.size()
            ),
        );
    }
    if let Ok(gateway) = proxmox.gateway.parse::<Ipv4Addr>() {
        if range.contains(gateway) {
            errors.add(
                format!("{POOL}.range"),
                Reason::InvalidSpec,
                format!("{range} holds the gateway {gateway}: leave it out"),
            );
        } else if !range.network().contains(gateway) {
            errors.add(
                format!("{POOL}.gateway"),
                Reason::InvalidSpec,
                format!("{gateway} is not in the pool's network {}: give the gateway of that network", range.network()),
            );
        }
    }
    let endpoint = spec.provider.config.proxmox.as_ref().map(|p| p.control_plane_endpoint.as_str()).unwrap_or_default();
    if endpoint.parse::<Ipv4Addr>().is_ok_and(|address| range.contains(address)) {
        errors.add(
            "spec.provider.config.proxmox.controlPlaneEndpoint",
            Reason::InvalidSpec,
            format!("{endpoint} is in the pool {range}, so a machine would get it too: take it out of the range or choose another"),
        );
    }
}
