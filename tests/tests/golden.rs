//! What templates make, as files that a person can read: a change of a template shows as a change of these.
//!
//! `UPDATE_GOLDEN=1 cargo test -p lattice-tests --test golden` writes them anew. Each folder of `tests/golden/clusters`
//! holds the LatticeCluster (and InfraProvider) that its objects are made from. Every object of a cluster is also
//! checked against the schemas of Cluster API and its providers, where `LATTICE_CRDS_DIR` has them.

#[cfg(test)]
#[path = "golden/chart.rs"]
mod chart;
#[cfg(test)]
#[path = "golden/files.rs"]
mod files;
#[cfg(test)]
#[path = "golden/helm.rs"]
mod helm;
#[cfg(test)]
#[path = "golden/input.rs"]
mod input;
#[cfg(test)]
#[path = "golden/native.rs"]
mod native;
#[cfg(test)]
#[path = "golden/schema.rs"]
mod schema;
#[cfg(test)]
#[path = "golden/scripts.rs"]
mod scripts;
#[cfg(test)]
#[path = "golden/served.rs"]
mod served;

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};
use lattice_agent::cli::Cli;
use lattice_manager::chart::Catalog;
use lattice_manager::render::{AgentContext, JoinToken, RenderedObject, Renderer};
use serde_json::Value;

use files::Golden;
use input::Input;
use schema::Schemas;

const SCENARIOS: [&str; 5] = ["homelab", "proxmox-full", "docker", "docker-ha", "docker-in-memory"];

const TOKEN: &str = "ltj1.abcdefghij.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn renderer() -> Arc<Renderer> {
    Arc::new(Renderer::new(None).expect("the embedded templates compile"))
}

fn rendered(scenario: &str) -> Vec<RenderedObject> {
    let input = Input::read(&format!("clusters/{scenario}"));
    renderer().cluster(&input.context()).expect(scenario)
}

#[test]
fn clusters_render_as_written_down() {
    for scenario in SCENARIOS {
        let mut golden = Golden::new(&format!("clusters/{scenario}"), &["cluster.yaml"]);
        for (at, object) in rendered(scenario).iter().enumerate() {
            let name = format!("{:02}-{}-{}.yaml", at + 1, object.kind(), object.name());
            golden.check(&name, &files::yaml(object.object()));
        }
        let files = scripts::inline_files(scenario);
        let text: Vec<String> =
            files.iter().map(|(path, text)| format!("##### {path}\n{}\n", text.trim_end())).collect();
        golden.check("files-of-control-plane-nodes.txt", &text.concat());
        golden.finish();
    }
}

#[test]
fn every_template_of_a_provider_has_a_golden_file() {
    let used: BTreeSet<String> =
        SCENARIOS.iter().flat_map(|scenario| rendered(scenario)).map(|object| object.template().to_owned()).collect();
    let all: BTreeSet<String> = files::templates("providers")
        .into_iter()
        // What goes into files of nodes is inside the control planes' golden files.
        .filter(|path| path.ends_with(".yaml.j2") && !path.ends_with("/kube-vip.yaml.j2"))
        .collect();
    assert_eq!(used, all, "each template makes an object of some scenario");
}

#[test]
fn every_object_is_valid_against_the_real_schemas() {
    let Some(folder) = Schemas::folder() else { return };
    let objects: Vec<RenderedObject> = SCENARIOS.iter().flat_map(|scenario| rendered(scenario)).collect();
    let kinds: BTreeSet<&str> = objects.iter().map(RenderedObject::kind).collect();
    let schemas = Schemas::load(&folder, &kinds.into_iter().collect::<Vec<_>>());
    for object in &objects {
        let name = format!("{} {}", object.kind(), object.name());
        let problems = schemas.problems(object.object());
        let problems = problems.unwrap_or_else(|| panic!("no schema for {name} ({})", object.api_version()));
        assert!(problems.is_empty(), "{name} of {}:\n  {}", object.template(), problems.join("\n  "));
    }
    // The check itself is awake: a typo and a missing field are found.
    let mut broken = objects.iter().find(|object| object.kind() == "MachineDeployment").unwrap().object().clone();
    broken["spec"]["replica"] = 3.into();
    broken["spec"].as_object_mut().unwrap().remove("clusterName");
    let problems = schemas.problems(&broken).unwrap().join("\n");
    assert!(problems.contains("spec.replica: unknown") && problems.contains("misses \"clusterName\""), "{problems}");
}

