//! Tests of the whole room: contexts in, objects out.

use std::collections::BTreeMap;
use std::fs;

use lattice_protocol::reason::Reason;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const TOKEN: &str = "ltj1.abcdefghij.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn homelab() -> ClusterContext {
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
            allowed_nodes: vec!["poweredge-lg".to_owned()],
            storage: None,
            boot_disk: "scsi0".to_owned(),
            full: true,
            ssh_authorized_keys: Vec::new(),
            vip_interface: None,
        })),
        control_plane: machines(1),
        worker_pools: BTreeMap::from([("default".to_owned(), machines(3))]),
    }
}

fn machines(replicas: u32) -> MachineContext {
    MachineContext {
        replicas: Some(replicas),
        size: Some(MachineSize { cores: 4, memory_gib: 16, disk_gib: 50 }),
        ..MachineContext::default()
    }
}

fn proxmox(context: &mut ClusterContext) -> &mut ProxmoxContext {
    match &mut context.provider {
        ProviderContext::Proxmox(proxmox) => proxmox,
        ProviderContext::Docker(_) => panic!("the homelab cluster is on Proxmox"),
    }
}

fn agent() -> AgentContext {
    AgentContext {
        cluster: "backend".parse().expect("a name"),
        cluster_uid: "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().expect("a uid"),
        trust_domain: "lattice.example".to_owned(),
        image: "lattice:latest".to_owned(),
        endpoints: vec!["192.0.2.1:50051".to_owned()],
        bootstrap_urls: vec!["https://192.0.2.1:8443".to_owned()],
        ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        ca_pin: "sha256:00".to_owned(),
        token: JoinToken::new(TOKEN),
        environment: BTreeMap::new(),
    }
}

fn renderer() -> Renderer {
    Renderer::new(None).expect("the embedded templates compile")
}

/// A renderer with one file in a templates folder of its own; the rest of its folder is copied from the embedded one.
fn with_file(path: &str, text: &str) -> Result<Renderer, Error> {
    let dir = TempDir::new().expect("a folder");
    let folder = path.rsplit_once('/').expect("a file in a folder").0;
    for (embedded, text) in Library::load(None).expect("embedded").files() {
        if embedded.starts_with(folder) {
            write(&dir, embedded, text);
        }
    }
    write(&dir, path, text);
    Renderer::new(Some(dir.path()))
}

fn write(dir: &TempDir, path: &str, text: &str) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
    fs::write(path, text).expect("writes");
}

fn names(objects: &[RenderedObject]) -> Vec<String> {
    objects.iter().map(|object| format!("{} {}", object.kind(), object.name())).collect()
}

#[test]
fn objects_come_in_apply_order_and_health_checks_in_a_stage_of_their_own() {
    let objects = renderer().cluster(&homelab()).expect("renders");
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

#[test]
fn every_reference_names_an_object_that_is_applied_earlier() {
    let objects = renderer().cluster(&homelab()).expect("renders");
    let named: Vec<&RenderedObject> = objects.iter().filter(|object| object.named_by_content()).collect();
    assert_eq!(named.len(), 3, "two machine templates and one bootstrap template");
    for object in named {
        let at = objects.iter().position(|other| other == object).expect("it is there");
        let used = objects.iter().position(|other| {
            other.object().to_string().contains(&format!("\"name\":\"{}\"", object.name())) && other != object
        });
        assert!(used.is_some_and(|used| used > at), "{} is referred to by a later object", object.name());
    }
}

#[test]
fn names_by_content_are_stable_and_change_with_the_content() {
    let renderer = renderer();
    let before = names(&renderer.cluster(&homelab()).expect("renders"));
    assert_eq!(before, names(&renderer.cluster(&homelab()).expect("renders")), "the same twice");

    let mut relabelled = homelab();
    relabelled.labels.insert("team".to_owned(), "platform".to_owned());
    relabelled.control_plane.replicas = Some(3);
    relabelled.kubernetes_version = "v1.33.0".to_owned();
    assert_eq!(
        before,
        names(&renderer.cluster(&relabelled).expect("renders")),
        "labels, counts and versions roll nothing"
    );

    let mut larger = homelab();
    larger.worker_pools.insert(
        "default".to_owned(),
        MachineContext { size: Some(MachineSize { cores: 8, memory_gib: 16, disk_gib: 50 }), ..machines(3) },
    );
    let after = names(&renderer.cluster(&larger).expect("renders"));
    let changed: Vec<&String> = after.iter().filter(|name| !before.contains(name)).collect();
    assert!(
        matches!(changed.as_slice(), [one] if one.starts_with("ProxmoxMachineTemplate backend-default-")),
        "{changed:?}"
    );
}

#[test]
fn a_token_address_or_ca_is_in_no_object_of_the_cluster() {
    let text = format!("{:?}", renderer().cluster(&homelab()).expect("renders"));
    assert!(text.contains("backend-enroll"), "the Secret is referred to");
    assert!(!text.contains("ltj1.") && !text.contains("https://") && !text.contains("BEGIN CERTIFICATE"));
}

#[track_caller]
fn refused(change: impl FnOnce(&mut ClusterContext), reason: Reason, words: &[&str]) {
    let mut context = homelab();
    change(&mut context);
    let error = renderer().cluster(&context).expect_err("should be refused");
    assert_eq!(error.reason(), reason, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} should say {word:?}");
    }
}

