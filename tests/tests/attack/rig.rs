//! A running `lattice-manager` over an embedded parent API, and the hands of an attacker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use lattice_apiserver::{ApiServer, Config, Serving};
use lattice_manager::store::Fence;
use lattice_manager::store::identity::let_in;
use lattice_manager::store::vault::KubeVault;
use lattice_protocol::clock;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::recovery::Claim;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::token::JoinToken;
use lattice_protocol::transport::Closed;
use lattice_tests::sandbox::binaries;
use lattice_tests::tunnel::{Enrolled, Way, https_stream};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(50);
pub(crate) const KUBE_SYSTEM: &str = "11111111-2222-3333-4444-555555555555";

/// Count of the first certificate here: its token is made by hand, which always counts one up.
pub(crate) const FIRST: u64 = 2;

/// How many managers run at once: the machine is small.
static PLACES: Semaphore = Semaphore::const_new(2);

/// A running manager; killed when it is dropped.
pub(crate) struct Rig {
    pub(crate) client: Client,
    manager: Child,
    args: Vec<String>,
    ports: [u16; 3],
    folder: tempfile::TempDir,
    _server: Arc<ApiServer>,
    _serving: Serving,
    _place: SemaphorePermit<'static>,
}

/// A cluster that somebody speaks for.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) name: ClusterName,
    pub(crate) uid: ClusterUid,
}

/// A key and a request for a certificate.
pub(crate) struct Asking {
    pub(crate) key: String,
    pub(crate) csr: String,
}

pub(crate) fn cluster(number: u32) -> Cluster {
    Cluster {
        name: format!("c{number}").parse().expect("a name"),
        uid: format!("0b6c2d1e-9f00-4c8e-8a77-{number:012}").parse().expect("a uid"),
    }
}

impl Asking {
    pub(crate) fn new() -> Result<Self> {
        Self::with(CertificateParams::default())
    }

    pub(crate) fn with(params: CertificateParams) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { csr: params.serialize_request(&key)?.pem()?, key: key.serialize_pem() })
    }

    /// The identity that an answer gives to this key.
    pub(crate) fn enrolled(&self, of: &Cluster, answer: &Value) -> Result<Enrolled> {
        let chain = answer["certificate"].as_str().with_context(|| answer.to_string())?.to_owned();
        Ok(Enrolled { cluster: of.name.to_string(), chain, key: self.key.clone() })
    }
}

impl Rig {
    pub(crate) async fn start(args: &[&str]) -> Result<Self> {
        lattice_protocol::tls::install_provider();
        let place = PLACES.acquire().await.context("places are never closed")?;
        let server = ApiServer::new(Config { controllers: true, ..Config::default() })?;
        let serving = server.serve("127.0.0.1:0".parse()?).await?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("kubeconfig"), server.kubeconfig(&serving.addr())?)?;
        let client = server.client();
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in lattice_manager::api::crds() {
            crds.create(&PostParams::default(), &crd).await?;
        }
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "lattice-system"}}))?;
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let args = args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let manager = spawn(folder.path(), ports, &args)?;
        let rig = Self { client, manager, args, ports, folder, _server: server, _serving: serving, _place: place };
        rig.is_up().await?;
        Ok(rig)
    }

    /// Kills the manager as the kernel does and starts another one.
    pub(crate) async fn kill_and_start(&mut self) -> Result<()> {
        self.manager.kill().await?;
        self.manager = spawn(self.folder.path(), self.ports, &self.args)?;
        self.is_up().await
    }

    async fn is_up(&self) -> Result<()> {
        until("the manager's ports", async || {
            tokio::net::TcpStream::connect(self.bootstrap()).await.ok()?;
            self.ca().await.ok()
        })
        .await
        .map(drop)
        .with_context(|| self.log())
    }

    pub(crate) fn gateway(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[0]))
    }

    pub(crate) fn bootstrap(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[1]))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), "lattice-system")
    }

    async fn authority(&self, key: &str) -> Result<String> {
        let secret = self.secrets().get("lattice-ca").await?;
        let value = secret.data.and_then(|mut data| data.remove(key)).with_context(|| key.to_owned())?;
        Ok(String::from_utf8(value.0)?)
    }

    pub(crate) async fn ca(&self) -> Result<String> {
        self.authority("tls.crt").await
    }

    /// What only the parent has: for certificates that it would never sign.
    pub(crate) async fn ca_key(&self) -> Result<String> {
        self.authority("tls.key").await
    }

    pub(crate) async fn way(&self) -> Result<Way> {
        Ok(Way { address: self.gateway(), ca: self.ca().await?, fleet: "lattice.local".to_owned() })
    }

    /// A join token, as `lattice-manager enrol` makes it.
    pub(crate) async fn token(&self, of: &Cluster) -> Result<JoinToken> {
        let vault = KubeVault::new(self.client.clone(), Fence::open(), "lattice-system");
        Ok(let_in(&vault, &of.name, &of.uid, clock::now()).await?)
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<(u16, Value)> {
        let io = https_stream(self.bootstrap(), &self.ca().await?).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        drop(task::spawn("attack.client", Kind::Request, async move { drop(connection.await) }));
        let request = Request::post(path).header("host", "bootstrap").body(Full::<Bytes>::from(body.into()))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    pub(crate) async fn enrol(&self, of: &Cluster, token: &JoinToken, asking: &Asking) -> Result<(u16, Value)> {
        let body = json!({
            "cluster": of.name, "token": *token.expose(), "csr": asking.csr, "kubeSystemUid": KUBE_SYSTEM,
        });
        self.post("/v1/enrol", body.to_string()).await
    }

    /// As [`Rig::enrol`], for as long as the manager has not noticed the token.
    pub(crate) async fn enrol_soon(&self, of: &Cluster, token: &JoinToken, asking: &Asking) -> Result<Value> {
        let (_, answer) = until("the token is known", async || {
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
        let (status, given) = self.post("/v1/recover/challenge", json!({"clusterUid": of.uid}).to_string()).await?;
        ensure!(status == 200, "{status} {given}");
        let claim = Claim {
            cluster_uid: of.uid.clone(),
            sequence,
            kube_system_uid: KUBE_SYSTEM.to_owned(),
            csr: csr.to_owned(),
            challenge: given["challenge"].as_str().context("a challenge")?.to_owned(),
        };
        self.post("/v1/recover", serde_json::to_vec(&claim.sign(bound)?)?).await
    }

    /// Dials and tells how the manager ended it; none when it lets the session live.
    pub(crate) async fn verdict(&self, own: &Enrolled) -> Result<Option<String>> {
        let (session, _endpoint) = match self.way().await?.quic(own).await {
            Ok(dialled) => dialled,
            Err(error) => return Ok(Some(format!("{error:#}"))),
        };
        let ended = tokio::time::timeout(Duration::from_secs(2), session.closed()).await;
        Ok(ended.ok().map(|closed: Closed| closed.to_string()))
    }

    /// Takes the identity away, as at the end of a deletion.
    pub(crate) async fn forget(&self, of: &Cluster) -> Result<()> {
        let name = format!("lattice-identity-{}", of.uid);
        self.secrets().delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// Waits for something that nobody announces.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("waited {PATIENCE:?} for {what}");
        }
        tokio::time::sleep(GLANCE).await;
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn spawn(folder: &Path, ports: [u16; 3], args: &[String]) -> Result<Child> {
    let program: PathBuf = binaries()?.join("lattice-manager");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    let at = |port: u16| format!("127.0.0.1:{port}");
    Command::new(program)
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
