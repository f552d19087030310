//! The InfraProvider of a cluster: who holds it.

use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use kube::{Resource as _, ResourceExt};

use super::{Error, Performer, Subject};
use crate::api::{FINALIZER, FINALIZER_IN_USE, InfraProvider, InfraProviderStatus, LatticeCluster};
use crate::store;

/// Times that a write is tried again when another write of the same object came first.
const RACES_MAX: usize = 5;

/// Namespace and name of the Secret with a provider's credentials.
pub fn secret_of(provider: &InfraProvider) -> Option<(String, String)> {
    let reference = provider.spec.credentials_secret_ref.as_ref()?;
    Some((reference.namespace.clone(), reference.name.clone()))
}

/// Name of the copy of the credentials in the cluster's namespace.
pub fn credentials_name(cluster: &LatticeCluster) -> String {
    let types = cluster.spec.provider.config.types();
    let provider = types.first().map_or("provider", |type_| type_.as_str());
    format!("{}-{provider}-credentials", cluster.name_any())
}

impl Performer {
    /// Puts our finalizer on the provider and its credentials.
    pub(super) async fn hold_provider(&self, subject: &Subject) -> Result<(), Error> {
        let provider = subject.provider.as_ref();
        let provider = provider.ok_or_else(|| Error::ProviderMissing(subject.cluster.spec.provider_ref.clone()))?;
        self.set_provider_finalizers(provider, true).await
    }

    /// Takes our finalizer off the provider and its credentials, unless another cluster uses them.
    pub(super) async fn release_provider(&self, subject: &Subject) -> Result<(), Error> {
        let name = &subject.cluster.spec.provider_ref;
        let ours = subject.cluster.uid();
        let used =
            self.cache.clusters().iter().any(|cluster| cluster.spec.provider_ref == *name && cluster.uid() != ours);
        match self.cache.provider(name) {
            Some(provider) if !used => self.set_provider_finalizers(&provider, false).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Puts our finalizer on the `LatticeCluster`, or takes it off.
    pub(super) async fn set_cluster_finalizer(&self, subject: &Subject, present: bool) -> Result<(), Error> {
        let kind = GroupVersionKind::gvk(crate::api::GROUP, crate::api::VERSION, &LatticeCluster::kind(&()));
        let what = self.store.resource(&kind, None);
        let mut round = 1;
        loop {
            let live = self.store.read(&what, subject.name.as_str()).await?;
            let live = live.filter(|live| live.metadata.uid.as_deref() == Some(subject.uid.as_str()));
            let Some(live) = live else { return Ok(()) };
            match self.store.set_finalizer(&what, &live.metadata, FINALIZER, present).await {
                Ok(Some(stored)) => self.remember(stored),
                Ok(None) => {}
                // Our own status is written at the same time: a lost race is no failure that a person should read of.
                Err(error) if error.is_conflict() && round < RACES_MAX => {
                    round += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }

    /// Puts our finalizer on a provider and its credentials Secret, or takes it off.
    pub async fn set_provider_finalizers(&self, provider: &InfraProvider, present: bool) -> Result<(), Error> {
        let kind = GroupVersionKind::gvk(crate::api::GROUP, crate::api::VERSION, &InfraProvider::kind(&()));
        let targets = [
            Some((self.store.resource(&kind, None), provider.name_any())),
            secret_of(provider).map(|(namespace, name)| {
                (self.store.resource(&GroupVersionKind::gvk("", "v1", "Secret"), Some(&namespace)), name)
            }),
        ];
        for (what, name) in targets.into_iter().flatten() {
            let Some(live) = self.store.read_metadata(&what, &name).await? else { continue };
            self.store.set_finalizer(&what, &live, FINALIZER_IN_USE, present).await?;
        }
        Ok(())
    }

    /// Takes the answer to a write of the object itself into the cache, so that the next look knows it.
    fn remember(&self, stored: DynamicObject) {
        match stored.try_parse::<LatticeCluster>() {
            Ok(mut cluster) => {
                cluster.metadata.managed_fields = None;
                self.cache.put_cluster(cluster);
            }
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "answer is no LatticeCluster"),
        }
    }

    /// Writes the status of a provider when it differs; whether it did.
    pub async fn write_provider_status(
        &self,
        provider: &InfraProvider,
        status: &InfraProviderStatus,
    ) -> Result<bool, store::Error> {
        if provider.status.as_ref() == Some(status) {
            return Ok(false);
        }
        let mut stored: InfraProvider = match self.store.write_status(provider, status).await {
            Err(error) if error.is_not_found() => return Ok(false),
            other => other?,
        };
        stored.metadata.managed_fields = None;
        self.cache.put_provider(stored);
        Ok(true)
    }
}
