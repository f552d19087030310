//! The status of a pod, composed from what the kubelet remembers.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP,
    PodStatus,
};

use super::container::{Container, Stage};
use super::pod::{PodMemory, Sandbox, Turn};
use crate::meta;

/// Composes the status; what others wrote into it stays.
pub(super) fn compose(memory: &PodMemory, turn: &Turn<'_>) -> PodStatus {
    let old = turn.pod.status.clone().unwrap_or_default();
    let up = memory.sandbox == Sandbox::Up;
    let host_network = turn.host_ip == turn.pod_ip;
    let address = (up || host_network).then(|| turn.pod_ip.clone());
    let phase = phase(memory, turn.pod);
    let (init, main): (Vec<&Container>, Vec<&Container>) = memory.containers.iter().partition(|one| one.init);
    let initialized = init.iter().all(|one| one.initialized());
    let statuses = |list: &[&Container]| {
        let all: Vec<_> = list.iter().map(|one| container_status(one, turn, !init.is_empty())).collect();
        (!all.is_empty()).then_some(all)
    };
    let done = phase == "Succeeded" || phase == "Failed";
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(&old, turn, &main, initialized, up, done, phase)),
        host_ip: Some(turn.host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: turn.host_ip.clone() }]),
        pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: address,
        start_time: old.start_time.clone().or_else(|| Some(meta::time(turn.wall))),
        qos_class: Some(quality(turn.pod).to_owned()),
        init_container_statuses: statuses(&init),
        container_statuses: statuses(&main),
        observed_generation: turn.pod.metadata.generation,
        ..old
    }
}

fn phase(memory: &PodMemory, pod: &Pod) -> &'static str {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    let failed_init = memory.containers.iter().any(|one| one.init && one.over(pod) && !one.succeeded());
    if failed_init && policy == "Never" {
        return "Failed";
    }
    let main: Vec<&Container> = memory.containers.iter().filter(|one| !one.init).collect();
    let never_ran = |one: &&Container| !one.running() && one.end.is_none() && one.before.is_none();
    if main.is_empty() || main.iter().any(never_ran) {
        "Pending"
    } else if !main.iter().all(|one| one.over(pod)) {
        "Running"
    } else if main.iter().all(|one| one.succeeded()) {
        "Succeeded"
    } else {
        "Failed"
    }
}

