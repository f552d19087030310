//! The whole system, a thief who reads the agent's Secret, and the end of the cluster; and of all that was written
//! meanwhile: nothing secret is in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _, discovery};
use lattice_protocol::ids::ClusterUid;
use lattice_protocol::tls::Credentials;
use lattice_tests::collector::Collector;
use lattice_tests::sandbox::{Sandbox, binaries, condition, lattice_clusters};
use lattice_tests::tunnel::{Enrolled, Way};
use serde_json::Value;
use tokio::process::Command;

use crate::asking::{Asking, Door, verdict};
use crate::wait::until;

const SYSTEM: &str = "lattice-system";
const IDENTITY: &str = "lattice-agent-identity";
/// Shorter values are no secrets of ours, and would be found by chance.
const SECRET_BYTES_MIN: usize = 20;

/// What a thief has read on the child.
struct Stolen {
    own: Enrolled,
    bound: String,
    sequence: u64,
    kube_system_uid: String,
}

impl Stolen {
    async fn of(child: &Client) -> Result<Self> {
        let data = Api::<Secret>::namespaced(child.clone(), SYSTEM).get(IDENTITY).await?.data.unwrap_or_default();
        let text = |key: &str| data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok());
        let (chain, key) = text("tls.crt").zip(text("tls.key")).context("an identity")?;
        let uid = Api::<Namespace>::all(child.clone()).get("kube-system").await?.uid();
        Ok(Self {
            bound: text("bound.key").unwrap_or_else(|| key.clone()),
            sequence: text("sequence").context("a count")?.parse()?,
            kube_system_uid: uid.context("a uid")?,
            own: Enrolled { cluster: "backend".to_owned(), chain, key },
        })
    }
}

/// Where the parent is, for whoever dials it.
struct Parent {
    way: Way,
    door: Door,
    metrics: u16,
}

impl Parent {
    async fn of(sandbox: &Sandbox, stolen: &Stolen) -> Result<Self> {
        let ports = std::fs::read_to_string(sandbox.state().join("ports"))?;
        let ports = ports.split_whitespace().map(str::parse).collect::<Result<Vec<u16>, _>>()?;
        let [_, gateway, bootstrap, _, metrics] = ports[..] else { anyhow::bail!("{ports:?}") };
        let secrets = Api::<Secret>::namespaced(sandbox.parent().await?, SYSTEM);
        let ca = secrets.get("lattice-ca").await?.data.and_then(|mut data| data.remove("tls.crt")).context("a CA")?;
        let ca = String::from_utf8(ca.0)?;
        let id = Credentials::from_pem(stolen.own.chain.as_bytes(), stolen.own.key.as_bytes())?.identity()?.id;
        let way =
            Way { address: ([127, 0, 0, 1], gateway).into(), ca: ca.clone(), fleet: id.trust_domain().to_string() };
        Ok(Self {
            way,
            door: Door { address: ([127, 0, 0, 1], bootstrap).into(), ca, from: [127, 0, 0, 1].into() },
            metrics,
        })
    }

    /// The thief dials, and comes back with the bound key; both in vain.
    async fn refuses(&self, uid: &ClusterUid, stolen: &Stolen, words: &str) -> Result<()> {
        let why = verdict(&self.way, &stolen.own).await?.unwrap_or_default();
        ensure!(why.contains(words), "a dial with what was stolen: {why:?} instead of {words:?}");
        let csr = Asking::new()?.csr;
        let (status, refused) =
            self.door.recover(uid, &stolen.bound, stolen.sequence, &stolen.kube_system_uid, &csr).await?;
        ensure!((status, refused["reason"].as_str()) == (403, Some("RecoveryRefused")), "{status} {refused}");
        Ok(())
    }
}

async fn manager(sandbox: &Sandbox, args: &[&str]) -> Result<String> {
    let mut command = Command::new(binaries()?.join("lattice-manager"));
    command.args(args).arg("--kubeconfig").arg(sandbox.state().join("parent.kubeconfig")).kill_on_drop(true);
    let output = command.output().await?;
    let (said, wrong) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(output.status.success(), "{args:?}: {wrong}");
    Ok(said)
}

/// The objects of a manifest.
fn documents(manifest: &str) -> Result<Vec<Value>> {
    let texts = manifest.split("---\n").filter(|text| !text.trim().is_empty());
    texts.map(|text| Ok(serde_saphyr::from_str(text)?)).collect()
}

/// As `kubectl apply --server-side -f -`.
async fn apply(client: &Client, manifest: &[Value]) -> Result<()> {
    for object in manifest {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let types = object.types.clone().context("a kind")?;
        let (resource, _) = discovery::pinned_kind(client, &types.try_into()?).await?;
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        api.patch(&object.name_any(), &PatchParams::apply("kubectl").force(), &Patch::Apply(&object)).await?;
    }
    Ok(())
}

