//! Deleting: a small machine of its own. Each step is idempotent and content with "never existed".

use super::effect::{EffectKind, Stage};
use super::facts::Observed;
use super::look::Look;
use super::mirror::ObjectView;
use super::operation;
use crate::api::condition::READY;
use crate::api::{ConditionStatus, DeletionStatus, FINALIZER, OperationType, Phase, Reason};

/// Most objects that the status names.
const REMAINING_MAX: usize = 50;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Blocked,
    DeletingInfrastructure,
    RevokingIdentity,
    ReleasingProvider,
    DeletingObjects,
    RemovingFinalizer,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::Blocked,
        Self::DeletingInfrastructure,
        Self::RevokingIdentity,
        Self::ReleasingProvider,
        Self::DeletingObjects,
        Self::RemovingFinalizer,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "Blocked",
            Self::DeletingInfrastructure => "DeletingInfrastructure",
            Self::RevokingIdentity => "RevokingIdentity",
            Self::ReleasingProvider => "ReleasingProvider",
            Self::DeletingObjects => "DeletingObjects",
            Self::RemovingFinalizer => "RemovingFinalizer",
        }
    }
}

/// Where the deletion is: its step, why it waits, and what is left.
struct At {
    step: Step,
    reason: Reason,
    words: String,
    remaining: Vec<String>,
    /// Nobody has looked yet at what the step depends on.
    unknown: bool,
}

impl At {
    fn new(step: Step, words: impl Into<String>) -> Self {
        Self { step, reason: Reason::Deleting, words: words.into(), remaining: Vec::new(), unknown: false }
    }

    fn unknown(step: Step, what: &str) -> Self {
        Self { unknown: true, ..Self::new(step, format!("waiting to see {what}")) }
    }
}

/// Takes the next step of the deletion.
pub(super) fn step(look: &mut Look<'_>) {
    if look.phase() != Some(Phase::Deleting) {
        look.go(Phase::Deleting, "the object is being deleted");
        let salt = look.object().metadata.deletion_timestamp.as_ref().map(|at| at.0.to_string()).unwrap_or_default();
        operation::begin(look, OperationType::Delete, &salt);
        operation::enter(look, Step::Blocked.as_str());
        show(look, &At::new(Step::Blocked, "the deletion begins"));
        return;
    }
    let at = next(look);
    if at.unknown && look.status.deletion.is_some() {
        // A manager that was restarted has seen nothing yet; what was said stands.
        return;
    }
    operation::enter(look, at.step.as_str());
    show(look, &at);
}

fn next(look: &mut Look<'_>) -> At {
    if let Some(at) = blocked(look) {
        return at;
    }
    if let Some(at) = infrastructure(look) {
        return at;
    }
    let identity = look.facts.secrets.identity.clone();
    match identity {
        Observed::Known(_) => {
            look.want(EffectKind::RevokeIdentity);
            return At::new(Step::RevokingIdentity, "taking the agent's identity away");
        }
        Observed::Unknown => {
            return At::unknown(Step::RevokingIdentity, "whether the agent has an identity");
        }
        Observed::Absent => {}
    }
    if !look.facts.provider.is_absent() && !look.done_once(EffectKind::ReleaseProvider) {
        return At::new(Step::ReleasingProvider, "letting go of the provider and its credentials");
    }
    if let Some(at) = objects(look) {
        return at;
    }
    if look.object().metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
        let first = !look.state.is_known(&EffectKind::RemoveFinalizer);
        look.want(EffectKind::RemoveFinalizer);
        if first {
            operation::enter(look, Step::RemovingFinalizer.as_str());
            operation::finish(look);
        }
    }
    At::new(Step::RemovingFinalizer, "everything is gone; letting go of the object")
}

fn blocked(look: &Look<'_>) -> Option<At> {
    let blocked = |reason, words: &str| Some(At { reason, ..At::new(Step::Blocked, words) });
    if look.spec().deletion.protection {
        return blocked(
            Reason::DeletionProtected,
            "spec.deletion.protection is set: clear it to let the deletion go on",
        );
    }
    if look.spec().paused {
        return blocked(Reason::Paused, "spec.paused is set: clear it to let the deletion go on");
    }
    let making = [
        EffectKind::EnsureNamespace,
        EffectKind::EnsureCredentials,
        EffectKind::EnsureEnrolment,
        EffectKind::EnsureKubeconfig,
        EffectKind::ApplyObjects(Stage::Cluster),
        EffectKind::ApplyObjects(Stage::HealthChecks),
        EffectKind::HoldProvider,
    ];
    if making.iter().any(|kind| look.state.is_running(kind)) {
        return blocked(Reason::Deleting, "waiting for a write that is under way");
    }
    None
}

