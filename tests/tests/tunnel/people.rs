//! People with the real `kubectl`, through the proxy, under their own names.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use lattice_tests::sandbox::{Sandbox, binaries};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::without_udp::{Place, without_udp};

/// Longest that one kubectl may take.
const KUBECTL_AT_MOST: Duration = Duration::from_secs(60);
/// Variables that make `kubectl` leave WebSocket out.
const SPDY: [(&str, &str); 2] =
    [("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")];

/// A person: a kubeconfig as `lattice-manager kubeconfig` prints it.
pub(crate) struct Person {
    pub(crate) folder: tempfile::TempDir,
    spdy: bool,
    also: Vec<String>,
}

impl Person {
    /// The person whose credential of the parent is in `parent`.
    async fn of(parent: &std::path::Path, cluster: &str) -> Result<Self> {
        let made = Command::new(binaries()?.join("lattice-manager"))
            .args(["kubeconfig", cluster, "--kubeconfig"])
            .arg(parent)
            .output()
            .await?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("config"), made.stdout)?;
        Ok(Self { folder, spdy: false, also: Vec::new() })
    }

    fn kubectl(&self, line: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.folder.path().join("config")).arg("--cache-dir");
        command.arg(self.folder.path().join("cache")).args(&self.also).args(line);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if self.spdy {
            command.envs(SPDY);
        }
        command
    }

    async fn run(&self, line: &[&str]) -> Result<(bool, String, String)> {
        told(line, self.kubectl(line).output()).await
    }

    /// What it prints; an error when it fails.
    pub(crate) async fn prints(&self, line: &[&str]) -> Result<String> {
        let (done, out, complaints) = self.run(line).await?;
        ensure!(done, "kubectl {line:?}: {complaints}");
        Ok(out)
    }

    /// As [`Person::prints`], of something that takes long.
    pub(crate) async fn prints_in(&self, at_most: Duration, line: &[&str]) -> Result<String> {
        let output = tokio::time::timeout(at_most, self.kubectl(line).output()).await??;
        ensure!(output.status.success(), "kubectl {line:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it complains of; an error when it does not fail.
    async fn is_refused(&self, line: &[&str]) -> Result<String> {
        let (done, out, complaints) = self.run(line).await?;
        ensure!(!done, "kubectl {line:?} was let through: {out}");
        Ok(complaints)
    }

    pub(crate) async fn fed(&self, line: &[&str], input: &str) -> Result<String> {
        let mut child = self.kubectl(line).stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let (done, out, complaints) = told(line, child.wait_with_output()).await?;
        ensure!(done, "kubectl {line:?}: {complaints}");
        Ok(out)
    }

    fn start(&self, line: &[&str]) -> Result<Child> {
        Ok(self.kubectl(line).spawn()?)
    }
}

async fn told(line: &[&str], running: impl Future<Output = std::io::Result<Output>>) -> Result<(bool, String, String)> {
    let output = tokio::time::timeout(KUBECTL_AT_MOST, running).await.with_context(|| format!("{line:?} hangs"))??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.success(), text(output.stdout), text(output.stderr)))
}

/// Reads lines until one holds `wanted`.
async fn line_with(out: impl tokio::io::AsyncRead + Unpin, wanted: &str) -> Result<String> {
    let mut lines = BufReader::new(out).lines();
    let reading = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains(wanted) {
                return Ok(line);
            }
        }
        anyhow::bail!("the output ended without {wanted:?}")
    };
    tokio::time::timeout(KUBECTL_AT_MOST, reading).await.with_context(|| format!("no line with {wanted:?}"))?
}

async fn put(client: &kube::Client, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().context("a kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let name = object.metadata.name.clone().context("a name")?;
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(&object)).await?;
    Ok(())
}

