//! Volumes of real pods: folders and files below the machine's folder.
//!
//! Layout: `pods/<uid>/volumes/<volume>/…` holds the content, `pods/<uid>/roots/<container>/…`
//! stands for a container's `/` and links every mount path to its volume. Volumes of kinds that
//! are not named here (hostPath, claims) are empty folders.

use std::io;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Container, KeyToPath, Pod, ServiceAccount, ServiceAccountTokenProjection, Volume};
use kube::Client;
use kube::api::{Api, PostParams};

use super::environment::{Place, field_of};
use super::prepare::{Contents, Missing, Source};
use crate::meta;

/// Where every pod finds its ServiceAccount, unless it mounts something else there.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long such a token lives, in seconds: what the real admission plug-in asks for.
const TOKEN_SECONDS: i64 = 3607;

/// Folder of one pod.
pub(crate) fn pod_folder(machine: &Path, pod: &Pod) -> PathBuf {
    machine.join("pods").join(meta::uid(&pod.metadata))
}

/// Folder that stands for a container's `/`.
pub(super) fn root(pod_folder: &Path, container: &str) -> PathBuf {
    pod_folder.join("roots").join(container)
}

/// One file of a volume.
struct File {
    path: String,
    content: Vec<u8>,
}

/// Lays all volumes out, afresh.
pub(super) async fn lay_out(client: &Client, pod: &Pod, folder: &Path, contents: &Contents) -> Result<(), Missing> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    for volume in spec.volumes.iter().flatten() {
        fill(client, pod, volume, folder, contents).await.map_err(|error| failed(pod, &volume.name, &error))?;
    }
    let default = default_token(pod);
    if let Some(volume) = &default {
        fill(client, pod, volume, folder, contents).await.map_err(|error| failed(pod, &volume.name, &error))?;
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let linked = link(folder, container, default.as_ref());
        linked.map_err(|error| failed(pod, &container.name, &error))?;
    }
    Ok(())
}

/// Brings the volumes of a running pod up to date: Secrets change, tokens expire.
pub(super) async fn refresh(client: &Client, pod: &Pod, folder: &Path) -> Result<(), Missing> {
    let contents = super::prepare::fetch(client, pod, true).await?;
    lay_out(client, pod, folder, &contents).await
}

fn failed(pod: &Pod, volume: &str, error: &io::Error) -> Missing {
    Missing {
        source: Source::Secret,
        namespace: meta::namespace(&pod.metadata).to_owned(),
        name: volume.to_owned(),
        key: None,
        volume: Some(volume.to_owned()),
        error: Some(error.to_string()),
    }
}

/// The volume that admission adds to a pod; needed where the server has no such admission.
fn default_token(pod: &Pod) -> Option<Volume> {
    let spec = pod.spec.as_ref()?;
    let mounted = |container: &Container| {
        container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == SERVICE_ACCOUNT)
    };
    if spec.automount_service_account_token == Some(false) || spec.containers.iter().all(mounted) {
        return None;
    }
    let sources = serde_json::json!({
        "name": "kube-api-access",
        "projected": {"sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "optional": true,
                "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]},
    });
    serde_json::from_value(sources).ok()
}

async fn fill(client: &Client, pod: &Pod, volume: &Volume, folder: &Path, contents: &Contents) -> io::Result<()> {
    let at = folder.join("volumes").join(&volume.name);
    let files = files(client, pod, volume, &at, contents).await?;
    write(&at, &files)
}

async fn files(client: &Client, pod: &Pod, volume: &Volume, at: &Path, contents: &Contents) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        take(&mut files, contents, Source::Secret, name, secret.items.as_deref());
    }
    if let Some(map) = &volume.config_map {
        take(&mut files, contents, Source::ConfigMap, &map.name, map.items.as_deref());
    }
    for item in volume.downward_api.iter().flat_map(|api| api.items.iter().flatten()) {
        downward(&mut files, pod, &item.path, item.field_ref.as_ref().map(|field| field.field_path.as_str()));
    }
    for part in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        if let Some(secret) = &part.secret {
            take(&mut files, contents, Source::Secret, &secret.name, secret.items.as_deref());
        }
        if let Some(map) = &part.config_map {
            take(&mut files, contents, Source::ConfigMap, &map.name, map.items.as_deref());
        }
        for item in part.downward_api.iter().flat_map(|api| api.items.iter().flatten()) {
            downward(&mut files, pod, &item.path, item.field_ref.as_ref().map(|field| field.field_path.as_str()));
        }
        if let Some(token) = part.service_account_token.as_ref().filter(|token| is_due(token, &at.join(&token.path))) {
            files.push(File {
                path: token.path.clone(),
                content: request_token(client, pod, token).await.map_err(io::Error::other)?.into_bytes(),
            });
        }
    }
    Ok(files)
}

