//! Whole simulated clusters on the embedded API server, in virtual time.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::{Condition, await_condition};
use kube::runtime::watcher;
use kube::{Client, Resource};
use lattice_apiserver::{ApiServer, Config};
use lattice_nodes::{CniRule, Fault, NodeSpec, Nodes, NodesConfig, WorkloadRef};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longest wait for anything, in virtual time.
const PATIENCE: Duration = Duration::from_mins(15);

struct Cluster {
    server: Arc<ApiServer>,
    client: Client,
    nodes: Nodes,
}

impl Cluster {
    /// A control-plane node and three workers, in a cluster whose network is Cilium.
    async fn start(speed: f64) -> Self {
        let server = ApiServer::new(Config { controllers: true, ..Config::default() }).expect("a server");
        let client = server.client();
        let nodes = Self::nodes(&client, speed);
        let cluster = Self { server, client, nodes };
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        for name in ["kube-system", "web"] {
            let namespace = Namespace {
                metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
                ..Namespace::default()
            };
            // Some exist from the start.
            let _ = namespaces.create(&PostParams::default(), &namespace).await;
        }
        cluster
    }

    fn nodes(client: &Client, speed: f64) -> Nodes {
        let config = NodesConfig { speed, cni: Some(CniRule::default()), ..NodesConfig::default() };
        let nodes = Nodes::start(client.clone(), config);
        nodes.join(NodeSpec::new("cp", ip(1)).control_plane());
        for number in 1..=3 {
            nodes.join(NodeSpec::new(format!("worker-{number}"), ip(1 + number)));
        }
        nodes
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn create<K>(&self, namespace: &str, value: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(value).expect("an object");
        self.api(namespace).create(&PostParams::default(), &object).await.expect("created")
    }

    async fn cilium(&self) {
        self.create::<DaemonSet>("kube-system", daemon_set("cilium", true)).await;
    }

    /// The revision of the whole store: it grows with every write.
    async fn revision(&self) -> String {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let list = pods.list(&ListParams::default()).await.expect("a list");
        list.metadata.resource_version.expect("a revision")
    }

    async fn pods(&self, namespace: &str) -> Vec<Pod> {
        self.api::<Pod>(namespace).list(&ListParams::default()).await.expect("a list").items
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 77, last])
}

fn daemon_set(name: &str, host_network: bool) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "hostNetwork": host_network, "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": format!("example.com/{name}:1")}]}}}})
}

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "containers": [{"name": "main", "image": image}]}}}})
}

/// Waits until an object is as wanted; what it was like instead is told by the panic.
async fn until<K>(api: Api<K>, name: &str, wanted: impl Condition<K>) -> K
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let waiting = await_condition(api.clone(), name, wanted);
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{name} stays as it is: {:#?}", api.get_opt(name).await);
    waited.expect("in time").expect("a watch").expect("an object")
}

/// Waits until an object is gone.
async fn until_gone<K>(api: Api<K>, name: &str)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let waiting = await_condition(api.clone(), name, |object: Option<&K>| object.is_none());
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{name} is still there: {:#?}", api.get_opt(name).await);
}

fn ready(count: i32, of: i32) -> impl Fn(Option<&DaemonSet>) -> bool {
    move |set| {
        let status = set.and_then(|set| set.status.as_ref());
        status.is_some_and(|status| status.number_ready == count && status.desired_number_scheduled == of)
    }
}

fn rolled_out(replicas: i32) -> impl Fn(Option<&Deployment>) -> bool {
    move |deployment| {
        deployment.is_some_and(|deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            status.observed_generation == deployment.metadata.generation
                && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(replicas); 3]
        })
    }
}

fn condition(node: &Node, kind: &str) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

fn node_is(status: &'static str, reason: &'static str) -> impl Fn(Option<&Node>) -> bool {
    move |node| node.and_then(|node| condition(node, "Ready")) == Some((status.to_owned(), reason.to_owned()))
}

