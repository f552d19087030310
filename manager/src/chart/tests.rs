//! Tests of the whole room: a catalog in, bundles out.

use std::fs;
use std::sync::Arc;

use lattice_protocol::reason::Reason;
use serde_json::{Value, json};
use tempfile::TempDir;

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

fn with_component(name: &str, files: &[(&str, &str)]) -> Result<Catalog, Error> {
    let dir = TempDir::new().expect("a folder");
    for (file, text) in files {
        let path = dir.path().join("components").join(name).join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        fs::write(path, text).expect("writes");
    }
    Catalog::load(Arc::new(Renderer::new(Some(dir.path()))?))
}

const DESCRIPTION: &str = "condition: Extra\nenabledWhen: spec.services\nneeds: [{component: cilium}]\nversions: {\"*\": 1.0.0}\ngates: [{deployment: {namespace: extra, name: extra}}]\n";

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: extra, namespace: extra}\nspec: {replicas: {{ values.replicas }}, selector: {}, template: {}}\n";

#[test]
fn a_new_folder_is_a_new_component() {
    let catalog = with_component(
        "extra",
        &[
            ("component.yaml", DESCRIPTION),
            ("values.yaml.j2", "replicas: {{ cluster.nodes }}\n"),
            ("manifests/extra.yaml.j2", DEPLOYMENT),
            ("manifests/zz-namespace.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: extra}\n"),
        ],
    )
    .expect("loads");
    let summary = catalog.summary(&homelab()).expect("summary");
    let extra = summary.iter().find(|component| component.name == "extra").expect("it is there");
    assert_eq!((extra.condition.as_str(), extra.enabled, extra.version.as_deref()), ("Extra", true, Some("1.0.0")));
    assert_eq!(extra.needs, [Need { name: "cilium".to_owned(), policy: false }]);

    let bundle = catalog.bundle("extra", &context(homelab())).expect("renders");
    let kinds: Vec<&str> = bundle.objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!(kinds, ["Namespace", "Deployment"], "namespaces come first, whatever their file's name");
    assert_eq!(bundle.objects[1]["spec"]["replicas"], 4);
    assert_eq!(bundle.objects[1]["metadata"]["labels"]["lattice.dev/component"], "extra");
    assert!(summary.iter().any(|component| component.name == "istio"), "the embedded ones stay");
}

#[track_caller]
fn refused(description: &str, words: &[&str]) {
    let error = with_component("extra", &[("component.yaml", description)]).expect_err("should be refused").to_string();
    for word in words {
        assert!(error.contains(word), "{error} should say {word:?}");
    }
}

#[test]
fn a_wrong_description_is_refused_with_what_is_wrong() {
    let with = |from: &str, to: &str| DESCRIPTION.replace(from, to);
    let path = "components/extra/component.yaml";
    refused(&with("component: cilium", "component: calico"), &["extra needs \"calico\"", "cert-manager, cilium"]);
    refused(&with("component: cilium", "component: extra"), &[path, "itself"]);
    refused(&with("condition: Extra", "condition: CNI"), &["cilium", "extra", "CNI"]);
    refused(&with("condition: Extra", "condition: not one"), &[path, "CamelCase"]);
    refused(&with("\"*\"", "\"latest\""), &[path, "latest"]);
    refused(&with("gates: [{deployment: {namespace: extra, name: extra}}]", "gates: []"), &[path, "gates"]);
    refused(&with("deployment", "deploymnt"), &[path, "deploymnt"]);
    refused(&with("enabledWhen", "enabledwhen"), &[path, "enabledwhen"]);
    refused(&format!("{DESCRIPTION}ignored: [{{kind: A, pointer: spec}}]\n"), &[path, "pointer"]);
}

#[test]
fn a_wrong_expression_is_an_error_with_its_path() {
    let description = DESCRIPTION.replace("spec.services", "spec.servces");
    let catalog = with_component("extra", &[("component.yaml", &description)]).expect("loads");
    let error = catalog.summary(&homelab()).expect_err("undefined").to_string();
    assert!(error.contains("components/extra/component.yaml") && error.contains("spec.servces"), "{error}");
}

#[test]
fn a_feature_that_is_off_takes_its_components_along() {
    let mut selection = homelab();
    selection.features.services = false;
    let on: Vec<String> =
        catalog().summary(&selection).expect("summary").into_iter().filter(|c| c.enabled).map(|c| c.name).collect();
    assert_eq!(on, ["cert-manager", "cilium", "metrics-server", "platform-operator"]);
}

fn overridden(name: &str, wanted: Override) -> Selection {
    Selection { overrides: BTreeMap::from([(name.to_owned(), wanted)]), ..homelab() }
}

