//! Reads and writes of single objects on the child.

use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::Value;

use super::Error;
use super::object::Key;
use crate::observe;

/// Longest wait for one call. The API server itself gives up on a write after 30 s or so (webhooks).
const CALL_AT_MOST: Duration = Duration::from_secs(40);

/// Writes objects of one component.
#[derive(Clone)]
pub(super) struct Writer {
    client: kube::Client,
    api: observe::Api,
    manager: String,
}

impl Writer {
    pub(super) fn new(client: kube::Client, api: observe::Api, component: &str) -> Self {
        Self { client, api, manager: format!("lattice-agent-{component}") }
    }

    /// The component's field manager.
    pub(super) fn manager(&self) -> &str {
        &self.manager
    }

    /// Makes the object what is asked for, and returns what became of it.
    ///
    /// A Job whose template cannot be changed is made anew: it is the one kind that may be.
    pub(super) async fn apply(&self, key: &Key, desired: &Value) -> Result<Value, Error> {
        let objects = self.objects(key).await?;
        let params = PatchParams::apply(&self.manager).force().validation_strict();
        let patch = Patch::Apply(desired);
        let apply = || bounded(CALL_AT_MOST, format!("apply {key}"), objects.patch(&key.name, &params, &patch));
        let applied = match apply().await {
            Err(Error::Api { source, .. }) if key.kind == "Job" && is_immutable(&source) => {
                self.delete(key).await?;
                apply().await?
            }
            other => other?,
        };
        to_value(key, applied)
    }

    /// Reads the object, if it is there.
    pub(super) async fn find(&self, key: &Key) -> Result<Option<Value>, Error> {
        let objects = self.objects(key).await?;
        let found = bounded(CALL_AT_MOST, format!("get {key}"), objects.get_opt(&key.name)).await?;
        found.map(|found| to_value(key, found)).transpose()
    }

    /// Deletes the object in the background. True if it is gone.
    pub(super) async fn delete(&self, key: &Key) -> Result<bool, Error> {
        let objects = match self.objects(key).await {
            // Its kind is gone, and the object with it.
            Err(Error::UnknownKind(_)) => return Ok(true),
            other => other?,
        };
        let params = DeleteParams::background();
        match bounded(CALL_AT_MOST, format!("delete {key}"), objects.delete(&key.name, &params)).await {
            Ok(_) => Ok(false),
            Err(Error::Api { source, .. }) if is_absent(&source) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// A client for where the object lives.
    async fn objects(&self, key: &Key) -> Result<Api<DynamicObject>, Error> {
        let gvk = key.gvk();
        let resolved = bounded(CALL_AT_MOST, format!("discover {key}"), self.api.resolve(&gvk)).await?;
        let (resource, namespaced) = resolved.ok_or_else(|| Error::UnknownKind(Box::new(key.clone())))?;
        match (namespaced, key.namespace.as_str()) {
            (true, "") => Err(Error::Scope(Box::new(key.clone()), "its kind lives in namespaces, and it names none")),
            (false, namespace) if !namespace.is_empty() => {
                Err(Error::Scope(Box::new(key.clone()), "its kind lives in no namespace, and it names one"))
            }
            (true, namespace) => Ok(Api::namespaced_with(self.client.clone(), namespace, &resource)),
            (false, _) => Ok(Api::all_with(self.client.clone(), &resource)),
        }
    }
}

fn to_value(key: &Key, object: DynamicObject) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|error| Error::Record { component: key.to_string(), why: error.to_string() })
}

/// Runs one call within a bound.
pub(super) async fn bounded<T>(
    limit: Duration,
    what: impl Into<String>,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Api { what: what.into(), source: Box::new(source) }),
        Err(_) => Err(Error::Timeout(what.into())),
    }
}

/// Whether the API server said that the object, or its kind, is not there.
pub(super) fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn is_immutable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422 && status.message.contains("immutable"))
}