#[test]
fn components_render_as_written_down() {
    let catalog = Catalog::load(renderer()).expect("the embedded catalog loads");
    let context = Input::read("clusters/proxmox-full").bundle_context();
    let mut golden = Golden::new("components", &[]);
    for name in catalog.names() {
        let bundle = catalog.bundle(name, &context).unwrap_or_else(|error| panic!("{name}: {error}"));
        let ours = |object: &&Value| object["metadata"]["name"].as_str().unwrap().ends_with(".lattice.dev");
        let (crds, others): (Vec<&Value>, Vec<&Value>) = bundle.objects.iter().partition(ours);
        assert_eq!(crds.len(), if name == "platform-operator" { 2 } else { 0 }, "{name} brings our own CRDs");
        let text: Vec<String> = others.into_iter().map(chart::document).collect();
        golden.check(&format!("{name}.yaml"), &format!("# {name} {}\n{}", bundle.version, text.concat()));
    }
    golden.finish();
}

#[test]
fn every_object_of_kubernetes_own_kinds_has_only_fields_that_it_knows() {
    let catalog = Catalog::load(renderer()).expect("the embedded catalog loads");
    let manifest = renderer().agent_manifest(&agent()).expect("renders");
    let mut objects: Vec<Value> = chart::documents(manifest.expose());
    for scenario in ["proxmox-full", "docker"] {
        let context = Input::read(&format!("clusters/{scenario}")).bundle_context();
        for name in catalog.names() {
            objects.extend(catalog.bundle(name, &context).expect(name).objects);
        }
    }
    for object in &objects {
        let lost = native::lost_fields(object);
        assert!(lost.is_empty(), "{} {}: {lost:?}", object["kind"], object["metadata"]["name"]);
    }
}

#[test]
fn agent_manifest_renders_as_written_down() {
    let mut golden = Golden::new("agent", &[]);
    let manifest = renderer().agent_manifest(&agent()).expect("renders");
    assert!(!format!("{manifest:?} {:?}", agent()).contains(TOKEN), "a token is not shown by Debug");
    golden.check("agent.yaml", &chart::documents(manifest.expose()).iter().map(chart::document).collect::<String>());
    golden.finish();
}

#[test]
fn the_agent_takes_the_command_line_and_environment_of_its_manifest() {
    let manifest = chart::documents(renderer().agent_manifest(&agent()).expect("renders").expose());
    let deployment = manifest.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let words = container["command"].as_array().expect("a command").iter().filter_map(Value::as_str);
    let lattice_agent::cli::Command::Run(run) =
        Cli::try_parse_from(words.chain(["--kubernetes-host", "127.0.0.1"])).expect("the agent takes it").command;
    assert_eq!((run.endpoints.len(), run.bootstrap_urls.len()), (2, 2));

    let command = Cli::command();
    let run = command.find_subcommand("run").expect("lattice-agent run");
    let known: BTreeSet<&str> = run.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    for variable in container["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        assert!(known.contains(name) || name.starts_with("OTEL_"), "the agent does not read {name}");
    }
}

fn agent() -> AgentContext {
    AgentContext {
        cluster: "backend".parse().expect("a name"),
        cluster_uid: input::UID.parse().expect("a uid"),
        trust_domain: "lattice.example".to_owned(),
        image: "ghcr.io/evan-hines-js/lattice:latest".to_owned(),
        endpoints: vec!["192.0.2.1:50051".to_owned(), "parent.example:50051".to_owned()],
        bootstrap_urls: vec!["https://192.0.2.1:8443".to_owned(), "https://parent.example:8443".to_owned()],
        ca_pem: "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n".to_owned(),
        ca_pin: format!("sha256:{}", "0a".repeat(32)),
        token: JoinToken::new(TOKEN),
        environment: [("OTEL_SERVICE_NAME".to_owned(), "lattice-agent".to_owned())].into(),
    }
}
