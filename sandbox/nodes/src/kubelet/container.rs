//! The life of one container, as a small state machine that time drives.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use tokio::time::Instant;

use super::pod::Turn;
use super::script;
use crate::events::Note;
use crate::meta;
use crate::runtime::{Exit, Stop};

/// A pull takes about this long; each image its own time.
const PULL: Duration = Duration::from_secs(3);
/// From image to running.
const CREATE: Duration = Duration::from_millis(400);
/// Until a readiness probe first succeeds, beyond its own initial delay.
const PROBE: Duration = Duration::from_millis(1500);
/// How long an init container works.
const INIT: Duration = Duration::from_millis(600);
/// How long a container works whose pod is meant to end.
const WORK: Duration = Duration::from_secs(3);
/// How long `ErrImagePull` shows before `ImagePullBackOff`.
const PULL_ERROR: Duration = Duration::from_secs(2);
/// First wait of the two backoffs.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// A container that ran this long has its crashes forgiven. Scaled, but never below the second.
const FORGIVE: (Duration, Duration) = (Duration::from_mins(10), Duration::from_secs(10));

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not its turn yet.
    Waiting,
    /// The image is on its way.
    Pulling { until: Instant },
    /// The image could not be had.
    PullFailed { backing_off: bool, until: Instant },
    /// About to start.
    Creating { until: Instant },
    /// A Secret or ConfigMap that its environment needs is missing.
    ConfigError { message: String },
    /// The runtime was asked to start it.
    Starting,
    /// It runs; `ends` says when and how, for a simulated one that is meant to end.
    Running { since: Timestamp, from: Instant, ready_at: Instant, ends: Option<(Instant, i32)> },
    /// It ended, and stays so or is started again in the same moment.
    Ended,
    /// It waits for its next try.
    CrashLoop { until: Instant },
}

/// What the kubelet remembers of one container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(super) image: String,
    pub(super) init: bool,
    /// An init container that keeps running beside the others.
    pub(super) sidecar: bool,
    pub(super) stage: Stage,
    pub(super) ready: bool,
    pub(super) restarts: i32,
    pulls_failed: u32,
    pub(super) crashes: u32,
    /// How it ended last, while it is not running.
    pub(super) end: Option<ContainerStateTerminated>,
    /// How the run before the present one ended.
    pub(super) before: Option<ContainerState>,
    /// What the probes of a real container say.
    pub(super) probed_ready: bool,
    unready_told: bool,
    /// Ends the real process.
    pub(super) stop: Option<Stop>,
}

impl Container {
    pub(super) fn new(spec: &Spec, init: bool) -> Self {
        Self {
            name: spec.name.clone(),
            image: spec.image.clone().unwrap_or_default(),
            init,
            sidecar: init && spec.restart_policy.as_deref() == Some("Always"),
            stage: Stage::Waiting,
            ready: false,
            restarts: 0,
            pulls_failed: 0,
            crashes: 0,
            end: None,
            before: None,
            probed_ready: false,
            unready_told: false,
            stop: None,
        }
    }

