//! Reading dynamic objects.

use kube::api::DynamicObject;
use serde_json::Value;

use super::kind::Kind;

/// Name of the label that ties an object to its Cluster.
pub(crate) const CLUSTER_LABEL: &str = "cluster.x-k8s.io/cluster-name";
/// Label of everything that belongs to the control plane.
pub(crate) const CONTROL_PLANE_LABEL: &str = "cluster.x-k8s.io/control-plane";
/// Annotation that pauses one object; its presence counts.
pub(crate) const PAUSED_ANNOTATION: &str = "cluster.x-k8s.io/paused";

/// A reference to another object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

/// Short words for what the controllers read all the time.
pub(crate) trait Look {
    /// The value at a JSON pointer, absent when null.
    fn at(&self, pointer: &str) -> Option<&Value>;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn uid(&self) -> &str;
    fn generation(&self) -> i64;
    fn label(&self, key: &str) -> Option<&str>;
    fn annotated(&self, key: &str) -> bool;
    fn deleting(&self) -> bool;
    fn has_finalizer(&self, name: &str) -> bool;
    /// Whether `kind`/`name` is among the owners, as controller when `controller`.
    fn owned_by(&self, kind: Kind, name: &str, controller: bool) -> bool;
    fn condition(&self, name: &str) -> Option<&Value>;

    /// Text at a JSON pointer.
    fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str)
    }

    /// Number at a JSON pointer.
    fn number(&self, pointer: &str) -> Option<i64> {
        self.at(pointer).and_then(Value::as_i64)
    }

    /// Whether `true` stands at a JSON pointer.
    fn flag(&self, pointer: &str) -> bool {
        self.at(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Status of a condition.
    fn is(&self, condition: &str) -> Option<&str> {
        self.condition(condition)?.get("status")?.as_str()
    }

    /// Reads `{apiGroup, kind, name}` at a JSON pointer.
    fn reference(&self, pointer: &str) -> Option<Reference> {
        let value = self.at(pointer)?;
        let field = |name: &str| value.get(name).and_then(Value::as_str);
        let kind = Kind::of(field("apiGroup")?, field("kind")?)?;
        Some(Reference { kind, name: field("name")?.to_owned() })
    }

    /// The Cluster that the object belongs to.
    fn cluster_name(&self) -> Option<&str> {
        self.text("/spec/clusterName").or_else(|| self.label(CLUSTER_LABEL))
    }
}

impl Look for DynamicObject {
    fn at(&self, pointer: &str) -> Option<&Value> {
        self.data.pointer(pointer).filter(|value| !value.is_null())
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or(0)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotated(&self, key: &str) -> bool {
        self.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(key))
    }

    fn deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn has_finalizer(&self, name: &str) -> bool {
        self.metadata.finalizers.as_ref().is_some_and(|all| all.iter().any(|one| one == name))
    }

    fn owned_by(&self, kind: Kind, name: &str, controller: bool) -> bool {
        self.metadata.owner_references.iter().flatten().any(|owner| {
            owner.kind == kind.name() && owner.name == name && (!controller || owner.controller == Some(true))
        })
    }

    fn condition(&self, name: &str) -> Option<&Value> {
        let all = self.at("/status/conditions")?.as_array()?;
        all.iter().find(|one| one.get("type").and_then(Value::as_str) == Some(name))
    }
}

/// An owner reference to an object.
pub(crate) fn owner(kind: Kind, object: &DynamicObject, controller: bool) -> Value {
    let mut value = serde_json::json!({
        "apiVersion": kind.api_version(), "kind": kind.name(), "name": object.name(), "uid": object.uid(),
    });
    if controller {
        value["controller"] = true.into();
        value["blockOwnerDeletion"] = true.into();
    }
    value
}

/// The order of age: oldest first, names break ties.
pub(crate) fn by_age(a: &DynamicObject, b: &DynamicObject) -> std::cmp::Ordering {
    let key = |o: &DynamicObject| o.metadata.creation_timestamp.as_ref().map(|time| time.0);
    key(a).cmp(&key(b)).then_with(|| a.name().cmp(b.name()))
}

/// Five characters that make a name unique, without vowels and look-alikes, as Kubernetes does.
pub(crate) fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}
