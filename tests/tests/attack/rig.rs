//! A running `lattice-manager` over an embedded parent API: one that many attacks share, or one of an attack's own.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use lattice_apiserver::{ApiServer, Clock, Config};
use lattice_manager::store::Fence;
use lattice_manager::store::identity::let_in;
use lattice_manager::store::vault::KubeVault;
use lattice_protocol::clock;
use lattice_protocol::token::JoinToken;
use lattice_tests::cluster::make_parent;
use lattice_tests::sandbox::{binaries, lattice_clusters};
use lattice_tests::tunnel::{Enrolled, Way};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::asking::{Asking, Cluster, Door, verdict};
use crate::wait::{until, until_heard};

pub(crate) const KUBE_SYSTEM: &str = "11111111-2222-3333-4444-555555555555";

/// Count of the first certificate here: its token is made by hand, which always counts one up.
pub(crate) const FIRST: u64 = 2;

/// Life of certificates, seconds, of a parent that is made for those that end.
pub(crate) const BRIEF_SECONDS: u64 = 8;

/// How many managers of an attack's own run at once: the machine is small.
static PLACES: Semaphore = Semaphore::const_new(2);

/// The parents that attacks share, for as long as one of them holds it.
static SHARED: Mutex<Weak<Running>> = Mutex::const_new(Weak::new());
static BRIEF: Mutex<Weak<Running>> = Mutex::const_new(Weak::new());

/// Each attack comes from an address of its own, since refused attempts are counted by address.
static SOURCES: AtomicU8 = AtomicU8::new(1);

/// A parent, and the address that one attack comes from.
pub(crate) struct Rig {
    running: Arc<Running>,
    from: IpAddr,
}

/// A running manager; killed when it is dropped.
struct Running {
    client: Client,
    manager: Mutex<Child>,
    args: std::sync::Mutex<Vec<String>>,
    ports: [u16; 3],
    folder: tempfile::TempDir,
    /// By how much the parent is in the future, seconds.
    ahead: Arc<AtomicI64>,
    /// The embedded API lives here when it outlives the test that started it.
    runtime: Option<tokio::runtime::Runtime>,
    /// What must live as long: the embedded API, and a place among the rigs.
    _kept: Box<dyn Any + Send + Sync>,
}

impl Rig {
    /// A parent of this attack's own: it may be killed, and started with other arguments.
    pub(crate) async fn start(args: &[&str]) -> Result<Self> {
        let place = PLACES.acquire().await.context("places are never closed")?;
        let running = Running::start(owned(args), Some(place)).await?;
        Ok(Self::guest(Arc::new(running)))
    }

    /// The parent that attacks share which leave it as it is.
    pub(crate) async fn shared() -> Result<Self> {
        Self::of(&SHARED, owned(&["--log-format", "json"])).await
    }

    /// As [`Rig::shared`], with certificates that soon end.
    pub(crate) async fn brief() -> Result<Self> {
        Self::of(&BRIEF, vec!["--certificate-lifetime".to_owned(), BRIEF_SECONDS.to_string()]).await
    }

    /// A manager over the API of somebody else, whose kubeconfig is given.
    pub(crate) async fn over(client: Client, kubeconfig: &str, args: &[&str]) -> Result<Self> {
        let place = PLACES.acquire().await.context("places are never closed")?;
        let running = Running::over(client, kubeconfig, owned(args), Arc::default(), Box::new(place)).await?;
        Ok(Self::guest(Arc::new(running)))
    }

