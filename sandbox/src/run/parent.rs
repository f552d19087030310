//! Brings objects onto the parent's API: definitions first, then those of the files.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
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
    let product = documents("the product's definitions".to_owned(), env.crds_yaml.as_bytes());
    install_all(client, product.filter_map(definition)).await?;
    let simulated = crds::all().into_iter().map(|one| serde_json::to_value(one).unwrap_or_default());
    let simulated: Vec<(String, Value)> = simulated.map(|one| (name(&one), one)).collect();
    let mut real = BTreeSet::new();
    if let Some(folder) = folder {
        // Dozens of others are often beside them, large ones, that nobody here serves.
        let lines: Vec<String> = simulated.iter().map(|(name, _)| format!("  name: {name}")).collect();
        let is_wanted = move |text: &str| text.lines().any(|line| lines.iter().any(|wanted| wanted == line));
        real = install_all(client, read(folder, is_wanted)?).await?;
    }
    let missing = simulated.into_iter().filter(|(name, _)| !real.contains(name));
    install_all(client, missing.map(|(_, one)| Ok(one))).await?;
    namespace(client, "lattice-system").await
}

/// Installs definitions, one after the other as they are read, waits until they are served, and answers their names.
pub(crate) async fn install_all(
    client: &Client,
    all: impl Iterator<Item = Result<Value, Error>>,
) -> Result<BTreeSet<String>, Error> {
    // As typed objects, large definitions take a hundred times the memory of their text.
    let kind = ApiResource::erase::<CustomResourceDefinition>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let mut names = BTreeSet::new();
    for definition in all {
        let definition = definition?;
        let name = name(&definition);
        let params = PatchParams::apply(MANAGER).force();
        let written = api.patch(&name, &params, &Patch::Apply(&definition)).await;
        written.map_err(|error| Error::Definition { name: name.clone(), message: words(&error) })?;
        names.insert(name);
    }
    for name in &names {
        let wait = kube::runtime::wait::await_condition(api.clone(), name, is_served);
        match tokio::time::timeout(ESTABLISHED_MAX, wait).await {
            Ok(Ok(_)) => {}
            _ => return Err(Error::NotEstablished(name.clone())),
        }
    }
    Ok(names)
}

fn is_served(definition: Option<&DynamicObject>) -> bool {
    let conditions = definition.and_then(|one| one.data.pointer("/status/conditions")?.as_array());
    conditions.into_iter().flatten().any(|one| one["type"] == "Established" && one["status"] == "True")
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

/// Reads the definitions in every YAML file of a folder, one at a time.
pub(crate) fn read_folder(folder: &Path) -> Result<impl Iterator<Item = Result<Value, Error>>, Error> {
    read(folder, |_| true)
}

/// Reads those definitions of a folder whose text is wanted.
fn read(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<impl Iterator<Item = Result<Value, Error>>, Error> {
    let fail = |source| Error::Read { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(fail)?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"));
    paths.sort();
    let of_file = |path: PathBuf| -> Box<dyn Iterator<Item = Result<(String, String), Error>> + Send> {
        match std::fs::File::open(&path) {
            Ok(file) => Box::new(documents(path.display().to_string(), BufReader::new(file))),
            Err(source) => Box::new(std::iter::once(Err(Error::Read { path, source }))),
        }
    };
    let found = paths.into_iter().flat_map(of_file);
    Ok(found.filter(move |found| found.as_ref().map_or(true, |(_, text)| is_wanted(text))).filter_map(definition))
}

/// Splits YAML into its documents, each with the name of its file; only one is in memory at a time.
fn documents(file: String, text: impl BufRead) -> impl Iterator<Item = Result<(String, String), Error>> {
    let mut lines = text.lines().fuse();
    std::iter::from_fn(move || {
        let mut document = String::new();
        loop {
            match lines.next() {
                Some(Ok(line)) if line.starts_with("---") => return Some(Ok((file.clone(), document))),
                Some(Ok(line)) => {
                    document.push_str(&line);
                    document.push('\n');
                }
                Some(Err(source)) => return Some(Err(Error::Read { path: PathBuf::from(&file), source })),
                None if document.is_empty() => return None,
                None => return Some(Ok((file.clone(), document))),
            }
        }
    })
}

/// Reads a document, unless it is something else than a definition.
fn definition(document: Result<(String, String), Error>) -> Option<Result<Value, Error>> {
    let (file, text) = match document {
        Ok(document) => document,
        Err(error) => return Some(Err(error)),
    };
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return None;
    }
    match serde_saphyr::from_str::<Value>(&text) {
        Ok(value) => (value["kind"] == "CustomResourceDefinition").then_some(Ok(value)),
        Err(error) => Some(Err(Error::Definitions { file, why: error.without_snippet().to_string() })),
    }
}

fn name(definition: &Value) -> String {
    definition["metadata"]["name"].as_str().unwrap_or_default().to_owned()
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
