//! Brings objects onto the parent's API: definitions first, then those of the files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::discovery::Scope;
use serde_json::Value;

use super::documents::Document;
use crate::SandboxEnv;
use crate::capi::crds;

/// Longest wait for a definition to be served.
const ESTABLISHED_MAX: Duration = Duration::from_secs(30);
const MANAGER: &str = "sandbox";

/// Why the parent is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} could not be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} holds no readable definitions: {why}")]
    Definitions { file: String, why: String },
    #[error("definition {name} was refused: {message}")]
    Definition { name: String, message: String },
    #[error("definition {0} was not served in time")]
    NotEstablished(String),
    #[error("{file}: {kind} {name} was refused:\n{message}")]
    Refused { file: String, kind: String, name: String, message: String },
}

/// Installs the product's definitions and those of Cluster API.
pub(crate) async fn install(client: &Client, env: &SandboxEnv, folder: Option<&Path>) -> Result<(), Error> {
    let mut all = definitions("the product's definitions", &env.crds_yaml, &|_| true)?;
    match folder {
        None => all.extend(crds::all()),
        Some(folder) => {
            // Dozens of others are often beside them, large ones, that nobody here serves.
            let ours: Vec<String> = crds::all().iter().map(name).collect();
            let real = read(folder, &|text| {
                ours.iter().any(|name| text.lines().any(|line| line.strip_prefix("  name: ") == Some(name.as_str())))
            })?;
            let missing: Vec<_> =
                crds::all().into_iter().filter(|ours| !real.iter().any(|one| name(one) == name(ours))).collect();
            all.extend(real);
            all.extend(missing);
        }
    }
    install_all(client, &all).await?;
    namespace(client, "lattice-system").await
}

/// Installs definitions and waits until they are served.
pub(crate) async fn install_all(client: &Client, all: &[CustomResourceDefinition]) -> Result<(), Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in all {
        let name = name(definition);
        let params = PatchParams::apply(MANAGER).force();
        let written = api.patch(&name, &params, &Patch::Apply(definition)).await;
        written.map_err(|error| Error::Definition { name, message: words(&error) })?;
    }
    for definition in all {
        let name = name(definition);
        let established = kube::runtime::conditions::is_crd_established();
        let wait = kube::runtime::wait::await_condition(api.clone(), &name, established);
        match tokio::time::timeout(ESTABLISHED_MAX, wait).await {
            Ok(Ok(_)) => {}
            _ => return Err(Error::NotEstablished(name)),
        }
    }
    Ok(())
}

/// Names of the clusters that are there.
pub(crate) async fn clusters(client: &Client) -> Vec<String> {
    let kind = kube::api::ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("lattice.dev", "v1alpha1", "LatticeCluster"),
        "latticeclusters",
    );
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    // Without the definition there are none.
    let all = api.list(&kube::api::ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    all.into_iter().filter_map(|one| one.metadata.name).collect()
}

/// Reads every YAML file of a folder.
pub(crate) fn read_folder(folder: &Path) -> Result<Vec<CustomResourceDefinition>, Error> {
    read(folder, &|_| true)
}

/// Reads those definitions of a folder whose text is wanted.
fn read(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<CustomResourceDefinition>, Error> {
    let fail = |path: &Path, source| Error::Read { path: path.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(|source| fail(folder, source))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|source| fail(&path, source))?;
        all.extend(definitions(&path.display().to_string(), &text, wanted)?);
    }
    Ok(all)
}

fn definitions(file: &str, text: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<CustomResourceDefinition>, Error> {
    let fail = |why: String| Error::Definitions { file: file.to_owned(), why };
    let mut all = Vec::new();
    for part in text.split("\n---") {
        let body = part.trim_start_matches('-');
        let empty = body.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if empty || !wanted(body) {
            continue;
        }
        let value: Value = serde_saphyr::from_str(body).map_err(|error| fail(error.without_snippet().to_string()))?;
        if value["kind"] == "CustomResourceDefinition" {
            all.push(serde_json::from_value(value).map_err(|error| fail(error.to_string()))?);
        }
    }
    Ok(all)
}

fn name(definition: &CustomResourceDefinition) -> String {
    definition.metadata.name.clone().unwrap_or_default()
}

/// Applies the objects as a person with kubectl would, unknown fields refused.
pub(crate) async fn apply(client: &Client, documents: &[Document]) -> Result<(), Error> {
    for document in documents {
        let refused = |message: String| Error::Refused {
            file: document.file.clone(),
            kind: document.kind().to_owned(),
            name: document.name().to_owned(),
            message,
        };
        let object: DynamicObject =
            serde_json::from_value(document.object.clone()).map_err(|error| refused(error.to_string()))?;
        let types = object.types.clone().ok_or_else(|| refused("apiVersion and kind are needed".to_owned()))?;
        let gvk = GroupVersionKind::try_from(&types).map_err(|error| refused(error.to_string()))?;
        let (resource, capabilities) =
            kube::discovery::pinned_kind(client, &gvk).await.map_err(|error| refused(words(&error)))?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
                Api::namespaced_with(client.clone(), namespace, &resource)
            }
        };
        let mut params = PatchParams::apply(MANAGER);
        params.field_validation = Some(kube::api::ValidationDirective::Strict);
        api.patch(document.name(), &params, &Patch::Apply(&object)).await.map_err(|error| refused(words(&error)))?;
    }
    Ok(())
}

async fn namespace(client: &Client, name: &str) -> Result<(), Error> {
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let written = api.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(&body)).await;
    written.map(|_| ()).map_err(|error| Error::Refused {
        file: "the sandbox".to_owned(),
        kind: "Namespace".to_owned(),
        name: name.to_owned(),
        message: words(&error),
    })
}

/// The server's own words where it answered.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