    /// Takes over from a kubelet that is gone: what ran goes on, unless it was a real process.
    pub(super) fn resume(&mut self, status: &ContainerStatus, real: bool, now: Instant) {
        self.restarts = status.restart_count;
        self.before.clone_from(&status.last_state);
        let Some(state) = &status.state else { return };
        if let Some(running) = &state.running {
            let since = running.started_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            if real {
                self.crashes = 1;
                self.end = Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some("ContainerStatusUnknown".to_owned()),
                    message: Some("The container could not be located when the pod was terminated".to_owned()),
                    started_at: Some(meta::time(since)),
                    container_id: status.container_id.clone(),
                    ..ContainerStateTerminated::default()
                });
                self.stage = Stage::Ended;
            } else {
                self.ready = status.ready;
                self.stage = Stage::Running { since, from: now, ready_at: now, ends: None };
            }
        } else if let Some(end) = &state.terminated {
            self.end = Some(end.clone());
            self.stage = Stage::Ended;
        } else if self.restarts > 0 {
            self.end = self.before.as_ref().and_then(|before| before.terminated.clone());
            self.stage = Stage::CrashLoop { until: now };
        }
    }

    pub(super) fn running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// Says whether an init container has done its part.
    pub(super) fn initialized(&self) -> bool {
        if self.sidecar { self.running() } else { self.succeeded() }
    }

    pub(super) fn succeeded(&self) -> bool {
        self.stage == Stage::Ended && self.end.as_ref().is_some_and(|end| end.exit_code == 0)
    }

    /// Says whether it ended and will not be started again.
    pub(super) fn over(&self, pod: &Pod) -> bool {
        self.stage == Stage::Ended && !self.restarts_after(pod)
    }

    fn restarts_after(&self, pod: &Pod) -> bool {
        let failed = self.end.as_ref().is_none_or(|end| end.exit_code != 0);
        let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
        if self.sidecar {
            return true;
        }
        match policy {
            "Never" => false,
            "OnFailure" => failed,
            _ if self.init => failed,
            _ => true,
        }
    }

    /// Goes as far as time allows, once it is its turn.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>) {
        loop {
            let before = self.stage.clone();
            match before {
                Stage::Waiting => self.begin(turn),
                Stage::Pulling { until } if turn.reached(until) => self.pulled(turn),
                Stage::PullFailed { backing_off, until } => self.pull_failed(backing_off, until, turn),
                Stage::Creating { until } if turn.reached(until) => self.start(turn),
                Stage::ConfigError { .. } => self.retry_config(turn),
                Stage::Running { .. } if !turn.real => self.run(turn),
                Stage::Running { .. } => self.ready = self.probed_ready && turn.verdict.may_be_ready,
                Stage::Ended if self.restarts_after(turn.pod) => self.restart_or_wait(turn),
                Stage::CrashLoop { until } if turn.reached(until) => self.restart(turn),
                _ => {}
            }
            if self.stage == before {
                return;
            }
        }
    }

    fn begin(&mut self, turn: &mut Turn<'_>) {
        if turn.images.contains(&self.image) {
            let message = format!("Container image \"{}\" already present on machine", self.image);
            self.tell(turn, Note::normal, "Pulled", message);
            self.create(turn);
        } else {
            self.tell(turn, Note::normal, "Pulling", format!("Pulling image \"{}\"", self.image));
            self.pull(turn);
        }
    }

    fn pull(&mut self, turn: &Turn<'_>) {
        let time = turn.pace.spread(PULL, &[&self.image]);
        self.stage = Stage::Pulling { until: turn.now + time };
    }

    fn pulled(&mut self, turn: &mut Turn<'_>) {
        if turn.verdict.pull_fails || self.unknown_registry().is_some() {
            let message = format!("Failed to pull image \"{}\": {}", self.image, self.pull_error());
            self.tell(turn, Note::warning, "Failed", message);
            self.tell(turn, Note::warning, "Failed", "Error: ErrImagePull".to_owned());
            self.pulls_failed += 1;
            let until = turn.now + turn.pace.delay(PULL_ERROR);
            self.stage = Stage::PullFailed { backing_off: false, until };
            return;
        }
        let took = turn.pace.spread(PULL, &[&self.image]).as_millis();
        let message = format!("Successfully pulled image \"{}\" in {took}ms ({took}ms including waiting)", self.image);
        self.tell(turn, Note::normal, "Pulled", message);
        turn.images.insert(self.image.clone());
        self.pulls_failed = 0;
        self.create(turn);
    }

    fn pull_failed(&mut self, backing_off: bool, until: Instant, turn: &mut Turn<'_>) {
        if !turn.verdict.pull_fails && self.unknown_registry().is_none() {
            // The cause is gone: people who clear a fault should not wait for the backoff's end.
            self.pull(turn);
        } else if turn.reached(until) {
            if backing_off {
                self.pull(turn);
            } else {
                self.tell(turn, Note::normal, "BackOff", format!("Back-off pulling image \"{}\"", self.image));
                self.tell(turn, Note::warning, "Failed", "Error: ImagePullBackOff".to_owned());
                let until = turn.now + turn.pace.backoff(BACKOFF_FIRST, self.pulls_failed);
                self.stage = Stage::PullFailed { backing_off: true, until };
            }
        }
    }

    /// The registry of its image, if that has a name which never exists (RFC 2606).
    fn unknown_registry(&self) -> Option<&str> {
        let host = self.image.split('/').next()?.split(':').next()?;
        host.ends_with(".invalid").then_some(host)
    }

    pub(super) fn pull_error(&self) -> String {
        if let Some(host) = self.unknown_registry() {
            return format!(
                "failed to pull and unpack image \"{0}\": failed to resolve reference \"{0}\": dial tcp: lookup {host}: \
                 no such host",
                self.image
            );
        }
        format!("failed to pull and unpack image \"{}\": simulated registry does not answer", self.image)
    }

    fn create(&mut self, turn: &Turn<'_>) {
        let time = turn.pace.spread(CREATE, &[turn.uid(), &self.name]);
        self.stage = Stage::Creating { until: turn.now + time };
    }

    fn start(&mut self, turn: &mut Turn<'_>) {
        if let Some(message) = turn.missing.get(&self.name).cloned() {
            self.tell(turn, Note::warning, "Failed", format!("Error: {message}"));
            self.stage = Stage::ConfigError { message };
        } else if turn.real {
            self.stage = Stage::Starting;
            turn.starts.push(self.name.clone());
        } else {
            self.started(turn);
        }
    }

    fn retry_config(&mut self, turn: &Turn<'_>) {
        if !turn.missing.contains_key(&self.name) {
            self.create(turn);
        }
    }

    /// Notes that it runs.
    pub(super) fn started(&mut self, turn: &mut Turn<'_>) {
        self.tell(turn, Note::normal, "Created", format!("Created container: {}", self.name));
        self.tell(turn, Note::normal, "Started", format!("Started container {}", self.name));
        self.probed_ready = turn.readiness(&self.name).is_none();
        self.unready_told = false;
        self.stage = Stage::Running {
            since: turn.wall,
            from: turn.now,
            ready_at: turn.now + self.time_to_ready(turn),
            ends: self.time_to_end(turn).map(|(time, code)| (turn.now + time, code)),
        };
    }

    fn time_to_ready(&self, turn: &Turn<'_>) -> Duration {
        let Some(probe) = turn.readiness(&self.name) else { return Duration::ZERO };
        let initial = u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        let seed = [turn.uid(), "ready", self.name.as_str()];
        turn.pace.delay(Duration::from_secs(initial)) + turn.pace.spread(PROBE, &seed)
    }

    fn time_to_end(&self, turn: &Turn<'_>) -> Option<(Duration, i32)> {
        let seed = [turn.uid(), "work", self.name.as_str()];
        if turn.verdict.crashes && !self.init {
            Some((turn.pace.spread(Duration::from_secs(1), &seed), 1))
        } else if let Some(known) = turn.spec(&self.name).and_then(script::of) {
            Some(known.ends)
        } else if self.init && !self.sidecar {
            Some((turn.pace.spread(INIT, &seed), 0))
        } else if !self.init && turn.is_meant_to_end() {
            Some((turn.pace.spread(WORK, &seed), 0))
        } else {
            None
        }
    }

    /// Lets a simulated container become ready, unready, or end.
    fn run(&mut self, turn: &mut Turn<'_>) {
        if turn.verdict.crashes
            && !self.init
            && let Stage::Running { ends: ends @ None, .. } = &mut self.stage
        {
            *ends = Some((turn.now, 1));
        }
        // One that a kubelet before this one started, and that is meant to end.
        if let Stage::Running { ends: None, .. } = self.stage
            && let Some((time, code)) = self.time_to_end(turn)
            && let Stage::Running { ends, .. } = &mut self.stage
        {
            *ends = Some((turn.now + time, code));
        }
        let Stage::Running { ready_at, ends, .. } = self.stage else { return };
        if let Some((at, code)) = ends
            && turn.reached(at)
        {
            let exit = Exit { code, signal: None, error: None };
            self.exited(&exit, turn);
            return;
        }
        let ready = turn.verdict.may_be_ready && turn.reached(ready_at);
        if !ready && !turn.verdict.may_be_ready && turn.now >= ready_at && !self.unready_told {
            let message = "Readiness probe failed: simulated failure".to_owned();
            self.tell(turn, Note::warning, "Unhealthy", message);
            self.unready_told = true;
        }
        self.unready_told &= !ready;
        self.ready = ready;
    }

    /// Notes how it ended.
    pub(super) fn exited(&mut self, exit: &Exit, turn: &mut Turn<'_>) {
        let (since, from) = match self.stage {
            Stage::Running { since, from, .. } => (Some(since), from),
            _ => (None, turn.now),
        };
        let reason = match exit {
            Exit { error: Some(_), .. } => "StartError",
            Exit { code: 0, .. } => "Completed",
            _ => "Error",
        };
        let forgive = turn.pace.delay(FORGIVE.0).max(FORGIVE.1);
        if turn.now.duration_since(from) >= forgive {
            self.crashes = 0;
        }
        self.crashes += 1;
        self.end = Some(ContainerStateTerminated {
            exit_code: exit.code,
            signal: exit.signal,
            reason: Some(reason.to_owned()),
            message: exit.error.clone(),
            started_at: since.map(meta::time),
            finished_at: Some(meta::time(turn.wall)),
            container_id: Some(self.id(turn.uid())),
        });
        self.ready = false;
        self.probed_ready = false;
        self.stop = None;
        self.stage = Stage::Ended;
    }

    /// Restarts at once after a first crash, later after a backoff.
    fn restart_or_wait(&mut self, turn: &mut Turn<'_>) {
        if self.crashes <= 1 {
            self.restart(turn);
            return;
        }
        let message = format!("Back-off restarting failed container {} in pod {}", self.name, turn.pod_title());
        self.tell(turn, Note::warning, "BackOff", message);
        let until = turn.now + turn.pace.backoff(BACKOFF_FIRST, self.crashes - 1);
        self.stage = Stage::CrashLoop { until };
    }

    fn restart(&mut self, turn: &Turn<'_>) {
        self.restarts += 1;
        self.before = self.end.take().map(|end| ContainerState { terminated: Some(end), ..ContainerState::default() });
        self.create(turn);
    }

    /// The id that the simulated container runtime gives this run.
    pub(super) fn id(&self, uid: &str) -> String {
        let restarts = self.restarts.to_string();
        format!("containerd://{}", crate::pace::hex64(&[uid, &self.name, &restarts]))
    }

    pub(super) fn tell(
        &self,
        turn: &mut Turn<'_>,
        make: fn(&'static str, &Pod, &'static str, String) -> Note,
        reason: &'static str,
        message: String,
    ) {
        let note = make(super::COMPONENT, turn.pod, reason, message);
        turn.notes.push(note.about_container(self.init, &self.name).by_host(turn.node));
    }
}
