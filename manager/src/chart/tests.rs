//! Tests of the whole room: a catalog in, bundles out.

use std::sync::Arc;

use super::*;

fn homelab() -> Selection {
    Selection {
        kubernetes_version: "v1.32.0".to_owned(),
        features: Features { services: true, provider: "proxmox".to_owned(), ..Features::default() },
        overrides: BTreeMap::new(),
    }
}

fn catalog() -> Catalog {
    Catalog::load(Arc::new(Renderer::new(None).expect("templates compile"))).expect("catalog loads")
}

fn context(selection: Selection) -> BundleContext {
    BundleContext {
        cluster: "backend".parse().expect("a name"),
        cluster_uid: "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().expect("a uid"),
        selection,
        pod_cidr: "10.244.0.0/16".to_owned(),
        service_cidr: "10.96.0.0/16".to_owned(),
        endpoint: Some(crate::render::Endpoint { host: "10.0.1.110".to_owned(), port: 6443 }),
        nodes: 4,
        image: "ghcr.io/evan-hines-js/lattice:latest".to_owned(),
        lattice_crds: Vec::new(),
    }
}

#[test]
fn homelab_gets_everything_but_monitoring() {
    let on: Vec<String> =
        catalog().summary(&homelab()).expect("summary").into_iter().filter(|c| c.enabled).map(|c| c.name).collect();
    assert_eq!(on, ["cert-manager", "cilium", "external-secrets", "istio", "metrics-server", "platform-operator"]);
}

#[test]
fn every_component_renders_and_its_gates_name_what_it_installs() {
    let catalog = catalog();
    let mut selection = homelab();
    selection.features.monitoring = true;
    selection.features.remote_write_url = Some("https://metrics.example/write".to_owned());
    let context = context(selection);
    for name in catalog.names() {
        let bundle = catalog.bundle(name, &context).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bundle, catalog.bundle(name, &context).expect("renders again"), "{name} renders the same twice");
        for gate in &bundle.gates {
            use lattice_protocol::v1::gate::Kind;
            let (kind, namespace, wanted) = match gate.kind.clone().expect("a kind") {
                Kind::DaemonSet(found) => ("DaemonSet", found.namespace, found.name),
                Kind::Deployment(found) => ("Deployment", found.namespace, found.name),
                Kind::Crd(found) => ("CustomResourceDefinition", String::new(), found),
                _ => continue,
            };
            let there = bundle.objects.iter().any(|object| {
                object["kind"] == kind
                    && object["metadata"]["name"] == wanted.as_str()
                    && object["metadata"]["namespace"].as_str().unwrap_or_default() == namespace
            });
            assert!(there, "{name} waits for {kind} {namespace}/{wanted} and does not install it");
        }
    }
}