    async fn of(held: &'static Mutex<Weak<Running>>, args: Vec<String>) -> Result<Self> {
        let mut held = held.lock().await;
        if let Some(running) = held.upgrade() {
            return Ok(Self::guest(running));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let started = tokio::task::spawn_blocking(move || (runtime.block_on(Running::start(args, None)), runtime));
        let (running, runtime) = started.await?;
        let mut running = running?;
        running.runtime = Some(runtime);
        let running = Arc::new(running);
        *held = Arc::downgrade(&running);
        Ok(Self::guest(running))
    }

    fn guest(running: Arc<Running>) -> Self {
        let from = Ipv4Addr::new(127, 18, 0, SOURCES.fetch_add(1, Ordering::Relaxed));
        Self { running, from: from.into() }
    }

    /// Kills the manager as the kernel does and starts another one with other arguments.
    pub(crate) async fn kill_and_start_with(&self, args: &[&str]) -> Result<()> {
        *self.running.args.lock().expect("nobody panics meanwhile") = owned(args);
        self.kill_and_start().await
    }

    /// As [`Rig::kill_and_start_with`], for a manager that may not come up.
    pub(crate) async fn restart_with(&self, args: &[&str]) -> Result<()> {
        *self.running.args.lock().expect("nobody panics meanwhile") = owned(args);
        let mut manager = self.running.manager.lock().await;
        manager.kill().await?;
        *manager = self.running.spawn()?;
        Ok(())
    }

    /// Kills the manager as the kernel does and starts another one.
    pub(crate) async fn kill_and_start(&self) -> Result<()> {
        let mut manager = self.running.manager.lock().await;
        manager.kill().await?;
        *manager = self.running.spawn()?;
        drop(manager);
        self.running.is_up().await
    }

    /// The parent's clocks go on by so much, while its manager is off for a moment.
    pub(crate) async fn time_passes(&self, by: SignedDuration) -> Result<()> {
        self.running.ahead.fetch_add(by.as_secs(), Ordering::Relaxed);
        self.kill_and_start().await
    }

    /// The time that the parent has.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        clock::now() + SignedDuration::from_secs(self.running.ahead.load(Ordering::Relaxed))
    }

    pub(crate) fn gateway(&self) -> SocketAddr {
        self.running.at(0)
    }

    pub(crate) fn bootstrap(&self) -> SocketAddr {
        self.running.at(1)
    }

    pub(crate) fn proxy(&self) -> SocketAddr {
        self.running.at(2)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.running.folder.path()
    }

    pub(crate) fn log(&self) -> String {
        self.running.log()
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        self.running.secrets()
    }

    pub(crate) async fn ca(&self) -> Result<String> {
        self.running.authority("tls.crt").await
    }

    /// What only the parent has: for certificates that it would never sign.
    pub(crate) async fn ca_key(&self) -> Result<String> {
        self.running.authority("tls.key").await
    }

    pub(crate) async fn way(&self) -> Result<Way> {
        Ok(Way { address: self.gateway(), ca: self.ca().await?, fleet: "lattice.local".to_owned() })
    }

    /// A cluster with an object of its own, so that there is somebody to tell of what happens to it.
    pub(crate) async fn object(&self, name: &str) -> Result<Cluster> {
        let size = json!({"cores": 4, "memoryGib": 16, "diskGib": 50});
        let spec = json!({
            "latticeImage": "ghcr.io/evan-hines-js/lattice:latest",
            "providerRef": "proxmox",
            "provider": {
                "kubernetes": {"version": "1.32.0", "bootstrap": "kubeadm"},
                "config": {"proxmox": {
                    "sourceNode": "s", "templateId": 9000, "controlPlaneEndpoint": "10.0.1.110", "bridge": "vmbr1",
                    "ipv4Pool": {"range": "10.0.1.111-120/24", "gateway": "10.0.1.1"},
                }},
            },
            "nodes": {
                "controlPlane": {"replicas": 1, "instanceType": size},
                "workerPools": {"default": {"replicas": 1, "instanceType": size}},
            },
        });
        let object = json!({
            "apiVersion": "lattice.dev/v1alpha1", "kind": "LatticeCluster", "metadata": {"name": name}, "spec": spec,
        });
        let object = serde_json::from_value(object)?;
        let clusters = lattice_clusters(self.running.client.clone());
        let made = clusters.create(&PostParams::default(), &object).await?;
        let uid = made.metadata.uid.context("an object has a uid")?;
        Ok(Cluster { name: name.parse()?, uid: uid.parse()? })
    }

