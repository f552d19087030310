//! The ladder from nothing to applied objects: what is missing is made, and made again when it goes.

use lattice_protocol::tls::hex;
use sha2::{Digest, Sha256};

use super::effect::{EffectKind, Stage};
use super::facts::{Observed, SecretFacts};
use super::look::Look;
use super::mirror;
use crate::api::{AppliedSpec, FINALIZER, FINALIZER_IN_USE, KubernetesVersion, LatticeClusterSpec, Phase};

/// Digest of the part of a spec that objects are rendered from. A newer manager with other templates gives the same
/// digest for the same spec, so it rolls no machine.
pub fn spec_digest(spec: &LatticeClusterSpec) -> String {
    let part = serde_json::json!([spec.lattice_image, spec.provider_ref, spec.provider, spec.nodes]);
    hex(&Sha256::digest(part.to_string())[..8])
}

/// How far the ladder was climbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    /// Nothing is missing.
    Top,
    /// This is being made.
    At(String),
    /// Nobody has looked yet at what the next rung depends on.
    NotYetKnown,
}

/// Puts our finalizer on the object; true once it is there.
pub(super) fn finalizer(look: &mut Look<'_>) -> bool {
    let held = look.object().metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    if !held {
        look.want(EffectKind::AddFinalizer);
    }
    held
}

/// Makes what is missing, one rung after the other.
pub(super) fn ladder(look: &mut Look<'_>, may_apply: bool) -> Rung {
    if !finalizer(look) {
        return Rung::At("putting the finalizer on the object".to_owned());
    }
    match &look.facts.namespace {
        Observed::Known(namespace) if !namespace.terminating => {}
        Observed::Known(_) => {
            return Rung::At(format!("waiting until namespace lattice-{} of an earlier cluster is gone", look.name()));
        }
        Observed::Absent => {
            look.want(EffectKind::EnsureNamespace);
            return Rung::At(format!("making namespace lattice-{}", look.name()));
        }
        Observed::Unknown => return Rung::NotYetKnown,
    }
    if !provider_is_held(look) {
        look.want(EffectKind::HoldProvider);
    }
    secrets(look);
    if look.facts.objects.is_unknown() {
        return Rung::NotYetKnown;
    }
    let missing = missing(look);
    if missing.is_empty() {
        return Rung::Top;
    }
    if !may_apply {
        return Rung::At(format!("{} missing", missing.join(", ")));
    }
    // A secret must be there before a machine's user data is made from it.
    if !secrets_are_there(look) {
        return Rung::At("making the Secrets for enrolment and for Cluster API".to_owned());
    }
    if look.world.cluster.is_none() && !look.done_once(EffectKind::DryRun) {
        return Rung::At("asking the API server whether it would take the objects (dry run)".to_owned());
    }
    apply(look);
    Rung::At(format!("applying the objects of Cluster API: {}", missing.join(", ")))
}

/// Notes which spec was applied once it was.
pub(super) fn note_applied(look: &mut Look<'_>) {
    let generation = look.generation();
    let done = look.state.is_done(&EffectKind::ApplyObjects(Stage::Cluster), generation);
    // A status that lost the note: machines run already, so what is there counts as what was asked for.
    let lost = look.status.applied.is_none() && !may_apply_edits(look.phase()) && look.world.cluster.is_some();
    if done || lost {
        look.status.applied = Some(AppliedSpec { generation, digest: spec_digest(look.spec()) });
    }
}

/// Health checks come only once the control plane is initialised: earlier they delete a healthy first machine.
pub(super) fn health_checks(look: &mut Look<'_>) {
    let initialized = look.world.cluster.as_ref().is_some_and(|cluster| cluster.control_plane_initialized);
    if !initialized {
        return;
    }
    let pools = look.spec().nodes.worker_pools.keys().map(String::as_str);
    let all_there =
        pools.chain(["cp"]).all(|group| look.world.has("MachineHealthCheck", &format!("{}-{group}", look.name())));
    if !all_there {
        look.want(EffectKind::ApplyObjects(Stage::HealthChecks));
    }
}

fn apply(look: &mut Look<'_>) {
    look.want(EffectKind::ApplyObjects(Stage::Cluster));
}

fn provider_is_held(look: &Look<'_>) -> bool {
    let provider = look.facts.provider.known();
    let held = |provider: &crate::api::InfraProvider| {
        provider.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER_IN_USE)
    };
    // A provider that is gone cannot be held; the precondition says so.
    provider.is_none_or(|provider| held(provider)) && look.facts.credentials.known().is_none_or(|secret| secret.held)
}