/// Every secret value that is known, with where it is kept.
#[derive(Default)]
struct Secrets(BTreeSet<(String, String)>);

impl Secrets {
    /// Adds what the Secrets of an API hold: keys, tokens, credentials in kubeconfigs.
    async fn add(&mut self, client: &Client) -> Result<()> {
        for secret in Api::<Secret>::all(client.clone()).list(&ListParams::default()).await?.items {
            let name = secret.name_any();
            for (key, value) in secret.data.iter().flatten() {
                let Ok(text) = std::str::from_utf8(&value.0) else { continue };
                self.take(&format!("{name}/{key}"), text);
            }
        }
        Ok(())
    }

    fn take(&mut self, from: &str, text: &str) {
        let mut private = false;
        for line in text.lines() {
            private = (private || line.contains("PRIVATE KEY")) && !line.contains("END ");
            let line = line.trim();
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                // The body of a key: a line of it is enough to know it again, whatever its line feeds became.
                (Some(word), None) if private && word.len() >= 40 => self.insert(from, word),
                (Some(word), None) if word.starts_with("ltj1.") => {
                    self.insert(from, word.rsplit('.').next().unwrap_or_default());
                }
                // Cluster API itself writes kubeadm's own tokens into its objects.
                (Some("token:" | "client-key-data:"), Some(word)) if word.find('.') != Some(6) => {
                    self.insert(from, word.trim_matches('"'));
                }
                (Some(word), None) if from.ends_with("/secret") || from.ends_with("/token-secret") => {
                    self.insert(from, word);
                }
                _ => {}
            }
        }
    }

    fn insert(&mut self, from: &str, value: &str) {
        if value.len() >= SECRET_BYTES_MIN || from.ends_with("/token-secret") {
            self.0.insert((from.to_owned(), value.to_owned()));
        }
    }

    /// Fails when a text holds one of them: as it is, in base64 at any offset, in hexadecimal digits, escaped.
    fn are_not_in(&self, place: &str, text: &str) -> Result<()> {
        for (from, value) in &self.0 {
            // Cluster API itself puts kubeadm's tokens into its configurations.
            if place.starts_with("KubeadmConfig ") && from.ends_with("/token-secret") {
                continue;
            }
            ensure!(!text.contains(value.as_str()), "{place} holds {from}");
            for skip in 0..3 {
                let bytes = &value.as_bytes()[skip..];
                let whole = &bytes[..bytes.len() / 3 * 3];
                for encoded in [STANDARD.encode(whole), URL_SAFE_NO_PAD.encode(whole)] {
                    ensure!(!text.contains(&encoded), "{place} holds {from} in base64");
                }
            }
            ensure!(
                !text.contains(&lattice_protocol::tls::hex(value.as_bytes())),
                "{place} holds {from} in hexadecimal"
            );
        }
        Ok(())
    }
}

/// Files of a folder, those apart that are meant to hold secrets: the stores of the APIs, kubeconfigs, and what a machine is
/// started with or mounts.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    const APART: [&str; 5] = ["api", "clusters", "etc", "run", "lib"];
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !APART.contains(&name.as_str()) {
            found.extend(files(&path)?);
        } else if path.is_file() && !name.ends_with("kubeconfig") && path.extension() != Some("json".as_ref()) {
            found.push(path);
        }
    }
    Ok(found)
}