#[test]
fn values_that_a_later_template_engine_would_evaluate_are_refused() {
    for evil in ["{{ 7*7 }}", "{% raw %}", "{# x #}", "{{ ds.meta_data.instance_id }}{{ x }}"] {
        refused(
            |c| c.cert_sans.push(evil.to_owned()),
            Reason::RenderFailed,
            &["certSANs", "kubeadm-control-plane.yaml.j2"],
        );
        refused(|c| proxmox(c).ssh_authorized_keys.push(evil.to_owned()), Reason::RenderFailed, &["sshAuthorizedKeys"]);
    }
}

#[test]
fn control_characters_are_refused() {
    for evil in ["a\0b", "a\u{7}b", "a\u{85}b", "a\rb"] {
        refused(|c| proxmox(c).bridge = evil.to_owned(), Reason::RenderFailed, &["bridge", "control character"]);
        refused(
            |c| drop(c.labels.insert(evil.to_owned(), String::new())),
            Reason::RenderFailed,
            &["control character"],
        );
    }
}

#[test]
fn labels_and_taints_that_no_node_can_carry_are_refused_with_their_path() {
    let pool = |change: fn(&mut MachineContext)| {
        move |c: &mut ClusterContext| change(c.worker_pools.get_mut("default").expect("a pool"))
    };
    let path = "spec.nodes.workerPools.default";
    refused(
        pool(|p| drop(p.labels.insert("a,b=c".to_owned(), String::new()))),
        Reason::InvalidSpec,
        &[path, "label key"],
    );
    refused(
        pool(|p| drop(p.labels.insert("a".to_owned(), "b,c=d".to_owned()))),
        Reason::InvalidSpec,
        &[path, "label value"],
    );
    refused(
        pool(|p| drop(p.labels.insert("kubernetes.io/role".to_owned(), "x".to_owned()))),
        Reason::InvalidSpec,
        &[path, "node-restriction.kubernetes.io"],
    );
    refused(|c| drop(c.worker_pools.insert("cp".to_owned(), machines(1))), Reason::InvalidSpec, &["workerPools.cp"]);
    let taint = Taint { key: "k".to_owned(), value: String::new(), effect: "Never".to_owned() };
    refused(
        |c| c.control_plane.taints.push(taint),
        Reason::InvalidSpec,
        &["spec.nodes.controlPlane.taints", "NoExecute"],
    );
}

#[test]
fn user_data_past_its_limit_is_refused_with_the_largest_parts() {
    let text = format!("#!/bin/sh\n{}", "# more\n".repeat(400));
    let renderer = with_file("providers/kubeadm/bootstrap.sh.j2", &text).expect("loads");
    let error = renderer.cluster(&homelab()).expect_err("too large").to_string();
    assert!(error.contains("at most 4096") && error.contains("/etc/lattice/bootstrap.sh takes"), "{error}");
}