#[test]
fn a_spec_can_switch_components_and_choose_versions_of_the_catalog() {
    let catalog = catalog();
    let of = |selection: &Selection, name: &str| {
        let summary = catalog.summary(selection).expect("summary");
        summary.into_iter().find(|component| component.name == name).expect("it is there")
    };
    let off = overridden("istio", Override { enabled: Some(false), ..Override::default() });
    assert_eq!((of(&off, "istio").enabled, of(&off, "istio").version), (false, None));
    let newer = overridden("cilium", Override { version: Some("1.20.4".to_owned()), ..Override::default() });
    assert_eq!(of(&newer, "cilium").version.as_deref(), Some("1.20.4"));
    let bundle = catalog.bundle("cilium", &context(newer)).expect("renders");
    assert!(bundle.objects.iter().any(|object| object.to_string().contains("quay.io/cilium/cilium:v1.20.4")));

    let unknown = overridden("cilium", Override { version: Some("9.9.9".to_owned()), ..Override::default() });
    let error = catalog.summary(&unknown).expect_err("no such version");
    assert_eq!(error.reason(), Reason::VersionNotSupported);
    assert!(
        error.to_string().contains("spec.components.cilium.version") && error.to_string().contains("1.18.4, 1.20.4")
    );

    let error = catalog.summary(&overridden("calico", Override::default())).expect_err("no such component");
    assert!(error.to_string().contains("spec.components.calico") && error.to_string().contains("cilium"), "{error}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let selection = Selection {
        kubernetes_version: "v1.99.0".to_owned(),
        overrides: BTreeMap::from([("calico".to_owned(), Override::default())]),
        ..homelab()
    };
    let error = catalog().summary(&selection).expect_err("refused").to_string();
    for word in ["calico", "component cilium has no version", "component istio has no version"] {
        assert!(error.contains(word), "{error} should say {word:?}");
    }
    let values = json!({"mut": 1400, "mtu": "x", "apiServer": {"hots": "x"}});
    let wanted = overridden("cilium", Override { values: Some(values), ..Override::default() });
    let error = catalog().bundle("cilium", &context(wanted)).expect_err("refused").to_string();
    for word in ["values/mut", "values/mtu", "values/apiServer/hots"] {
        assert!(error.contains(word), "{error} should say {word:?}");
    }
}

#[test]
fn a_kubernetes_without_versions_is_refused_with_those_that_have_some() {
    let error =
        catalog().summary(&Selection { kubernetes_version: "v1.30.1".to_owned(), ..homelab() }).expect_err("too old");
    assert_eq!(error.reason(), Reason::VersionNotSupported);
    assert!(error.to_string().contains("v1.30.1") && error.to_string().contains("1.31"), "{error}");
}

#[test]
fn every_supported_kubernetes_has_a_version_of_every_component() {
    for minor in crate::api::version::SUPPORTED_MINORS {
        let mut selection = Selection { kubernetes_version: format!("v1.{minor}.0"), ..homelab() };
        selection.features.monitoring = true;
        catalog().summary(&selection).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn values_of_the_spec_take_the_place_of_the_catalogs() {
    let catalog = catalog();
    let values = |values: Value| overridden("cilium", Override { values: Some(values), ..Override::default() });
    let bundle = catalog.bundle("cilium", &context(values(json!({"mtu": 1400})))).expect("renders");
    let config = bundle.objects.iter().find(|object| object["kind"] == "ConfigMap").expect("a ConfigMap");
    assert_eq!(config["data"]["mtu"], "1400");

    for (given, words) in [
        (json!({"mut": 1400}), vec!["spec.components.cilium.values/mut", "mtu"]),
        (json!({"mtu": "1400"}), vec!["values/mtu", "a string", "a number"]),
        (json!({"apiServer": {"hots": "x"}}), vec!["values/apiServer/hots", "host"]),
    ] {
        let error = catalog.bundle("cilium", &context(values(given))).expect_err("refused");
        assert_eq!(error.reason(), Reason::InvalidSpec);
        for word in words {
            assert!(error.to_string().contains(word), "{error} should say {word:?}");
        }
    }
}

#[test]
fn the_digest_is_of_objects_and_gates() {
    let catalog = catalog();
    let digest = |selection| catalog.bundle("cilium", &context(selection)).expect("renders").digest;
    let before = digest(homelab());
    assert_eq!((before.len(), &before), (64, &digest(homelab())));
    assert_ne!(
        before,
        digest(overridden("cilium", Override { values: Some(json!({"mtu": 1400})), ..Override::default() }))
    );

    let bundle = catalog.bundle("cilium", &context(homelab())).expect("renders");
    assert_eq!(super::digest(&bundle.objects, &bundle.gates), before);
    assert_ne!(super::digest(&bundle.objects, &bundle.gates[1..]), before);
    assert_ne!(super::digest(&bundle.objects[1..], &bundle.gates), before);
}

#[test]
fn the_platform_operator_brings_our_own_definitions() {
    let mut context = context(homelab());
    context.lattice_crds = vec![
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b"}, "spec": {"x": "\n---\nkind: Evil"}}),
    ];
    let bundle = catalog().bundle("platform-operator", &context).expect("renders");
    assert_eq!(bundle.objects[0]["spec"]["x"], "\n---\nkind: Evil");
    assert!(bundle.objects.iter().any(|object| object.to_string().contains("ghcr.io/evan-hines-js/lattice:latest")));
}
