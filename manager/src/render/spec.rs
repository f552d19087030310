//! From a LatticeCluster to the context that it is rendered from.

use std::collections::BTreeMap;

use crate::api::defaults::{API_SERVER_PORT, Resolved, ResolvedProvider, ResolvedProxmox};
use crate::api::{self, ClusterName, ClusterUid, DockerBackend, InstanceType, LatticeCluster, TaintEffect, WorkerPool};

use super::{
    ClusterContext, DockerContext, Endpoint, Error, ImageContext, MachineContext, MachineSize, ProviderContext,
    ProxmoxContext, Taint,
};

impl ClusterContext {
    /// Takes what templates need from an object and its spec with defaults filled in.
    ///
    /// # Errors
    /// When the object has no name or uid that ours could be made from: one that no API server has seen.
    pub fn new(cluster: &LatticeCluster, resolved: &Resolved) -> Result<Self, Error> {
        let value = |path: &str, problem: String| Error::Value { path: path.to_owned(), problem };
        let name: ClusterName = cluster
            .metadata
            .name
            .clone()
            .unwrap_or_default()
            .parse()
            .map_err(|error: lattice_protocol::ids::Error| value("metadata.name", error.to_string()))?;
        let uid: ClusterUid = cluster
            .metadata
            .uid
            .clone()
            .unwrap_or_default()
            .parse()
            .map_err(|error: lattice_protocol::ids::Error| value("metadata.uid", error.to_string()))?;
        let spec = &cluster.spec;
        Ok(Self {
            name,
            uid,
            labels: cluster.metadata.labels.clone().unwrap_or_default(),
            kubernetes_version: resolved.version.to_string(),
            pod_cidr: resolved.pod_cidr.to_string(),
            service_cidr: resolved.service_cidr.to_string(),
            cert_sans: spec.provider.kubernetes.cert_sans.clone(),
            endpoint: Endpoint::of(resolved),
            provider: provider(&resolved.provider),
            control_plane: MachineContext {
                replicas: Some(spec.nodes.control_plane.replicas),
                scale: None,
                size: size(spec.nodes.control_plane.instance_type.as_ref()),
                labels: spec.nodes.control_plane.labels.clone(),
                taints: taints(&spec.nodes.control_plane.taints),
                failure_domain: None,
            },
            worker_pools: pools(&spec.nodes.worker_pools),
        })
    }
}

impl Endpoint {
    /// The API server's endpoint, where the spec tells it before the infrastructure does.
    pub fn of(resolved: &Resolved) -> Option<Self> {
        resolved.endpoint_host.clone().map(|host| Self { host, port: API_SERVER_PORT })
    }
}

fn provider(resolved: &ResolvedProvider) -> ProviderContext {
    match resolved {
        ResolvedProvider::Proxmox(resolved) => ProviderContext::Proxmox(Box::new(proxmox(resolved))),
        ResolvedProvider::Docker(docker) => ProviderContext::Docker(DockerContext {
            in_memory: docker.backend == DockerBackend::InMemory,
            image: docker.image.clone(),
            load_balancer: docker
                .load_balancer
                .as_ref()
                .map(|image| ImageContext { repository: image.image_repository.clone(), tag: image.image_tag.clone() }),
        }),
    }
}

fn proxmox(resolved: &ResolvedProxmox) -> ProxmoxContext {
    ProxmoxContext {
        source_node: resolved.source_node.clone(),
        template_id: resolved.template_id,
        bridge: resolved.bridge.clone(),
        vlan: resolved.vlan,
        addresses: vec![resolved.addresses.to_string()],
        prefix: resolved.addresses.network().prefix(),
        gateway: resolved.gateway.clone(),
        dns_servers: resolved.dns_servers.clone(),
        allowed_nodes: resolved.allowed_nodes.clone(),
        storage: resolved.storage.clone(),
        boot_disk: resolved.boot_disk.clone(),
        full: resolved.full,
        ssh_authorized_keys: resolved.ssh_authorized_keys.clone(),
        vip_interface: resolved.vip_interface.clone(),
    }
}

fn pools(pools: &BTreeMap<String, WorkerPool>) -> BTreeMap<String, MachineContext> {
    let context = |pool: &WorkerPool| MachineContext {
        replicas: pool.replicas,
        scale: pool.min.zip(pool.max),
        size: size(pool.instance_type.as_ref()),
        labels: pool.labels.clone(),
        taints: taints(&pool.taints),
        failure_domain: pool.failure_domain.clone(),
    };
    pools.iter().map(|(name, pool)| (name.clone(), context(pool))).collect()
}

fn size(wanted: Option<&InstanceType>) -> Option<MachineSize> {
    let wanted = wanted?;
    Some(MachineSize { cores: wanted.cores?, memory_gib: wanted.memory_gib?, disk_gib: wanted.disk_gib? })
}

fn taints(taints: &[api::Taint]) -> Vec<Taint> {
    let effect = |effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    };
    taints
        .iter()
        .map(|taint| Taint {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: effect(taint.effect).to_owned(),
        })
        .collect()
}
