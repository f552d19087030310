//! A parent with the simulated Cluster API, machines without cloud-init, and a recorder of every write.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event as Watched};
use kube::{Client, ResourceExt as _};
use lattice_apiserver::{ApiServer, Serving};
use lattice_nodes::{NodeSpec, Nodes, NodesConfig};
use lattice_protocol::task;
use lattice_sandbox::capi::{Boot, Capi, Config, Machines, Power, crds};
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, broadcast};

use super::facts::Event;

const NAMESPACE: &str = "lattice-demo";
/// Longest wait for the whole cluster to come, or to go.
const PATIENCE: Duration = Duration::from_mins(1);
/// How fast the test goes.
const SPEED: f64 = 5.0;
/// Time between two steps of a machine's start: two reconciles.
const STEP: Duration = Duration::from_millis(400);

/// Machines that come up at once: the first brings an API, all become nodes.
struct Instant {
    power: Mutex<HashMap<String, Power>>,
    changes: broadcast::Sender<String>,
    child: Arc<AsyncMutex<Option<Child>>>,
    server: Arc<ApiServer>,
    at: SocketAddr,
    runtime: tokio::runtime::Handle,
}

struct Child {
    _serving: Serving,
    nodes: Nodes,
}

impl Instant {
    async fn live(self: Arc<Self>, boot: Boot) {
        tokio::time::sleep(STEP).await;
        self.set(&boot.name, false, false);
        tokio::time::sleep(STEP).await;
        let first = boot.user_data.contains("kubeadm init");
        let mut child = self.child.lock().await;
        if child.is_none() {
            let serving = self.server.serve(self.at).await.unwrap();
            let client = self.server.client();
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
            let map = json!({"metadata": {"name": "kubeadm-config"}, "data": {}});
            maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
            let nodes = Nodes::start(client, NodesConfig { speed: SPEED, ..NodesConfig::default() });
            *child = Some(Child { _serving: serving, nodes });
        }
        drop(child);
        self.set(&boot.name, true, false);
        tokio::time::sleep(STEP).await;
        self.set(&boot.name, true, first);
        tokio::time::sleep(STEP).await;
        let mut spec = NodeSpec::new(boot.name.clone(), "127.0.0.1".parse().unwrap());
        spec.provider_id = Some(boot.provider_id.clone());
        if first {
            spec = spec.control_plane();
        }
        self.child.lock().await.as_ref().unwrap().nodes.join(spec);
    }

    fn set(&self, name: &str, node: bool, api_server: bool) {
        let power = Power::Running { addresses: vec!["127.0.0.1".to_owned()], node, api_server };
        self.power.lock().unwrap().insert(name.to_owned(), power);
        let _ = self.changes.send(NAMESPACE.to_owned());
    }
}

/// The handle that the controllers get.
struct Handle(Arc<Instant>);

impl Machines for Handle {
    fn boot(&self, boot: Boot) {
        if self.0.power.lock().unwrap().insert(boot.name.clone(), Power::Starting).is_none() {
            let me = Arc::clone(&self.0);
            let _guard = self.0.runtime.enter();
            task::spawn("test.machine", task::Kind::Request, me.live(boot));
        }
    }

    fn look(&self, _: &str, name: &str) -> Power {
        self.0.power.lock().unwrap().get(name).cloned().unwrap_or(Power::Absent)
    }

    fn destroy(&self, _: &str, name: &str) {
        self.0.power.lock().unwrap().remove(name);
    }

    fn cluster_gone(&self, _: &str, _: &str) {}

    fn endpoint(&self, _: &str, _: &str) -> (String, u16) {
        (self.0.at.ip().to_string(), self.0.at.port())
    }

    fn stalled(&self, _: &str, _: Option<&str>) -> bool {
        false
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.0.changes.subscribe()
    }
}