fn role(name: &str, rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

fn binding(role: &str, user: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": role},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    })
}

/// A ServiceAccount of the parent with a token of its own, as a kubeconfig of the parent.
async fn account(sandbox: &Sandbox, name: &str) -> Result<(tempfile::TempDir, std::path::PathBuf)> {
    let accounts = Api::<ServiceAccount>::namespaced(sandbox.parent().await?, "default");
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
    let issued = accounts.create_token_request(name, &PostParams::default(), &request).await?;
    let token = issued.status.context("a token")?.token;
    let text = std::fs::read_to_string(sandbox.state().join("parent.kubeconfig"))?;
    let mut config: Value = serde_saphyr::from_str(&text)?;
    config["users"][0]["user"] = json!({"token": token});
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config");
    std::fs::write(&file, config.to_string())?;
    Ok((folder, file))
}

/// The parent's administrator, who asks to be master of the child in so many words.
pub(crate) async fn master(sandbox: &Sandbox) -> Result<Person> {
    let mut person = Person::of(&sandbox.state().join("parent.kubeconfig"), "backend").await?;
    person.also = ["--as", "me", "--as-group", "system:masters"].map(str::to_owned).to_vec();
    Ok(person)
}

async fn everyday(person: &Person) -> Result<()> {
    let nodes = person.prints(&["get", "nodes", "-o", "name"]).await?;
    assert_eq!(nodes.lines().count(), 4, "{nodes}");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine, namespace: default}\ndata: {a: b}\n";
    assert_eq!(person.fed(&["apply", "-f", "-"], map).await?, "configmap/mine created\n");
    let mut watching = person.start(&["get", "configmaps", "-n", "default", "-w", "-o", "name"])?;
    let out = watching.stdout.take().context("stdout")?;
    let seen = line_with(out, "configmap/seen");
    let made = async {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen, namespace: default}\n";
        person.fed(&["apply", "-f", "-"], map).await
    };
    let (seen, made) = tokio::join!(seen, made);
    made?;
    seen?;
    person.prints(&["delete", "configmap", "mine", "seen", "-n", "default"]).await?;
    Ok(())
}

