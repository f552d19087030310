//! What a pod needs before its containers can start: Secrets, ConfigMaps, and volumes on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Volume};
use kube::Client;
use kube::api::Api;
use kube::runtime::wait;

use super::volumes;
use crate::cache::Name;
use crate::meta;

/// A ConfigMap that every namespace has, sooner or later; simulated pods do not wait for it.
const ROOT_CA: &str = "kube-root-ca.crt";

/// A look at a pod's needs that is to be taken.
#[derive(Clone, Debug)]
pub(crate) struct Preparation {
    pod: Pod,
    /// Folder of a real pod.
    folder: Option<PathBuf>,
}

/// What the look has shown.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Why the volumes cannot be laid out.
    pub(crate) volumes: Option<Missing>,
    /// What single containers lack, by name.
    pub(crate) containers: BTreeMap<String, Missing>,
}

impl Found {
    /// The first thing that is waited for.
    pub(crate) fn first_missing(&self) -> Option<&Missing> {
        self.volumes.as_ref().or_else(|| self.containers.values().next())
    }
}

/// Kinds of objects that containers take values from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Secret,
    ConfigMap,
}

/// Something that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) source: Source,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) key: Option<String>,
    /// The volume, if it is for one.
    pub(crate) volume: Option<String>,
    /// What else went wrong; the object may be there.
    pub(crate) error: Option<String>,
}

impl Missing {
    /// What a kubelet says about a volume that it cannot lay out.
    pub(crate) fn mount_message(&self) -> String {
        let volume = self.volume.as_deref().unwrap_or_default();
        format!("MountVolume.SetUp failed for volume \"{volume}\" : {self}")
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lower, upper) = match self.source {
            Source::Secret => ("secret", "Secret"),
            Source::ConfigMap => ("configmap", "ConfigMap"),
        };
        match (&self.error, &self.key) {
            (Some(error), _) => f.write_str(error),
            (None, Some(key)) => write!(f, "couldn't find key {key} in {upper} {}/{}", self.namespace, self.name),
            (None, None) => write!(f, "{lower} \"{}\" not found", self.name),
        }
    }
}

/// One use of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference {
    source: Source,
    name: String,
    keys: Vec<String>,
    optional: bool,
    volume: Option<String>,
    container: Option<String>,
}

impl Preparation {
    /// Says what to look at; `None` if the pod needs nothing.
    pub(super) fn of(pod: &Pod, folder: Option<PathBuf>) -> Option<Self> {
        let needed = folder.is_some() || !references(pod).is_empty();
        needed.then(|| Self { pod: pod.clone(), folder })
    }

    pub(crate) fn pod_name(&self) -> Name {
        Name::of(&self.pod)
    }

    pub(crate) fn pod_uid(&self) -> String {
        meta::uid(&self.pod.metadata).to_owned()
    }
}

/// What Secrets and ConfigMaps hold; shown to nobody.
pub(super) struct Contents(BTreeMap<(Source, String), BTreeMap<String, Vec<u8>>>);

impl Contents {
    /// The keys and values of one object, if it is there.
    pub(super) fn of(&self, source: Source, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        self.0.get(&(source, name.to_owned()))
    }
}

/// Takes the look, and lays the volumes of a real pod out.
pub(crate) async fn look(client: &Client, preparation: &Preparation) -> Found {
    let pod = &preparation.pod;
    let namespace = meta::namespace(&pod.metadata);
    let references = references(pod);
    let contents = match fetch(client, pod, preparation.folder.is_some()).await {
        Ok(contents) => contents,
        Err(missing) => return Found { volumes: Some(missing), ..Found::default() },
    };
    let mut found = Found::default();
    for reference in &references {
        let Some(missing) = check(reference, namespace, &contents) else { continue };
        match &reference.container {
            Some(container) => {
                found.containers.entry(container.clone()).or_insert(missing);
            }
            None => {
                found.volumes.get_or_insert(missing);
            }
        }
    }
    if let (Some(folder), None) = (&preparation.folder, &found.volumes) {
        found.volumes = volumes::lay_out(client, pod, folder, &contents).await.err();
    }
    found
}

/// Reads all Secrets and ConfigMaps that the pod names.
pub(super) async fn fetch(client: &Client, pod: &Pod, with_root_ca: bool) -> Result<Contents, Missing> {
    let namespace = meta::namespace(&pod.metadata);
    let mut wanted: BTreeSet<(Source, String)> =
        references(pod).into_iter().map(|reference| (reference.source, reference.name)).collect();
    if with_root_ca {
        wanted.insert((Source::ConfigMap, ROOT_CA.to_owned()));
    }
    let mut contents = BTreeMap::new();
    for (source, name) in wanted {
        match read(client, source, namespace, &name).await {
            Ok(Some(data)) => {
                contents.insert((source, name), data);
            }
            Ok(None) => {}
            Err(error) => {
                return Err(Missing {
                    source,
                    namespace: namespace.to_owned(),
                    key: None,
                    volume: None,
                    error: Some(format!("{name} could not be read: {error}")),
                    name,
                });
            }
        }
    }
    Ok(Contents(contents))
}