/// All objects of an API but its Secrets, as text.
async fn objects(client: &Client) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let known = discovery::Discovery::new(client.clone()).run().await?;
    for (resource, capabilities) in known.groups().flat_map(discovery::ApiGroup::recommended_resources) {
        if resource.kind == "Secret" || !capabilities.supports_operation(discovery::verbs::LIST) {
            continue;
        }
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        // Kinds that are listed for their subresources only are no objects.
        let Ok(all) = api.list(&ListParams::default()).await else { continue };
        for object in all.items {
            found.push((format!("{} {}", resource.kind, object.name_any()), serde_json::to_string(&object)?));
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_of_a_whole_life_with_theft_and_deletion_no_secret_is_written_anywhere() -> Result<()> {
    let mut collector = Collector::start().await?;
    let sandbox = Sandbox::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .env("RUST_LOG", "info,lattice_manager=debug,lattice_agent=debug,lattice_protocol=debug,kube=debug")
        .start()
        .await?;
    let mut secrets = Secrets::default();
    let parent_api = sandbox.parent().await?;
    // The join token is blanked once it is used.
    until("the join token is made", async || {
        secrets.add(&parent_api).await.ok()?;
        secrets.0.iter().any(|(from, _)| from.starts_with("backend-enroll")).then_some(())
    })
    .await?;
    let connected = |object: &Value| condition(object, "AgentConnected")["status"] == "True";
    let cluster = sandbox.cluster_until("backend", connected).await?;
    let uid: ClusterUid = cluster["metadata"]["uid"].as_str().context("a uid")?.parse()?;
    let child = sandbox.child("backend").await?;
    let enrolment = Api::<Secret>::namespaced(parent_api.clone(), "lattice-backend");
    until("the used join token is blanked", async || {
        let data = enrolment.get("backend-enroll").await.ok()?.data?;
        data.get("token").is_none_or(|token| token.0.is_empty()).then_some(())
    })
    .await?;
    let first = Stolen::of(&child).await?;
    let parent = Parent::of(&sandbox, &first).await?;
    secrets.add(&parent_api).await?;
    secrets.add(&child).await?;

    // The disk of the agent is wiped: what it has left is a used token.
    Api::<Secret>::namespaced(child.clone(), SYSTEM).delete(IDENTITY, &DeleteParams::default()).await?;
    sandbox.replace("agent-backend", "KILL").await?;
    event(&parent_api, &uid, "JoinTokenReplay").await?;
    let manifest = documents(&manager(&sandbox, &["enrol", "backend"]).await?)?;
    let token = manifest.iter().find_map(|object| object["data"]["token"].as_str()).context("a token")?;
    secrets.take("enrol", &String::from_utf8(STANDARD.decode(token)?)?);
    apply(&child, &manifest).await?;
    let second = until("the new agent", async || Stolen::of(&child).await.ok()).await?;
    sandbox.connected("backend").await?;
    ensure!(second.own.chain != first.own.chain && second.bound != first.bound);
    parent.refuses(&uid, &first, "identity unknown").await?;
    event(&parent_api, &uid, "HandshakeFailed").await?;
    event(&parent_api, &uid, "RecoveryRefused").await?;

    // A step of a rotation, a dead manager, and the end.
    manager(&sandbox, &["ca", "rotate"]).await?;
    sandbox.replace("manager", "KILL").await?;
    sandbox.connected("backend").await?;
    secrets.add(&parent_api).await?;
    secrets.add(&child).await?;
    let metrics = metrics_text(parent.metrics).await?;
    let written = [objects(&parent_api).await?, objects(&child).await?].concat();
    lattice_clusters(parent_api.clone()).delete("backend", &DeleteParams::default()).await?;
    sandbox.cluster_until("backend", Value::is_null).await?;
    parent.refuses(&uid, &second, "identity unknown").await?;

    ensure!(
        secrets.0.len() > 8,
        "the secrets were found: {:?}",
        secrets.0.iter().map(|(from, _)| from).collect::<Vec<_>>()
    );
    let spans = collector.until(|spans| spans.len() > 10).await?;
    secrets.are_not_in("the spans", &format!("{spans:?}"))?;
    secrets.are_not_in("the metrics", &metrics)?;
    for (place, text) in written.iter().chain(&objects(&parent_api).await?) {
        secrets.are_not_in(place, text)?;
    }
    let files = files(sandbox.state())?;
    ensure!(files.iter().any(|file| file.ends_with("manager.log")), "{files:?}");
    for file in files.iter().chain([&sandbox.state().with_file_name("output")]) {
        secrets.are_not_in(&file.display().to_string(), &String::from_utf8_lossy(&std::fs::read(file)?))?;
    }
    Ok(())
}

async fn event(client: &Client, uid: &ClusterUid, reason: &str) -> Result<()> {
    let events = Api::<k8s_openapi::api::events::v1::Event>::namespaced(client.clone(), "default");
    until(&format!("an Event {reason}"), async || {
        let all = events.list(&ListParams::default()).await.ok()?;
        let about = |event: &k8s_openapi::api::events::v1::Event| {
            event.regarding.as_ref().and_then(|object| object.uid.as_deref()) == Some(uid.as_str())
        };
        all.items.iter().any(|event| about(event) && event.reason.as_deref() == Some(reason)).then_some(())
    })
    .await
}

/// What the manager's metrics say.
async fn metrics_text(port: u16) -> Result<String> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    drop(lattice_protocol::task::spawn("attack.metrics", lattice_protocol::task::Kind::Request, async move {
        drop(connection.await);
    }));
    let request =
        http::Request::get("/metrics").header("host", "metrics").body(http_body_util::Empty::<bytes::Bytes>::new())?;
    let body = http_body_util::BodyExt::collect(sender.send_request(request).await?.into_body()).await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}
