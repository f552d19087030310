//! A manager's gateway and an agent, both the real code, on two hosts of a simulated network; and work between them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Parser as _;
use futures::StreamExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use lattice_agent::app;
use lattice_agent::backoff::Draws;
use lattice_agent::cli::{Cli, Command};
use lattice_agent::dial;
use lattice_apiserver::ApiServer;
use lattice_manager::gateway::{AgentSession, Gateway, TunnelEvent};
use lattice_protocol::ids::ClusterUid;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::telemetry::Exporter;
use lattice_protocol::transport::{CloseCode, Net, with_slot};
use lattice_protocol::v1::ApplyRequest;
use lattice_protocol::v1::apply_response::Outcome;
use lattice_protocol::v1::components_client::ComponentsClient;
use lattice_tests::tunnel::{Enrolled, Parent, open_in};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::air::{Air, Weather};
use super::story::{Note, Notes, Work};

pub(super) const MANAGER: &str = "manager";
pub(super) const AGENT: &str = "agent";
/// A second process with the agent's identity.
pub(super) const RIVAL: &str = "rival";
const PORT: u16 = 50_051;
const UID: &str = "0b6c2d1e-9f00-4c8e-8a77-000000000001";
/// Longest wait for one piece of work before it is tried again.
const WORK_AT_MOST: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
/// Hosts run in turns of this length. Shorter turns cost time, longer ones make the network slow.
const TICK: Duration = Duration::from_millis(20);
/// How long the agent stays on TCP before it tries QUIC again; minutes, outside of tests.
const QUIC_AGAIN: Duration = Duration::from_secs(30);

/// The stage.
pub(super) struct Scene {
    pub(super) sim: turmoil::Sim<'static>,
    pub(super) notes: Notes,
    pub(super) air: Air,
    pub(super) work: Work,
    seed: u64,
    gateway: Arc<Mutex<Option<Gateway>>>,
    /// When the manager is to send the agent away, and until when.
    slot: Slot,
    history: Arc<Mutex<Vec<u64>>>,
    child: Arc<ApiServer>,
    own: Enrolled,
    place: String,
}

pub(super) fn uid() -> ClusterUid {
    UID.parse().expect("a uid")
}

/// What both hosts need, made before the simulation on a runtime of its own.
async fn prepare() -> Result<(Arc<ApiServer>, Arc<ApiServer>, Enrolled)> {
    let parent = Parent::start().await?;
    let own = parent.enrol(1).await?;
    let ca = parent.gateway.ca_pem();
    parent.gateway.shutdown().await;
    let child = ApiServer::new(lattice_apiserver::Config::default())?;
    lattice_tests::cluster::make_namespace(&child.client()).await?;
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "lattice-agent-identity", "namespace": "lattice-system"},
    }))?;
    let data = [("tls.key", &own.key), ("tls.crt", &own.chain), ("ca.crt", &ca)];
    let string_data = Some(data.map(|(key, value)| (key.to_owned(), value.clone())).into());
    let secret = Secret { string_data, ..secret };
    Api::<Secret>::namespaced(child.client(), "lattice-system").create(&PostParams::default(), &secret).await?;
    Ok((parent.server(), child, own))
}