async fn read(
    client: &Client,
    source: Source,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, Vec<u8>>>, kube::Error> {
    match source {
        Source::Secret => {
            let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
            Ok(secret.map(|secret| data_of_secret(&secret)))
        }
        Source::ConfigMap => {
            let map = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await?;
            Ok(map.map(|map| data_of_map(&map)))
        }
    }
}

fn data_of_secret(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn data_of_map(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(binary).collect()
}

/// Waits until what was missing is there; ends early when the watch does, or says that it failed.
pub(crate) async fn appears(client: Client, missing: Missing) -> Result<(), wait::Error> {
    let name = missing.name.as_str();
    let key = missing.key.clone();
    let has = move |data: BTreeMap<String, Vec<u8>>| key.as_ref().is_none_or(|key| data.contains_key(key));
    match missing.source {
        Source::Secret => {
            let api: Api<Secret> = Api::namespaced(client, &missing.namespace);
            let there = move |secret: Option<&Secret>| secret.is_some_and(|secret| has(data_of_secret(secret)));
            wait::await_condition(api, name, there).await.map(drop)
        }
        Source::ConfigMap => {
            let api: Api<ConfigMap> = Api::namespaced(client, &missing.namespace);
            let there = move |map: Option<&ConfigMap>| map.is_some_and(|map| has(data_of_map(map)));
            wait::await_condition(api, name, there).await.map(drop)
        }
    }
}

fn check(reference: &Reference, namespace: &str, contents: &Contents) -> Option<Missing> {
    if reference.optional {
        return None;
    }
    let missing = |key: Option<&String>| Missing {
        source: reference.source,
        namespace: namespace.to_owned(),
        name: reference.name.clone(),
        key: key.cloned(),
        volume: reference.volume.clone(),
        error: None,
    };
    let Some(data) = contents.of(reference.source, &reference.name) else { return Some(missing(None)) };
    let absent = reference.keys.iter().find(|key| !data.contains_key(*key));
    absent.map(|key| missing(Some(key)))
}

/// Everything that the pod takes from Secrets and ConfigMaps.
fn references(pod: &Pod) -> Vec<Reference> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let volumes = spec.volumes.iter().flatten().flat_map(volume_references);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    volumes.chain(containers.flat_map(container_references)).collect()
}

fn volume_references(volume: &Volume) -> Vec<Reference> {
    let reference = |source, name: &str, keys: Vec<String>, optional: Option<bool>| Reference {
        source,
        name: name.to_owned(),
        keys,
        optional: optional == Some(true) || name == ROOT_CA,
        volume: Some(volume.name.clone()),
        container: None,
    };
    let keys = |items: &Option<Vec<k8s_openapi::api::core::v1::KeyToPath>>| {
        items.iter().flatten().map(|item| item.key.clone()).collect()
    };
    let mut all = Vec::new();
    if let Some(secret) = &volume.secret
        && let Some(name) = &secret.secret_name
    {
        all.push(reference(Source::Secret, name, keys(&secret.items), secret.optional));
    }
    if let Some(map) = &volume.config_map {
        all.push(reference(Source::ConfigMap, &map.name, keys(&map.items), map.optional));
    }
    for part in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        if let Some(secret) = &part.secret {
            all.push(reference(Source::Secret, &secret.name, keys(&secret.items), secret.optional));
        }
        if let Some(map) = &part.config_map {
            all.push(reference(Source::ConfigMap, &map.name, keys(&map.items), map.optional));
        }
    }
    all
}

fn container_references(container: &Container) -> Vec<Reference> {
    let reference = |source, name: &str, keys: Vec<String>, optional: Option<bool>| Reference {
        source,
        name: name.to_owned(),
        keys,
        optional: optional == Some(true),
        volume: None,
        container: Some(container.name.clone()),
    };
    let mut all = Vec::new();
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        if let Some(key) = &source.secret_key_ref {
            all.push(reference(Source::Secret, &key.name, vec![key.key.clone()], key.optional));
        }
        if let Some(key) = &source.config_map_key_ref {
            all.push(reference(Source::ConfigMap, &key.name, vec![key.key.clone()], key.optional));
        }
    }
    for source in container.env_from.iter().flatten() {
        if let Some(secret) = &source.secret_ref {
            all.push(reference(Source::Secret, &secret.name, Vec::new(), secret.optional));
        }
        if let Some(map) = &source.config_map_ref {
            all.push(reference(Source::ConfigMap, &map.name, Vec::new(), map.optional));
        }
    }
    all
}
