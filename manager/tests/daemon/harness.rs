//! An API to run against, and the daemon's process.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use lattice_apiserver::{ApiServer, Config, Serving};
use lattice_manager::api::{self, InfraProvider, LatticeCluster, ProviderType};
use lattice_manager::lifecycle::mirror;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// Longest wait for anything here; a debug build on a busy machine is slow.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two looks at something that nobody announces.
const GLANCE: Duration = Duration::from_millis(50);

/// An API server with a folder for what is beside it.
pub(super) struct World {
    pub(super) client: Client,
    _server: Arc<ApiServer>,
    _serving: Serving,
    folder: tempfile::TempDir,
    /// Ports of the daemon: a restarted one listens where nodes and Cluster API were told.
    ports: [u16; 3],
}

/// A running daemon; killed when it is dropped.
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl World {
    /// An API server without our resources.
    pub(super) async fn empty() -> Self {
        let server = ApiServer::new(Config { controllers: true, ..Config::default() }).expect("an API server");
        let serving = server.serve("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = server.kubeconfig(&serving.addr()).expect("a kubeconfig");
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig).expect("a file");
        Self {
            client: server.client(),
            _server: server,
            _serving: serving,
            folder,
            ports: [(); 3].map(|()| free_port()),
        }
    }

    /// One with our resources.
    pub(super) async fn with_lattice() -> Self {
        let world = Self::empty().await;
        for crd in api::crds() {
            world.install(crd).await;
        }
        world
    }

    /// One with our resources, Cluster API's kinds, and a provider.
    pub(super) async fn ready() -> Self {
        let world = Self::with_lattice().await;
        world.install_cluster_api().await;
        world.make_provider().await;
        world
    }

    /// Installs small definitions of Cluster API's kinds.
    pub(super) async fn install_cluster_api(&self) {
        for (group, kind) in mirror::kinds(ProviderType::Proxmox) {
            let version = if group == mirror::INFRASTRUCTURE { "v1alpha2" } else { "v1beta2" };
            let plural = format!("{}s", kind.to_lowercase());
            let crd = json!({
                "metadata": {"name": format!("{plural}.{group}"), "labels": {"cluster.x-k8s.io/v1beta2": version}},
                "spec": {
                    "group": group, "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                    "versions": [{
                        "name": version, "served": true, "storage": true, "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": {
                            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                        }},
                    }],
                },
            });
            self.install(serde_json::from_value(crd).expect("a definition")).await;
        }
    }

    async fn install(&self, crd: CustomResourceDefinition) {
        let name = crd.name_any();
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        crds.create(&PostParams::default(), &crd).await.expect("a definition is created");
        until(&format!("{name} is established"), async || {
            let found = crds.get(&name).await.ok()?;
            let conditions = found.status?.conditions.unwrap_or_default();
            conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
        })
        .await;
    }

    /// Makes the provider `proxmox` with its credentials.
    pub(super) async fn make_provider(&self) {
        let namespace = json!({"metadata": {"name": "infra"}});
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(namespace).expect("a namespace");
        namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace is created");
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "pve", "namespace": "infra"},
            "stringData": {"url": "https://pve:8006/api2/json", "token": "lattice@pve!manager", "secret": "s3cr3t-value"},
        }))
        .expect("a secret");
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "infra");
        secrets.create(&PostParams::default(), &secret).await.expect("a secret is created");
        let provider: InfraProvider = serde_json::from_value(json!({
            "apiVersion": "lattice.dev/v1alpha1", "kind": "InfraProvider", "metadata": {"name": "proxmox"},
            "spec": {"type": "proxmox", "credentialsSecretRef": {"name": "pve", "namespace": "infra"}},
        }))
        .expect("a provider");
        let providers: Api<InfraProvider> = Api::all(self.client.clone());
        providers.create(&PostParams::default(), &provider).await.expect("a provider is created");
    }

    /// Creates a cluster of one control-plane node and three workers.
    pub(super) async fn create_cluster(&self, name: &str) -> LatticeCluster {
        let cluster = cluster(name);
        self.clusters().create(&PostParams::default(), &cluster).await.expect("a cluster is created")
    }

    pub(super) fn clusters(&self) -> Api<LatticeCluster> {
        Api::all(self.client.clone())
    }

    /// Waits until a cluster satisfies `wanted`.
    pub(super) async fn cluster_when(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&LatticeCluster) -> bool,
    ) -> LatticeCluster {
        until(&format!("{name}: {what}"), async || self.clusters().get(name).await.ok().filter(&wanted)).await
    }

    /// Kind, name and uid of everything in a cluster's namespace, templates included; Events are left out.
    pub(super) async fn objects(&self, cluster: &str) -> Vec<String> {
        let mut kinds: Vec<(String, String, String)> = mirror::kinds(ProviderType::Proxmox)
            .into_iter()
            .map(|(group, kind)| {
                let version = if group == mirror::INFRASTRUCTURE { "v1alpha2" } else { "v1beta2" };
                (group.to_owned(), version.to_owned(), kind.to_owned())
            })
            .collect();
        kinds.push((String::new(), "v1".to_owned(), "Secret".to_owned()));
        let mut found = Vec::new();
        for (group, version, kind) in kinds {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &kind));
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &format!("lattice-{cluster}"), &resource);
            let list = api.list(&ListParams::default()).await.expect("a list");
            found.extend(list.iter().map(|o| format!("{kind} {} {}", o.name_any(), o.uid().unwrap_or_default())));
        }
        found.sort();
        found
    }

    /// How many writes the API has answered, by what they were; Leases and Events apart.
    pub(super) async fn writes(&self) -> Vec<String> {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
        let text = self.client.request_text(request).await.expect("metrics");
        let is_write = |line: &str| {
            line.starts_with("apiserver_request_total{")
                && ["POST", "PUT", "PATCH", "APPLY", "DELETE"].iter().any(|v| line.contains(&format!("verb=\"{v}\"")))
                && !line.contains("resource=\"leases\"")
                && !line.contains("resource=\"events\"")
        };
        let mut writes: Vec<String> = text.lines().filter(|line| is_write(line)).map(str::to_owned).collect();
        writes.sort();
        writes
    }

    /// Starts the daemon under a name.
    pub(super) fn start(&self, holder: &str) -> Daemon {
        self.start_with(holder, &[])
    }

    /// Starts the daemon with more arguments.
    pub(super) fn start_with(&self, holder: &str, more: &[&str]) -> Daemon {
        let log = self.folder.path().join(format!("{holder}.log"));
        let child = self.command(holder, more, &log).spawn().expect("the daemon starts");
        Daemon { child, log }
    }

    /// The daemon's command line.
    pub(super) fn command(&self, holder: &str, more: &[&str], log: &std::path::Path) -> Command {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lattice-manager"));
        command
            .arg("run")
            .arg("--kubeconfig")
            .arg(self.folder.path().join("kubeconfig"))
            .args(["--gateway-listen", &listen(self.ports[0]), "--bootstrap-listen", &listen(self.ports[1])])
            .args(["--proxy-listen", &listen(self.ports[2]), "--metrics-listen", "127.0.0.1:0"])
            .args(["--external-address", "127.0.0.1", "--holder", holder])
            .args(more)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(file))
            .kill_on_drop(true);
        command
    }

    /// A file in the world's folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Daemon {
    /// `kill -9`.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.expect("it is killed");
    }

    /// SIGTERM, and its exit code.
    pub(super) async fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().expect("it runs").to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs");
        assert!(asked.success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("a status");
        status.code()
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log holds `text`.
    pub(super) async fn logs(&self, text: &str) {
        until(&format!("the log says {text:?}"), async || self.log().contains(text).then_some(())).await;
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn listen(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A cluster of the homelab's form.
pub(super) fn cluster(name: &str) -> LatticeCluster {
    serde_json::from_value(json!({
        "apiVersion": "lattice.dev/v1alpha1", "kind": "LatticeCluster", "metadata": {"name": name},
        "spec": {
            "latticeImage": "registry.example.org/lattice:1",
            "providerRef": "proxmox",
            "provider": {
                "kubernetes": {"version": "1.32.0"},
                "config": {"proxmox": {
                    "sourceNode": "pve", "templateId": 9000, "controlPlaneEndpoint": "10.0.1.110", "bridge": "vmbr0",
                    "ipv4Pool": {"range": "10.0.1.111-120/24", "gateway": "10.0.1.1"},
                }},
            },
            "nodes": {
                "controlPlane": {"replicas": 1, "instanceType": {"cores": 4, "memoryGib": 16, "diskGib": 50}},
                "workerPools": {"default": {
                    "replicas": 3, "instanceType": {"cores": 4, "memoryGib": 16, "diskGib": 50},
                }},
            },
        },
    }))
    .expect("a cluster")
}

/// The phase of a cluster, as text.
pub(super) fn phase(cluster: &LatticeCluster) -> &'static str {
    cluster.status.as_ref().and_then(|status| status.phase).map_or("", api::Phase::as_str)
}

/// Status and reason of a condition.
pub(super) fn condition(cluster: &LatticeCluster, type_: &str) -> (String, String, String) {
    let conditions = cluster.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    conditions
        .into_iter()
        .find(|c| c.type_ == type_)
        .map_or_else(Default::default, |c| (c.status.to_string(), c.reason, c.message))
}

/// Waits until `look` finds something.
pub(super) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}

/// Reads a value at a path of an object.
pub(super) fn at<'a>(object: &'a DynamicObject, pointer: &str) -> &'a Value {
    object.data.pointer(pointer).unwrap_or(&Value::Null)
}
