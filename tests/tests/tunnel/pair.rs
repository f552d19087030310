//! One built manager and one built agent, each over an embedded API, and whatever network lies between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Event, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use lattice_apiserver::{ApiServer, Serving};
use lattice_manager::store::Fence;
use lattice_manager::store::identity::let_in;
use lattice_manager::store::vault::KubeVault;
use lattice_protocol::clock;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{CaBundle, CaPin};
use lattice_tests::cluster::{make_namespace, make_parent};
use lattice_tests::sandbox::binaries;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) const CLUSTER: &str = "c1";
const UID: &str = "0b6c2d1e-9f00-4c8e-8a77-000000000001";
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(50);

/// How many pairs run at once: the machine is small.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Where the two are.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The manager's address, and that of the child's API.
    pub(crate) manager: IpAddr,
    /// Goes before the agent's command line, for example `nsenter`.
    pub(crate) agent_prefix: Vec<String>,
    /// The name that agents know the manager by; none: its address.
    pub(crate) name: Option<&'static str>,
}

impl Site {
    /// Both on this machine's loopback.
    pub(crate) fn here() -> Self {
        Self { manager: IpAddr::from([127, 0, 0, 1]), agent_prefix: Vec::new(), name: None }
    }

    /// Both here, but agents know the manager by a name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self { name: Some(name), ..Self::here() }
    }

    fn host(&self) -> String {
        self.name.map_or_else(|| self.manager.to_string(), str::to_owned)
    }
}

/// Both daemons; killed when it is dropped.
pub(crate) struct Pair {
    pub(crate) parent: Arc<ApiServer>,
    pub(crate) child: Arc<ApiServer>,
    site: Site,
    ports: [u16; 4],
    child_port: u16,
    folder: tempfile::TempDir,
    pub(crate) manager: Child,
    pub(crate) agent: Option<Child>,
    _serving: (Serving, Serving),
    _place: SemaphorePermit<'static>,
}