impl Scene {
    /// A manager and an agent with a little work for them.
    pub(super) fn new(seed: u64, weather: Weather, work: u64) -> Result<Self> {
        lattice_protocol::tls::install_provider();
        let setup = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (parent, child, own) = setup.block_on(prepare())?;
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(7200))
            .min_message_latency(Duration::from_millis(5))
            .max_message_latency(Duration::from_millis(80))
            .udp_capacity(4096)
            .tcp_capacity(4096)
            .enable_tokio_io()
            .build();
        let manager = SocketAddr::new(sim.lookup(MANAGER), PORT);
        let (notes, air, work) = (Notes::default(), Air::new(seed, weather), Work::of(work));
        let gateway = Arc::new(Mutex::new(None));
        let slot = Slot::default();
        let told = (notes.clone(), air.clone(), work.clone(), Arc::clone(&gateway), Arc::clone(&slot));
        sim.host(MANAGER, move || {
            let (parent, told) = (Arc::clone(&parent), told.clone());
            async move { Ok(manage(parent, told).await?) }
        });
        let history = Arc::new(Mutex::new(Vec::new()));
        let mut scene =
            Self { sim, notes, air, work, seed, gateway, slot, history, child, own, place: manager.to_string() };
        scene.agent(AGENT)?;
        let (child, history) = (Arc::clone(&scene.child), Arc::clone(&scene.history));
        scene.sim.host("reader", move || {
            let (child, history) = (Arc::clone(&child), Arc::clone(&history));
            async move { Ok(read(child, history).await?) }
        });
        Ok(scene)
    }

    /// Starts a process with the agent's identity on a host.
    pub(super) fn agent(&mut self, host: &'static str) -> Result<()> {
        let pin = format!("sha256:{}", "0".repeat(64));
        let line = [
            "lattice-agent",
            "run",
            "--cluster",
            &self.own.cluster,
            "--cluster-uid",
            UID,
            "--trust-domain",
            "bench.example",
            "--endpoint",
            &self.place,
            "--bootstrap-url",
            "https://127.0.0.1:1",
            "--ca-pin",
            &pin,
            "--kubernetes-host",
            "127.0.0.1",
            "--health-port",
            "0",
        ];
        let Command::Run(options) = Cli::try_parse_from(line)?.command;
        let (child, notes, air, seed) = (Arc::clone(&self.child), self.notes.clone(), self.air.clone(), self.seed);
        self.sim.host(host, move || {
            let (options, child, notes, air) = (options.clone(), Arc::clone(&child), notes.clone(), air.clone());
            async move {
                let (stop, end) = (CancellationToken::new(), CancellationToken::new());
                let mut dialler = app::build(&options, child.client(), &Exporter::off(), &stop, &end).await?;
                (dialler.net, dialler.draws) = (Net::Made(Arc::new(air)), Draws::seeded(seed));
                dialler.quic_again = QUIC_AGAIN;
                let mut link = dialler.link.subscribe();
                drop(task::spawn("test.link", Kind::Request, async move {
                    let mut told = (0, 0);
                    while link.changed().await.is_ok() {
                        let link = link.borrow_and_update().clone();
                        if link.failures > told.1 {
                            notes.add(Note::Down(host, link.last_failure.clone()));
                        }
                        if let (true, Some((_, transport))) = (link.sessions > told.0, link.connected) {
                            notes.add(Note::Up(host, transport));
                        }
                        told = (link.sessions, link.failures);
                    }
                }));
                dial::run(dialler).await;
                Ok(())
            }
        });
        Ok(())
    }

    pub(super) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Has the manager close the session, and tell the agent when to come back.
    pub(super) fn send_away(&self, slot: Duration) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(slot);
    }

    /// Takes a host's power away.
    pub(super) fn crash(&mut self, host: &str) {
        self.forget(host);
        self.sim.crash(host);
    }

    /// Starts a host anew, whatever it was at.
    pub(super) fn bounce(&mut self, host: &str) {
        self.forget(host);
        self.sim.bounce(host);
    }

    /// What we hold of a manager's gateway would keep its port.
    fn forget(&self, host: &str) {
        if host == MANAGER {
            *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn fail(&self, what: &str) -> anyhow::Error {
        let (now, left) = (self.now(), *self.work.lock());
        anyhow::anyhow!(
            "seed {}, at {:.3} s: {what}\nwork: {left:?}\n{}",
            self.seed,
            now.as_secs_f64(),
            self.notes.story()
        )
    }

    fn step(&mut self) -> Result<()> {
        if let Err(error) = self.sim.step() {
            bail!(self.fail(&format!("a host failed: {error}")));
        }
        Ok(())
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) -> Result<()> {
        let until = self.now() + time;
        while self.now() < until {
            self.step()?;
        }
        Ok(())
    }

    /// Waits for something that is seen from now on; gives the time that it took.
    pub(super) fn until(&mut self, what: &str, at_most: Duration, seen: impl Fn(&Note) -> bool) -> Result<Duration> {
        let from = self.now();
        self.until_since(from, what, at_most, seen)
    }

    /// As [`Scene::until`], for what is seen after `from`; gives the time since then.
    pub(super) fn until_since(
        &mut self,
        from: Duration,
        what: &str,
        at_most: Duration,
        seen: impl Fn(&Note) -> bool,
    ) -> Result<Duration> {
        loop {
            if let Some(at) = self.notes.first(from, &seen) {
                let took = at.saturating_sub(from);
                ensure!(took <= at_most, self.fail(&format!("{what} took {took:?}, more than {at_most:?}")));
                return Ok(took);
            }
            if self.now() > from + at_most {
                bail!(self.fail(&format!("not within {at_most:?}: {what}")));
            }
            self.step()?;
        }
    }

    /// Waits for the first session.
    pub(super) fn connected(&mut self) -> Result<()> {
        let from = Duration::ZERO;
        self.until_since(from, "the agent connects", Duration::from_secs(60), |note| {
            matches!(note, Note::Connected(_))
        })?;
        let up = |note: &Note| matches!(note, Note::Up(AGENT, _));
        self.until_since(from, "the agent knows it", Duration::from_secs(60), up)?;
        Ok(())
    }

    /// Waits until all work is done, then checks that none was lost, doubled or undone.
    pub(super) fn finish(&mut self, at_most: Duration) -> Result<()> {
        let until = self.now() + at_most;
        while !self.work.is_done() {
            ensure!(self.now() < until, self.fail(&format!("the work was not done within {at_most:?}")));
            self.step()?;
        }
        let last = self.work.lock().last;
        let settled = self.now() + Duration::from_secs(30);
        while self.history().last() != Some(&last) {
            ensure!(self.now() < settled, self.fail(&format!("the child has {:?}, not {last}", self.history())));
            self.step()?;
        }
        let history = self.history();
        let rises = history.windows(2).all(|pair| pair[0] < pair[1]);
        ensure!(rises, self.fail(&format!("work was undone or done again: {history:?}")));
        let items = self.items()?;
        let wanted: Vec<_> = (1..=last).collect();
        ensure!(items == wanted, self.fail(&format!("requests were lost or doubled: {items:?}")));
        Ok(())
    }

    fn history(&self) -> Vec<u64> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn items(&self) -> Result<Vec<u64>> {
        let reading = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let list = reading.block_on(async {
            Api::<ConfigMap>::namespaced(self.child.client(), "default").list(&kube::api::ListParams::default()).await
        })?;
        let names = list.items.into_iter().filter_map(|item| item.metadata.name);
        let mut numbers: Vec<u64> =
            names.filter_map(|name| name.strip_prefix("item-").and_then(|number| number.parse().ok())).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The session that the manager takes for the live one.
    pub(super) fn session(&self) -> Option<Arc<AgentSession>> {
        let gateway = self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        gateway.as_ref().and_then(|gateway| gateway.session(&uid()))
    }

    /// Fails the test unless there is exactly one live session.
    pub(super) fn one_session(&self) -> Result<Arc<AgentSession>> {
        let count = self.gateway.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Gateway::sessions);
        ensure!(count == Some(1), self.fail(&format!("one live session, not {count:?}")));
        self.session().with_context(|| self.fail("the live session is open"))
    }

    /// Fails the test with what everybody saw.
    pub(super) fn ensure(&self, holds: bool, what: &str) -> Result<()> {
        if holds { Ok(()) } else { Err(self.fail(what)) }
    }
}

type Slot = Arc<Mutex<Option<Duration>>>;
type Told = (Notes, Air, Work, Arc<Mutex<Option<Gateway>>>, Slot);

/// The manager's host.
async fn manage(parent: Arc<ApiServer>, (notes, air, work, place, slot): Told) -> Result<()> {
    let (events, mut heard) = mpsc::channel(1024);
    let at = SocketAddr::from(([0, 0, 0, 0], PORT));
    let gateway = open_in(&parent, Net::Made(Arc::new(air)), at, events).await?;
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(gateway.clone());
    drop(task::spawn("test.slot", Kind::Request, send_away(gateway.clone(), slot)));
    drop(task::spawn("test.work", Kind::Request, toil(gateway, work)));
    while let Some(event) = heard.recv().await {
        notes.add(match event {
            TunnelEvent::Connected(session) => Note::Connected(session.transport()),
            TunnelEvent::Lost { why, .. } => Note::Lost(why.to_string()),
            TunnelEvent::Superseded { .. } => Note::Superseded,
            other => Note::Other(format!("{other:?}")),
        });
    }
    Ok(())
}

/// Closes the session as a manager does that stops, when it is told to.
async fn send_away(gateway: Gateway, slot: Slot) {
    loop {
        tokio::time::sleep(TICK).await;
        let until = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(until), Some(session)) = (until, gateway.session(&uid())) {
            session.close(CloseCode::Draining, &with_slot("the manager stops", until));
        }
    }
}

