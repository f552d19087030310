//! Patches: JSON patch, merge patch, strategic merge patch.

mod json_patch;
mod strategic;

pub(crate) use json_patch::apply as apply_json;
use serde_json::{Map, Value};
pub(crate) use strategic::{Refusal, apply as apply_strategic};

/// How a request's patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Kind {
    /// Reads the kind off a content type.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        match content_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// Applies a merge patch (RFC 7396).
pub(crate) fn apply_merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.shift_remove(key);
        } else {
            apply_merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
