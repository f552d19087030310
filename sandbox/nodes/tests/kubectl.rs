//! The real `kubectl` against simulated pods, over WebSocket and over SPDY.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::runtime::{conditions, wait::await_condition};
use lattice_apiserver::{ApiServer, Config, Serving};
use lattice_nodes::{NodeSpec, Nodes, NodesConfig, PodCall};
use serde_json::json;

const PATIENCE: Duration = Duration::from_mins(1);
/// Variables that make `kubectl` leave WebSocket out.
const SPDY: [(&str, &str); 2] =
    [("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")];

struct Cluster {
    _serving: Serving,
    server: Arc<ApiServer>,
    nodes: Nodes,
    folder: tempfile::TempDir,
    spdy: bool,
}

/// Ends a process with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    /// No nodes: controllers alone.
    async fn bare() -> Self {
        let server = ApiServer::new(Config { controllers: true, ..Config::default() }).expect("a server");
        let serving = server.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a listener");
        let folder = tempfile::tempdir().expect("a folder");
        let text = server.kubeconfig(&serving.addr()).expect("a kubeconfig");
        std::fs::write(folder.path().join("kubeconfig"), &text).expect("a file");
        let nodes = Nodes::start(server.client(), NodesConfig { speed: 0.0, ..NodesConfig::default() });
        let streams = nodes.streams();
        server.set_kubelets(move |call, request| {
            let streams = streams.clone();
            let call = PodCall { namespace: call.namespace, pod: call.pod, subresource: call.subresource };
            async move { streams.answer(call, request).await }
        });
        Self { _serving: serving, server, nodes, folder, spdy: false }
    }

    /// One node, and the pod `web` on it, whose container listens on port 80.
    async fn start() -> Self {
        let cluster = Self::bare().await;
        cluster.nodes.join(NodeSpec::new("n1", IpAddr::from([127, 0, 79, 1])));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"containers": [
            {"name": "main", "image": "example.com/web:1", "ports": [{"containerPort": 80}]},
            {"name": "side", "image": "example.com/side:1"}]}}))
        .expect("a pod");
        let pods: Api<Pod> = Api::namespaced(cluster.server.client(), "default");
        pods.create(&PostParams::default(), &pod).await.expect("created");
        let running = await_condition(pods, "web", conditions::is_pod_running());
        tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("a pod");
        cluster
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.folder.path().join("kubeconfig")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.spdy {
            command.envs(SPDY);
        }
        command
    }

    /// Runs to the end; with the code, what was printed, and what was complained.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        told(self.command(arguments).output().expect("kubectl"))
    }

    fn run_with(&self, arguments: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("kubectl");
        let mut stdin = child.stdin.take().expect("stdin");
        let input = input.to_vec();
        let feeding = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("an end");
        let _ = feeding.join().expect("no panic");
        told(output)
    }

    fn start_running(&self, arguments: &[&str]) -> Running {
        Running(self.command(arguments).spawn().expect("kubectl"))
    }

    /// Runs with an input, waits for success, and checks a part of what is printed, spaces apart.
    #[track_caller]
    fn tells(&self, arguments: &str, input: &str, wanted: &str) {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let (code, out, complaints) = self.run_with(&arguments, input.as_bytes());
        let shown = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            code == Some(0) && shown.contains(wanted),
            "{arguments:?}: wanted {wanted:?}, got {shown:?} {complaints}"
        );
    }

    #[track_caller]
    fn prints(&self, arguments: &[&str], wanted: &str) {
        let (code, out, complaints) = self.run(arguments);
        assert_eq!((code, out.as_str()), (Some(0), wanted), "{arguments:?}: {complaints}");
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], wanted: i32, why: &str) {
        let (code, _, complaints) = self.run(arguments);
        assert!(code == Some(wanted) && complaints.contains(why), "{arguments:?}: {code:?} {complaints}");
    }
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[expect(clippy::print_stderr, reason = "a skipped part must be seen")]
fn missing() -> bool {
    let found = Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|out| out.status.success());
    if !found {
        eprintln!("SKIPPED: no kubectl on PATH, it was not tried on simulated pods");
    }
    !found
}