fn take(files: &mut Vec<File>, contents: &Contents, source: Source, name: &str, items: Option<&[KeyToPath]>) {
    let Some(data) = contents.of(source, name) else { return };
    match items {
        None | Some([]) => {
            files.extend(data.iter().map(|(key, value)| File { path: key.clone(), content: value.clone() }));
        }
        Some(items) => files.extend(
            items
                .iter()
                .filter_map(|item| Some(File { path: item.path.clone(), content: data.get(&item.key)?.clone() })),
        ),
    }
}

fn downward(files: &mut Vec<File>, pod: &Pod, path: &str, field: Option<&str>) {
    let status = pod.status.as_ref();
    let place = Place {
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        host_ip: status.and_then(|status| status.host_ip.clone()).unwrap_or_default(),
        pod_ip: status.and_then(|status| status.pod_ip.clone()).unwrap_or_default(),
    };
    if let Some(value) = field.and_then(|field| field_of(pod, &place, field)) {
        files.push(File { path: path.to_owned(), content: value.into_bytes() });
    }
}

/// Says whether a token is missing or has lived four fifths of its life: a new one each time would
/// be a write a minute.
fn is_due(token: &ServiceAccountTokenProjection, file: &Path) -> bool {
    let lives = u64::try_from(token.expiration_seconds.unwrap_or(3600)).unwrap_or(3600);
    let age = std::fs::metadata(file).and_then(|file| file.modified()).map(|at| at.elapsed().unwrap_or_default());
    age.map_or(true, |age| age.as_secs() >= lives * 4 / 5)
}

/// Asks for a token bound to the pod.
async fn request_token(
    client: &Client,
    pod: &Pod,
    wanted: &ServiceAccountTokenProjection,
) -> Result<String, kube::Error> {
    let spec = pod.spec.as_ref();
    let account = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), meta::namespace(&pod.metadata));
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(wanted.audience.iter().cloned().collect()),
            expiration_seconds: wanted.expiration_seconds,
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(answer.status.and_then(|status| status.token).unwrap_or_default())
}

/// Writes the files of one volume; each is replaced in one step, so that a reader never sees half.
fn write(folder: &Path, files: &[File]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for file in files {
        let path = folder.join(inside(&file.path)?);
        if std::fs::read(&path).is_ok_and(|old| old == file.content) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".new");
        let fresh = path.with_file_name(name);
        private(&fresh, &file.content)?;
        std::fs::rename(&fresh, &path)?;
    }
    Ok(())
}

/// Writes a file that nobody else on this machine may read.
fn private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)
}

/// Links the mount paths of a container to its volumes.
fn link(pod_folder: &Path, container: &Container, default: Option<&Volume>) -> io::Result<()> {
    let root = root(pod_folder, &container.name);
    std::fs::create_dir_all(&root)?;
    let own = container.volume_mounts.iter().flatten();
    let mut mounts: Vec<(&str, &str, Option<&str>)> =
        own.map(|mount| (mount.mount_path.as_str(), mount.name.as_str(), mount.sub_path.as_deref())).collect();
    if let Some(volume) = default
        && !mounts.iter().any(|(path, ..)| *path == SERVICE_ACCOUNT)
    {
        mounts.push((SERVICE_ACCOUNT, &volume.name, None));
    }
    // Outer paths first, so that an inner one lands inside.
    mounts.sort_by_key(|(path, ..)| path.len());
    for (path, volume, sub_path) in mounts {
        let at = root.join(inside(path)?);
        let mut target = pod_folder.join("volumes").join(volume);
        if let Some(sub_path) = sub_path.filter(|sub_path| !sub_path.is_empty()) {
            target = target.join(inside(sub_path)?);
        }
        if !target.exists() {
            std::fs::create_dir_all(&target)?;
        }
        if at.is_symlink() || at.exists() {
            continue;
        }
        if let Some(parent) = at.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::os::unix::fs::symlink(std::path::absolute(&target)?, &at)?;
    }
    Ok(())
}

/// Removes what a pod left on its machine; its logs stay.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes a path as one below another; what would lead out is refused.
fn inside(path: &str) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("path {path} leads out of its volume"),
                ));
            }
        }
    }
    Ok(clean)
}
