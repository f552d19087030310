//! What a kubelet does with one pod: gates, sandbox, containers in order, and the end.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, Probe};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::container::{Container, Stage};
use super::{Verdict, prepare, status, volumes};
use crate::cache::Name;
use crate::events::Note;
use crate::meta;
use crate::op::{KUBELET, Kind, Object, Op, Plan};
use crate::pace::Pace;
use crate::runtime::Stop;

/// From assignment to a pod's own network and volumes.
const SANDBOX: Duration = Duration::from_millis(700);
/// How long simulated containers take to end when asked to.
const ENDING: Duration = Duration::from_millis(800);

/// What the kubelet remembers of a pod.
#[derive(Debug)]
pub(crate) struct PodMemory {
    pub(crate) real: bool,
    pub(super) sandbox: Sandbox,
    pub(super) needs: Needs,
    pub(super) containers: Vec<Container>,
    /// When simulated containers will have ended, once they are asked to.
    ending: Option<Instant>,
    told_no_network: bool,
    /// Ends with the pod: whatever waits for something on its behalf gives up then.
    pub(crate) life: CancellationToken,
}

impl Drop for PodMemory {
    fn drop(&mut self) {
        self.life.cancel();
    }
}

/// The pod's own surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sandbox {
    Missing,
    Creating(Instant),
    Up,
}

/// What is known about the Secrets and ConfigMaps that the pod needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Unknown,
    Asked,
    /// A volume cannot be laid out; the message says why.
    NoVolumes(String),
    /// Volumes are there; some containers may still lack something, by name.
    Found(BTreeMap<String, String>),
}

/// One look at a pod: the world around it, and what comes of it.
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) wall: Timestamp,
    pub(crate) pace: Pace,
    pub(crate) pod: &'a Pod,
    pub(crate) node: &'a str,
    pub(crate) host_ip: String,
    pub(crate) pod_ip: String,
    pub(crate) network: bool,
    pub(crate) verdict: Verdict,
    pub(crate) real: bool,
    /// Where a real pod's volumes lie.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) images: &'a mut HashSet<String>,
    pub(crate) missing: BTreeMap<String, String>,
    /// Events to tell.
    pub(crate) notes: Vec<Note>,
    /// Real containers to start.
    pub(crate) starts: Vec<String>,
    /// When to look again.
    pub(crate) wake: Option<Instant>,
}

impl Turn<'_> {
    /// Says whether a time has come; if not, asks to be woken then.
    pub(super) fn reached(&mut self, at: Instant) -> bool {
        if at <= self.now {
            return true;
        }
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        false
    }

    pub(super) fn uid(&self) -> &str {
        meta::uid(&self.pod.metadata)
    }

    pub(super) fn pod_title(&self) -> String {
        let meta = &self.pod.metadata;
        format!("{}_{}({})", meta::name(meta), meta::namespace(meta), meta::uid(meta))
    }

    pub(super) fn readiness(&self, container: &str) -> Option<&Probe> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers.iter().find(|one| one.name == container)?.readiness_probe.as_ref()
    }

    /// The specification of a container, by name.
    pub(super) fn spec(&self, name: &str) -> Option<&ContainerSpec> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|one| one.name == name)
    }

    /// Says whether the pod's work has an end: it is a Job's, or is not to be restarted.
    pub(super) fn is_meant_to_end(&self) -> bool {
        let policy = self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        let of_job = meta::controller_of(&self.pod.metadata).is_some_and(|owner| owner.kind == "Job");
        of_job || policy.is_some_and(|policy| policy != "Always")
    }

    fn host_network(&self) -> bool {
        self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
    }

    fn tell(&mut self, reason: &'static str, message: impl Into<String>) {
        let note = Note::warning(super::COMPONENT, self.pod, reason, message);
        self.notes.push(note.by_host(self.node));
    }
}

impl PodMemory {
    /// Starts a memory of a pod; one that ran under an earlier kubelet is taken over.
    pub(crate) fn new(pod: &Pod, real: bool, now: Instant) -> Self {
        let spec = pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
        let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let mut containers: Vec<Container> = init.map(|one| Container::new(one, true)).collect();
        containers.extend(main.iter().map(|one| Container::new(one, false)));
        let mut memory = Self {
            real,
            sandbox: Sandbox::Missing,
            needs: Needs::Unknown,
            containers,
            ending: None,
            told_no_network: false,
            life: CancellationToken::new(),
        };
        memory.resume(pod, now);
        memory
    }

    fn resume(&mut self, pod: &Pod, now: Instant) {
        let Some(status) = &pod.status else { return };
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let statuses: Vec<_> = lists.into_iter().flatten().flatten().collect();
        for container in &mut self.containers {
            if let Some(status) = statuses.iter().find(|status| status.name == container.name) {
                container.resume(status, self.real, now);
            }
        }
        if self.containers.iter().any(|container| container.stage != Stage::Waiting) {
            self.sandbox = Sandbox::Up;
            if !self.real {
                self.needs = Needs::Found(BTreeMap::new());
            }
        }
    }

    /// Looks at the pod, goes on as far as time allows, and says what is to be written.
    pub(crate) fn step(&mut self, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::new(KUBELET);
        if turn.pod.metadata.deletion_timestamp.is_some() {
            self.end(turn, &mut plan);
        } else if !meta::ended(turn.pod) {
            self.go_on(turn, &mut plan);
        }
        plan.notes.append(&mut turn.notes);
        if let Some(wake) = turn.wake {
            plan.wake_after(wake.saturating_duration_since(turn.now));
        }
        plan
    }