fn exec(cluster: &Cluster) {
    cluster.prints(&["exec", "web", "-c", "main", "--", "echo", "hello"], "hello\n");
    cluster.prints(&["exec", "web", "-c", "main", "--", "sh", "-c", "hostname; echo $HOME"], "web\n/root\n");
    cluster.fails(&["exec", "web", "-c", "main", "--", "sh", "-c", "exit 3"], 3, "exit code 3");
    cluster.fails(&["exec", "web", "-c", "main", "--", "vim"], 1, "executable file not found in $PATH");
    cluster.fails(&["exec", "web", "-c", "nope", "--", "ls"], 1, "container nope is not valid for pod web");
    cluster.fails(&["exec", "nope", "--", "ls"], 1, "pods \"nope\" not found");
    let (code, out, complaints) = cluster.run(&["exec", "web", "--", "sh", "-c", "echo out; ls /x"]);
    assert!(code == Some(1) && out == "out\n" && complaints.contains("ls: /x: No such file"), "{out}{complaints}");
    let input = vec![b'x'; 3_000_000];
    let (code, out, complaints) = cluster.run_with(&["exec", "-i", "web", "-c", "main", "--", "wc", "-c"], &input);
    assert_eq!((code, out.as_str()), (Some(0), "3000000\n"), "{complaints}");
    let (code, out, _) = cluster.run_with(&["exec", "-i", "web", "-c", "main", "--", "sh"], b"echo a; exit 4\n");
    assert_eq!((code, out.as_str()), (Some(4), "a\n"));
    let (code, out, complaints) = cluster.run(&["exec", "web", "-c", "main", "--", "head", "-c", "20M", "/dev/zero"]);
    assert_eq!((code, out.len()), (Some(0), 20 << 20), "{complaints}");
}

fn copy(cluster: &Cluster) {
    let path = |name: &str| cluster.folder.path().join(name).to_str().expect("a path").to_owned();
    let content: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    std::fs::create_dir_all(path("there/sub")).expect("a folder");
    std::fs::write(path("there/sub/file"), &content).expect("a file");
    cluster.prints(&["cp", &path("there"), "web:/tmp/copy", "-c", "main"], "");
    cluster.prints(&["exec", "web", "-c", "main", "--", "ls", "/tmp/copy/sub"], "file\n");
    let (code, _, complaints) = cluster.run(&["cp", "web:/tmp/copy", &path("back"), "-c", "main"]);
    assert_eq!(code, Some(0), "{complaints}");
    assert!(std::fs::read(path("back/sub/file")).expect("the copy") == content);
    std::fs::remove_dir_all(path("back")).expect("removed");
    cluster.prints(&["exec", "web", "-c", "main", "--", "rm", "-rf", "/tmp/copy"], "");
}

fn forward(cluster: &Cluster) {
    let mut forwarding = cluster.start_running(&["port-forward", "pod/web", ":80", "--address", "127.0.0.1"]);
    let mut lines = BufReader::new(forwarding.0.stdout.take().expect("stdout")).lines();
    let first = lines.next().expect("a line").expect("text");
    let port: u16 = first
        .strip_prefix("Forwarding from 127.0.0.1:")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|port| port.parse().ok())
        .expect("a line that names the port");
    let connect = || {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    };
    for number in 0..20 {
        let mut socket = connect();
        write!(socket, "GET /{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        let mut page = String::new();
        socket.read_to_string(&mut page).expect("a page");
        assert!(page.ends_with(&format!("simulated pod default/web, port 80: GET /{number}\n")), "{page}");
    }
    // Several at once, each with its own bytes.
    let mut sockets: Vec<(TcpStream, Vec<u8>)> = (1..=8).map(|seed| (connect(), vec![seed; 200_000])).collect();
    std::thread::scope(|scope| {
        for (socket, bytes) in &mut sockets {
            scope.spawn(move || {
                let mut writing = socket.try_clone().expect("a second handle");
                std::thread::scope(|inner| {
                    inner.spawn(|| writing.write_all(bytes).expect("sent"));
                    let mut back = vec![0; bytes.len()];
                    socket.read_exact(&mut back).expect("an echo");
                    assert!(back == *bytes);
                });
            });
        }
    });
    drop(sockets);
    // A port that nobody listens on is refused, and the client is told.
    let mut refused = cluster.start_running(&["port-forward", "pod/web", ":81", "--address", "127.0.0.1"]);
    let mut lines = BufReader::new(refused.0.stdout.take().expect("stdout")).lines();
    let first = lines.next().expect("a line").expect("text");
    let port: u16 = first.rsplit_once(" ->").and_then(|(a, _)| a.rsplit(':').next()?.parse().ok()).expect("a port");
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _ = socket.write_all(b"x");
    assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0);
    let mut complaints = BufReader::new(refused.0.stderr.take().expect("stderr")).lines();
    let line = complaints.next().expect("a complaint").expect("text");
    assert!(line.contains("connection refused"), "{line}");
}

