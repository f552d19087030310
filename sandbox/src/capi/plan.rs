//! What one reconcile wants: writes to other objects, in order, then up to three writes to its own.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::conditions::Condition;
use super::kind::Kind;
use super::object::Look as _;

/// A reconcile's decision.
#[derive(Default)]
pub(crate) struct Plan {
    /// Done first, in this order; the first that fails ends the reconcile.
    pub(crate) steps: Vec<Step>,
    /// First write to the object itself: conditions.
    pub(crate) conditions: Vec<Condition>,
    /// Second write: a merge patch of metadata and spec.
    pub(crate) body: Option<Value>,
    /// Third write: a merge patch of the rest of status.
    pub(crate) status: Option<Value>,
    /// Events about the object, written before its conditions.
    pub(crate) events: Vec<Note>,
    /// Done last, after the object itself was written.
    pub(crate) last: Vec<Step>,
    /// Look again after this time, if nothing happens before.
    pub(crate) again: Option<Duration>,
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A write to another object.
pub(crate) enum Step {
    /// Creates an object; one that exists is fine.
    Create(Kind, Value),
    /// Creates a Secret; one that exists is fine.
    CreateSecret(Box<Secret>),
    /// Merge-patches metadata and spec, under the version that was read.
    Patch(Kind, std::sync::Arc<DynamicObject>, Value),
    /// Renders the bootstrap data of the object and creates its Secret.
    Bootstrap(Box<super::userdata::Input>),
    /// Puts conditions into another object's status.
    Conditions(Kind, std::sync::Arc<DynamicObject>, Vec<Condition>),
    /// Deletes an object.
    Delete(Kind, String),
    /// An Event on the object that is reconciled.
    Note(Note),
    /// A write to the workload cluster.
    Remote(RemoteStep),
    /// Switches a machine on, with the bootstrap data of the Secret named.
    Boot(Box<super::machines::Boot>, String),
    /// Destroys a machine.
    Destroy(String),
    /// Tells the makers of machines that a Cluster is gone.
    ClusterGone(String),
}

/// A write to the workload cluster of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RemoteStep {
    /// Merge-patches a Node.
    PatchNode(String, Value),
    /// Marks a Node unschedulable and evicts its pods.
    Drain(String),
    /// Deletes a Node.
    DeleteNode(String),
    /// Makes a bootstrap token: its id and its secret.
    BootstrapToken(String, String),
}

impl Plan {
    /// A plan that only adds a finalizer.
    pub(crate) fn finalizer(object: &DynamicObject, name: &str) -> Self {
        let mut all = object.metadata.finalizers.clone().unwrap_or_default();
        all.push(name.to_owned());
        Self { body: Some(json!({"metadata": {"finalizers": all}})), ..Self::default() }
    }

    /// A plan that only removes a finalizer.
    pub(crate) fn without_finalizer(object: &DynamicObject, name: &str) -> Self {
        let all: Vec<String> =
            object.metadata.finalizers.iter().flatten().filter(|one| *one != name).cloned().collect();
        Self { body: Some(json!({"metadata": {"finalizers": all}})), ..Self::default() }
    }

    /// A plan that only looks again later.
    pub(crate) fn wait(again: Duration) -> Self {
        Self { again: Some(again), ..Self::default() }
    }

    /// Adds an owner reference to the object itself.
    pub(crate) fn own(&mut self, object: &DynamicObject, owner: &Value) {
        self.merge_body(json!({"metadata": {"ownerReferences": with_owner(object, owner)}}));
    }

    /// Adds to the second write.
    pub(crate) fn merge_body(&mut self, patch: Value) {
        match &mut self.body {
            Some(body) => json_patch_merge(body, patch),
            none => *none = Some(patch),
        }
    }

    /// Adds an Event.
    pub(crate) fn note(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(Note { warning: false, reason, message: message.into() });
    }
}

/// The owners of `object` with `owner` in the place of another of its name or of the non-controller of a controller.
pub(crate) fn with_owner(object: &DynamicObject, owner: &Value) -> Vec<Value> {
    let controller = owner.get("controller").is_some();
    let mut owners: Vec<Value> = object
        .metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|old| old.uid != owner["uid"] && !(controller && old.kind != "Cluster"))
        .filter_map(|old| serde_json::to_value(old).ok())
        .collect();
    owners.push(owner.clone());
    owners
}

/// Whether a merge patch would change the object.
pub(crate) fn would_change(object: &DynamicObject, patch: &Value) -> bool {
    let Ok(before) = serde_json::to_value(object) else { return true };
    let mut after = before.clone();
    json_patch_merge(&mut after, patch.clone());
    before != after
}

/// RFC 7386, keeping `null`s of the patch when the target is a patch itself.
fn json_patch_merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    json_patch_merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, Value::Object(patch)) => {
            let mut object = Value::Object(serde_json::Map::new());
            json_patch_merge(&mut object, Value::Object(patch));
            *target = object;
        }
        (target, patch) => *target = patch,
    }
}

/// The condition `Paused`, and whether it must be written alone before anything else.
pub(crate) fn paused(object: &DynamicObject, cluster: Option<&DynamicObject>) -> (Condition, bool) {
    let by_cluster = cluster.is_some_and(|cluster| cluster.flag("/spec/paused"));
    let on = by_cluster || object.annotated(super::object::PAUSED_ANNOTATION);
    let condition = if on {
        let message =
            if by_cluster { "Cluster spec.paused is set to true" } else { "the object carries the pause annotation" };
        Condition::new("Paused", super::conditions::Status::True, "Paused", message)
    } else {
        Condition::no("Paused", "NotPaused", "")
    };
    let alone = on || object.is("Paused") != Some("False");
    (condition, alone)
}
