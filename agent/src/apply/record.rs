//! What is held of each component, in Secrets on the child: bundle, inventory, and what was last applied.
//!
//! `lattice-component-<name>` is the record; `lattice-component-<name>-<digest>-<i>` are pieces of the bundle, since a
//! Secret holds at most 1 MiB. Pieces are written first, then the record that names them, then older pieces go: whoever
//! dies in between leaves a record that is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use lattice_protocol::telemetry::Traceparent;
use lattice_protocol::v1::ApplyRequest;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::Error;
use super::bundle::{Bundle, Held};
use super::object::Key;

/// Field manager of the records.
const MANAGER: &str = "lattice-agent";

/// Label that says what a Secret of ours is: `record` or `bundle`.
const LABEL: &str = "lattice.dev/agent-holds";

/// Label with the component's name.
const COMPONENT: &str = "lattice.dev/component";

/// Bytes of one piece of a bundle: with base64 and metadata it stays below a Secret's 1 MiB.
const PIECE_BYTES: usize = 640 << 10;

/// Longest wait for one call.
const CALL_AT_MOST: Duration = Duration::from_secs(15);

/// What was last written of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    /// Hash of what it should be.
    pub(super) desired: String,
    /// Hash of what the server made of it, reduced to what it should be.
    pub(super) found: String,
}

/// Everything held of one component but the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    pub(super) component: String,
    pub(super) digest: String,
    pub(super) revision: u64,
    pub(super) epoch: u64,
    pub(super) version: String,
    pub(super) pieces: usize,
    pub(super) removing: bool,
    pub(super) prune_crds: bool,
    /// The digest that was applied whole; leftovers of earlier ones are gone.
    pub(super) applied: String,
    /// When it was; gates are counted from here.
    pub(super) applied_at: Option<jiff::Timestamp>,
    /// Whether its gates have held since.
    pub(super) settled: bool,
    pub(super) traceparent: Option<Traceparent>,
    /// The bundle on the child could not be read.
    #[serde(skip)]
    pub(super) broken: bool,
    #[serde(with = "entries")]
    pub(super) inventory: BTreeMap<Key, Written>,
}

/// JSON has no keys but texts: the inventory is a list.
mod entries {
    use super::{BTreeMap, Deserialize, Key, Serialize, Written};

    #[derive(Serialize, Deserialize)]
    struct Entry {
        #[serde(flatten)]
        key: Key,
        #[serde(flatten)]
        written: Written,
    }

    pub(super) fn serialize<S: serde::Serializer>(all: &BTreeMap<Key, Written>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(|(key, written)| Entry { key: key.clone(), written: written.clone() }))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<Key, Written>, D::Error> {
        Ok(Vec::<Entry>::deserialize(from)?.into_iter().map(|entry| (entry.key, entry.written)).collect())
    }
}

impl Record {
    pub(super) fn held(&self) -> Held {
        Held {
            // No request has this digest, so the objects are asked for.
            digest: if self.broken { String::new() } else { self.digest.clone() },
            revision: self.revision,
            epoch: self.epoch,
            removing: self.removing,
        }
    }

    /// The keys of the inventory.
    pub(super) fn keys(&self) -> BTreeSet<Key> {
        self.inventory.keys().cloned().collect()
    }

    /// Makes the inventory hold exactly these keys; what is known of those that stay is kept.
    pub(super) fn set_keys(&mut self, keys: BTreeSet<Key>) {
        let mut known = std::mem::take(&mut self.inventory);
        self.inventory =
            keys.into_iter().map(|key| known.remove_entry(&key).unwrap_or((key, Written::default()))).collect();
    }
}

/// Reads and writes records; clones share the client.
#[derive(Clone, Debug)]
pub(super) struct Store {
    secrets: Api<Secret>,
}

