//! Objects of the cluster, cut down to what gates and health reports ask for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;

use super::objects::{
    APIService, Condition, ContainerStatus, CustomResourceDefinition, DaemonSet, Deployment, Job, Node, Pod,
    StatefulSet, WorkloadSpec,
};

mod placement;

pub use placement::Placement;

/// A condition, or what stands for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Status is `True`.
    pub holds: bool,
    /// The reason given.
    pub reason: String,
    /// The message given.
    pub message: String,
    /// When it last changed.
    pub since: Option<Timestamp>,
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// Its `Ready` condition.
    pub ready: Verdict,
    /// Carries the control-plane role label.
    pub control_plane: bool,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet_version: String,
    /// `spec.providerID`.
    pub provider_id: String,
    /// Its labels: DaemonSets choose nodes by them.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
}

/// A DaemonSet, Deployment, StatefulSet or Job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkloadFacts {
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`; Jobs have none and carry `generation`.
    pub observed_generation: i64,
    /// Pods that the spec asks for; for a DaemonSet what its controller counted.
    pub desired: i32,
    /// Pods of the current template.
    pub updated: i32,
    /// Ready pods.
    pub ready: i32,
    /// Available pods.
    pub available: i32,
    /// All pods, old ones included.
    pub total: i32,
    /// `Available`, `Complete` and their kind, where the controller says it.
    pub done: Option<Verdict>,
    /// `Progressing` that failed, `Failed` and their kind.
    pub failed: Option<Verdict>,
    /// `spec.selector.matchLabels`: which pods are its own.
    pub selector: BTreeMap<String, String>,
    /// Where its pods may run.
    pub placement: Placement,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Node that it runs on; empty before it is scheduled.
    pub node: String,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// Being deleted.
    pub terminating: bool,
    /// Why it is not ready, in a word or two: `ImagePullBackOff`, `init:config, 4 restarts`.
    pub trouble: String,
}

/// Cuts an object down to what is needed of it.
pub trait Facts: Sized {
    /// The object as Kubernetes gives it.
    type Object;

    /// Takes what is needed.
    fn of(object: &Self::Object) -> Self;
}

/// Makes a [`Verdict`] of the condition of a kind, if it is there.
fn verdict(conditions: Option<&Vec<Condition>>, kind: &str) -> Option<Verdict> {
    conditions.into_iter().flatten().find(|condition| condition.type_ == kind).map(|condition| Verdict {
        holds: condition.status == "True",
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        since: condition.last_transition_time.as_ref().map(|time| time.0),
    })
}

impl Facts for NodeFacts {
    type Object = Node;

    fn of(node: &Node) -> Self {
        let status = node.status.clone().unwrap_or_default();
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let ready = verdict(status.conditions.as_ref(), "Ready").unwrap_or_else(|| Verdict {
            reason: "NoCondition".to_owned(),
            message: "the kubelet has not reported yet".to_owned(),
            ..Verdict::default()
        });
        Self {
            ready,
            control_plane: labels.contains_key("node-role.kubernetes.io/control-plane"),
            kubelet_version: status.node_info.map(|info| info.kubelet_version).unwrap_or_default(),
            provider_id: node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default(),
            taints: node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            labels,
        }
    }
}

impl WorkloadFacts {
    fn new(generation: Option<i64>, spec: Option<&WorkloadSpec>) -> Self {
        let selector = spec.and_then(|spec| spec.selector.as_ref());
        let template = spec.and_then(|spec| spec.template.spec.as_ref());
        Self {
            generation: generation.unwrap_or_default(),
            selector: selector.and_then(|selector| selector.match_labels.clone()).unwrap_or_default(),
            placement: template.map(Placement::of).unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// A DaemonSet's facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DaemonSetFacts(pub WorkloadFacts);

/// A Deployment's facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentFacts(pub WorkloadFacts);

/// A StatefulSet's facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatefulSetFacts(pub WorkloadFacts);

/// A Job's facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFacts(pub WorkloadFacts);

impl Facts for DaemonSetFacts {
    type Object = DaemonSet;

    fn of(set: &DaemonSet) -> Self {
        let spec = set.spec.as_ref();
        let status = set.status.clone().unwrap_or_default();
        Self(WorkloadFacts {
            observed_generation: status.observed_generation.unwrap_or_default(),
            desired: status.desired_number_scheduled,
            updated: status.updated_number_scheduled.unwrap_or_default(),
            ready: status.number_ready,
            available: status.number_available.unwrap_or_default(),
            total: status.current_number_scheduled,
            ..WorkloadFacts::new(set.metadata.generation, spec)
        })
    }
}

impl Facts for DeploymentFacts {
    type Object = Deployment;

    fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let status = deployment.status.clone().unwrap_or_default();
        Self(WorkloadFacts {
            observed_generation: status.observed_generation.unwrap_or_default(),
            desired: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            updated: status.updated_replicas.unwrap_or_default(),
            ready: status.ready_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            total: status.replicas.unwrap_or_default(),
            done: verdict(status.conditions.as_ref(), "Available"),
            failed: verdict(status.conditions.as_ref(), "Progressing").filter(|progress| !progress.holds),
            ..WorkloadFacts::new(deployment.metadata.generation, spec)
        })
    }
}

impl Facts for StatefulSetFacts {
    type Object = StatefulSet;

    fn of(set: &StatefulSet) -> Self {
        let spec = set.spec.as_ref();
        let status = set.status.clone().unwrap_or_default();
        Self(WorkloadFacts {
            observed_generation: status.observed_generation.unwrap_or_default(),
            desired: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            updated: status.updated_replicas.unwrap_or_default(),
            ready: status.ready_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            total: status.replicas.unwrap_or_default(),
            ..WorkloadFacts::new(set.metadata.generation, spec)
        })
    }
}

impl Facts for JobFacts {
    type Object = Job;

    fn of(job: &Job) -> Self {
        let spec = job.spec.as_ref();
        let status = job.status.clone().unwrap_or_default();
        Self(WorkloadFacts {
            observed_generation: job.metadata.generation.unwrap_or_default(),
            desired: spec.and_then(|spec| spec.completions).unwrap_or(1),
            ready: status.succeeded.unwrap_or_default(),
            done: verdict(status.conditions.as_ref(), "Complete").filter(|done| done.holds),
            failed: verdict(status.conditions.as_ref(), "Failed").filter(|failed| failed.holds),
            ..WorkloadFacts::new(job.metadata.generation, spec)
        })
    }
}

/// Whether a CustomResourceDefinition is established.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrdFacts(pub Verdict);

impl Facts for CrdFacts {
    type Object = CustomResourceDefinition;

    fn of(crd: &CustomResourceDefinition) -> Self {
        let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
        let named = verdict(conditions, "NamesAccepted").filter(|named| !named.holds);
        Self(named.or_else(|| verdict(conditions, "Established")).unwrap_or_default())
    }
}

/// Whether an APIService is available.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServiceFacts(pub Verdict);

impl Facts for ApiServiceFacts {
    type Object = APIService;

    fn of(service: &APIService) -> Self {
        let conditions = service.status.as_ref().and_then(|status| status.conditions.as_ref());
        Self(verdict(conditions, "Available").unwrap_or_default())
    }
}

impl Facts for PodFacts {
    type Object = Pod;

    fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.clone().unwrap_or_default();
        let ready = verdict(status.conditions.as_ref(), "Ready").is_some_and(|ready| ready.holds);
        let trouble = if ready {
            String::new()
        } else {
            let scheduled = verdict(status.conditions.as_ref(), "PodScheduled").filter(|scheduled| !scheduled.holds);
            trouble(
                status.init_container_statuses.as_deref().unwrap_or_default(),
                status.container_statuses.as_deref().unwrap_or_default(),
                scheduled.as_ref(),
                status.reason.or(status.phase),
            )
        };
        Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            ready,
            terminating: pod.metadata.deletion_timestamp.is_some(),
            trouble,
        }
    }
}

/// Says in a word or two why a pod is not ready: the first init container that did not end, else the first container that
/// waits, else why it found no node, else its phase.
fn trouble(
    inits: &[ContainerStatus],
    containers: &[ContainerStatus],
    unscheduled: Option<&Verdict>,
    phase: Option<String>,
) -> String {
    let ended_well = |container: &&ContainerStatus| {
        let state = container.state.as_ref();
        let ended = state.and_then(|state| state.terminated.as_ref()).is_some_and(|end| end.exit_code == 0);
        // A sidecar is an init container that goes on running.
        ended || (container.started == Some(true) && container.ready)
    };
    if let Some(init) = inits.iter().find(|container| !ended_well(container)) {
        let why = state_in_a_word(init).filter(|why| why != "PodInitializing");
        let what = why.map_or_else(|| format!("init:{}", init.name), |why| format!("init:{} {why}", init.name));
        return with_restarts(what, init.restart_count);
    }
    let mut sick = containers.iter().filter(|container| !container.ready);
    if let Some((container, why)) = sick.find_map(|sick| state_in_a_word(sick).map(|why| (sick, why))) {
        return with_restarts(why, container.restart_count);
    }
    if let Some(unscheduled) = unscheduled {
        return unscheduled.reason.clone();
    }
    match containers.iter().find(|container| !container.ready) {
        Some(container) => with_restarts("not ready".to_owned(), container.restart_count),
        None => phase.unwrap_or_else(|| "Pending".to_owned()),
    }
}

fn state_in_a_word(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let waits = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
    waits.or_else(|| state.terminated.as_ref().map(|end| end.reason.clone().unwrap_or_else(|| "ended".to_owned())))
}

fn with_restarts(what: String, restarts: i32) -> String {
    match restarts {
        0 => what,
        1 => format!("{what}, 1 restart"),
        more => format!("{what}, {more} restarts"),
    }
}

#[cfg(test)]
mod tests;
