//! A built `lattice-agent` with a small Kubernetes API of its own: the daemon itself, without a node around it.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, PostParams};
use lattice_apiserver::{ApiServer, Config, Serving};
use lattice_protocol::tls::{CaBundle, CaPin};
use lattice_protocol::token::JoinToken;
use lattice_tests::sandbox::{binaries, send};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::asking::Cluster;
use crate::rig::Rig;
use crate::wait::until;

const NAMESPACE: &str = "lattice-system";
const SECRET: &str = "lattice-agent-identity";

/// A running agent; killed when it is dropped.
pub(crate) struct Agent {
    pub(crate) api: kube::Client,
    process: Child,
    args: Vec<String>,
    /// By how much its clock is in the future, seconds.
    ahead: i64,
    folder: tempfile::TempDir,
    server: Arc<ApiServer>,
    serving: Serving,
}

impl Agent {
    /// Starts the agent of a cluster with a join token.
    pub(crate) async fn start(rig: &Rig, of: &Cluster, token: &JoinToken, extra: &[&str]) -> Result<Self> {
        Self::start_with(rig, of, token, &rig.ca().await?, None, extra).await
    }

    /// Starts a clone: another machine with the same Secret.
    pub(crate) async fn cloned(&self, rig: &Rig, of: &Cluster) -> Result<Self> {
        let secret = self.secrets().get(SECRET).await?;
        let token = std::fs::read_to_string(self.folder.path().join("etc/lattice/enrol/token"))?;
        Self::start_with(rig, of, &JoinToken::parse(&token)?, &rig.ca().await?, Some(secret), &[]).await
    }

    /// Starts the agent of a cluster that was given `ca`.
    pub(crate) async fn start_with(
        rig: &Rig,
        of: &Cluster,
        token: &JoinToken,
        ca: &str,
        secret: Option<Secret>,
        extra: &[&str],
    ) -> Result<Self> {
        let server = ApiServer::new(Config::default())?;
        let serving = server.serve("127.0.0.1:0".parse()?).await?;
        let api = server.client();
        let folder = tempfile::tempdir()?;
        let bearer = account(&api).await?;
        let put = |path: &str, text: &str| -> Result<()> {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().context("a parent")?)?;
            Ok(std::fs::write(path, text)?)
        };
        put("var/run/secrets/kubernetes.io/serviceaccount/token", &bearer)?;
        put("var/run/secrets/kubernetes.io/serviceaccount/ca.crt", server.ca_pem())?;
        put("etc/lattice/enrol/ca.crt", ca)?;
        put("etc/lattice/enrol/token", token.expose().as_str())?;
        if let Some(secret) = secret {
            let copy = Secret {
                metadata: kube::core::ObjectMeta { name: Some(SECRET.to_owned()), ..Default::default() },
                ..secret
            };
            Api::<Secret>::namespaced(api.clone(), NAMESPACE).create(&PostParams::default(), &copy).await?;
        }
        let pin = CaPin::of(&CaBundle::from_pem(ca.as_bytes())?.certificates()[0])?;
        let mut args: Vec<String> = [
            ("--cluster", of.name.to_string()),
            ("--cluster-uid", of.uid.to_string()),
            ("--trust-domain", "lattice.local".to_owned()),
            ("--endpoint", rig.gateway().to_string()),
            ("--bootstrap-url", format!("https://{}", rig.bootstrap())),
            ("--ca-pin", pin.to_string()),
            ("--kubernetes-host", "127.0.0.1".to_owned()),
            ("--kubernetes-port", serving.addr().port().to_string()),
            ("--health-port", "0".to_owned()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect();
        args.extend(extra.iter().map(|arg| (*arg).to_owned()));
        let (process, ahead) = (spawn(folder.path(), &args, 0)?, 0);
        Ok(Self { api, process, args, ahead, folder, server, serving })
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.api.clone(), NAMESPACE)
    }

    /// A value of the Secret that keeps the identity, once it is there.
    pub(crate) async fn kept(&self, key: &str) -> Result<String> {
        until(&format!("{key} of the identity"), async || {
            let mut data = self.secrets().get(SECRET).await.ok()?.data?;
            String::from_utf8(data.remove(key)?.0).ok()
        })
        .await
        .with_context(|| self.log())
    }

