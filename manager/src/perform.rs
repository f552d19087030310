//! Carries out effects; chooses nothing.
//!
//! **Guarantees.** Each effect may run any number of times, be killed before and after each of its writes, and ends the
//! same: names are made from what an object is for, nothing is created without a look whether it is there, what is gone
//! already counts as deleted. None takes longer than [`EFFECT_TIMEOUT`].

mod component;
mod context;
mod deletion;
mod error;
mod manifest;
mod objects;
mod provider;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use serde_json::Value;

pub use component::{InstallPlan, Installer};
pub use context::{bundle_context, cluster_context, selection};
pub use error::{Error, chain};
pub use manifest::Manifests;
pub use provider::{credentials_name, secret_of};
pub use secrets::{
    CREDENTIAL_HASH, KubeconfigPlan, MADE_FOR, VALUE_DIGEST, credential_is_old, enrolment_name, enrolment_values,
    kubeconfig_name,
};

use crate::api::{ClusterName, ClusterUid, InfraProvider, LatticeCluster};
use crate::chart;
use crate::gateway::Gateway;
use crate::lifecycle::{Certainty, EffectKind, Failure, Outcome};
use crate::render::Renderer;
use crate::store::{Cache, Store};

/// Longest time for one effect. A provision applies about fifteen objects; longer hides a hanging API from the status.
pub const EFFECT_TIMEOUT: Duration = Duration::from_secs(90);

/// What effects are carried out with. Clones share it.
#[derive(Clone, Debug)]
pub struct Performer {
    /// The parent's API.
    pub store: Store,
    /// What the informers know of it.
    pub cache: Cache,
    /// Templates to objects.
    pub renderer: Arc<Renderer>,
    /// The component catalog.
    pub catalog: Arc<chart::Catalog>,
    /// Identities, sessions, the proxy.
    pub gateway: Gateway,
    /// Our own definitions, for components that install them on the child.
    pub lattice_crds: Arc<Vec<Value>>,
}

/// The cluster that an effect is about, as it was when the effect was decided.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name.
    pub name: ClusterName,
    /// Its uid.
    pub uid: ClusterUid,
    /// The object.
    pub cluster: Arc<LatticeCluster>,
    /// Its provider, when there is one.
    pub provider: Option<Arc<InfraProvider>>,
}

impl Subject {
    /// Reads the ids of a cluster; none when the API server accepted a name that we refuse.
    pub fn new(cluster: Arc<LatticeCluster>, provider: Option<Arc<InfraProvider>>) -> Option<Self> {
        let name = cluster.name_any().parse().ok()?;
        let uid = cluster.uid()?.parse().ok()?;
        Some(Self { name, uid, cluster, provider })
    }
}

impl Performer {
    /// Carries out one effect and says how it ended. Installs and removals of components are the component actor's.
    pub async fn perform(&self, effect: &EffectKind, subject: &Subject) -> Outcome {
        let work = self.dispatch(effect, subject);
        match tokio::time::timeout(EFFECT_TIMEOUT, work).await {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(error)) => Outcome::Failed(error.into_failure()),
            Err(_) => Outcome::Failed(timed_out(effect)),
        }
    }

    async fn dispatch(&self, effect: &EffectKind, subject: &Subject) -> Result<(), Error> {
        match effect {
            EffectKind::Render => self.render(subject).and_then(|_| self.check_bundles(subject)),
            EffectKind::AddFinalizer => self.set_cluster_finalizer(subject, true).await,
            EffectKind::HoldProvider => self.hold_provider(subject).await,
            EffectKind::EnsureNamespace => self.ensure_namespace(subject).await,
            EffectKind::EnsureCredentials => self.ensure_credentials(subject).await,
            EffectKind::EnsureEnrolment => self.ensure_enrolment(subject).await,
            EffectKind::EnsureKubeconfig => self.ensure_kubeconfig(subject).await,
            EffectKind::DryRun => self.dry_run(subject).await,
            EffectKind::ApplyObjects(stage) => self.apply_objects(subject, *stage).await,
            EffectKind::DeleteCluster => self.delete_cluster(subject).await,
            EffectKind::DeleteLeftovers => self.delete_leftovers(subject).await,
            EffectKind::RevokeIdentity => self.revoke_identity(subject).await,
            EffectKind::ReleaseProvider => self.release_provider(subject).await,
            EffectKind::DeleteSecrets => self.delete_secrets(subject).await,
            EffectKind::DeleteNamespace => self.delete_namespace(subject).await,
            EffectKind::RemoveFinalizer => self.set_cluster_finalizer(subject, false).await,
            EffectKind::Install { component, .. } | EffectKind::Remove { component } => {
                Err(Error::NotHere { component: component.clone() })
            }
        }
    }
}

fn timed_out(effect: &EffectKind) -> Failure {
    Failure {
        class: crate::api::ErrorClass::Transient,
        reason: crate::api::Reason::ApiUnavailable,
        message: format!("{effect} did not end within {} s", EFFECT_TIMEOUT.as_secs()),
        certainty: Certainty::MaybeDone,
        retry_after: None,
    }
}