#[test]
fn the_longest_names_leave_user_data_within_its_limit() {
    let mut context = homelab();
    context.name = "n".repeat(40).parse().expect("a name");
    context.endpoint = Some(Endpoint { host: "h".repeat(253), port: 65535 });
    proxmox(&mut context).vip_interface = Some("i".repeat(15));
    renderer().cluster(&context).expect("renders");
}

#[test]
fn an_undefined_variable_is_an_error_with_template_and_line() {
    let text = "apiVersion: cluster.x-k8s.io/v1beta2\nkind: Cluster\nmetadata:\n  name: {{ cluster.nme }}\n";
    let renderer = with_file("providers/kubeadm/cluster.yaml.j2", text).expect("loads");
    let error = renderer.cluster(&homelab()).expect_err("undefined");
    assert_eq!(error.reason(), Reason::RenderFailed);
    let error = error.to_string();
    assert!(error.contains("providers/kubeadm/cluster.yaml.j2, line 4") && error.contains("undefined"), "{error}");
}

#[test]
fn a_template_that_is_wrong_is_found_when_it_is_loaded() {
    for (text, words) in [
        ("a: {{ x", "line 1"),
        ("a: 1\nb: {{ x }}-y", "line 2"),
        ("a: {{ x|safe }}", "unescaped"),
        ("{% for x in y %}", "line"),
    ] {
        let error = with_file("providers/kubeadm/cluster.yaml.j2", text).expect_err(text).to_string();
        assert!(error.contains("providers/kubeadm/cluster.yaml.j2") && error.contains(words), "{text}: {error}");
    }
}

#[track_caller]
fn cluster_template_refused(text: &str, words: &str) {
    let error = with_file("providers/kubeadm/cluster.yaml.j2", text).expect("loads").cluster(&homelab());
    let error = error.expect_err("should be refused").to_string();
    assert!(error.contains(words), "{error} should say {words:?}");
}

#[test]
fn a_template_makes_the_object_that_its_provider_says_and_no_other() {
    let head = "apiVersion: cluster.x-k8s.io/v1beta2\nkind: Cluster\nmetadata:\n  name: {{ name }}\n";
    let labels = "  labels: {{ cluster.labels }}\n";
    let namespace = "  namespace: {{ cluster.namespace }}\n";
    cluster_template_refused("", "is empty");
    cluster_template_refused("- 1", "no object");
    cluster_template_refused("apiVersion: [", "no YAML");
    cluster_template_refused(&format!("{head}{namespace}{labels}kind: Cluster\n"), "no YAML");
    cluster_template_refused(&format!("{head}{labels}"), "/metadata/namespace");
    cluster_template_refused(&format!("{head}  namespace: kube-system\n{labels}"), "/metadata/namespace");
    cluster_template_refused(&format!("{head}{namespace}"), "cluster-name");
    cluster_template_refused(&format!("{head}{namespace}{labels}---\n{head}"), "2 objects");
    cluster_template_refused("apiVersion: v1\nkind: Secret\nmetadata: {name: a}", "not one of Cluster API's");
    cluster_template_refused("apiVersion: cluster.x-k8s.io/v1beta2\nkind: MachinePool\nmetadata: {name: a}", "/kind");
    cluster_template_refused("apiVersion: cluster.x-k8s.io/v1beta2\nkind: Cluster\nmetadata: {name: A_b}", "no name");
}

#[test]
fn an_endless_template_runs_out_of_fuel() {
    let text = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    cluster_template_refused(text, "fuel");
}