/// Secrets that are missing or out of date are made, at any time.
fn secrets(look: &mut Look<'_>) {
    let facts = look.facts;
    if needs_credentials(look) && is_wanting(&facts.secrets.credentials) {
        look.want(EffectKind::EnsureCredentials);
    }
    if is_wanting(&facts.secrets.enrolment) {
        look.want(EffectKind::EnsureEnrolment);
    }
    if is_wanting(&facts.secrets.kubeconfig) {
        look.want(EffectKind::EnsureKubeconfig);
    }
}

fn secrets_are_there(look: &Look<'_>) -> bool {
    let secrets = &look.facts.secrets;
    (!needs_credentials(look) || secrets.credentials.known().is_some())
        && secrets.enrolment.known().is_some()
        && secrets.kubeconfig.known().is_some()
}

fn needs_credentials(look: &Look<'_>) -> bool {
    look.facts.provider.known().is_some_and(|provider| provider.spec.credentials_secret_ref.is_some())
}

fn is_wanting(secret: &Observed<SecretFacts>) -> bool {
    match secret {
        Observed::Known(secret) => secret.stale && !secret.terminating,
        Observed::Absent => true,
        Observed::Unknown => false,
    }
}

/// What is not as the spec asks: missing objects, and values that somebody changed.
fn missing(look: &Look<'_>) -> Vec<String> {
    let (world, name, spec) = (&look.world, look.name(), look.spec());
    let mut missing = Vec::new();
    match &world.cluster {
        None => missing.push(format!("Cluster {name}")),
        Some(cluster) => {
            let labels = look.object().metadata.labels.iter().flatten();
            if labels.into_iter().any(|(key, value)| cluster.labels.get(key) != Some(value)) {
                missing.push(format!("labels of Cluster {name}"));
            }
        }
    }
    if world.infrastructure.is_none() {
        let kind =
            spec.provider.config.types().first().map_or("infrastructure", |t| mirror::infrastructure_kinds(*t)[0]);
        missing.push(format!("{kind} {name}"));
    }
    let version =
        spec.provider.kubernetes.version.parse::<KubernetesVersion>().map(|v| v.to_string()).unwrap_or_default();
    let control_plane = format!("{name}-cp");
    let replicas = Some(spec.nodes.control_plane.replicas);
    let what = format!("KubeadmControlPlane {control_plane}");
    missing.extend(differs(look, &what, world.control_plane.as_ref(), replicas, &version));
    for (pool, wanted) in &spec.nodes.worker_pools {
        let deployment = format!("{name}-{pool}");
        let live = world.deployments.get(&deployment);
        missing.extend(differs(look, &format!("MachineDeployment {deployment}"), live, wanted.replicas, &version));
    }
    if digest_differs(look) {
        missing.push(format!("the spec of generation {}", look.generation()));
    }
    missing
}

/// What of a group of machines is not as asked for.
fn differs(
    look: &Look<'_>,
    what: &str,
    live: Option<&mirror::GroupView>,
    replicas: Option<u32>,
    version: &str,
) -> Vec<String> {
    let Some(live) = live else { return vec![what.to_owned()] };
    let mut differs = Vec::new();
    if replicas.is_some() && live.replicas != replicas {
        differs.push(format!("replicas of {what}"));
    }
    if live.version.as_deref() != Some(version) {
        differs.push(format!("version of {what}"));
    }
    let gone = live.templates.iter().filter(|(kind, name)| !look.world.has(kind, name));
    differs.extend(gone.map(|(kind, name)| format!("{kind} {name}")));
    differs
}

/// Whether the spec is another than the one that was applied.
pub(super) fn digest_differs(look: &Look<'_>) -> bool {
    look.status.applied.as_ref().is_none_or(|applied| applied.digest != spec_digest(look.spec()))
}

/// Whether machines run another spec than the one that is asked for: a scale or an upgrade, operations of their own.
pub(super) fn edits_wait(look: &Look<'_>) -> bool {
    match look.phase() {
        Some(Phase::Bootstrapping | Phase::Ready | Phase::Scaling | Phase::Upgrading) => digest_differs(look),
        None | Some(Phase::Pending | Phase::Provisioning | Phase::Deleting) => false,
    }
}

/// Whether objects may be applied in a phase although the spec was edited since. Once machines run, an edit of the
/// rendered part is a scale or an upgrade, operations of their own.
pub(super) fn may_apply_edits(phase: Option<Phase>) -> bool {
    match phase {
        Some(Phase::Provisioning) => true,
        None
        | Some(
            Phase::Pending | Phase::Bootstrapping | Phase::Ready | Phase::Scaling | Phase::Upgrading | Phase::Deleting,
        ) => false,
    }
}
