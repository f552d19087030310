//! Reads and writes of the parent's API: server-side apply that writes only what differs, creation, deletion,
//! finalizers, Secrets, Leases and Events, and the cache that the informers fill.
//!
//! **Guarantees.** Every call has a deadline and is tried once: who decides about another try is `lifecycle`. Every
//! write asks the [`Fence`] first, so a manager that lost its Lease changes nothing more.

pub mod access;
mod apply;
pub mod ca;
mod cache;
mod error;
mod event;
mod fence;
pub mod identity;
mod kinds;
mod lease;
mod meta;
pub mod notice;
mod secret;
mod status;
mod subset;
pub mod vault;

use std::future::Future;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::GroupVersionKind;

pub use apply::{Applied, FIELD_MANAGER, Policy, applied_hash};
pub use cache::{Cache, CrdFacts, KindState, Objects, SecretFacts, cluster_of, digest};
pub use error::{Certainty, Error};
pub use event::{EventNote, Severity};
pub use fence::{Fence, FenceKeeper};
pub use kinds::{Kind, Kinds, Resource};
pub use lease::{LeaseRecord, LeaseSeen};
pub use meta::cluster_labels;
pub use secret::{OPAQUE, SecretData, StoredSecret};
pub use status::STATUS_MANAGER;

/// Longest wait for one answer of the API. Lower: a busy API server looks away when it is not. Higher: an effect
/// hangs on a dead connection while its cluster waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Reads and writes of the parent's API.
#[derive(Clone)]
pub struct Store {
    client: Client,
    kinds: Kinds,
    fence: Fence,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Makes a store over a client whose own retries are off.
    pub fn new(client: Client, kinds: Kinds, fence: Fence) -> Self {
        Self { client, kinds, fence }
    }

    /// The client beneath, for the rooms that read kinds of their own.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The fence that every write asks.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Reads one object from the API, not from the cache.
    pub async fn read(&self, what: &Resource, name: &str) -> Result<Option<DynamicObject>, Error> {
        self.call("read", &what.object(name), self.api(what).get_opt(name)).await
    }

    /// Reads the metadata of one object from the API: all that is needed of a Secret that somebody else owns.
    pub async fn read_metadata(&self, what: &Resource, name: &str) -> Result<Option<ObjectMeta>, Error> {
        let found = self.call("read", &what.object(name), self.api(what).get_metadata_opt(name)).await?;
        Ok(found.map(|found| found.metadata))
    }

    /// Reads the metadata of every object of a kind that a label selector matches; none when the kind is not served.
    pub async fn list_metadata(&self, what: &Resource, selector: &str) -> Result<Vec<ObjectMeta>, Error> {
        let params = ListParams::default().labels(selector);
        match self.call("list", &what.object("*"), self.api(what).list_metadata(&params)).await {
            Ok(list) => Ok(list.items.into_iter().map(|item| item.metadata).collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Deletes one object, its dependants after it; content with "never existed".
    ///
    /// `uid`, when given, must be the object's: a namesake that was created since is left alone.
    pub async fn delete(&self, what: &Resource, name: &str, uid: Option<&str>) -> Result<(), Error> {
        self.fence.check()?;
        let mut params = kube::api::DeleteParams::background();
        if let Some(uid) = uid {
            params =
                params.preconditions(kube::api::Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        }
        match self.write("delete", &what.object(name), self.api(what).delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Names the resource of a kind in a namespace, with the plural that the API serves it under.
    pub fn resource(&self, gvk: &GroupVersionKind, namespace: Option<&str>) -> Resource {
        Resource { api: self.kinds.resolve(gvk), namespace: namespace.map(str::to_owned) }
    }

    fn api(&self, what: &Resource) -> Api<DynamicObject> {
        match &what.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &what.api),
            None => Api::all_with(self.client.clone(), &what.api),
        }
    }

    pub(crate) async fn call<T>(
        &self,
        verb: &'static str,
        object: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| Error::from_kube(verb, object, error, Certainty::NotDone)),
            Err(_) => Err(Error::timeout(verb, object, Certainty::NotDone)),
        }
    }

    async fn write<T>(
        &self,
        verb: &'static str,
        object: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| Error::from_kube(verb, object, error, Certainty::MaybeDone)),
            Err(_) => Err(Error::timeout(verb, object, Certainty::MaybeDone)),
        }
    }
}