fn attach(cluster: &Cluster) {
    let mut attached = cluster.start_running(&["attach", "web", "-c", "main", "-i"]);
    drop(attached.0.stdin.take());
    let mut child =
        cluster.command(&["attach", "web", "-c", "main", "-i"]).stdin(Stdio::piped()).spawn().expect("kubectl");
    child.stdin.as_mut().expect("stdin").write_all(b"marco\n").expect("written");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let attached = Running(child);
    assert!(lines.any(|line| line.expect("text") == "marco"), "what goes in comes out");
    drop(attached);
}

fn logs(cluster: &Cluster) {
    let (code, out, complaints) = cluster.run(&["logs", "web", "-c", "main", "--tail=1"]);
    assert!(code == Some(0) && out.lines().count() == 1, "{out}{complaints}");
    let (_, out, _) = cluster.run(&["logs", "web", "--all-containers", "--prefix"]);
    assert!(out.contains("[pod/web/main] ") && out.contains("[pod/web/side] "), "{out}");
    let (_, out, _) = cluster.run(&["logs", "web", "-c", "main", "--timestamps"]);
    assert!(out.starts_with("20") && out.contains("Z simulated "), "{out}");
    let (code, out, _) = cluster.run(&["logs", "web", "-c", "main", "--since=1s", "--limit-bytes=5"]);
    assert!(code == Some(0) && out.len() <= 5, "{out}");
    cluster.fails(
        &["logs", "web", "-c", "main", "-p"],
        1,
        "previous terminated container \"main\" in pod \"web\" not found",
    );
    cluster.fails(&["logs", "web", "-c", "nope"], 1, "container nope is not valid for pod web");
    let mut following = cluster.start_running(&["logs", "-f", "web", "-c", "main"]);
    let lines = BufReader::new(following.0.stdout.take().expect("stdout")).lines();
    let seen: Vec<String> = lines.take(3).map(|line| line.expect("text")).collect();
    assert!(seen[2].starts_with("simulated heartbeat"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reaches_into_simulated_pods_over_both_protocols() {
    if missing() {
        return;
    }
    let mut cluster = Cluster::start().await;
    for spdy in [false, true] {
        cluster.spdy = spdy;
        exec(&cluster);
        copy(&cluster);
        forward(&cluster);
        attach(&cluster);
    }
    logs(&cluster);
    cluster.nodes.stop().await;
}

const CLAIM: &str = r#"{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}"#;
const VOLUME: &str = r#"{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
    "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "hostPath": {"path": "/x"}}}"#;
const DAEMONS: &str = r#"{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d"}, "spec": {
    "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}}, "spec": {
    "containers": [{"name": "c", "image": "example.com/a:1"}]}}}}"#;

fn map(value: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": value}}).to_string()
}

