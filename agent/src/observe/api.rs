//! Which kinds the cluster serves, its version, and its identity.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Discovery, Scope as DiscoveryScope};
use tokio::sync::watch;

/// A kind as the API server serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Plural, in URLs.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// What the API server serves, as far as it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// By group, version and kind.
    pub served: HashMap<GroupVersionKind, Resource>,
    /// `gitVersion` of the API server.
    pub version: String,
    /// `metadata.uid` of namespace kube-system.
    pub kube_system_uid: String,
}

impl Kinds {
    /// `group/version/kind` of all that is served, sorted; the core group is empty.
    pub fn list(&self) -> Vec<String> {
        let mut all: Vec<_> =
            self.served.keys().map(|gvk| format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind)).collect();
        all.sort_unstable();
        all
    }
}

/// Asks the API server about itself and remembers. Clones share what they know.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    kinds: watch::Sender<Arc<Kinds>>,
    asking: Arc<tokio::sync::Mutex<()>>,
    uid: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// Knows nothing yet.
    pub fn new(client: kube::Client) -> Self {
        Self { client, kinds: watch::Sender::new(Arc::default()), asking: Arc::default(), uid: Arc::default() }
    }

    /// What is known; empty before the first [`Api::refresh`].
    pub fn kinds(&self) -> Arc<Kinds> {
        Arc::clone(&self.kinds.borrow())
    }

    /// Tells when it changed.
    pub fn changes(&self) -> watch::Receiver<Arc<Kinds>> {
        self.kinds.subscribe()
    }

    /// UID of namespace kube-system, which never changes.
    ///
    /// # Errors
    /// The API server's words.
    pub async fn kube_system_uid(&self) -> kube::Result<String> {
        if let Some(uid) = self.uid.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(uid);
        }
        let namespace = kube::Api::<Namespace>::all(self.client.clone()).get("kube-system").await?;
        let uid = namespace.metadata.uid.unwrap_or_default();
        *self.uid.lock().unwrap_or_else(PoisonError::into_inner) = Some(uid.clone());
        Ok(uid)
    }

    /// Asks again. Callers that come while it is asked share the answer's work.
    ///
    /// # Errors
    /// The API server's words.
    pub async fn refresh(&self) -> kube::Result<Arc<Kinds>> {
        let _one_at_a_time = self.asking.lock().await;
        let version = self.client.apiserver_version().await?.git_version;
        let kube_system_uid = self.kube_system_uid().await?;
        let kinds = Arc::new(Kinds { served: served(&self.client).await?, version, kube_system_uid });
        self.kinds.send_if_modified(|known| {
            let changed = **known != *kinds;
            if changed {
                *known = Arc::clone(&kinds);
            }
            changed
        });
        Ok(self.kinds())
    }

    /// Finds how a kind is served, asking again when it is not known: it may be new.
    ///
    /// # Errors
    /// The API server's words. `Ok(None)`: it does not serve the kind.
    pub async fn resolve(&self, gvk: &GroupVersionKind) -> kube::Result<Option<(ApiResource, bool)>> {
        let known = self.kinds().served.get(gvk).cloned();
        let found = match known {
            Some(found) => Some(found),
            None => self.refresh().await?.served.get(gvk).cloned(),
        };
        Ok(found.map(|found| (ApiResource::from_gvk_with_plural(gvk, &found.plural), found.namespaced)))
    }
}

/// Lists every kind: two requests where the server aggregates (Kubernetes 1.30 and later), one per group version else.
async fn served(client: &kube::Client) -> kube::Result<HashMap<GroupVersionKind, Resource>> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(_) => Discovery::new(client.clone()).run().await?,
    };
    let mut served = HashMap::new();
    for group in discovery.groups() {
        for version in group.versions() {
            for (resource, capabilities) in group.versioned_resources(version) {
                let gvk = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
                let namespaced = capabilities.scope == DiscoveryScope::Namespaced;
                served.insert(gvk, Resource { plural: resource.plural, namespaced });
            }
        }
    }
    Ok(served)
}