async fn into_pods(person: &Person) -> Result<()> {
    let folder = person.folder.path().to_owned();
    assert_eq!(person.prints(&["-n", "default", "exec", "web", "--", "echo", "hello"]).await?, "hello\n");
    let input = "x".repeat(300_000);
    let counted = person.fed(&["-n", "default", "exec", "-i", "web", "--", "wc", "-c"], &input).await?;
    assert_eq!(counted.trim(), "300000");

    let mut forwarding = person.start(&["-n", "default", "port-forward", "pod/web", ":80"])?;
    // Held to the end: kubectl dies of a closed pipe when it tells of the connection.
    let mut told = forwarding.stdout.take().context("stdout")?;
    let line = line_with(&mut told, "Forwarding from 127.0.0.1:").await?;
    let port: u16 =
        line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).context("a port")?.parse()?;
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    socket.write_all(b"GET /through HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await?;
    // How kubectl ends a connection that it forwarded is its own affair; the page must have come before.
    let (mut page, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = tokio::time::timeout(KUBECTL_AT_MOST, socket.read(&mut buffer)).await? {
        page.extend_from_slice(&buffer[..read]);
    }
    let page = String::from_utf8_lossy(&page);
    assert!(page.contains("/through"), "{page}");
    forwarding.kill().await?;
    drop(told);

    let (here, there, back) = (folder.join("here"), "default/web:/tmp/there", folder.join("back"));
    std::fs::write(&here, vec![7_u8; 2_000_000])?;
    person.prints(&["cp", &here.display().to_string(), there]).await?;
    person.prints(&["cp", there, &back.display().to_string()]).await?;
    assert!(std::fs::read(&back)? == std::fs::read(&here)?, "the copy is the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_does_its_work_through_the_proxy() -> Result<()> {
    // Over TCP where that can be had: other tests go over QUIC.
    let place = without_udp("people::kubectl_does_its_work_through_the_proxy").await?;
    if place == Place::Done {
        return Ok(());
    }
    let sandbox = Sandbox::builder().start().await?;
    let ready = sandbox.phase("backend", "Ready").await?;
    let transport = if place == Place::WithoutUdp { "tcp" } else { "quic" };
    assert_eq!(ready["status"]["agent"]["transport"], transport);
    let mut person = master(&sandbox).await?;
    everyday(&person).await?;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default}\nspec: {containers: [{name: main, \
               image: 'example.com/web:1', ports: [{containerPort: 80}]}]}\n";
    person.fed(&["apply", "-f", "-"], pod).await?;
    person.prints(&["-n", "default", "wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]).await?;
    for spdy in [false, true] {
        person.spdy = spdy;
        into_pods(&person).await.with_context(|| format!("spdy {spdy}"))?;
    }
    let mut following = person.start(&["-n", "default", "logs", "-f", "web"])?;
    line_with(following.stdout.take().context("stdout")?, "simulated").await?;
    following.kill().await?;

    // A terminal of its own: `script` makes one.
    let line = format!(
        "kubectl --kubeconfig {} --as me --as-group system:masters -n default exec -it web -- echo from-a-terminal",
        person.folder.path().join("config").display()
    );
    let typed = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    let typed = tokio::time::timeout(KUBECTL_AT_MOST, typed).await??;
    assert!(String::from_utf8_lossy(&typed.stdout).contains("from-a-terminal"), "{typed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_person_is_held_by_the_childs_own_rules() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    let (parent, child) = (sandbox.parent().await?, sandbox.child("backend").await?);
    let jane = "system:serviceaccount:default:jane";
    let (_folder, file) = account(&sandbox, "jane").await?;
    let through = json!([
        {"apiGroups": ["lattice.dev"], "resources": ["latticeclusters"], "verbs": ["get"]},
        {"apiGroups": ["lattice.dev"], "resources": ["latticeclusters/proxy"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    ]);
    put(&parent, role("through", through)).await?;
    put(&parent, binding("through", jane)).await?;
    let person = Person::of(&file, "backend").await?;

    let whoami = person.prints(&["auth", "whoami", "-o", "json"]).await;
    assert!(whoami.is_err(), "a review is a POST, which the parent does not let her send");
    let refused = person.is_refused(&["get", "pods", "-A"]).await?;
    assert!(refused.contains(&format!("User \"{jane}\" cannot list resource \"pods\"")), "{refused}");
    put(&child, role("pods", json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]))).await?;
    put(&child, binding("pods", jane)).await?;
    assert!(person.prints(&["get", "pods", "-A", "-o", "name"]).await?.lines().count() > 5);
    let refused = person.is_refused(&["get", "secrets", "-A"]).await?;
    assert!(refused.contains(&format!("User \"{jane}\" cannot list resource \"secrets\"")), "{refused}");
    for claim in [&["--as", "bob"][..], &["--as", jane, "--as-group", "system:masters"]] {
        let refused = person.is_refused(&[&["get", "pods", "-A"][..], claim].concat()).await?;
        assert!(refused.contains("may not impersonate"), "{refused}");
    }
    let refused = person.is_refused(&["delete", "pod", "x", "-n", "default"]).await?;
    assert!(refused.contains("may not delete latticeclusters/proxy"), "{refused}");

    // The parent's master is nobody's master here by that alone.
    let admin = Person::of(&sandbox.state().join("parent.kubeconfig"), "backend").await?;
    let refused = admin.is_refused(&["get", "secrets", "-A"]).await?;
    assert!(refused.contains("User \"kubernetes-admin\" cannot list"), "{refused}");

    let log = std::fs::read_to_string(sandbox.state().join("logs/manager.log"))?;
    let audited =
        log.lines().any(|line| line.contains("proxied request") && line.contains(jane) && line.contains("code=403"));
    assert!(audited, "each request leaves a line");
    assert!(!log.contains("Bearer"), "no credential is logged");
    Ok(())
}
