//! One object of a bundle, and its name in the cluster.

use std::fmt;

use base64::Engine as _;
use bytes::Bytes;
use kube::core::GroupVersionKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Marks every object that an agent applied, whatever the component: one watch per kind sees them all.
pub const APPLIED_BY: (&str, &str) = ("lattice.dev/applied-by", "lattice-agent");

/// Names one object in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// API group; the core group is empty.
    pub group: String,
    /// API version that the bundle uses.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for what lives in none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Why a JSON text is no object of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No JSON object.
    #[error("object {0} is no JSON object")]
    Json(usize),
    /// A required field is missing.
    #[error("object {0} has no {1}")]
    Missing(usize, &'static str),
}

/// One object of a bundle. Its text is parsed when it is needed: parsed JSON takes several times the memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its name.
    pub key: Key,
    /// Hash of what it should be: equal hashes need no write.
    pub hash: String,
    text: Bytes,
}

impl Object {
    /// Reads the object that stands at `place` of its bundle.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(place: usize, json: Bytes) -> Result<Self, Malformed> {
        let mut desired: Value = serde_json::from_slice(&json).map_err(|_| Malformed::Json(place))?;
        let text = |pointer: &str| desired.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let missing = |what| move || Malformed::Missing(place, what);
        let api_version = text("/apiVersion").ok_or_else(missing("apiVersion"))?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let key = Key {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text("/kind").ok_or_else(missing("kind"))?.to_owned(),
            namespace: text("/metadata/namespace").unwrap_or_default().to_owned(),
            name: text("/metadata/name").ok_or_else(missing("metadata.name"))?.to_owned(),
        };
        mark(&mut desired);
        Ok(Self { key, hash: hash(&desired), text: json })
    }

    /// What it should be, marked with [`APPLIED_BY`].
    ///
    /// # Panics
    /// Never: the text was parsed before.
    pub fn desired(&self) -> Value {
        let mut desired = serde_json::from_slice(&self.text).expect("it was parsed when it was read");
        mark(&mut desired);
        desired
    }
}

/// Marks an object as ours, and takes out what the server would not keep as it is written: it would look like drift.
fn mark(desired: &mut Value) {
    let is_secret = desired["kind"] == "Secret" && desired["apiVersion"] == "v1";
    let Some(object) = desired.as_object_mut() else { return };
    // Whose it is says the controller, not the bundle.
    object.remove("status");
    if is_secret {
        encode_string_data(object);
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.remove("creationTimestamp");
    let labels = metadata.entry("labels").or_insert(Value::Null);
    if !labels.is_object() {
        *labels = Value::Object(Map::new());
    }
    labels[APPLIED_BY.0] = APPLIED_BY.1.into();
}

/// Moves `stringData`, which can only be written, to `data`, where it is read.
fn encode_string_data(secret: &mut Map<String, Value>) {
    let Some(Value::Object(texts)) = secret.remove("stringData") else { return };
    let data = secret.entry("data").or_insert(Value::Null);
    if !data.is_object() {
        *data = Value::Object(Map::new());
    }
    for (key, text) in texts {
        data[key] = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default()).into();
    }
}

/// Short hash of a JSON value; the order of its fields does not matter.
pub fn hash(value: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, value);
    lattice_protocol::tls::hex(&hasher.finalize()[..8])
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<_> = fields.keys().collect();
            names.sort_unstable();
            hasher.update(b"{");
            for name in names {
                hasher.update(name.as_bytes());
                hasher.update([0]);
                feed(hasher, &fields[name]);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                feed(hasher, item);
            }
            hasher.update(b"]");
        }
        scalar => hasher.update(scalar.to_string().as_bytes()),
    }
    hasher.update([1]);
}

impl Key {
    /// Its kind, for discovery.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::gvk(&self.group, &self.version, &self.kind)
    }

    /// Whether two keys name the same object, whatever version they use.
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// What names the object apart from the API version.
    pub fn identity(&self) -> (&str, &str, &str, &str) {
        (&self.group, &self.kind, &self.namespace, &self.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

#[cfg(test)]
impl Object {
    /// An object of which nothing but the name matters.
    pub(super) fn named(key: Key) -> Self {
        Self { key, hash: String::new(), text: Bytes::new() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_read_and_marked() {
        let text =
            br#"{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"cilium","namespace":"kube-system"}}"#;
        let object = Object::read(0, Bytes::from_static(text)).unwrap();
        assert_eq!(object.key.to_string(), "DaemonSet kube-system/cilium");
        assert_eq!(object.desired()["metadata"]["labels"]["lattice.dev/applied-by"], "lattice-agent");
    }

    #[test]
    fn what_the_server_would_not_keep_is_taken_out() {
        let text = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a","creationTimestamp":null,"labels":null},
            "stringData":{"key":"value"},"data":{"other":"eA=="},"status":{"x":1}}"#;
        let desired = Object::read(0, Bytes::from_static(text.as_bytes())).unwrap().desired();
        let expected = json!({
            "apiVersion": "v1", "kind": "Secret", "data": {"key": "dmFsdWU=", "other": "eA=="},
            "metadata": {"name": "a", "labels": {"lattice.dev/applied-by": "lattice-agent"}},
        });
        assert_eq!(desired, expected);
    }

    #[test]
    fn what_names_no_object_is_refused() {
        for bad in ["", "[]", r#"{"kind":"A"}"#, r#"{"apiVersion":"v1","kind":"A","metadata":{"generateName":"x"}}"#] {
            assert!(Object::read(3, Bytes::from_static(bad.as_bytes())).is_err(), "{bad} should be refused");
        }
    }

    #[test]
    fn hashes_do_not_depend_on_the_order_of_fields() {
        assert_eq!(hash(&json!({"a": 1, "b": [1, 2]})), hash(&json!({"b": [1, 2], "a": 1})));
        for other in [json!({"a": 1, "b": [2, 1]}), json!({"a": "1", "b": [1, 2]}), json!({"a": 1, "b": [[1], 2]})] {
            assert_ne!(hash(&json!({"a": 1, "b": [1, 2]})), hash(&other));
        }
    }
}