fn waiting_reason(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

#[tokio::test(start_paused = true)]
async fn a_cluster_comes_up_with_its_network() {
    let cluster = Cluster::start(1.0).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let worker = until(nodes.clone(), "worker-1", node_is("False", "KubeletNotReady")).await;
    assert_eq!(
        worker.status.as_ref().and_then(|s| s.addresses.as_ref()).map(|all| all[0].address.as_str()),
        Some("127.0.77.2")
    );

    cluster.create::<DaemonSet>("kube-system", daemon_set("ztunnel", false)).await;
    cluster.create::<Deployment>("web", deployment("web", 3, "example.com/web:1")).await;
    until(cluster.api::<DaemonSet>("kube-system"), "ztunnel", ready(0, 4)).await;
    let unplaced = |deployment: Option<&Deployment>| {
        deployment.and_then(|one| one.status.as_ref()).is_some_and(|status| status.unavailable_replicas == Some(3))
    };
    until(cluster.api::<Deployment>("web"), "web", unplaced).await;

    cluster.cilium().await;
    until(cluster.api::<DaemonSet>("kube-system"), "cilium", ready(4, 4)).await;
    let worker = until(nodes, "worker-1", node_is("True", "KubeletReady")).await;
    assert_eq!(condition(&worker, "NetworkUnavailable"), Some(("False".to_owned(), "CiliumIsUp".to_owned())));
    until(cluster.api::<DaemonSet>("kube-system"), "ztunnel", ready(4, 4)).await;
    until(cluster.api::<Deployment>("web"), "web", rolled_out(3)).await;
    for pod in cluster.pods("web").await {
        assert_ne!(pod.spec.and_then(|spec| spec.node_name).as_deref(), Some("cp"), "the taint keeps pods away");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_waits_for_images_and_goes_on_when_they_come() {
    let cluster = Cluster::start(1.0).await;
    cluster.cilium().await;
    cluster.create::<Deployment>("web", deployment("web", 3, "example.com/web:1")).await;
    until(cluster.api::<Deployment>("web"), "web", rolled_out(3)).await;

    let fault = Fault::Pull { workload: WorkloadRef::new("Deployment", "web") };
    cluster.nodes.faults().set(fault.clone());
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example.com/web:2"}]}}}});
    let api = cluster.api::<Deployment>("web");
    api.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await.expect("patched");
    let stuck = |deployment: Option<&Deployment>| {
        deployment
            .and_then(|one| one.status.as_ref())
            .is_some_and(|status| status.updated_replicas == Some(1) && status.available_replicas == Some(3))
    };
    until(api.clone(), "web", stuck).await;
    let pods = cluster.pods("web").await;
    let new = pods.iter().find(|pod| waiting_reason(pod).is_some()).expect("a waiting pod");
    let name = new.metadata.name.clone().expect("a name");
    until(cluster.api::<Pod>("web"), &name, |pod: Option<&Pod>| {
        pod.and_then(waiting_reason).as_deref() == Some("ImagePullBackOff")
    })
    .await;

    assert!(cluster.nodes.faults().clear(&fault));
    let done = until(api, "web", rolled_out(3)).await;
    let revision = done.metadata.annotations.and_then(|all| all.get("deployment.kubernetes.io/revision").cloned());
    assert_eq!(revision.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_cap_holds_a_daemon_set_short_until_it_is_cleared() {
    let cluster = Cluster::start(1.0).await;
    cluster.cilium().await;
    let cap = Fault::Ready { workload: WorkloadRef::new("DaemonSet", "ztunnel"), ready: 3 };
    cluster.nodes.faults().set(cap.clone());
    cluster.create::<DaemonSet>("kube-system", daemon_set("ztunnel", false)).await;
    let api = cluster.api::<DaemonSet>("kube-system");
    until(api.clone(), "ztunnel", ready(3, 4)).await;
    cluster.nodes.faults().clear(&cap);
    until(api.clone(), "ztunnel", ready(4, 4)).await;
    cluster.nodes.faults().set(cap);
    until(api, "ztunnel", ready(3, 4)).await;
    let events = cluster.api::<Event>("kube-system").list(&ListParams::default()).await.expect("events");
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("Unhealthy")), "people are told");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_at_rest_writes_nothing_and_a_restart_changes_nothing() {
    let cluster = Cluster::start(0.0).await;
    cluster.cilium().await;
    cluster.create::<Deployment>("web", deployment("web", 3, "example.com/web:1")).await;
    until(cluster.api::<Deployment>("web"), "web", rolled_out(3)).await;
    until(cluster.api::<DaemonSet>("kube-system"), "cilium", ready(4, 4)).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let before = cluster.revision().await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(cluster.revision().await, before, "ten minutes of rest");

    let Cluster { server, client, nodes } = cluster;
    nodes.stop().await;
    let nodes = Cluster::nodes(&client, 0.0);
    let cluster = Cluster { server, client, nodes };
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(cluster.revision().await, before, "a restart");
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_noticed_its_pods_move_and_its_end_leaves_nothing() {
    let cluster = Cluster::start(1.0).await;
    cluster.cilium().await;
    cluster.create::<Deployment>("web", deployment("web", 3, "example.com/web:1")).await;
    until(cluster.api::<Deployment>("web"), "web", rolled_out(3)).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());

    cluster.nodes.faults().set(Fault::NotReady { node: "worker-1".to_owned() });
    until(nodes.clone(), "worker-1", node_is("Unknown", "NodeStatusUnknown")).await;
    until(cluster.api::<DaemonSet>("kube-system"), "cilium", ready(3, 4)).await;
    cluster.nodes.faults().clear_all();
    until(nodes.clone(), "worker-1", node_is("True", "KubeletReady")).await;
    until(cluster.api::<DaemonSet>("kube-system"), "cilium", ready(4, 4)).await;

    cluster.nodes.remove("worker-1");
    until(nodes.clone(), "worker-1", node_is("Unknown", "NodeStatusUnknown")).await;
    nodes.delete("worker-1", &DeleteParams::default()).await.expect("deleted");
    until(cluster.api::<DaemonSet>("kube-system"), "cilium", ready(3, 3)).await;
    until(cluster.api::<Deployment>("web"), "web", rolled_out(3)).await;
    for namespace in ["web", "kube-system"] {
        for pod in cluster.pods(namespace).await {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some("worker-1") {
                until_gone(cluster.api::<Pod>(namespace), &pod.metadata.name.unwrap_or_default()).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_complete_and_stateful_sets_start_in_order() {
    let cluster = Cluster::start(1.0).await;
    cluster.cilium().await;
    let job = json!({"metadata": {"name": "work"}, "spec": {"completions": 3, "parallelism": 2,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "example.com/w:1"}]}}}});
    cluster.create::<Job>("web", job).await;
    let complete = |job: Option<&Job>| {
        let conditions = job.and_then(|job| job.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Complete" && one.status == "True"))
    };
    let job = until(cluster.api::<Job>("web"), "work", complete).await;
    assert_eq!(job.status.and_then(|status| status.succeeded), Some(3));

    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 2, "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}}, "template": {"metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": "example.com/db:1"}]}}}});
    cluster.create::<StatefulSet>("web", set).await;
    let up = |set: Option<&StatefulSet>| {
        set.and_then(|set| set.status.as_ref())
            .is_some_and(|status| status.ready_replicas == Some(2) && status.current_revision == status.update_revision)
    };
    until(cluster.api::<StatefulSet>("web"), "db", up).await;
}

// Retries wait by the wall clock, so this one does too.
#[tokio::test]
async fn a_job_whose_command_fails_fails() {
    let cluster = Cluster::start(0.0).await;
    cluster.cilium().await;
    let job = json!({"metadata": {"name": "work"}, "spec": {"backoffLimit": 1, "template": {"spec": {
        "restartPolicy": "Never", "containers": [
            {"name": "c", "image": "example.com/w:1", "command": ["sh", "-c", "echo working; exit 3"]}]}}}});
    cluster.create::<Job>("web", job).await;
    let failed = |job: Option<&Job>| {
        let conditions = job.and_then(|job| job.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| {
            all.iter().any(|one| one.type_ == "Failed" && one.reason.as_deref() == Some("BackoffLimitExceeded"))
        })
    };
    let job = until(cluster.api::<Job>("web"), "work", failed).await;
    assert_eq!(job.status.and_then(|status| status.failed), Some(2));
    let pods = cluster.pods("web").await;
    let ended = pods[0].status.as_ref().and_then(|status| status.container_statuses.as_ref()?[0].state.as_ref());
    assert_eq!(ended.and_then(|state| state.terminated.as_ref()).map(|end| end.exit_code), Some(3));
}

#[tokio::test(start_paused = true)]
async fn an_image_of_a_registry_that_cannot_exist_is_not_pulled() {
    let cluster = Cluster::start(1.0).await;
    cluster.cilium().await;
    cluster.create::<Deployment>("web", deployment("web", 1, "registry.invalid/web:1")).await;
    let waiting = |deployment: Option<&Deployment>| {
        deployment.and_then(|one| one.status.as_ref()).is_some_and(|status| status.unavailable_replicas == Some(1))
    };
    until(cluster.api::<Deployment>("web"), "web", waiting).await;
    let pods = cluster.pods("web").await;
    let name = pods[0].metadata.name.clone().expect("a name");
    until(cluster.api::<Pod>("web"), &name, |pod: Option<&Pod>| {
        pod.and_then(waiting_reason).as_deref() == Some("ImagePullBackOff")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_backs_off_and_recovers() {
    let cluster = Cluster::start(1.0).await;
    cluster.cilium().await;
    let fault = Fault::Crash { workload: WorkloadRef::new("Deployment", "web") };
    cluster.nodes.faults().set(fault.clone());
    cluster.create::<Deployment>("web", deployment("web", 1, "example.com/web:1")).await;
    let placed = |deployment: Option<&Deployment>| {
        deployment.and_then(|one| one.status.as_ref()).is_some_and(|status| status.replicas == Some(1))
    };
    until(cluster.api::<Deployment>("web"), "web", placed).await;
    let name = cluster.pods("web").await[0].metadata.name.clone().expect("a name");
    let backing_off = |pod: Option<&Pod>| pod.and_then(waiting_reason).as_deref() == Some("CrashLoopBackOff");
    until(cluster.api::<Pod>("web"), &name, backing_off).await;
    cluster.nodes.faults().clear(&fault);
    until(cluster.api::<Deployment>("web"), "web", rolled_out(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_its_secret_and_starts_when_it_comes() {
    let cluster = Cluster::start(1.0).await;
    cluster.cilium().await;
    let mut value = deployment("web", 1, "example.com/web:1");
    value["spec"]["template"]["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "late"}}]);
    cluster.create::<Deployment>("web", value).await;
    let told = async {
        let events: Api<Event> = cluster.api("web");
        let mut stream = std::pin::pin!(watcher::watcher(events, watcher::Config::default()));
        while let Some(event) = futures::StreamExt::next(&mut stream).await {
            let Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) = event else { continue };
            if found.reason.as_deref() == Some("FailedMount") {
                return found.message.unwrap_or_default();
            }
        }
        String::new()
    };
    let message = tokio::time::timeout(PATIENCE, told).await.expect("an event");
    assert!(message.ends_with("secret \"late\" not found"), "{message}");
    cluster.create::<k8s_openapi::api::core::v1::Secret>("web", json!({"metadata": {"name": "late"}})).await;
    until(cluster.api::<Deployment>("web"), "web", rolled_out(1)).await;
}