#[test]
fn templates_of_a_folder_take_the_place_of_the_whole_embedded_folder() {
    let dir = TempDir::new().expect("a folder");
    write(
        &dir,
        "providers/docker/provider.yaml",
        "infrastructure: {clusterKind: A, machineTemplateKind: B}\nobjects: []\n",
    );
    let error = Renderer::new(Some(dir.path())).expect_err("no objects").to_string();
    assert!(error.contains("providers/docker/provider.yaml") && error.contains("0 objects"), "{error}");

    let missing = dir.path().join("nowhere");
    let error = Renderer::new(Some(&missing)).expect_err("missing").to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn a_description_with_an_unknown_field_or_template_is_refused() {
    for (text, words) in [
        ("infrastructure: {clusterKind: A, machineTemplateKind: B}\nobject: []\n", "object"),
        (
            "infrastructure: {clusterKind: A, machineTemplateKind: B}\nobjects: [{template: x.yaml.j2, kind: A}]\n",
            "x.yaml.j2",
        ),
    ] {
        let error = with_file("providers/docker/provider.yaml", text).expect_err(words).to_string();
        assert!(error.contains("providers/docker/provider.yaml") && error.contains(words), "{error}");
    }
}

#[test]
fn the_token_is_in_the_manifest_and_in_nothing_that_can_be_logged() {
    let manifest = renderer().agent_manifest(&agent()).expect("renders");
    let secret = manifest.expose().lines().find(|line| line.contains("\"Secret\"")).expect("a Secret");
    let secret: serde_json::Value = serde_json::from_str(secret).expect("one object a line");
    use base64::Engine as _;
    assert_eq!(secret["data"]["token"], base64::engine::general_purpose::STANDARD.encode(TOKEN));
    assert!(!format!("{manifest:?}{:?}", agent()).contains("AAECAwQ"));
}

#[test]
fn no_error_of_the_agents_templates_quotes_the_token() {
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: lattice-system}\n";
    for text in [
        format!("{head}data: {{{{ token_base64 + 1 }}}}"),
        format!("{head}data: {{{{ token_base64.nothing }}}}"),
        format!("{head}data: {{{{ token_base64|round }}}}"),
        format!("{head}data: {{{{ token_base64 }}}}\n]"),
        format!("{head}data: {{{{ token_base64 }}}}\ndata: {{{{ token_base64 }}}}"),
        "apiVersion: v1\nkind: {{ token_base64 }}\nmetadata: {name: a}".to_owned(),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: {{ token_base64 }}}".to_owned(),
        "apiVersion: {{ token_base64 }}\nkind: Secret\nmetadata: {name: a}".to_owned(),
        "{{ token_base64 }}".to_owned(),
    ] {
        let renderer = with_file("agent/40-secret.yaml.j2", &text).expect("loads");
        let error = renderer.agent_manifest(&agent()).expect_err(&text);
        let encoded = "bHRqMS5hYmNkZWZnaGlq";
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(encoded) && !shown.contains("AAECAwQ"), "{shown}");
        assert!(shown.contains("agent/40-secret.yaml.j2"), "{shown}");
    }
}

/// Text with what has ended quotes, lines and documents in other engines.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n---\nkind: Evil\n".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\".to_owned()),
        Just("</script>&".to_owned()),
        Just(": {[".to_owned()),
        Just("# ".to_owned()),
        Just("$(touch /tmp/x)`".to_owned()),
        Just("\u{2028}".to_owned()),
        Just("*anchor &x !!int".to_owned()),
        any::<char>().prop_map(String::from),
        "[a-z ]{0,8}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_value_stays_the_value_that_it_was(text in nasty(), key in nasty()) {
        let renderer = renderer_once();
        let mut context = homelab();
        context.labels = BTreeMap::from([(key.clone(), text.clone())]);
        proxmox(&mut context).bridge.clone_from(&text);
        proxmox(&mut context).dns_servers = vec![text.clone()];
        // Refused, or exactly what was given: nothing else.
        if let Ok(objects) = renderer.cluster(&context) {
            prop_assert_eq!(objects.len(), 9);
            if !key.is_empty() {
                prop_assert_eq!(objects[0].object()["metadata"]["labels"][key.as_str()].as_str(), Some(text.as_str()));
            }
            prop_assert_eq!(objects[1].object()["spec"]["dnsServers"][0].as_str(), Some(text.as_str()));
            let device = &objects[2].object()["spec"]["template"]["spec"]["network"]["networkDevices"][0];
            prop_assert_eq!(device["bridge"].as_str(), Some(text.as_str()));
        }
    }
}

fn renderer_once() -> &'static Renderer {
    static RENDERER: std::sync::OnceLock<Renderer> = std::sync::OnceLock::new();
    RENDERER.get_or_init(renderer)
}
