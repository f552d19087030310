//! What virtual time cannot show: real processes, and commands over real connections.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use kube::api::{Api, AttachParams, DeleteParams, ListParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Client, Resource};
use lattice_apiserver::{ApiServer, Config, Serving};
use lattice_nodes::runtime::process;
use lattice_nodes::{ContainerRun, Exit, NodeSpec, Nodes, NodesConfig, PodCall, Runtime};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a shell script in the place of an agent, and tells its process id.
struct Shell {
    pids: watch::Sender<Vec<u32>>,
}

/// What the script tells about itself before it settles down.
const SCRIPT: &str = r#"
echo "words $*"; echo "namespace $POD_NAMESPACE host $HOST_IP secret $TOKEN map $LEVEL"
cat "$ROOT/etc/agent/token"; echo; wc -c < "$ROOT/var/run/secrets/kubernetes.io/serviceaccount/token"
cat "$ROOT/var/run/secrets/kubernetes.io/serviceaccount/namespace"; echo
trap 'echo asked to end; exit 0' TERM
echo settled; while :; do sleep 0.05; done"#;

impl Runtime for Shell {
    fn runs(&self, pod: &Pod) -> bool {
        pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).is_some_and(|app| app == "agent")
    }

    fn run(&self, run: ContainerRun) -> Pin<Box<dyn Future<Output = Exit> + Send>> {
        let pids = self.pids.clone();
        Box::pin(async move {
            let mut command = tokio::process::Command::new("/bin/sh");
            command.args(["-c", SCRIPT, "agent"]).args(&run.argv).env_clear().envs(run.env.iter().cloned());
            command.env("ROOT", &run.root);
            process::run(command, run, move |pid| pids.send_modify(|pids| pids.push(pid))).await
        })
    }
}

struct Cluster {
    _serving: Serving,
    client: Client,
    nodes: Nodes,
    pids: watch::Receiver<Vec<u32>>,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let server = ApiServer::new(Config { controllers: true, ..Config::default() }).expect("a server");
        let serving = server.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a listener");
        let folder = tempfile::tempdir().expect("a folder");
        let text = server.kubeconfig(&serving.addr()).expect("a kubeconfig");
        std::fs::write(folder.path().join("kubeconfig"), &text).expect("a file");
        let kubeconfig = Kubeconfig::from_yaml(&text).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a configuration")).expect("a client");
        let (sender, pids) = watch::channel(Vec::new());
        let runtime: Arc<dyn Runtime> = Arc::new(Shell { pids: sender });
        let config = NodesConfig { speed: 0.0, runtime: Some(runtime), ..NodesConfig::default() };
        let nodes = Nodes::start(server.client(), config);
        let streams = nodes.streams();
        server.set_kubelets(move |call, request| {
            let streams = streams.clone();
            let call = PodCall { namespace: call.namespace, pod: call.pod, subresource: call.subresource };
            async move { streams.answer(call, request).await }
        });
        let mut spec = NodeSpec::new("n1", IpAddr::from([127, 0, 78, 1]));
        spec.folder = Some(folder.path().join("n1"));
        nodes.join(spec);
        let cluster = Self { _serving: serving, client, nodes, pids, folder };
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "ns"}})).expect("a namespace");
        namespaces.create(&PostParams::default(), &namespace).await.expect("created");
        cluster
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "ns")
    }

    async fn create<K>(&self, value: Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(value).expect("an object");
        self.api().create(&PostParams::default(), &object).await.expect("created");
    }

    async fn pod_of(&self, app: &str) -> Pod {
        let pods = self.api::<Pod>().list(&ListParams::default().labels(&format!("app={app}"))).await;
        pods.expect("a list").items.into_iter().next().expect("a pod")
    }

    /// Waits for the next process after `count` of them.
    async fn pid_after(&mut self, count: usize) -> u32 {
        let waiting = self.pids.wait_for(|pids| pids.len() > count);
        let pids = tokio::time::timeout(PATIENCE, waiting).await.expect("a process in time").expect("a runtime");
        pids[count]
    }
}