impl Pair {
    /// Starts the manager. `manager_env` are variables of its environment.
    pub(crate) async fn start(site: Site, manager_env: &[(&str, &str)]) -> Result<Self> {
        lattice_protocol::tls::install_provider();
        let place = PLACES.acquire().await.context("places are never closed")?;
        let parent = ApiServer::new(lattice_apiserver::Config { controllers: true, ..Default::default() })?;
        let parent_serving = parent.serve("127.0.0.1:0".parse()?).await?;
        let child = ApiServer::new(lattice_apiserver::Config::default())?;
        let child_serving = child.serve(SocketAddr::new(site.manager, 0)).await?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("kubeconfig"), parent.kubeconfig(&parent_serving.addr())?)?;
        make_parent(&parent.client()).await?;
        make_namespace(&child.client()).await?;
        let ports = [free_port(&site)?, free_port(&site)?, free_port(&site)?, free_port(&site)?];
        let manager = spawn_manager(folder.path(), &site, ports, manager_env)?;
        let child_port = child_serving.addr().port();
        let pair = Self {
            parent,
            child,
            site,
            ports,
            child_port,
            folder,
            manager,
            agent: None,
            _serving: (parent_serving, child_serving),
            _place: place,
        };
        pair.prepare_agent().await.with_context(|| pair.log("manager"))?;
        Ok(pair)
    }

    /// What the agent's pod would have mounted.
    async fn prepare_agent(&self) -> Result<()> {
        let ca = until("the manager's CA", async || self.ca().await.ok()).await?;
        let client = self.child.client();
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "lattice-agent", "namespace": "lattice-system"}}))?;
        Api::<ServiceAccount>::namespaced(client.clone(), "lattice-system")
            .create(&PostParams::default(), &account)
            .await?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "lattice-agent"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [
                {"kind": "ServiceAccount", "name": "lattice-agent", "namespace": "lattice-system"},
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "kubernetes-admin"},
            ],
        }))?;
        Api::<ClusterRoleBinding>::all(client).create(&PostParams::default(), &binding).await?;
        let mounts = self.folder.path().join("mounts");
        let account = mounts.join("var/run/secrets/kubernetes.io/serviceaccount");
        let enrol = mounts.join("etc/lattice/enrol");
        std::fs::create_dir_all(&account)?;
        std::fs::create_dir_all(&enrol)?;
        std::fs::write(account.join("token"), self.child.service_account_token("lattice-system", "lattice-agent")?)?;
        std::fs::write(account.join("ca.crt"), self.child.ca_pem())?;
        std::fs::write(enrol.join("ca.crt"), &ca)?;
        let vault = KubeVault::new(self.parent.client(), Fence::open(), "lattice-system");
        let (name, uid): (ClusterName, ClusterUid) = (CLUSTER.parse()?, UID.parse()?);
        let token = let_in(&vault, &name, &uid, clock::now()).await?;
        std::fs::write(enrol.join("token"), token.expose().as_bytes())?;
        Ok(())
    }

    pub(crate) async fn ca(&self) -> Result<String> {
        let secrets = Api::<Secret>::namespaced(self.parent.client(), "lattice-system");
        let value = secrets.get("lattice-ca").await?.data.and_then(|mut data| data.remove("tls.crt"));
        Ok(String::from_utf8(value.context("a CA")?.0)?)
    }

    /// Starts the agent; one that runs is killed.
    pub(crate) async fn start_agent(&mut self, env: &[(&str, &str)]) -> Result<()> {
        if let Some(mut old) = self.agent.take() {
            old.kill().await?;
        }
        let ca = CaBundle::from_pem(self.ca().await?.as_bytes())?;
        let pin = CaPin::of(ca.certificates().first().context("a certificate")?)?;
        let program = binaries()?.join("lattice-agent");
        let mut line = self.site.agent_prefix.clone();
        line.push(program.to_string_lossy().into_owned());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("agent"))?;
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .args(["run", "--cluster", CLUSTER, "--cluster-uid", UID, "--trust-domain", "lattice.local"])
            .args(["--endpoint", &format!("{}:{}", self.site.host(), self.ports[0])])
            .args(["--bootstrap-url", &format!("https://{}:{}", self.site.host(), self.ports[1])])
            .args(["--ca-pin", &pin.to_string(), "--health-port", "0", "--node-name", "node-1"])
            .args(["--kubernetes-host", &self.site.manager.to_string()])
            .args(["--kubernetes-port", &self.child_port.to_string()])
            .arg("--volume-root")
            .arg(self.folder.path().join("mounts"))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        self.agent = Some(command.spawn().context("lattice-agent run")?);
        Ok(())
    }

    /// The tunnel's port.
    pub(crate) fn gateway(&self) -> SocketAddr {
        SocketAddr::new(self.site.manager, self.ports[0])
    }

    /// The ports that an agent needs: the tunnel's, and the one where it enrols.
    pub(crate) fn parents_ports(&self) -> [u16; 2] {
        [self.ports[0], self.ports[1]]
    }

    /// What a daemon has said: `manager` or `agent`.
    pub(crate) fn log(&self, daemon: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(daemon)).unwrap_or_default()
    }

    /// The manager's metrics: name and labels to value.
    pub(crate) async fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let io = tokio::net::TcpStream::connect(("127.0.0.1", self.ports[3])).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        drop(task::spawn("test.metrics", Kind::Request, async move { drop(connection.await) }));
        let request = Request::get("/metrics").header("host", "metrics").body(Empty::<bytes::Bytes>::new())?;
        let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        let text = String::from_utf8(body.to_vec())?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(lines
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// One figure of the manager's; 0 when it was never counted.
    pub(crate) async fn figure(&self, name: &str) -> Result<f64> {
        Ok(self.metrics().await?.get(name).copied().unwrap_or_default())
    }

    /// The sum of a metric over its labels; an error when it is not there, so that no name that is gone counts as zero.
    pub(crate) async fn sum(&self, name: &str) -> Result<f64> {
        let all = self.metrics().await?;
        let found: Vec<f64> =
            all.iter().filter(|(line, _)| line.split('{').next() == Some(name)).map(|(_, value)| *value).collect();
        ensure!(!found.is_empty(), "no metric {name}");
        Ok(found.iter().sum())
    }

    /// Sessions that came up so far, over a carrier.
    pub(crate) async fn connects(&self, transport: &str) -> Result<f64> {
        self.figure(&format!("lattice_tunnel_connects_total{{transport=\"{transport}\"}}")).await
    }

    /// Waits for one more session over a carrier than there were; gives how long it took.
    pub(crate) async fn connected(&self, transport: &str, before: f64) -> Result<Duration> {
        let began = tokio::time::Instant::now();
        let what = format!("a session over {transport}");
        let came = until(&what, async || self.connects(transport).await.ok().filter(|count| *count > before)).await;
        came.with_context(|| format!("manager:\n{}\nagent:\n{}", self.log("manager"), self.log("agent")))?;
        Ok(began.elapsed())
    }

    /// An administrator of the parent, on the child, through the proxy.
    pub(crate) async fn through(&self) -> Result<Client> {
        let read = Kubeconfig::read_from(self.folder.path().join("kubeconfig"))?;
        let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        let proxy = SocketAddr::new(self.site.manager, self.ports[2]);
        config.cluster_url = format!("https://{proxy}/clusters/{CLUSTER}").parse()?;
        let ca = CaBundle::from_pem(self.ca().await?.as_bytes())?;
        config.root_cert = Some(ca.certificates().iter().map(|certificate| certificate.to_vec()).collect());
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    /// Waits until a request gets through.
    pub(crate) async fn answers(&self) -> Result<Duration> {
        let client = self.through().await?;
        let began = tokio::time::Instant::now();
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            match tokio::time::timeout(Duration::from_secs(2), client.apiserver_version()).await {
                Ok(Ok(_)) => return Ok(began.elapsed()),
                other => last = format!("{other:?}"),
            }
            tokio::time::sleep(GLANCE).await;
        }
        bail!("no answer: {last}\nmanager:\n{}\nagent:\n{}", self.log("manager"), self.log("agent"))
    }

    /// Waits for an Event on the child with this reason; gives its words.
    pub(crate) async fn child_event(&self, reason: &str) -> Result<String> {
        let api = Api::<Event>::all(self.child.client());
        let events = Api::<k8s_openapi::api::events::v1::Event>::all(self.child.client());
        until(&format!("an Event {reason}"), async || {
            let newer = events.list(&ListParams::default()).await.ok()?;
            let newer = newer.items.into_iter().find(|event| event.reason.as_deref() == Some(reason));
            if let Some(event) = newer {
                return event.note;
            }
            let found = api.list(&ListParams::default()).await.ok()?;
            found.items.into_iter().find(|event| event.reason.as_deref() == Some(reason))?.message
        })
        .await
        .with_context(|| self.log("agent"))
    }
}

/// Waits for something that nobody announces.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        ensure!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(GLANCE).await;
    }
}

fn free_port(site: &Site) -> Result<u16> {
    Ok(std::net::TcpListener::bind(SocketAddr::new(site.manager, 0))?.local_addr()?.port())
}

fn spawn_manager(folder: &Path, site: &Site, ports: [u16; 4], env: &[(&str, &str)]) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("manager"))?;
    let at = |port: u16| SocketAddr::new(site.manager, port).to_string();
    Command::new(binaries()?.join("lattice-manager"))
        .arg("run")
        .args(["--external-address", &site.host(), "--metrics-listen", &format!("127.0.0.1:{}", ports[3])])
        .args(["--holder", "pair", "--trust-domain", "lattice.local"])
        .args(["--gateway-listen", &at(ports[0]), "--bootstrap-listen", &at(ports[1]), "--proxy-listen", &at(ports[2])])
        .arg("--kubeconfig")
        .arg(folder.join("kubeconfig"))
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("lattice-manager run")
}