    fn go_on(&mut self, turn: &mut Turn<'_>, plan: &mut Plan) {
        if self.surrounded(turn, plan) {
            if let Needs::Found(missing) = &self.needs {
                turn.missing.clone_from(missing);
            }
            self.run(turn);
        }
        let status = status::compose(self, turn);
        if turn.pod.status.as_ref() != Some(&status) {
            plan.ops.push(Op::Status(Object::from(Pod { status: Some(status), ..turn.pod.clone() })));
        }
    }

    /// Brings network, volumes and sandbox up; says whether containers may start.
    fn surrounded(&mut self, turn: &mut Turn<'_>, plan: &mut Plan) -> bool {
        if self.sandbox == Sandbox::Up && matches!(self.needs, Needs::Found(_)) {
            return true;
        }
        if !turn.network && !turn.host_network() && self.sandbox != Sandbox::Up {
            if !self.told_no_network {
                self.told_no_network = true;
                turn.tell("NetworkNotReady", format!("network is not ready: {}", crate::node::NO_NETWORK));
            }
            return false;
        }
        if self.needs == Needs::Unknown {
            self.needs = match prepare::Preparation::of(turn.pod, turn.folder.clone()) {
                None => Needs::Found(BTreeMap::new()),
                Some(preparation) => {
                    plan.ops.push(Op::Prepare(Box::new(preparation)));
                    Needs::Asked
                }
            };
        }
        let Needs::Found(_) = self.needs else { return false };
        if self.sandbox == Sandbox::Missing {
            let time = turn.pace.spread(SANDBOX, &[turn.uid(), "sandbox"]);
            self.sandbox = Sandbox::Creating(turn.now + time);
        }
        if let Sandbox::Creating(until) = self.sandbox
            && turn.reached(until)
        {
            self.sandbox = Sandbox::Up;
        }
        self.sandbox == Sandbox::Up
    }

    /// Runs init containers one after the other, then the others together.
    fn run(&mut self, turn: &mut Turn<'_>) {
        let mut waiting_for_init = false;
        for container in &mut self.containers {
            if waiting_for_init {
                break;
            }
            container.advance(turn);
            waiting_for_init = container.init && !container.initialized();
        }
    }

    /// Says what the look at the pod's needs has shown.
    pub(crate) fn found(&mut self, pod: &Pod, found: &prepare::Found, turn_notes: &mut Vec<Note>) {
        self.needs = match &found.volumes {
            Some(missing) => {
                let note = Note::warning(super::COMPONENT, pod, "FailedMount", missing.mount_message());
                turn_notes.push(note);
                Needs::NoVolumes(missing.mount_message())
            }
            None => {
                Needs::Found(found.containers.iter().map(|(name, what)| (name.clone(), what.to_string())).collect())
            }
        };
    }

    /// Asks for another look at the pod's needs.
    pub(crate) fn look_again(&mut self) {
        self.needs = Needs::Unknown;
    }

    /// Ends the containers, then the pod.
    fn end(&mut self, turn: &mut Turn<'_>, plan: &mut Plan) {
        let grace = u64::try_from(turn.pod.metadata.deletion_grace_period_seconds.unwrap_or(30)).unwrap_or(0);
        let grace = Duration::from_secs(grace);
        let first = self.ending.is_none();
        let time = if self.containers.iter().any(Container::running) && !self.real {
            turn.pace.spread(ENDING, &[turn.uid(), "end"]).min(grace)
        } else {
            Duration::ZERO
        };
        let at = *self.ending.get_or_insert(turn.now + time);
        for container in self.containers.iter().filter(|container| first && container.running()) {
            container.tell(turn, Note::normal, "Killing", format!("Stopping container {}", container.name));
        }
        let stops = || self.containers.iter().filter_map(|container| container.stop.as_ref());
        stops().for_each(|stop| stop.ask_within(grace));
        let over = stops().next().is_none() && turn.reached(at);
        if over {
            // First, so that no secret outlives the pod.
            if let Some(folder) = &turn.folder
                && let Err(error) = volumes::remove(folder)
            {
                tracing::debug!(%error, "volumes of a pod could not be removed");
            }
            plan.ops.push(Op::Delete {
                kind: Kind::Pod,
                name: Name::of(turn.pod),
                uid: turn.uid().to_owned(),
                grace: Some(0),
            });
        }
    }

    /// Notes that a real container runs, or that its probes say something new.
    pub(crate) fn container(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.name == name)
    }

    /// Asks all real processes to end, each within its grace period.
    pub(crate) fn stop_all(&self) {
        self.containers.iter().filter_map(|container| container.stop.as_ref()).for_each(Stop::ask);
    }
}

impl Container {
    /// Takes the handle that ends its process.
    pub(crate) fn holds(&mut self, stop: Stop) {
        self.stop = Some(stop);
    }

    /// How often it was started again.
    pub(crate) fn restarts(&self) -> u32 {
        u32::try_from(self.restarts).unwrap_or(0)
    }

    /// Takes in what happened to its process.
    pub(crate) fn happened(&mut self, what: super::real::Happening, turn: &mut Turn<'_>) {
        match what {
            super::real::Happening::Started => self.started(turn),
            super::real::Happening::Ready(ready) => self.probed_ready = ready,
            super::real::Happening::Missing(what) => {
                self.stop = None;
                self.stage = Stage::ConfigError { message: what.to_string() };
            }
            super::real::Happening::Exited(exit) => self.exited(&exit, turn),
        }
    }
}