/// Does the work, each piece until the agent has said that it is done.
async fn toil(gateway: Gateway, work: Work) {
    while let Some(number) = work.next() {
        if let Some(session) = gateway.session(&uid())
            && let Ok(Ok(())) = tokio::time::timeout(WORK_AT_MOST, piece(&session, number)).await
        {
            work.done(number);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One request of the Kubernetes API, and one revision of a component.
async fn piece(session: &AgentSession, number: u64) -> Result<()> {
    let item = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("item-{number}")}});
    let request = Request::post("/api/v1/namespaces/default/configmaps")
        .header("host", "api")
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(item.to_string()))?;
    let response = session.open_http(request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    // An answer that was lost is not known to have been one.
    ensure!(matches!(status, 201 | 409), "{status}");
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "work", "namespace": "default"},
        "data": {"n": number.to_string()},
    });
    let request = ApplyRequest {
        component: "work".to_owned(),
        digest: format!("{number:064x}"),
        revision: number,
        epoch: 1,
        objects: vec![Bytes::from(object.to_string())],
        version: "1".to_owned(),
        ..ApplyRequest::default()
    };
    let answer = ComponentsClient::new(session.bulk_channel()).apply(request).await?.into_inner();
    ensure!(matches!(answer.outcome(), Outcome::Accepted | Outcome::Unchanged), "{answer:?}");
    Ok(())
}

/// Reads what the component was on the child, over time.
async fn read(child: Arc<ApiServer>, history: Arc<Mutex<Vec<u64>>>) -> Result<()> {
    let api = Api::<ConfigMap>::namespaced(child.client(), "default");
    loop {
        let mut events = api.watch(&WatchParams::default().timeout(290), "0").await?.boxed();
        while let Some(Ok(event)) = events.next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
            let number = object.data.as_ref().and_then(|data| data.get("n")).and_then(|n| n.parse().ok());
            if let Some(number) = number {
                let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
                if history.last() != Some(&number) {
                    history.push(number);
                }
            }
        }
    }
}
