//! Secrets: read whole where their contents are needed, kept out of every log by never being printed.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::json;

use super::{Error, FIELD_MANAGER, Store};

/// Type of every Secret that we write.
pub const OPAQUE: &str = "Opaque";

/// The values of a Secret. Its `Debug` says which keys there are, not what they hold.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretData(BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.keys().map(|key| (key, "[redacted]"))).finish()
    }
}

impl SecretData {
    /// Wraps values.
    pub fn new(values: BTreeMap<String, Vec<u8>>) -> Self {
        Self(values)
    }

    /// The value of a key as text, when it is there and is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The keys, which are no secret.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

/// A Secret as the API has it, with what is needed to write it back.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    /// Metadata, for owner, labels, finalizers and version.
    pub metadata: ObjectMeta,
    /// The values.
    pub data: SecretData,
    /// Its type, which the API lets nobody change.
    pub kind: String,
}

impl Store {
    /// Reads a Secret from the API.
    pub async fn read_secret(&self, namespace: &str, name: &str) -> Result<Option<StoredSecret>, Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = self.call("read", &format!("Secret {namespace}/{name}"), api.get_opt(name)).await?;
        Ok(secret.map(|secret| StoredSecret {
            metadata: secret.metadata,
            kind: secret.type_.unwrap_or_else(|| OPAQUE.to_owned()),
            data: SecretData(
                secret.data.unwrap_or_default().into_iter().map(|(key, ByteString(value))| (key, value)).collect(),
            ),
        }))
    }

    /// Makes an Opaque Secret hold exactly these values.
    ///
    /// # Errors
    /// As the API answers.
    pub async fn apply_secret(
        &self,
        namespace: &str,
        name: &str,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        data: &SecretData,
    ) -> Result<(), Error> {
        self.fence.check()?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels),
                annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
                ..ObjectMeta::default()
            },
            type_: Some(OPAQUE.to_owned()),
            data: Some(data.0.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect()),
            ..Secret::default()
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.write("apply", &format!("Secret {namespace}/{name}"), api.patch(name, &params, &Patch::Apply(&secret)))
            .await?;
        Ok(())
    }

    /// Adds or removes one finalizer of an object, if it still is as `metadata` says.
    ///
    /// # Errors
    /// As the API answers; a conflict when the object was written since.
    pub async fn set_finalizer(
        &self,
        what: &super::Resource,
        metadata: &ObjectMeta,
        finalizer: &str,
        present: bool,
    ) -> Result<Option<DynamicObject>, Error> {
        let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
        if finalizers.iter().any(|f| f == finalizer) == present {
            return Ok(None);
        }
        if present {
            finalizers.push(finalizer.to_owned());
        } else {
            finalizers.retain(|f| f != finalizer);
        }
        self.fence.check()?;
        let name = metadata.name.clone().unwrap_or_default();
        // A merge patch with the version is a compare-and-swap on the list.
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": metadata.resource_version}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let call = self.api(what);
        match self.write("patch", &what.object(&name), call.patch(&name, &params, &Patch::Merge(&patch))).await {
            Ok(stored) => Ok(Some(stored)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
