//! Runs one real container: resolves its environment, hands it to the runtime, probes it.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use kube::Client;
use tokio::sync::mpsc::Sender;

use super::environment::{self, Place};
use super::prepare::{self, Missing};
use super::{probe, volumes};
use crate::cache::Name;
use crate::meta;
use crate::pace::Pace;
use crate::runtime::{ContainerRun, Exit, Runtime, Stop};

/// Shortest wait between two readiness probes before the first success. Shorter: probes cost more
/// than the process; longer: a fast simulation waits for nothing.
const PROBE_MIN: Duration = Duration::from_millis(250);
/// How often volumes of a running pod are written again. Tokens live an hour; a kubelet looks about
/// once a minute, which a person who changes a Secret would notice.
const REFRESH: Duration = Duration::from_mins(1);
/// The same for a fast simulation: below this it would keep the API busy with reading Secrets.
const REFRESH_MIN: Duration = Duration::from_secs(2);

/// What a real container reports.
#[derive(Debug)]
pub(crate) enum Happening {
    /// It is about to run.
    Started,
    /// Its readiness probe says something new.
    Ready(bool),
    /// Something that its environment needs is not there.
    Missing(Missing),
    /// It ended.
    Exited(Exit),
}

/// A report, with the container that it is about.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) pod: Name,
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) what: Happening,
}

/// Everything that one run needs.
pub(crate) struct Job {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) container: String,
    pub(crate) node: String,
    pub(crate) host_ip: String,
    pub(crate) pod_ip: String,
    pub(crate) machine: PathBuf,
    pub(crate) restarts: u32,
    pub(crate) stop: Stop,
    pub(crate) pace: Pace,
    pub(crate) reports: Sender<Report>,
}

/// File that a container's output goes to.
pub(crate) fn log_file(machine: &std::path::Path, pod: &Pod, container: &str) -> PathBuf {
    let meta = &pod.metadata;
    let pod_name = format!("{}_{}_{}", meta::namespace(meta), meta::name(meta), meta::uid(meta));
    machine.join("logs").join(pod_name).join(format!("{container}.log"))
}

/// Runs the container to its end, reporting on the way.
pub(crate) async fn run(job: Job) {
    let Some(container) = find(&job.pod, &job.container).cloned() else {
        return job.report(Happening::Exited(Exit::failed_to_start("the pod has no such container"))).await;
    };
    let contents = match prepare::fetch(&job.client, &job.pod, false).await {
        Ok(contents) => contents,
        Err(missing) => return job.report(Happening::Missing(missing)).await,
    };
    let place = Place { node: job.node.clone(), host_ip: job.host_ip.clone(), pod_ip: job.pod_ip.clone() };
    let env = environment::resolve(&job.pod, &container, &place, &contents);
    let folder = volumes::pod_folder(&job.machine, &job.pod);
    let run = ContainerRun {
        pod: Arc::clone(&job.pod),
        container: job.container.clone(),
        image: container.image.clone().unwrap_or_default(),
        node: job.node.clone(),
        argv: environment::words(&container, &env),
        env,
        root: volumes::root(&folder, &job.container),
        log: log_file(&job.machine, &job.pod, &job.container),
        restarts: job.restarts,
        stop: job.stop.clone(),
    };
    job.report(Happening::Started).await;
    let exit = tokio::select! {
        biased;
        // A runtime that panics must not leave a pod that never ends.
        exit = AssertUnwindSafe(job.runtime.run(run)).catch_unwind() => {
            exit.unwrap_or_else(|_| Exit::failed_to_start("the runtime panicked"))
        }
        never = job.watch_readiness(&container) => match never {},
        never = job.watch_liveness(&container) => match never {},
        never = job.keep_volumes_fresh(folder) => match never {},
    };
    job.report(Happening::Exited(exit)).await;
}

fn find<'p>(pod: &'p Pod, name: &str) -> Option<&'p Container> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|container| container.name == name)
}

/// What never comes.
enum Never {}

impl Job {
    async fn report(&self, what: Happening) {
        let report = Report {
            pod: Name::of(self.pod.as_ref()),
            uid: meta::uid(&self.pod.metadata).to_owned(),
            container: self.container.clone(),
            what,
        };
        // The engine is gone when this fails, and with it everybody who would care.
        let _ = self.reports.send(report).await;
    }

    /// Probes readiness: often until the first success, then at the pod's own pace.
    async fn watch_readiness(&self, container: &Container) -> Never {
        let Some(spec) = &container.readiness_probe else { return std::future::pending().await };
        let period = Duration::from_secs(probe::seconds(spec.period_seconds, 10));
        let threshold = probe::seconds(spec.failure_threshold, 3);
        let (mut ready, mut failures) = (false, 0);
        self.initial_delay(spec).await;
        loop {
            match probe::once(spec, container, &self.pod_ip).await {
                Ok(()) => {
                    failures = 0;
                    if !ready {
                        ready = true;
                        self.report(Happening::Ready(true)).await;
                    }
                }
                Err(_) => {
                    failures += 1;
                    if ready && failures >= threshold {
                        ready = false;
                        self.report(Happening::Ready(false)).await;
                    }
                }
            }
            let wait = if ready { period } else { self.pace.delay(period).max(PROBE_MIN) };
            tokio::time::sleep(wait).await;
        }
    }

    /// Probes liveness; a container that fails too often is asked to end, and then restarted.
    async fn watch_liveness(&self, container: &Container) -> Never {
        let Some(spec) = &container.liveness_probe else { return std::future::pending().await };
        let period = Duration::from_secs(probe::seconds(spec.period_seconds, 10));
        let threshold = probe::seconds(spec.failure_threshold, 3);
        let mut failures = 0;
        let initial = u64::try_from(spec.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(initial)).await;
        loop {
            tokio::time::sleep(period).await;
            match probe::once(spec, container, &self.pod_ip).await {
                Ok(()) => failures = 0,
                Err(_) => failures += 1,
            }
            if failures >= threshold {
                self.stop.ask();
                return std::future::pending().await;
            }
        }
    }

    async fn initial_delay(&self, spec: &Probe) {
        let initial = u64::try_from(spec.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        tokio::time::sleep(self.pace.delay(Duration::from_secs(initial))).await;
    }

    async fn keep_volumes_fresh(&self, folder: PathBuf) -> Never {
        loop {
            tokio::time::sleep(self.pace.delay(REFRESH).max(REFRESH_MIN)).await;
            if let Err(missing) = volumes::refresh(&self.client, &self.pod, &folder).await {
                tracing::debug!(container = self.container, %missing, "volumes of a real pod could not be refreshed");
            }
        }
    }
}
