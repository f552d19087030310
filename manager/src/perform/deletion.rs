//! Takes a cluster apart. Each step is content with "never existed".

use kube::core::GroupVersionKind;

use super::{Error, Performer, Subject};
use crate::api::LABEL_CLUSTER_UID;
use crate::store::{self, Resource};

/// Cluster API's root object.
const CLUSTER: (&str, &str, &str) = ("cluster.x-k8s.io", "v1beta2", "Cluster");

impl Performer {
    /// Deletes the CAPI Cluster, if it is this cluster's.
    pub(super) async fn delete_cluster(&self, subject: &Subject) -> Result<(), Error> {
        let what = self
            .store
            .resource(&GroupVersionKind::gvk(CLUSTER.0, CLUSTER.1, CLUSTER.2), Some(&subject.name.namespace()));
        self.delete_ours(subject, &what, subject.name.as_str()).await
    }

    /// Deletes what Cluster API did not take along: objects of its kinds, and of its providers', with our label.
    pub(super) async fn delete_leftovers(&self, subject: &Subject) -> Result<(), Error> {
        let namespace = subject.name.namespace();
        let selector = format!("{LABEL_CLUSTER_UID}={}", subject.uid);
        for crd in self.cache.crds().into_iter().filter(|crd| crd.established) {
            let kind = GroupVersionKind::gvk(&crd.kind.group, &crd.version, &crd.kind.kind);
            let what = self.store.resource(&kind, Some(&namespace));
            for metadata in self.store.list_metadata(&what, &selector).await? {
                if metadata.deletion_timestamp.is_none() {
                    let name = metadata.name.unwrap_or_default();
                    self.store.delete(&what, &name, metadata.uid.as_deref()).await?;
                }
            }
        }
        Ok(())
    }

    /// Cuts the agent off for good and forgets its identity.
    pub(super) async fn revoke_identity(&self, subject: &Subject) -> Result<(), Error> {
        self.store.fence().check()?;
        self.gateway.revoke(&subject.uid).await?;
        self.gateway.forget(&subject.name, &subject.uid).await?;
        Ok(())
    }

    /// Deletes the namespace of the cluster's objects.
    pub(super) async fn delete_namespace(&self, subject: &Subject) -> Result<(), Error> {
        let what = self.store.resource(&GroupVersionKind::gvk("", "v1", "Namespace"), None);
        self.delete_ours(subject, &what, &subject.name.namespace()).await
    }

    /// Reads before it deletes: a namesake of another cluster, or of an earlier life, is left alone.
    async fn delete_ours(&self, subject: &Subject, what: &Resource, name: &str) -> Result<(), Error> {
        let live = match self.store.read_metadata(what, name).await {
            // The kind is gone, so its objects are too.
            Err(error) if store::Error::is_not_found(&error) => return Ok(()),
            other => other?,
        };
        let Some(live) = live else { return Ok(()) };
        let uid = live.labels.as_ref().and_then(|labels| labels.get(LABEL_CLUSTER_UID));
        if uid.map(String::as_str) != Some(subject.uid.as_str()) {
            return Err(Error::Foreign { object: what.object(name) });
        }
        if live.deletion_timestamp.is_none() {
            self.store.delete(what, name, live.uid.as_deref()).await?;
        }
        Ok(())
    }
}
