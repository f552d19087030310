//! `providers/<provider>/provider.yaml`: which objects make up a cluster of the provider, and what is peculiar to it.

use serde::{Deserialize, Serialize};

use super::library::Library;
use super::{Error, Stage};

/// Most objects per cluster before pools multiply them. Higher only lets a mistake grow.
const OBJECTS_MAX: usize = 32;

/// A provider's description.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Provider {
    /// Kinds of the provider, for references.
    pub(super) infrastructure: Infrastructure,
    /// What every node of the provider needs.
    #[serde(default)]
    pub(super) node: Node,
    /// What control-plane nodes need besides.
    #[serde(default)]
    pub(super) control_plane: ControlPlane,
    /// The objects, in apply order.
    pub(super) objects: Vec<Entry>,
}

/// Kinds of the infrastructure provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "camelCase"), deny_unknown_fields)]
pub(super) struct Infrastructure {
    pub(super) cluster_kind: String,
    pub(super) machine_template_kind: String,
}

/// What every node of the provider needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    /// Arguments of the kubelet. Values are cloud-init's to evaluate, so they are kept out of our own templates.
    #[serde(default)]
    pub(super) kubelet_arguments: Vec<Argument>,
}

/// What control-plane nodes need.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ControlPlane {
    /// Names that the API server's certificate needs besides the endpoint and a person's own.
    #[serde(default)]
    pub(super) cert_sans: Vec<String>,
    /// Files of the nodes.
    #[serde(default)]
    pub(super) files: Vec<File>,
    /// Commands before kubeadm.
    #[serde(default)]
    pub(super) pre_kubeadm_commands: Vec<String>,
    /// Commands after kubeadm.
    #[serde(default)]
    pub(super) post_kubeadm_commands: Vec<String>,
}

/// A name and a value.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Argument {
    pub(super) name: String,
    pub(super) value: String,
}

/// A file that control-plane nodes get, from a template or a file of the folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) template: String,
    #[serde(default = "private")]
    pub(super) permissions: String,
}

fn private() -> String {
    "0600".to_owned()
}

/// One template of an object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Entry {
    /// Path in the provider's folder, or below `providers/` where it has a folder.
    pub(super) template: String,
    /// Kind of what it makes.
    pub(super) kind: String,
    /// What it is made for.
    #[serde(default, rename = "for")]
    pub(super) scope: Scope,
    /// Whether the name ends in a hash of the content, and what refers to it.
    #[serde(default)]
    pub(super) named_by_content: Option<Reference>,
    /// When it is applied.
    #[serde(default = "at_once")]
    pub(super) stage: Stage,
}

fn at_once() -> Stage {
    Stage::Cluster
}

/// What an object is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Scope {
    /// Once.
    #[default]
    Cluster,
    /// Once, for the control plane.
    ControlPlane,
    /// For each worker pool.
    WorkerPools,
    /// For the control plane and each worker pool.
    Machines,
}

/// Which reference of a machine group names an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reference {
    /// `refs.infrastructure`.
    Infrastructure,
    /// `refs.bootstrap`.
    Bootstrap,
}

impl Provider {
    /// Reads the description of a provider and resolves the paths in it.
    pub(super) fn load(library: &Library, name: &str) -> Result<Self, Error> {
        let folder = format!("providers/{name}");
        let path = format!("{folder}/provider.yaml");
        let wrong = |problem: String| Error::Description { path: path.clone(), problem };
        let text = library.text(&path).ok_or_else(|| wrong("is missing".to_owned()))?;
        let mut provider: Provider =
            serde_saphyr::from_str(text).map_err(|error| wrong(error.without_snippet().to_string()))?;
        if provider.objects.is_empty() || provider.objects.len() > OBJECTS_MAX {
            return Err(wrong(format!("names {} objects, 1 to {OBJECTS_MAX} are allowed", provider.objects.len())));
        }
        let entries = provider.objects.iter_mut().map(|entry| &mut entry.template);
        let files = provider.control_plane.files.iter_mut().map(|file| &mut file.template);
        for template in entries.chain(files) {
            let local =
                if template.contains('/') { format!("providers/{template}") } else { format!("{folder}/{template}") };
            if library.text(&local).is_none() {
                return Err(wrong(format!("names template {template:?}, and there is no {local}")));
            }
            *template = local;
        }
        Ok(provider)
    }
}