/// Provisions a cluster, deletes it, and returns every write in order.
pub(crate) async fn record(masters: i64, workers: i64) -> Vec<Event> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _ = tracing_subscriber::fmt().with_env_filter("warn,lattice_sandbox=debug").with_test_writer().try_init();
    let parent = ApiServer::new(lattice_apiserver::Config { controllers: true, ..Default::default() }).unwrap();
    let client = parent.client();
    install(&client).await;
    let child = ApiServer::new(lattice_apiserver::Config { controllers: true, ..Default::default() }).unwrap();
    let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let machines = Arc::new(Instant {
        power: Mutex::default(),
        changes: broadcast::channel(64).0,
        child: Arc::default(),
        server: Arc::clone(&child),
        at,
        runtime: tokio::runtime::Handle::current(),
    });
    let recorder = Recorder::start(&client).await;
    let config = Config { speed: SPEED, machines: Arc::new(Handle(machines)) };
    let capi = Capi::start(client.clone(), config);
    for object in objects(masters, workers, &child.kubeconfig(&at).unwrap()) {
        apply(&client, object).await;
    }
    let cluster = api(&client, "cluster.x-k8s.io", "v1beta2", "Cluster");
    let settled = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| {
            let all = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let available = all.iter().any(|one| one["type"] == "Available" && one["status"] == "True");
            available && object.data["status"]["workers"]["availableReplicas"] == workers
        })
    };
    wait(&cluster, settled, "Available").await;
    let checked = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["status"]["currentHealthy"] == masters)
    };
    wait(&api(&client, "cluster.x-k8s.io", "v1beta2", "MachineHealthCheck"), checked, "demo-cp healthy").await;
    cluster.delete("demo", &Default::default()).await.unwrap();
    wait(&cluster, |object: Option<&DynamicObject>| object.is_none(), "gone").await;
    let events = recorder.finish().await;
    drop(capi);
    events
}

async fn wait(api: &Api<DynamicObject>, condition: impl Fn(Option<&DynamicObject>) -> bool + Send + Sync, what: &str) {
    let name = if what == "demo-cp healthy" { "demo-cp" } else { "demo" };
    let wait = kube::runtime::wait::await_condition(api.clone(), name, condition);
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(_) => {
            let now = api.get_opt(name).await.ok().flatten();
            panic!("not {what} in time: {}", serde_json::to_string_pretty(&now).unwrap());
        }
    }
}

fn api(client: &Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

async fn apply(client: &Client, object: Value) {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let api = api(client, group, version, object["kind"].as_str().unwrap());
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap();
}

async fn install(client: &Client) {
    let definitions = Api::all(client.clone());
    for definition in crds::all() {
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        let established = kube::runtime::conditions::is_crd_established();
        kube::runtime::wait::await_condition(definitions.clone(), &definition.name_any(), established).await.unwrap();
    }
    let spaces: Api<Namespace> = Api::all(client.clone());
    let space = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
    spaces.create(&PostParams::default(), &space).await.unwrap();
}

/// What the recordings begin with, in their order.
fn objects(masters: i64, workers: i64, kubeconfig: &str) -> Vec<Value> {
    let labels = json!({"cluster.x-k8s.io/cluster-name": "demo"});
    let meta = |name: &str| json!({"name": name, "namespace": NAMESPACE, "labels": labels});
    let bare = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    let infra = "infrastructure.cluster.x-k8s.io";
    let template = |name: &str| {
        json!({
            "apiVersion": format!("{infra}/v1beta2"), "kind": "DevMachineTemplate", "metadata": bare(name),
            "spec": {"template": {"spec": {"backend": {"inMemory": {}}}}},
        })
    };
    let check = |name: &str, label: &str, value: &str| {
        json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineHealthCheck", "metadata": meta(name),
            "spec": {"clusterName": "demo", "selector": {"matchLabels": {label: value}}},
        })
    };
    let pool = json!({"cluster.x-k8s.io/cluster-name": "demo", "cluster.x-k8s.io/deployment-name": "demo-md-0"});
    vec![
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("demo-kubeconfig"), "type": "Opaque",
               "stringData": {"value": kubeconfig}}),
        json!({"apiVersion": format!("{infra}/v1beta2"), "kind": "DevCluster", "metadata": bare("demo"),
               "spec": {"backend": {"inMemory": {}}}}),
        template("demo-cp"),
        template("demo-md-0"),
        json!({"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfigTemplate",
               "metadata": bare("demo-md-0"), "spec": {"template": {"spec": {}}}}),
        json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": meta("demo"), "spec": {
            "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KubeadmControlPlane", "name": "demo-cp"},
            "infrastructureRef": {"apiGroup": infra, "kind": "DevCluster", "name": "demo"},
        }}),
        json!({"apiVersion": "controlplane.cluster.x-k8s.io/v1beta2", "kind": "KubeadmControlPlane", "metadata": meta("demo-cp"),
               "spec": {"replicas": masters, "version": "v1.34.0", "kubeadmConfigSpec": {},
                        "machineTemplate": {"spec": {"infrastructureRef": {"apiGroup": infra, "kind": "DevMachineTemplate", "name": "demo-cp"}}}}}),
        json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineDeployment", "metadata": meta("demo-md-0"), "spec": {
            "clusterName": "demo", "replicas": workers, "selector": {"matchLabels": pool},
            "template": {"metadata": {"labels": pool}, "spec": {
                "clusterName": "demo", "version": "v1.34.0",
                "bootstrap": {"configRef": {"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "KubeadmConfigTemplate", "name": "demo-md-0"}},
                "infrastructureRef": {"apiGroup": infra, "kind": "DevMachineTemplate", "name": "demo-md-0"},
            }},
        }}),
        check("demo-md-0", "cluster.x-k8s.io/deployment-name", "demo-md-0"),
        check("demo-cp", "cluster.x-k8s.io/control-plane", ""),
    ]
}