fn conditions(
    old: &PodStatus,
    turn: &Turn<'_>,
    main: &[&Container],
    initialized: bool,
    up: bool,
    done: bool,
    phase: &str,
) -> Vec<PodCondition> {
    let names = |of: &dyn Fn(&Container) -> bool| {
        let names: Vec<&str> = main.iter().filter(|one| of(one)).map(|one| one.name.as_str()).collect();
        names.join(" ")
    };
    let unready = names(&|one| !one.ready);
    let ready = if done {
        Some(("PodCompleted", String::new())).filter(|_| phase == "Succeeded").or(Some(("PodFailed", String::new())))
    } else {
        (!unready.is_empty()).then(|| ("ContainersNotReady", format!("containers with unready status: [{unready}]")))
    };
    let init = turn.pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let waiting: Vec<&str> = init.map(|one| one.name.as_str()).collect();
    let uninitialized = (!initialized && !done)
        .then(|| ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", waiting.join(" "))));
    let mut all = vec![
        condition(old, turn, "PodReadyToStartContainers", up && !done, None),
        condition(old, turn, "Initialized", uninitialized.is_none(), uninitialized),
        condition(old, turn, "Ready", ready.is_none(), ready.clone()),
        condition(old, turn, "ContainersReady", ready.is_none(), ready),
        condition(old, turn, "PodScheduled", true, None),
    ];
    let others = old.conditions.iter().flatten();
    let ours: Vec<String> = all.iter().map(|one| one.type_.clone()).collect();
    all.extend(others.filter(|other| !ours.contains(&other.type_)).cloned());
    all
}

fn condition(
    old: &PodStatus,
    turn: &Turn<'_>,
    kind: &str,
    value: bool,
    why: Option<(&'static str, String)>,
) -> PodCondition {
    let status = if value { "True" } else { "False" };
    let old = old.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    let (reason, message) = why
        .map_or((None, None), |(reason, message)| (Some(reason.to_owned()), (!message.is_empty()).then_some(message)));
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        last_probe_time: None,
        last_transition_time: since.or_else(|| Some(meta::time(turn.wall))),
        observed_generation: turn.pod.metadata.generation,
    }
}

fn container_status(one: &Container, turn: &Turn<'_>, with_init: bool) -> ContainerStatus {
    let ran = one.running() || one.end.is_some() || one.before.is_some();
    ContainerStatus {
        name: one.name.clone(),
        image: one.image.clone(),
        image_id: if ran { image_id(&one.image) } else { String::new() },
        container_id: if one.running() { Some(one.id(turn.uid())) } else { last_id(one) },
        ready: if one.init { one.initialized() } else { one.ready },
        started: Some(one.running()),
        restart_count: one.restarts,
        state: Some(state(one, turn, with_init)),
        last_state: match one.stage {
            Stage::CrashLoop { .. } => {
                one.end.clone().map(|end| ContainerState { terminated: Some(end), ..ContainerState::default() })
            }
            _ => one.before.clone(),
        },
        ..ContainerStatus::default()
    }
}

fn last_id(one: &Container) -> Option<String> {
    let before = one.before.as_ref().and_then(|before| before.terminated.as_ref());
    one.end.as_ref().or(before).and_then(|end| end.container_id.clone())
}

fn state(one: &Container, turn: &Turn<'_>, with_init: bool) -> ContainerState {
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    };
    match &one.stage {
        Stage::Waiting if with_init => waiting("PodInitializing", None),
        Stage::Waiting | Stage::Pulling { .. } | Stage::Creating { .. } | Stage::Starting => {
            waiting("ContainerCreating", None)
        }
        Stage::PullFailed { backing_off: false, .. } => waiting("ErrImagePull", Some(one.pull_error())),
        Stage::PullFailed { backing_off: true, .. } => waiting(
            "ImagePullBackOff",
            Some(format!("Back-off pulling image \"{}\": ErrImagePull: {}", one.image, one.pull_error())),
        ),
        Stage::ConfigError { message } => waiting("CreateContainerConfigError", Some(message.clone())),
        Stage::Running { since, .. } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(meta::time(*since)) }),
            ..ContainerState::default()
        },
        Stage::Ended => ContainerState { terminated: one.end.clone(), ..ContainerState::default() },
        Stage::CrashLoop { .. } => {
            let wait =
                crate::pace::Pace::new(1.0).backoff(super::container::BACKOFF_FIRST, one.crashes.saturating_sub(1));
            let message = format!(
                "back-off {} restarting failed container={} pod={}",
                go_duration(wait),
                one.name,
                turn.pod_title()
            );
            waiting("CrashLoopBackOff", Some(message))
        }
    }
}

/// Writes whole seconds as Go does.
fn go_duration(wait: std::time::Duration) -> String {
    let seconds = wait.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn image_id(image: &str) -> String {
    let repository = image.split('@').next().unwrap_or(image);
    let repository = match repository.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => repository,
    };
    format!("{repository}@sha256:{}", crate::pace::hex64(&[image]))
}

/// The quality of service that requests and limits amount to.
fn quality(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let asks = |one: &k8s_openapi::api::core::v1::Container| {
        one.resources.as_ref().is_some_and(|resources| {
            let some = |map: &Option<std::collections::BTreeMap<_, _>>| map.as_ref().is_some_and(|map| !map.is_empty());
            some(&resources.requests) || some(&resources.limits)
        })
    };
    let guaranteed = |one: &k8s_openapi::api::core::v1::Container| {
        one.resources.as_ref().is_some_and(|resources| {
            ["cpu", "memory"].iter().all(|key| {
                let limit = resources.limits.as_ref().and_then(|limits| limits.get(*key));
                let request = resources.requests.as_ref().and_then(|requests| requests.get(*key));
                limit.is_some() && (request.is_none() || request == limit)
            })
        })
    };
    if !containers().any(asks) {
        "BestEffort"
    } else if containers().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