    /// Waits for an Event about the cluster with that reason, and gives its words.
    pub(crate) async fn hears(&self, of: &Cluster, reason: &str) -> Result<String> {
        let events: Api<Event> = Api::namespaced(self.running.client.clone(), "default");
        until(&format!("an Event {reason} about {}", of.name), async || {
            let all = events.list(&ListParams::default()).await.ok()?;
            let of_it = |event: &Event| {
                event.regarding.as_ref().and_then(|about| about.uid.as_deref()) == Some(of.uid.as_str())
            };
            let found = all.items.into_iter().find(|event| of_it(event) && event.reason.as_deref() == Some(reason));
            found.map(|event| event.note.unwrap_or_default())
        })
        .await
        .with_context(|| self.log())
    }

    /// Waits until the cluster's condition is True and says `words`; gives all that it says.
    pub(crate) async fn condition(&self, of: &Cluster, kind: &str, words: &str) -> Result<String> {
        until(&format!("condition {kind} of {} that says {words:?}", of.name), async || {
            let status = self.status(of).await.ok()?;
            let found = status["conditions"].as_array()?.iter().find(|one| one["type"] == kind)?;
            let message = found["message"].as_str()?.to_owned();
            (found["status"] == "True" && message.contains(words)).then_some(message)
        })
        .await
        .with_context(|| self.log())
    }

    /// Waits until the cluster's condition is False.
    pub(crate) async fn clear(&self, of: &Cluster, kind: &str) -> Result<()> {
        until(&format!("condition {kind} of {} is False", of.name), async || {
            let status = self.status(of).await.ok()?;
            let found = status["conditions"].as_array()?.iter().find(|one| one["type"] == kind)?.clone();
            (found["status"] == "False").then_some(())
        })
        .await
        .with_context(|| self.log())
    }

    /// The cluster's whole status.
    pub(crate) async fn status(&self, of: &Cluster) -> Result<Value> {
        let object = lattice_clusters(self.running.client.clone()).get(of.name.as_str()).await?;
        Ok(object.data["status"].clone())
    }

    /// A join token, as `lattice-manager enrol` makes it.
    pub(crate) async fn token(&self, of: &Cluster) -> Result<JoinToken> {
        self.token_made(of, Duration::ZERO).await
    }

    /// A join token that was made some time ago.
    pub(crate) async fn token_made(&self, of: &Cluster, ago: Duration) -> Result<JoinToken> {
        let vault = KubeVault::new(self.running.client.clone(), Fence::open(), "lattice-system");
        Ok(let_in(&vault, &of.name, &of.uid, self.now() - ago).await?)
    }

    /// The port where agents enrol and come back.
    pub(crate) async fn door(&self) -> Result<Door> {
        Ok(Door { address: self.bootstrap(), ca: self.ca().await?, from: self.from })
    }

    /// The address that this attack comes from.
    pub(crate) fn from(&self) -> IpAddr {
        self.from
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<(u16, Value)> {
        self.door().await?.post(path, body).await
    }

    pub(crate) async fn enrol(&self, of: &Cluster, token: &JoinToken, asking: &Asking) -> Result<(u16, Value)> {
        let body = json!({
            "cluster": of.name, "token": *token.expose(), "csr": asking.csr, "kubeSystemUid": KUBE_SYSTEM,
        });
        self.post("/v1/enrol", body.to_string()).await
    }

    /// As [`Rig::enrol`], for as long as the manager has not noticed the token.
    pub(crate) async fn enrol_soon(&self, of: &Cluster, token: &JoinToken, asking: &Asking) -> Result<Value> {
        let (_, answer) = until_heard("the token is known", async || {
            let answer = self.enrol(of, token, asking).await.ok()?;
            (answer.0 == 200).then_some(answer)
        })
        .await?;
        Ok(answer)
    }

    /// An agent with its first certificate.
    pub(crate) async fn agent(&self, of: &Cluster) -> Result<(Asking, Enrolled)> {
        let (token, asking) = (self.token(of).await?, Asking::new()?);
        let answer = self.enrol_soon(of, &token, &asking).await?;
        let enrolled = asking.enrolled(of, &answer)?;
        Ok((asking, enrolled))
    }

    /// Comes back with `bound` as the key and `sequence` as the count.
    pub(crate) async fn recover(&self, of: &Cluster, bound: &str, sequence: u64, csr: &str) -> Result<(u16, Value)> {
        self.door().await?.recover(&of.uid, bound, sequence, KUBE_SYSTEM, csr).await
    }

    /// Dials and tells how the manager ended it; none when it lets the session live.
    pub(crate) async fn verdict(&self, own: &Enrolled) -> Result<Option<String>> {
        verdict(&self.way().await?, own).await
    }

    /// Takes the identity away, as at the end of a deletion.
    pub(crate) async fn forget(&self, of: &Cluster) -> Result<()> {
        let name = format!("lattice-identity-{}", of.uid);
        self.secrets().delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }
}

impl Running {
    async fn start(args: Vec<String>, place: Option<SemaphorePermit<'static>>) -> Result<Self> {
        lattice_protocol::tls::install_provider();
        let ahead = Arc::new(AtomicI64::new(0));
        let theirs = Arc::clone(&ahead);
        let clock = Clock::new(move || clock::now() + SignedDuration::from_secs(theirs.load(Ordering::Relaxed)));
        let server = ApiServer::new(Config { controllers: true, clock, ..Config::default() })?;
        let serving = server.serve("127.0.0.1:0".parse()?).await?;
        let kubeconfig = server.kubeconfig(&serving.addr())?;
        Self::over(server.client(), &kubeconfig, args, ahead, Box::new((server, serving, place))).await
    }