/// Deletes the Cluster, and waits until nothing of it is left.
fn infrastructure(look: &mut Look<'_>) -> Option<At> {
    if look.facts.objects.is_unknown() {
        return Some(At::unknown(Step::DeletingInfrastructure, "the objects of Cluster API"));
    }
    let mut left = look.world.objects.clone();
    let cluster = look.world.cluster.as_ref().map(|cluster| (cluster.deleting, cluster.deleting_word.clone()));
    let words = match cluster {
        Some((false, _)) => {
            look.want(EffectKind::DeleteCluster);
            "deleting the Cluster; Cluster API removes workers, control plane and infrastructure".to_owned()
        }
        Some((true, word)) => word.map(|word| word.message).filter(|message| !message.is_empty()).map_or_else(
            || "Cluster API removes workers, control plane and infrastructure".to_owned(),
            |message| message.trim().replace('\n', " "),
        ),
        None if left.iter().any(|object| !object.deleting) => {
            look.want(EffectKind::DeleteLeftovers);
            "deleting what no Cluster owns any more".to_owned()
        }
        None if left.is_empty() => return None,
        None => "waiting for the last objects to go".to_owned(),
    };
    left.sort_by_key(|object| (rank(object), object.name.clone()));
    let remaining: Vec<String> = left.iter().take(REMAINING_MAX).map(describe).collect();
    Some(At { reason: Reason::DeletionWaiting, remaining, ..At::new(Step::DeletingInfrastructure, words) })
}

/// Machines first: they cost money.
fn rank(object: &ObjectView) -> u8 {
    match object.kind.as_str() {
        "Machine" => 0,
        kind if kind.ends_with("Machine") => 1,
        "Cluster" | "KubeadmControlPlane" | "MachineDeployment" => 2,
        kind if kind.ends_with("Cluster") => 2,
        _ => 3,
    }
}

fn describe(object: &ObjectView) -> String {
    match &object.provider_id {
        Some(id) => format!("{} {} ({id})", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    }
}

/// Deletes Secrets and namespace.
fn objects(look: &mut Look<'_>) -> Option<At> {
    let secrets = &look.facts.secrets;
    let known = [&secrets.enrolment, &secrets.kubeconfig, &secrets.credentials];
    let there = known.iter().any(|secret| secret.known().is_some_and(|secret| !secret.terminating));
    if there {
        look.want(EffectKind::DeleteSecrets);
        return Some(At::new(Step::DeletingObjects, "deleting the cluster's Secrets"));
    }
    let namespace = format!("lattice-{}", look.name());
    match &look.facts.namespace {
        Observed::Known(facts) if facts.cluster_uid.as_deref().is_some_and(|uid| uid != look.uid()) => None,
        Observed::Known(facts) if facts.terminating => {
            let remaining = vec![format!("Namespace {namespace}")];
            Some(At { remaining, ..At::new(Step::DeletingObjects, format!("waiting for namespace {namespace} to go")) })
        }
        Observed::Known(_) => {
            look.want(EffectKind::DeleteNamespace);
            let remaining = vec![format!("Namespace {namespace}")];
            Some(At { remaining, ..At::new(Step::DeletingObjects, format!("deleting namespace {namespace}")) })
        }
        Observed::Unknown => Some(At::unknown(Step::DeletingObjects, "the cluster's namespace")),
        Observed::Absent => None,
    }
}

fn show(look: &mut Look<'_>, at: &At) {
    let number = Step::ALL.iter().position(|step| *step == at.step).unwrap_or_default() + 1;
    let step = format!("{number}/{} {}", Step::ALL.len(), at.step.as_str());
    let left = match at.remaining.len() {
        0 => String::new(),
        1 => format!("; 1 object remains: {}", at.remaining[0]),
        count => format!("; {count} objects remain: {}, …", at.remaining[0]),
    };
    let sentence = format!("Deleting, step {number} of {}: {}{left}", Step::ALL.len(), at.words);
    look.set(READY, ConditionStatus::False, at.reason, sentence.clone());
    look.say(sentence);
    look.status.deletion = Some(DeletionStatus { step, remaining: at.remaining.clone() });
}