async fn until<K>(api: Api<K>, name: &str, wanted: impl Condition<K>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let waiting = await_condition(api.clone(), name, wanted);
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{name} stays as it is: {:#?}", api.get_opt(name).await);
}

fn available(count: i32) -> impl Fn(Option<&Deployment>) -> bool {
    move |deployment| {
        deployment.and_then(|one| one.status.as_ref()).and_then(|status| status.available_replicas) == Some(count)
    }
}

fn deployment(app: &str, spec: Value) -> Value {
    json!({"metadata": {"name": app}, "spec": {"selector": {"matchLabels": {"app": app}},
        "template": {"metadata": {"labels": {"app": app}}, "spec": spec}}})
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_container_gets_its_world_and_is_restarted_and_ended() {
    let mut cluster = Cluster::start().await;
    cluster.create::<ServiceAccount>(json!({"metadata": {"name": "agent"}})).await;
    cluster.create::<Secret>(json!({"metadata": {"name": "enrol"}, "stringData": {"token": "t0k3n"}})).await;
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"level": "high"}})).await;
    let spec = json!({
        "hostNetwork": true, "serviceAccountName": "agent", "terminationGracePeriodSeconds": 5,
        "volumes": [{"name": "enrol", "secret": {"secretName": "enrol"}}],
        "containers": [{"name": "agent", "image": "example.com/agent:1",
            "command": ["lattice", "run", "--ns", "$(POD_NAMESPACE)"],
            "env": [
                {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "enrol", "key": "token"}}},
                {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}}],
            "volumeMounts": [{"name": "enrol", "mountPath": "/etc/agent"}]}]});
    cluster.create::<Deployment>(deployment("agent", spec)).await;
    let first = cluster.pid_after(0).await;
    until(cluster.api::<Deployment>(), "agent", available(1)).await;

    let name = cluster.pod_of("agent").await.metadata.name.expect("a name");
    let log = async {
        let follow = LogParams { follow: true, ..LogParams::default() };
        let mut stream = std::pin::pin!(cluster.api::<Pod>().log_stream(&name, &follow).await.expect("a log"));
        let mut text = String::new();
        let mut buffer = [0; 256];
        while !text.contains("settled") {
            let count = futures::AsyncReadExt::read(&mut stream, &mut buffer).await.expect("more");
            assert_ne!(count, 0, "the log ended early: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        text
    };
    let log = tokio::time::timeout(PATIENCE, log).await.expect("a whole log");
    assert!(log.contains("words lattice run --ns ns\n"), "{log}");
    assert!(log.contains("namespace ns host 127.0.78.1 secret t0k3n map high\n"), "{log}");
    assert!(log.contains("\nt0k3n\n"), "{log}");
    assert!(log.contains("\nns\n"), "{log}");

    let killed = Command::new("kill").args(["-9", &first.to_string()]).status().expect("kill");
    assert!(killed.success());
    let second = cluster.pid_after(1).await;
    until(cluster.api::<Pod>(), &name, |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        statuses.is_some_and(|all| all[0].restart_count == 1 && all[0].ready)
    })
    .await;
    assert!(!lives(first) && lives(second));

    cluster.api::<Deployment>().delete("agent", &DeleteParams::default()).await.expect("deleted");
    until(cluster.api::<Pod>(), &name, |pod: Option<&Pod>| pod.is_none()).await;
    assert!(!lives(second), "the process ends before its pod is gone");
    let pods = cluster.folder.path().join("n1").join("pods");
    let left: Vec<_> = std::fs::read_dir(pods).map(|all| all.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "no secret stays on the disk: {left:?}");
    cluster.nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_and_logs_flow_over_real_connections() {
    let cluster = Cluster::start().await;
    let spec = json!({"containers": [{"name": "main", "image": "example.com/web:1"}]});
    cluster.create::<Deployment>(deployment("web", spec)).await;
    until(cluster.api::<Deployment>(), "web", available(1)).await;
    let name = cluster.pod_of("web").await.metadata.name.expect("a name");
    let pods = cluster.api::<Pod>();

    let log = pods.logs(&name, &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.expect("a log");
    assert!(log.starts_with("simulated "), "{log}");

    let parameters = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.exec(&name, ["cat"], &parameters).await.expect("a command");
    let mut stdin = process.stdin().expect("stdin");
    let mut stdout = process.stdout().expect("stdout");
    let sent = vec![b'x'; 300_000];
    let (wrote, echoed) = tokio::join!(
        async {
            stdin.write_all(&sent).await?;
            stdin.shutdown().await?;
            drop(stdin);
            std::io::Result::Ok(())
        },
        async {
            let mut back = Vec::new();
            stdout.read_to_end(&mut back).await?;
            std::io::Result::Ok(back)
        }
    );
    wrote.expect("written");
    assert!(echoed.expect("read") == sent);

    let parameters = AttachParams::default().stdout(false).stderr(true);
    let mut process = pods.exec(&name, ["sh", "-c", "exit 7"], &parameters).await.expect("a command");
    let status = process.take_status().expect("a status").await.expect("an end");
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    assert!(status.message.unwrap_or_default().ends_with("exit status 7"));
}
