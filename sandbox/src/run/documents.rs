//! The objects that a run begins with: those of the given files, or of the built-in example.

use std::path::PathBuf;

use serde_json::{Value, json};

/// Why the files could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} could not be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} is no YAML: {why}")]
    Yaml { file: String, why: String },
    #[error("{file}: document {number} is no Kubernetes object: apiVersion, kind and metadata.name are needed")]
    NoObject { file: String, number: usize },
}

/// An object with where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub(crate) file: String,
    pub(crate) object: Value,
}

impl Document {
    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.object["metadata"]["namespace"].as_str().unwrap_or_default()
    }
}

/// Reads the files, and adds providers named `proxmox` and `docker` where they have none of that name. Without files it
/// is the example alone.
pub(crate) fn load(files: &[PathBuf], example: &str) -> Result<Vec<Document>, Error> {
    let example = parse("the built-in example", example)?;
    if files.is_empty() {
        return Ok(example);
    }
    let mut given = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
        given.extend(parse(&path.display().to_string(), &text)?);
    }
    let mut all = providers(&given, &example);
    all.extend(given);
    Ok(all)
}

fn parse(file: &str, text: &str) -> Result<Vec<Document>, Error> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| Error::Yaml { file: file.to_owned(), why: error.without_snippet().to_string() })?;
    let mut documents = Vec::new();
    for (at, object) in values.into_iter().enumerate().filter(|(_, value)| !value.is_null()) {
        let has = |pointer: &str| object.pointer(pointer).is_some_and(Value::is_string);
        if !has("/apiVersion") || !has("/kind") || !has("/metadata/name") {
            return Err(Error::NoObject { file: file.to_owned(), number: at + 1 });
        }
        documents.push(Document { file: file.to_owned(), object });
    }
    Ok(documents)
}

/// Providers (and the Secrets that they name) that the files lack.
fn providers(given: &[Document], example: &[Document]) -> Vec<Document> {
    let has = |kind: &str, name: &str| given.iter().any(|one| one.kind() == kind && one.name() == name);
    let mut all = Vec::new();
    if !has("InfraProvider", "proxmox")
        && let Some(provider) = example.iter().find(|one| one.kind() == "InfraProvider" && one.name() == "proxmox")
    {
        let secret = &provider.object["spec"]["credentialsSecretRef"];
        let is_it = |one: &&Document| {
            one.kind() == "Secret" && secret["name"] == one.name() && secret["namespace"] == one.namespace()
        };
        if !given.iter().any(|one| is_it(&one)) {
            all.extend(example.iter().filter(is_it).cloned());
        }
        all.push(provider.clone());
    }
    if !has("InfraProvider", "docker") {
        all.push(Document {
            file: "the sandbox".to_owned(),
            object: json!({
                "apiVersion": "lattice.dev/v1alpha1", "kind": "InfraProvider",
                "metadata": {"name": "docker"}, "spec": {"type": "docker"},
            }),
        });
    }
    all
}

/// Names of the clusters among the documents.
pub(crate) fn clusters(documents: &[Document]) -> Vec<String> {
    documents.iter().filter(|one| one.kind() == "LatticeCluster").map(|one| one.name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: lattice-system}
---
apiVersion: lattice.dev/v1alpha1
kind: InfraProvider
metadata: {name: proxmox}
spec: {type: proxmox, credentialsSecretRef: {name: s, namespace: lattice-system}}
---
apiVersion: lattice.dev/v1alpha1
kind: LatticeCluster
metadata: {name: backend}
";

    fn names(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, text).unwrap();
        load(&[path], EXAMPLE).unwrap().iter().map(|one| format!("{}/{}", one.kind(), one.name())).collect()
    }

    #[test]
    fn the_example_stands_alone() {
        assert_eq!(load(&[], EXAMPLE).unwrap().len(), 3);
        assert_eq!(clusters(&load(&[], EXAMPLE).unwrap()), ["backend"]);
    }

    #[test]
    fn providers_are_added_where_the_file_has_none_of_that_name() {
        let cluster = "apiVersion: v\nkind: LatticeCluster\nmetadata: {name: x}\n";
        assert_eq!(names(cluster), ["Secret/s", "InfraProvider/proxmox", "InfraProvider/docker", "LatticeCluster/x"]);
        let own = "apiVersion: v\nkind: InfraProvider\nmetadata: {name: proxmox}\n---\napiVersion: v\nkind: InfraProvider\nmetadata: {name: aws}\n";
        assert_eq!(names(own), ["InfraProvider/docker", "InfraProvider/proxmox", "InfraProvider/aws"]);
    }

    #[test]
    fn what_is_no_object_is_named() {
        let error = parse("f.yaml", "apiVersion: v1\nkind: X\nmetadata: {name: a}\n---\nfoo: bar\n").unwrap_err();
        assert!(error.to_string().contains("f.yaml: document 2"), "{error}");
    }
}
