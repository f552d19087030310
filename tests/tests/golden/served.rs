//! Objects put to an API server: it takes every one of them as it is, unknown fields refused and rules in CEL run, and
//! a second time nothing changes. So what is rendered again in a steady state is written nowhere.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use lattice_apiserver::{ApiServer, Config};
use lattice_manager::chart::Catalog;
use lattice_manager::render::RenderedObject;
use serde_json::{Value, json};

use crate::input::Input;
use crate::schema::{self, Schemas};
use crate::{SCENARIOS, agent, chart, rendered, renderer};

/// Longest wait for a definition to be served. Past it the server is broken, not slow.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(60);

fn api(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.as_ref().expect("apiVersion and kind");
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types).expect("group and version"));
    match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Applies one object as a field manager would; gives its resourceVersion.
async fn apply(client: &Client, manager: &str, object: &Value) -> String {
    let object: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
    let mut params = PatchParams::apply(manager).force();
    params.field_validation = Some(ValidationDirective::Strict);
    let applied = api(client, &object).patch(&object.name_any(), &params, &Patch::Apply(&object)).await;
    let applied = applied.unwrap_or_else(|error| {
        panic!("{} {}: {error}", object.types.as_ref().expect("types").kind, object.name_any())
    });
    if object.types.as_ref().is_some_and(|types| types.kind == "CustomResourceDefinition") {
        // The server writes the status of a definition after it was created: only then is it at rest.
        established(client, &object.name_any()).await;
        let settled = api(client, &object).get(&object.name_any()).await.expect("it is there");
        return settled.resource_version().expect("a resourceVersion");
    }
    applied.resource_version().expect("a resourceVersion")
}

async fn established(client: &Client, name: &str) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let wait = await_condition(crds, name, conditions::is_crd_established());
    tokio::time::timeout(ESTABLISHED_WITHIN, wait).await.expect("established in time").expect("watches");
}

/// Applies everything twice.
async fn apply_twice(client: &Client, manager: &str, objects: &[Value]) {
    let mut versions = Vec::new();
    for object in objects {
        versions.push(apply(client, manager, object).await);
    }
    for (object, before) in objects.iter().zip(versions) {
        let after = apply(client, manager, object).await;
        assert_eq!(before, after, "{} {} changes by itself", object["kind"], object["metadata"]["name"]);
    }
}

async fn namespace(client: &Client, name: &str) {
    apply(client, "test", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
}

#[tokio::test]
async fn an_api_server_with_the_real_definitions_takes_every_object_and_keeps_it() {
    let Some(folder) = Schemas::folder() else { return };
    let server = ApiServer::new(Config::default()).expect("starts");
    let client = server.client();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let kinds: Vec<String> =
        SCENARIOS.iter().flat_map(|scenario| rendered(scenario)).map(|object| object.kind().to_owned()).collect();
    for crd in schema::definitions(&folder, &kinds.iter().map(String::as_str).collect::<Vec<_>>()) {
        let crd: CustomResourceDefinition = serde_json::from_value(crd).expect("a definition");
        crds.create(&PostParams::default(), &crd).await.expect("the server takes it");
        established(&client, &crd.name_any()).await;
    }
    for scenario in SCENARIOS {
        let objects: Vec<Value> = rendered(scenario).into_iter().map(RenderedObject::into_object).collect();
        namespace(&client, objects[0]["metadata"]["namespace"].as_str().expect("a namespace")).await;
        apply_twice(&client, "lattice-manager", &objects).await;
    }
}

#[tokio::test]
async fn an_api_server_takes_the_agent_and_every_component_and_keeps_them() {
    let server = ApiServer::new(Config::default()).expect("starts");
    let client = server.client();
    let manifest = renderer().agent_manifest(&agent()).expect("renders");
    apply_twice(&client, "lattice-agent", &chart::documents(manifest.expose())).await;
    namespace(&client, "kube-system").await;
    let catalog = Catalog::load(renderer()).expect("the embedded catalog loads");
    let context = Input::read("clusters/proxmox-full").bundle_context();
    for name in catalog.names() {
        let objects = catalog.bundle(name, &context).expect(name).objects;
        apply_twice(&client, &format!("lattice-agent-{name}"), &objects).await;
    }
}