/// What once read otherwise than on a real server whose controller manager runs and that has no nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reads_what_controllers_wrote() {
    if missing() {
        return;
    }
    let cluster = Cluster::bare().await;
    cluster.tells("wait --for=create cm/kube-root-ca.crt --timeout=20s", "", "condition met");
    deployments(&cluster);
    others(&cluster);
    volumes(&cluster);
    // A template that comes back is the newest revision again.
    cluster.tells("create -f -", DAEMONS, "created");
    cluster.tells("wait --for=jsonpath={.status.observedGeneration}=1 ds/d --timeout=20s", "", "met");
    cluster.tells("set image ds/d c=example.com/a:2", "", "updated");
    history(&cluster, "1 <none> 2 <none>");
    cluster.tells("rollout undo ds/d", "", "rolled back");
    history(&cluster, "2 <none> 3 <none>");
    // What the client applied, the server may go on to apply.
    cluster.tells("apply -f -", &map("1"), "configmap/m created");
    cluster.tells("apply --server-side -f -", &map("2"), "configmap/m serverside-applied");
    // A certificate counts before a token.
    cluster.tells("get cm m -o name --token=bad", "", "configmap/m");
    cluster.nodes.stop().await;
}

fn deployments(cluster: &Cluster) {
    cluster.tells("create deployment web --image=example.com/a:1 --replicas=0", "", "created");
    cluster.tells("rollout status deployment/web --timeout=20s", "", "successfully rolled out");
    cluster.tells("get deployment web --subresource=scale --no-headers", "", "web 0 0");
    cluster.tells("rollout pause deployment/web", "", "paused");
    let paused = r#"{.status.conditions[?(@.type=="Progressing")].status}=Unknown"#;
    cluster.tells(&format!("wait --for=jsonpath={paused} deployment/web --timeout=20s"), "", "met");
}

fn others(cluster: &Cluster) {
    cluster.tells("create pdb p --selector=app=x --min-available=1", "", "created");
    cluster.tells("wait --for=jsonpath={.status.observedGeneration}=1 pdb/p --timeout=20s", "", "met");
    cluster.tells("describe pdb p", "", "Desired: 1");
    cluster.tells("events --for pdb/p", "", "NoPods");
    cluster.tells("create quota q --hard=configmaps=10,services.nodeports=2", "", "created");
    cluster.tells("wait --for=jsonpath={.status.used.configmaps}=1 quota/q --timeout=20s", "", "met");
    cluster.tells("create service clusterip s --tcp=80", "", "created");
    cluster.tells("wait --for=create endpoints/s --timeout=20s", "", "met");
    cluster.tells("get endpointslices -l kubernetes.io/service-name=s --no-headers", "", "IPv4 <unset> <unset>");
    cluster.tells("create job j --image=example.com/a:1", "", "created");
    cluster.tells("get job j -o jsonpath={.metadata.labels.job-name}", "", "j");
    cluster.tells("create cronjob cj --image=example.com/a:1 --schedule=@yearly", "", "created");
    cluster.tells("get cj cj -o jsonpath=<{.spec.jobTemplate.spec.backoffLimit}>", "", "<>");
}

/// A claim is bound, and lets go of its volume; neither waits for ever to be deleted.
fn volumes(cluster: &Cluster) {
    cluster.tells("create -f -", VOLUME, "created");
    cluster.tells("create -f -", CLAIM, "created");
    cluster.tells("wait --for=jsonpath={.status.phase}=Bound pvc/c --timeout=20s", "", "met");
    cluster.tells("get pvc c --no-headers", "", "c Bound v 2Gi RWO");
    cluster.tells("delete pvc c --timeout=20s", "", "deleted");
    cluster.tells("wait --for=jsonpath={.status.phase}=Released pv/v --timeout=20s", "", "met");
    cluster.tells("delete pv v --timeout=20s", "", "deleted");
}

/// Waits until the history of the DaemonSet is as wanted.
fn history(cluster: &Cluster, wanted: &str) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, out, _) = cluster.run(&["rollout", "history", "ds/d"]);
        let shown = out.split_whitespace().collect::<Vec<_>>().join(" ");
        if shown.ends_with(&format!("CHANGE-CAUSE {wanted}")) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "wanted {wanted:?}, got {shown:?}");
    }
}