impl Store {
    pub(super) fn new(client: kube::Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client, namespace) }
    }

    /// Every record that is held.
    pub(super) async fn load_all(&self) -> Result<Vec<Record>, Error> {
        let records = ListParams::default().labels(&format!("{LABEL}=record"));
        let secrets = bounded("list records", self.secrets.list(&records)).await?;
        secrets.items.into_iter().map(read).collect()
    }

    /// The bundle of a record.
    pub(super) async fn load_bundle(&self, record: &Record) -> Result<Bundle, Error> {
        let broken = |why: String| Error::Record { component: record.component.clone(), why };
        let mut encoded = Vec::new();
        for piece in 0..record.pieces {
            let name = piece_name(record, piece);
            let secret = bounded(&format!("get Secret {name}"), self.secrets.get(&name)).await?;
            let data = secret.data.and_then(|mut data| data.remove("bundle"));
            encoded.extend(data.ok_or_else(|| broken(format!("Secret {name} holds no bundle")))?.0);
        }
        let request = ApplyRequest::decode(Bytes::from(encoded)).map_err(|error| broken(error.to_string()))?;
        Bundle::read(request, record.traceparent).map_err(|error| broken(error.to_string()))
    }

    /// Writes the pieces of a bundle and returns their number. They count only once a record names them.
    pub(super) async fn keep_bundle(&self, record: &Record, request: &ApplyRequest) -> Result<usize, Error> {
        let encoded = request.encode_to_vec();
        let mut pieces = 0;
        for part in encoded.chunks(PIECE_BYTES) {
            let name = piece_name(record, pieces);
            self.apply(&name, "bundle", &record.component, BTreeMap::from([("bundle".to_owned(), part.to_owned())]))
                .await?;
            pieces += 1;
        }
        Ok(pieces)
    }

    /// Writes a record.
    pub(super) async fn keep(&self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::Record { component: record.component.clone(), why: error.to_string() })?;
        let name = record_name(&record.component);
        self.apply(&name, "record", &record.component, BTreeMap::from([("record.json".to_owned(), text)])).await
    }

    /// Deletes pieces that no record names any more.
    pub(super) async fn sweep(&self, record: &Record) -> Result<(), Error> {
        let named: BTreeSet<_> = (0..record.pieces).map(|piece| piece_name(record, piece)).collect();
        let pieces = ListParams::default().labels(&format!("{LABEL}=bundle,{COMPONENT}={}", record.component));
        for secret in bounded("list bundles", self.secrets.list_metadata(&pieces)).await?.items {
            let name = secret.name_any();
            if !named.contains(&name) {
                self.delete(&name).await?;
            }
        }
        Ok(())
    }

    /// Forgets a component.
    pub(super) async fn forget(&self, record: &Record) -> Result<(), Error> {
        self.delete(&record_name(&record.component)).await?;
        self.sweep(&Record { component: record.component.clone(), ..Record::default() }).await
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let deleted =
            bounded(&format!("delete Secret {name}"), self.secrets.delete(name, &DeleteParams::default())).await;
        match deleted {
            Err(Error::Api { source, .. }) if super::write::is_absent(&source) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn apply(
        &self,
        name: &str,
        holds: &str,
        component: &str,
        data: BTreeMap<String, Vec<u8>>,
    ) -> Result<(), Error> {
        let mut secret = Secret {
            data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value))).collect()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.labels =
            Some(BTreeMap::from([(LABEL.to_owned(), holds.to_owned()), (COMPONENT.to_owned(), component.to_owned())]));
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&secret);
        bounded(&format!("apply Secret {name}"), self.secrets.patch(name, &params, &patch)).await.map(drop)
    }
}

async fn bounded<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    super::write::bounded(CALL_AT_MOST, what, call).await
}

fn record_name(component: &str) -> String {
    format!("lattice-component-{component}")
}

fn piece_name(record: &Record, piece: usize) -> String {
    let digest: String = record.digest.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("lattice-component-{}-{}-{piece}", record.component, digest.to_ascii_lowercase())
}

fn read(secret: Secret) -> Result<Record, Error> {
    let component = secret.labels().get(COMPONENT).cloned().unwrap_or_else(|| secret.name_any());
    let text = secret.data.and_then(|mut data| data.remove("record.json"));
    let text = text.ok_or_else(|| Error::Record { component: component.clone(), why: "it is empty".to_owned() })?;
    serde_json::from_slice(&text.0).map_err(|error| Error::Record { component, why: error.to_string() })
}
