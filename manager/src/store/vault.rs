//! Secrets of our own namespace as a store with compare-and-swap: what the CA and the identities are kept in.
//!
//! A trait, so that the rules above it are tested against a store that can lose a race on purpose.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};

use super::{Error, FIELD_MANAGER, Fence, Kinds, Store};

/// Most Secrets of one page of a list: each is a few KiB.
const PAGE: u32 = 500;

/// Label that says what a Secret of ours holds.
pub const LABEL_HOLDS: &str = "lattice.dev/holds";

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
    /// Makes a Secret; a conflict when it exists.
    fn create<'a>(&'a self, name: &'a str, contents: Contents) -> BoxFuture<'a, Result<Version, Error>>;
    /// Replaces a Secret that is still at `version`; otherwise a conflict.
    fn replace<'a>(
        &'a self,
        name: &'a str,
        version: Version,
        contents: Contents,
    ) -> BoxFuture<'a, Result<Version, Error>>;
    /// Removes a Secret; fine when there is none.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>>;
    /// Tells which Secrets with a label [`LABEL_HOLDS`] change, for as long as it is listened to. It says "look": one's
    /// own writes come as well, and a change may be told late or twice. A removal may be missed.
    fn changes(&self) -> BoxStream<'static, Changed>;
}

/// A Secret that was written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// What it was at; none once it is gone.
    pub version: Option<Version>,
}

/// The Secrets of one namespace of the parent.
#[derive(Clone, Debug)]
pub struct KubeVault {
    store: Store,
    namespace: String,
}

impl KubeVault {
    /// Uses the Secrets of `namespace`; nothing is written once `fence` is closed.
    pub fn new(client: Client, fence: Fence, namespace: &str) -> Self {
        Self { store: Store::new(client, Kinds::default(), fence), namespace: namespace.to_owned() }
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.store.client.clone(), &self.namespace)
    }

    fn object(&self, name: &str) -> String {
        format!("Secret {}/{name}", self.namespace)
    }

    async fn write(
        &self,
        verb: &'static str,
        name: &str,
        call: impl Future<Output = Result<Secret, kube::Error>>,
    ) -> Result<Version, Error> {
        self.store.fence.check()?;
        let written = self.store.write(verb, &self.object(name), call).await?;
        Ok(Version(written.metadata.resource_version.unwrap_or_default()))
    }
}

impl Vault for KubeVault {
    fn list<'a>(&'a self, holds: &'a str) -> BoxFuture<'a, Result<Vec<Entry>, Error>> {
        Box::pin(async move {
            let mut params = ListParams::default().labels(&format!("{LABEL_HOLDS}={holds}")).limit(PAGE);
            let mut found = Vec::new();
            loop {
                let page = self.store.call("list", &self.object(holds), self.api().list(&params)).await?;
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
            let found = self.store.call("read", &self.object(name), self.api().get_opt(name)).await?;
            Ok(found.and_then(entry))
        })
    }

    fn create<'a>(&'a self, name: &'a str, contents: Contents) -> BoxFuture<'a, Result<Version, Error>> {
        Box::pin(async move {
            let made = secret(name, None, &contents);
            self.write("create", name, self.api().create(&params(), &made)).await
        })
    }

    fn replace<'a>(
        &'a self,
        name: &'a str,
        version: Version,
        contents: Contents,
    ) -> BoxFuture<'a, Result<Version, Error>> {
        Box::pin(async move {
            let next = secret(name, Some(version), &contents);
            self.write("replace", name, self.api().replace(name, &params(), &next)).await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.store.fence.check()?;
            let (api, params) = (self.api(), DeleteParams::default());
            match self.store.write("delete", &self.object(name), api.delete(name, &params)).await {
                Err(error) if !error.is_not_found() => Err(error),
                Ok(_) | Err(_) => Ok(()),
            }
        })
    }

    fn changes(&self) -> BoxStream<'static, Changed> {
        let config = watcher::Config::default().labels(LABEL_HOLDS);
        let metadata = Api::<PartialObjectMeta<Secret>>::namespaced(self.store.client.clone(), &self.namespace);
        watcher(metadata, config)
            .default_backoff()
            .filter_map(|event| futures::future::ready(event.ok().and_then(changed)))
            .boxed()
    }
}

fn changed(event: watcher::Event<PartialObjectMeta<Secret>>) -> Option<Changed> {
    let (metadata, is_gone) = match event {
        watcher::Event::Apply(secret) | watcher::Event::InitApply(secret) => (secret.metadata, false),
        watcher::Event::Delete(secret) => (secret.metadata, true),
        watcher::Event::Init | watcher::Event::InitDone => return None,
    };
    let version = metadata.resource_version.filter(|_| !is_gone).map(Version);
    Some(Changed { name: metadata.name?, version })
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn secret(name: &str, version: Option<Version>, contents: &Contents) -> Secret {
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

impl Drop for Contents {
    fn drop(&mut self) {
        self.data.values_mut().for_each(zeroize::Zeroize::zeroize);
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("keys", &self.data.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod memory;