/// Every write by its version, which is one counter for all kinds.
struct Recorder(Arc<Mutex<Vec<(u64, Event)>>>);

impl Recorder {
    async fn start(client: &Client) -> Self {
        let all: Arc<Mutex<Vec<(u64, Event)>>> = Arc::default();
        let start = tokio::time::Instant::now();
        let (ready, mut waiting) = tokio::sync::mpsc::channel(64);
        let mut kinds: Vec<ApiResource> = crds::all()
            .iter()
            .map(|definition| {
                let version = &definition.spec.versions[0].name;
                ApiResource::from_gvk(&GroupVersionKind::gvk(
                    &definition.spec.group,
                    version,
                    &definition.spec.names.kind,
                ))
            })
            .collect();
        kinds.push(ApiResource::erase::<Secret>(&()));
        let count = kinds.len();
        for resource in kinds {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
            let (all, ready) = (Arc::clone(&all), ready.clone());
            task::spawn("test.record", task::Kind::Service, async move {
                let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
                let mut seen = std::collections::BTreeSet::new();
                while let Some(Ok(event)) = stream.next().await {
                    let (kind, object) = match event {
                        Watched::InitDone => {
                            let _ = ready.send(()).await;
                            continue;
                        }
                        Watched::Init => continue,
                        Watched::InitApply(object) => ("ADDED", object),
                        Watched::Apply(object) => {
                            (if seen.insert(object.metadata.uid.clone()) { "ADDED" } else { "MODIFIED" }, object)
                        }
                        Watched::Delete(object) => ("DELETED", object),
                    };
                    let version = object.metadata.resource_version.clone().unwrap_or_default().parse().unwrap();
                    let mut value = serde_json::to_value(&object).unwrap();
                    value["kind"] = resource.kind.clone().into();
                    all.lock().unwrap().push((
                        version,
                        Event { at: start.elapsed().as_secs_f64(), kind: kind.to_owned(), object: value },
                    ));
                }
            });
        }
        for _ in 0..count {
            waiting.recv().await.unwrap();
        }
        Self(all)
    }

    /// Waits until the garbage collector has taken the last of it, and returns the writes in order.
    async fn finish(self) -> Vec<Event> {
        let last = [("DevMachineTemplate", 2), ("KubeadmConfigTemplate", 1), ("MachineHealthCheck", 2)];
        let done = || {
            let all = self.0.lock().unwrap();
            let gone = |kind: &str| {
                all.iter().filter(|(_, event)| event.kind == "DELETED" && event.object["kind"] == kind).count()
            };
            last.iter().all(|(kind, count)| gone(kind) >= *count)
        };
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("templates and health checks go with the Cluster");
        let mut all = self.0.lock().unwrap().clone();
        all.sort_by_key(|(version, _)| *version);
        all.into_iter().map(|(_, event)| event).collect()
    }
}
