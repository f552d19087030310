//! Tests of the whole room: contexts in, objects out.

use std::collections::BTreeMap;

use super::*;

pub(super) fn homelab() -> ClusterContext {
    ClusterContext {
        name: "backend".parse().expect("a name"),
        uid: "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().expect("a uid"),
        labels: BTreeMap::from([("lattice.dev/environment".to_owned(), "homelab".to_owned())]),
        kubernetes_version: "v1.32.0".to_owned(),
        pod_cidr: "10.244.0.0/16".to_owned(),
        service_cidr: "10.96.0.0/16".to_owned(),
        cert_sans: Vec::new(),
        endpoint: Some(Endpoint { host: "10.0.1.110".to_owned(), port: 6443 }),
        provider: ProviderContext::Proxmox(Box::new(ProxmoxContext {
            source_node: "poweredge-lg".to_owned(),
            template_id: 9000,
            bridge: "vmbr1".to_owned(),
            vlan: None,
            addresses: vec!["10.0.1.111-10.0.1.120".to_owned()],
            prefix: 24,
            gateway: "10.0.1.1".to_owned(),
            dns_servers: vec!["10.0.1.1".to_owned()],
            allowed_nodes: Vec::new(),
            storage: None,
            boot_disk: "scsi0".to_owned(),
            full: true,
            ssh_authorized_keys: Vec::new(),
            vip_interface: None,
        })),
        control_plane: MachineContext {
            replicas: Some(1),
            size: Some(MachineSize { cores: 4, memory_gib: 16, disk_gib: 50 }),
            ..MachineContext::default()
        },
        worker_pools: BTreeMap::from([(
            "default".to_owned(),
            MachineContext {
                replicas: Some(3),
                size: Some(MachineSize { cores: 12, memory_gib: 64, disk_gib: 250 }),
                ..MachineContext::default()
            },
        )]),
    }
}

#[test]
fn homelab_becomes_the_objects_of_cluster_api_in_apply_order() {
    let renderer = Renderer::new(None).expect("templates compile");
    let objects = renderer.cluster(&homelab()).expect("renders");
    let kinds: Vec<(Stage, &str)> = objects.iter().map(|object| (object.stage(), object.kind())).collect();
    assert_eq!(
        kinds,
        [
            (Stage::Cluster, "Cluster"),
            (Stage::Cluster, "ProxmoxCluster"),
            (Stage::Cluster, "ProxmoxMachineTemplate"),
            (Stage::Cluster, "ProxmoxMachineTemplate"),
            (Stage::Cluster, "KubeadmControlPlane"),
            (Stage::Cluster, "KubeadmConfigTemplate"),
            (Stage::Cluster, "MachineDeployment"),
            (Stage::HealthChecks, "MachineHealthCheck"),
            (Stage::HealthChecks, "MachineHealthCheck"),
        ]
    );
}
