//! What is rendered from, filled from the spec with its defaults.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Error, Subject};
use crate::api::defaults::{API_SERVER_PORT, Resolved, ResolvedProvider, ResolvedProxmox, resolve};
use crate::api::{DockerBackend, DockerConfig, InstanceType, LatticeCluster, Taint, TaintEffect};
use crate::chart::{BundleContext, Features, Override, Selection};
use crate::render;
use crate::render::{
    ClusterContext, DockerContext, Endpoint, ImageContext, MachineContext, MachineSize, ProviderContext, ProxmoxContext,
};

/// Labels of a LatticeCluster with this prefix are copied to its CAPI Cluster, as all others are; those of kubectl are not.
const PRIVATE_LABELS: &str = "kubectl.kubernetes.io/";

/// What the objects of a cluster are rendered from.
///
/// # Errors
/// [`Error::Spec`] with every field that cannot be read or filled.
pub fn cluster_context(subject: &Subject) -> Result<ClusterContext, Error> {
    let spec = &subject.cluster.spec;
    let resolved = resolved(subject)?;
    let labels = subject.cluster.metadata.labels.clone().unwrap_or_default();
    let control_plane = &spec.nodes.control_plane;
    let worker_pools = spec.nodes.worker_pools.iter().map(|(name, pool)| {
        let machine = MachineContext {
            replicas: pool.replicas,
            scale: pool.min.zip(pool.max),
            size: size(pool.instance_type.as_ref()),
            labels: pool.labels.clone(),
            taints: taints(&pool.taints),
            failure_domain: pool.failure_domain.clone(),
        };
        (name.clone(), machine)
    });
    Ok(ClusterContext {
        name: subject.name.clone(),
        uid: subject.uid.clone(),
        labels: labels.into_iter().filter(|(key, _)| !key.starts_with(PRIVATE_LABELS)).collect(),
        kubernetes_version: resolved.version.to_string(),
        pod_cidr: resolved.pod_cidr.to_string(),
        service_cidr: resolved.service_cidr.to_string(),
        cert_sans: spec.provider.kubernetes.cert_sans.clone(),
        endpoint: endpoint(&resolved),
        provider: provider(&resolved),
        control_plane: MachineContext {
            replicas: Some(control_plane.replicas),
            scale: None,
            size: size(control_plane.instance_type.as_ref()),
            labels: control_plane.labels.clone(),
            taints: taints(&control_plane.taints),
            failure_domain: None,
        },
        worker_pools: worker_pools.collect(),
    })
}

/// What decides about the components of a cluster. `running` is the version of the child's API server, once it is known.
pub fn selection(cluster: &LatticeCluster, running: Option<&str>) -> Selection {
    let spec = &cluster.spec;
    let asked = spec.provider.kubernetes.version.trim_start_matches('v');
    let overrides: BTreeMap<_, _> = spec
        .components
        .iter()
        .map(|(name, given)| {
            let values = given.values.clone().map(Value::Object);
            (name.clone(), Override { enabled: given.enabled, version: given.version.clone(), values })
        })
        .collect();
    Selection {
        kubernetes_version: running.map_or_else(|| format!("v{asked}"), str::to_owned),
        features: Features {
            services: spec.services,
            monitoring: spec.monitoring.enabled,
            remote_write_url: spec.monitoring.remote_write_url.clone(),
            backups: spec.backups.enabled,
            secret_store: spec.secret_store.is_some(),
            parent: spec.parent_config.is_some(),
            provider: spec.provider.config.types().first().map(|t| t.as_str().to_owned()).unwrap_or_default(),
        },
        overrides,
    }
}

/// What a component's bundle is rendered from.
///
/// # Errors
/// [`Error::Spec`] with every field that cannot be read or filled.
pub fn bundle_context(
    subject: &Subject,
    running: Option<&str>,
    lattice_crds: &[Value],
) -> Result<BundleContext, Error> {
    let resolved = resolved(subject)?;
    Ok(BundleContext {
        cluster: subject.name.clone(),
        cluster_uid: subject.uid.clone(),
        selection: selection(&subject.cluster, running),
        pod_cidr: resolved.pod_cidr.to_string(),
        service_cidr: resolved.service_cidr.to_string(),
        endpoint: endpoint(&resolved),
        nodes: subject.cluster.spec.nodes.desired(),
        image: subject.cluster.spec.lattice_image.clone(),
        lattice_crds: lattice_crds.to_vec(),
    })
}

fn resolved(subject: &Subject) -> Result<Resolved, Error> {
    resolve(&subject.cluster.spec, subject.provider.as_ref().map(|provider| &provider.spec)).map_err(Error::Spec)
}

fn endpoint(resolved: &Resolved) -> Option<Endpoint> {
    resolved.endpoint_host.clone().map(|host| Endpoint { host, port: API_SERVER_PORT })
}

fn provider(resolved: &Resolved) -> ProviderContext {
    match &resolved.provider {
        ResolvedProvider::Proxmox(proxmox) => ProviderContext::Proxmox(Box::new(proxmox_context(proxmox))),
        ResolvedProvider::Docker(docker) => ProviderContext::Docker(docker_context(docker)),
    }
}

fn proxmox_context(proxmox: &ResolvedProxmox) -> ProxmoxContext {
    ProxmoxContext {
        source_node: proxmox.source_node.clone(),
        template_id: proxmox.template_id,
        bridge: proxmox.bridge.clone(),
        vlan: proxmox.vlan,
        addresses: vec![proxmox.addresses.to_string()],
        prefix: proxmox.addresses.network().prefix(),
        gateway: proxmox.gateway.clone(),
        dns_servers: proxmox.dns_servers.clone(),
        allowed_nodes: proxmox.allowed_nodes.clone(),
        storage: proxmox.storage.clone(),
        boot_disk: proxmox.boot_disk.clone(),
        full: proxmox.full,
        ssh_authorized_keys: proxmox.ssh_authorized_keys.clone(),
        vip_interface: proxmox.vip_interface.clone(),
    }
}

fn docker_context(docker: &DockerConfig) -> DockerContext {
    let load_balancer = docker
        .load_balancer
        .as_ref()
        .map(|image| ImageContext { repository: image.image_repository.clone(), tag: image.image_tag.clone() });
    DockerContext { in_memory: docker.backend == DockerBackend::InMemory, image: docker.image.clone(), load_balancer }
}

fn size(instance: Option<&InstanceType>) -> Option<MachineSize> {
    let instance = instance?;
    Some(MachineSize { cores: instance.cores?, memory_gib: instance.memory_gib?, disk_gib: instance.disk_gib? })
}

fn taints(taints: &[Taint]) -> Vec<render::Taint> {
    let effect = |effect: &TaintEffect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    };
    taints
        .iter()
        .map(|taint| render::Taint {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: effect(&taint.effect).to_owned(),
        })
        .collect()
}
