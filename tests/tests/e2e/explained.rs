//! An agent that does not get through is explained: on the parent by what the manager saw of it, on the child by what the
//! agent met.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::token::JoinToken;
use lattice_protocol::transport::quic;
use lattice_tests::pki::Pki;
use lattice_tests::sandbox::{PATIENCE, Sandbox, condition};
use lattice_tests::tunnel::https_stream;
use rcgen::KeyPair;
use serde_json::{Value, json};

/// What the first node is told.
struct Told {
    token: String,
    ca: String,
    bootstrap: SocketAddr,
}

impl Told {
    async fn of(sandbox: &Sandbox) -> Result<Self> {
        let secrets: Api<Secret> = Api::namespaced(sandbox.parent().await?, "lattice-backend");
        let data = secrets.get("backend-enroll").await?.data.context("data")?;
        let read = |key: &str| -> Result<String> {
            Ok(String::from_utf8(data.get(key).with_context(|| format!("key {key}"))?.0.clone())?)
        };
        let urls = read("bootstrap-urls")?;
        let first = urls.lines().next().context("a URL")?.trim_start_matches("https://").to_owned();
        Ok(Self { token: read("token")?, ca: read("ca.crt")?, bootstrap: first.parse()? })
    }

    async fn ask(&self, request: Request<Full<bytes::Bytes>>) -> Result<(u16, String)> {
        let stream = https_stream(self.bootstrap, &self.ca).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        drop(task::spawn("test.client", Kind::Request, async move { drop(connection.await) }));
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?))
    }

    /// As the node does.
    async fn fetch(&self) -> Result<(u16, String)> {
        let bearer = format!("Bearer {}", self.token);
        let request = Request::get("/v1/clusters/backend/agent.yaml").header("host", "bootstrap");
        self.ask(request.header("authorization", bearer).body(Full::default())?).await
    }

    /// As an agent with the token of another time.
    async fn enrol_in_vain(&self) -> Result<u16> {
        let csr = rcgen::CertificateParams::default().serialize_request(&KeyPair::generate()?)?.pem()?;
        let body = json!({"cluster": "backend", "token": *JoinToken::generate().expose(), "csr": csr,
            "kubeSystemUid": "11111111-2222-3333-4444-555555555555"});
        let request = Request::post("/v1/enrol").header("host", "bootstrap");
        Ok(self.ask(request.body(Full::from(body.to_string()))?).await?.0)
    }
}

/// As an agent that belongs to another parent.
async fn dial_in_vain(gateway: SocketAddr) -> Result<()> {
    let pki = Pki::new(&"lattice.local".parse()?, &KeyPair::generate()?)?;
    let endpoint = quic::dialler(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let dialled = quic::dial(&endpoint, quic::client_config(pki.client)?, gateway).await;
    ensure!(dialled.is_err(), "the manager's certificate is of a CA that this agent does not know");
    Ok(())
}

/// The condition once it has this reason.
async fn explained(sandbox: &Sandbox, reason: &str) -> Result<String> {
    let seen = |object: &Value| condition(object, "AgentConnected")["reason"] == reason;
    let object = sandbox.cluster_until("backend", seen).await?;
    let agent = condition(&object, "AgentConnected");
    ensure!(agent["status"] == "False" && agent["lastTransitionTime"].is_string(), "{agent}");
    Ok(agent["message"].as_str().unwrap_or_default().to_owned())
}

/// What the child's Events about the agent say, once there is one with this reason.
async fn told_on_the_child(sandbox: &Sandbox, reason: &str) -> Result<String> {
    let events: Api<Event> = Api::namespaced(sandbox.child("backend").await?, "lattice-system");
    let looking = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
        loop {
            tick.tick().await;
            let Ok(all) = events.list(&ListParams::default()).await else { continue };
            let of_agent = |event: &&Event| {
                event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some("lattice-agent")
                    && event.reason.as_deref() == Some(reason)
            };
            if let Some(event) = all.items.iter().find(of_agent) {
                return event.note.clone().unwrap_or_default();
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.with_context(|| format!("no Event {reason} on the child"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_get_through_is_explained_on_both_sides() -> Result<()> {
    let sandbox = Sandbox::builder().fault("cluster=backend,uplink=down").start().await?;
    let nothing = explained(&sandbox, "NeverDialled").await?;
    assert_eq!(sandbox.cluster("backend").await?.data["status"]["phase"], "Bootstrapping");
    assert!(nothing.contains("first check"), "{nothing}");
    let gateway: SocketAddr =
        nothing.split(&[' ', ','][..]).find_map(|word| word.parse().ok()).context("an address to check")?;

    let told = Told::of(&sandbox).await?;
    let (status, manifest) = told.fetch().await?;
    assert!(status == 200 && manifest.contains("lattice-agent"), "{status} {manifest}");
    let fetched = explained(&sandbox, "ManifestFetched").await?;
    assert!(fetched.contains("its pod in namespace lattice-system"), "{fetched}");

    assert_eq!(told.enrol_in_vain().await?, 401);
    let refused = explained(&sandbox, "EnrolmentRefused").await?;
    assert!(refused.contains("token"), "{refused}");

    dial_in_vain(gateway).await?;
    let broken = explained(&sandbox, "HandshakeFailed").await?;
    assert!(
        broken.contains(&told.bootstrap.ip().to_string()) && broken.contains("clock, CA and certificate"),
        "{broken}"
    );

    sandbox.fault(&["clear"]).await?;
    sandbox.phase("backend", "Ready").await?;
    sandbox.fault(&["set", "cluster=backend,uplink=down"]).await?;
    let lost = explained(&sandbox, "ConnectionLost").await?;
    assert!(lost.contains("it dials again by itself"), "{lost}");
    let agent = sandbox.cluster("backend").await?.data["status"]["agent"].clone();
    assert!(agent["connected"] == false && lost.contains(agent["lastError"].as_str().unwrap_or("none")), "{agent}");
    told_on_the_child(&sandbox, "ConnectionLost").await?;
    let unreachable = told_on_the_child(&sandbox, "DialFailed").await?;
    assert!(unreachable.contains("cannot be reached over QUIC (no answer"), "{unreachable}");
    assert!(unreachable.contains("nor over TCP: the TLS handshake"), "{unreachable}");
    sandbox.fault(&["clear"]).await?;
    let back = |object: &Value| condition(object, "AgentConnected")["status"] == "True";
    sandbox.cluster_until("backend", back).await?;
    Ok(())
}
