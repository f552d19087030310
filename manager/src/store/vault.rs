//! Secrets of our own namespace as a store with compare-and-swap: what the CA and the identities are kept in.
//!
//! A trait, so that the rules above it are tested against a store that can lose a race on purpose.

use std::collections::BTreeMap;
use std::fmt;

use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use lattice_protocol::reason::Reason;
use zeroize::Zeroize as _;

/// Most Secrets of one page of a list: each is a few KiB.
const PAGE: u32 = 500;

/// Label that says what a Secret of ours holds.
pub const LABEL_HOLDS: &str = "lattice.dev/holds";

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody wrote in between, or made it first. Read again.
    #[error("secret {0} was changed by somebody else")]
    Conflict(String),
    /// The API did not do it, or did not say whether it did.
    #[error("cannot {verb} secret {name}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// Which Secret.
        name: String,
        /// The client's words.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    /// The reason that a condition shows for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Conflict(_) => Reason::FieldConflict,
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 403 || status.code == 401 => Reason::AccessDenied,
                _ => Reason::ApiUnavailable,
            },
        }
    }
}

/// The content of one Secret. `Debug` names its keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Labels of the Secret.
    pub labels: BTreeMap<String, String>,
    /// Its data.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// A Secret as it was read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What `replace` must show to win.
    pub version: Version,
    /// What it holds.
    pub contents: Contents,
}

/// `metadata.resourceVersion`: opaque, compared for equality only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// A store of small secrets with compare-and-swap.
pub trait Vault: fmt::Debug + Send + Sync {
    /// Reads every Secret whose label [`LABEL_HOLDS`] is `holds`.
    fn list<'a>(&'a self, holds: &'a str) -> BoxFuture<'a, Result<Vec<Entry>, Error>>;
    /// Reads one Secret.
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>>;
    /// Makes a Secret; [`Error::Conflict`] when it exists.
    fn create<'a>(&'a self, name: &'a str, contents: Contents) -> BoxFuture<'a, Result<Version, Error>>;
    /// Replaces a Secret that is still at `version`; otherwise [`Error::Conflict`].
    fn replace<'a>(
        &'a self,
        name: &'a str,
        version: Version,
        contents: Contents,
    ) -> BoxFuture<'a, Result<Version, Error>>;
    /// Removes a Secret; fine when there is none.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>>;
}

/// The Secrets of one namespace of the parent.
#[derive(Clone)]
pub struct KubeVault {
    api: Api<Secret>,
}

impl KubeVault {
    /// Uses the Secrets of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }
}

impl Vault for KubeVault {
    fn list<'a>(&'a self, holds: &'a str) -> BoxFuture<'a, Result<Vec<Entry>, Error>> {
        Box::pin(async move {
            let mut params = ListParams::default().labels(&format!("{LABEL_HOLDS}={holds}")).limit(PAGE);
            let mut found = Vec::new();
            loop {
                let page = self.api.list(&params).await.map_err(|error| failed("list", holds, error))?;
                found.extend(page.items.into_iter().filter_map(entry));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => return Ok(found),
                }
            }
        })
    }

    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        Box::pin(async move {
            let secret = self.api.get_opt(name).await.map_err(|error| failed("read", name, error))?;
            Ok(secret.and_then(entry))
        })
    }

    fn create<'a>(&'a self, name: &'a str, contents: Contents) -> BoxFuture<'a, Result<Version, Error>> {
        Box::pin(async move {
            let made = self.api.create(&PostParams::default(), &secret(name, None, contents)).await;
            version("create", name, made)
        })
    }

    fn replace<'a>(
        &'a self,
        name: &'a str,
        version_seen: Version,
        contents: Contents,
    ) -> BoxFuture<'a, Result<Version, Error>> {
        Box::pin(async move {
            let next = secret(name, Some(version_seen), contents);
            version("replace", name, self.api.replace(name, &PostParams::default(), &next).await)
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            match self.api.delete(name, &DeleteParams::default()).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(failed("delete", name, error)),
            }
        })
    }
}

fn secret(name: &str, version: Option<Version>, contents: Contents) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: version.map(|version| version.0),
            labels: Some(contents.labels.clone()),
            ..ObjectMeta::default()
        },
        data: Some(contents.data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

fn entry(secret: Secret) -> Option<Entry> {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    Some(Entry {
        name: secret.metadata.name?,
        version: Version(secret.metadata.resource_version?),
        contents: Contents { labels: secret.metadata.labels.unwrap_or_default(), data },
    })
}

fn version(verb: &'static str, name: &str, result: Result<Secret, kube::Error>) -> Result<Version, Error> {
    match result {
        Ok(secret) => Ok(Version(secret.metadata.resource_version.unwrap_or_default())),
        // A Secret that vanished under a replace is a lost race as well.
        Err(kube::Error::Api(status)) if status.code == 409 || (verb == "replace" && status.code == 404) => {
            Err(Error::Conflict(name.to_owned()))
        }
        Err(error) => Err(failed(verb, name, error)),
    }
}

fn failed(verb: &'static str, name: &str, error: kube::Error) -> Error {
    Error::Api { verb, name: name.to_owned(), source: Box::new(error) }
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.data.values_mut().for_each(|value| value.zeroize());
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("keys", &self.data.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl fmt::Debug for KubeVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KubeVault")
    }
}

#[cfg(test)]
pub(crate) mod memory;