    async fn over(
        client: Client,
        kubeconfig: &str,
        args: Vec<String>,
        ahead: Arc<AtomicI64>,
        kept: Box<dyn Any + Send + Sync>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig)?;
        make_parent(&client).await?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let manager = Mutex::new(spawn(folder.path(), ports, &args, 0)?);
        let args = std::sync::Mutex::new(args);
        let running = Self { client, manager, args, ports, folder, ahead, runtime: None, _kept: kept };
        running.is_up().await?;
        Ok(running)
    }

    fn spawn(&self) -> Result<Child> {
        let args = self.args.lock().expect("nobody panics meanwhile").clone();
        spawn(self.folder.path(), self.ports, &args, self.ahead.load(Ordering::Relaxed))
    }

    async fn is_up(&self) -> Result<()> {
        until("the manager's ports", async || {
            tokio::net::TcpStream::connect(self.at(1)).await.ok()?;
            self.authority("tls.crt").await.ok()
        })
        .await
        .map(drop)
        .with_context(|| self.log())
    }

    fn at(&self, port: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[port]))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), "lattice-system")
    }

    async fn authority(&self, key: &str) -> Result<String> {
        let secret = self.secrets().get("lattice-ca").await?;
        let value = secret.data.and_then(|mut data| data.remove(key)).with_context(|| key.to_owned())?;
        Ok(String::from_utf8(value.0)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// A port that is free for both UDP and TCP, below the range that the system gives away by itself: nobody gets it by chance
/// before the manager does.
fn free_port() -> Result<u16> {
    let is_free = |port: &u16| {
        let address = ("127.0.0.1", *port);
        std::net::TcpListener::bind(address).is_ok() && std::net::UdpSocket::bind(address).is_ok()
    };
    std::iter::repeat_with(|| rand::random_range(20_000..32_000)).take(100).find(is_free).context("no port is free")
}

fn spawn(folder: &Path, ports: [u16; 3], args: &[String], ahead: i64) -> Result<Child> {
    let program: PathBuf = binaries()?.join("lattice-manager");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    let at = |port: u16| format!("127.0.0.1:{port}");
    let mut command = Command::new(program);
    if !args.iter().any(|arg| arg == "--simulated-clock-offset") {
        command.env("LATTICE_SIMULATED_CLOCK_OFFSET", ahead.to_string());
    }
    command
        .arg("run")
        .args(["--external-address", "127.0.0.1", "--metrics-listen", "127.0.0.1:0"])
        .args(["--holder", "rig", "--trust-domain", "lattice.local"])
        .args(["--gateway-listen", &at(ports[0]), "--bootstrap-listen", &at(ports[1]), "--proxy-listen", &at(ports[2])])
        .arg("--kubeconfig")
        .arg(folder.join("kubeconfig"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("lattice-manager run")
}