    /// As a machine whose disk was made new.
    pub(crate) async fn wipe(&mut self) -> Result<()> {
        self.process.kill().await?;
        self.secrets().delete(SECRET, &kube::api::DeleteParams::default()).await?;
        self.process = spawn(self.folder.path(), &self.args, self.ahead)?;
        Ok(())
    }

    /// Gives it another join token, as the manifest that `lattice-manager enrol` prints does.
    pub(crate) fn give(&self, token: &JoinToken) -> Result<()> {
        Ok(std::fs::write(self.folder.path().join("etc/lattice/enrol/token"), token.expose().as_str())?)
    }

    /// Gives it another CA to begin with.
    pub(crate) fn trust(&self, ca: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.path().join("etc/lattice/enrol/ca.crt"), ca)?)
    }

    /// Ends it as the kernel does and starts it again, with further arguments.
    pub(crate) async fn start_again(&mut self, extra: &[&str]) -> Result<()> {
        self.process.kill().await?;
        self.args.extend(extra.iter().map(|arg| (*arg).to_owned()));
        self.process = spawn(self.folder.path(), &self.args, self.ahead)?;
        Ok(())
    }

    /// Ends it as a machine that loses power.
    pub(crate) async fn falls_asleep(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Starts it when so much time has passed.
    pub(crate) fn wakes_after(&mut self, by: SignedDuration) -> Result<()> {
        self.ahead += by.as_secs();
        self.process = spawn(self.folder.path(), &self.args, self.ahead)?;
        Ok(())
    }

    /// The way to its Kubernetes API, for somebody who works there.
    pub(crate) fn kubeconfig(&self) -> Result<String> {
        Ok(self.server.kubeconfig(&self.serving.addr())?)
    }

    /// Sends it a signal.
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        send(self.process.id().context("it runs")?, name).await
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it has said `words` so many times.
    pub(crate) async fn says(&self, words: &str, times: usize) -> Result<()> {
        let said = async || (self.log().matches(words).count() >= times).then_some(());
        until(&format!("the agent says {words:?} {times} times"), said).await.with_context(|| self.log())
    }

    /// Certificates that it has got since it enrolled: by renewal, or by recovery where it was too slow for that.
    pub(crate) fn certificates(&self) -> usize {
        let said = self.log();
        said.matches("certificate renewed").count() + said.matches("identity recovered").count()
    }

    /// Waits until it has got so many more of them.
    pub(crate) async fn gets(&self, more: usize) -> Result<()> {
        let wanted = self.certificates() + more;
        until("the agent gets further certificates", async || (self.certificates() >= wanted).then_some(()))
            .await
            .with_context(|| self.log())
    }

    /// Waits for an Event on the child with that reason, and gives its words.
    pub(crate) async fn tells(&self, reason: &str) -> Result<String> {
        let events: Api<Event> = Api::all(self.api.clone());
        until(&format!("an Event {reason} on the child"), async || {
            let all = events.list(&ListParams::default()).await.ok()?;
            let found = all.items.into_iter().find(|event| event.reason.as_deref() == Some(reason));
            found.map(|event| event.note.unwrap_or_default())
        })
        .await
        .with_context(|| self.log())
    }
}

/// The namespace, and a ServiceAccount that may do what the agent's manifest lets it; gives its token.
async fn account(api: &kube::Client) -> Result<String> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::<Namespace>::all(api.clone()).create(&PostParams::default(), &namespace).await?;
    let post = async |path: &str, body: Value| -> Result<Value> {
        let request =
            http::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(&body)?)?;
        Ok(api.request(request).await?)
    };
    let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    post(&accounts, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "lattice-agent"}}))
        .await?;
    post(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "lattice-agent"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "lattice-agent", "namespace": NAMESPACE}],
        }),
    )
    .await?;
    let asked =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}});
    let made = post(&format!("{accounts}/lattice-agent/token"), asked).await?;
    Ok(made["status"]["token"].as_str().context("a token")?.to_owned())
}

fn spawn(folder: &Path, args: &[String], ahead: i64) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    let mut command = Command::new(binaries()?.join("lattice-agent"));
    if !args.iter().any(|arg| arg == "--simulated-clock-offset") {
        command.env("LATTICE_SIMULATED_AGENT_CLOCK_OFFSET", ahead.to_string());
    }
    command
        .arg("run")
        .args(args)
        .arg("--volume-root")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("lattice-agent run")
}
