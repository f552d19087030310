//! Stored objects in the form of the version that is asked for.

use serde_json::{Map, Value, json};

use crate::convert;
use crate::json;
use crate::kinds::Resource;
use crate::schema::{defaults, prune};
use crate::store::Stored;

/// Returns an object as a version of its kind serves it.
pub(crate) fn served(resource: &Resource, stored: &Stored) -> Value {
    serve(resource, stored.value())
}

/// Brings a stored object into the form of a version: custom resources are pruned and defaulted by its schema.
pub(crate) fn serve(resource: &Resource, mut object: Value) -> Value {
    match resource.custom() {
        Some(custom) => {
            json::set(&mut object, &["apiVersion"], resource.api_version().into());
            let node = custom.node();
            let meta = object.get("metadata").cloned();
            let _ = prune::object(node, &mut object, &mut Vec::new());
            if let Some(meta) = meta {
                json::set(&mut object, &["metadata"], meta);
            }
            // Defaults come from the version that is stored.
            if custom.storage_version == resource.version {
                defaults::apply(node, &mut object);
            }
        }
        None => convert::from_storage(resource, &mut object),
    }
    object
}

/// Brings an object into the form in which it is stored.
pub(crate) fn to_storage(resource: &Resource, mut object: Value) -> Value {
    match resource.custom() {
        Some(custom) => {
            let version = crate::kinds::join(&resource.group, &custom.storage_version);
            json::set(&mut object, &["apiVersion"], version.into());
        }
        None => convert::to_storage(resource, &mut object),
    }
    arrange(resource, &mut object);
    object
}

/// Puts keys in the order in which the real server writes them: by name in custom resources, in the order of their types
/// in what all built-in objects have. Only readers of the bare text see it.
fn arrange(resource: &Resource, object: &mut Value) {
    if let Some(Value::Object(meta)) = object.get_mut("metadata") {
        // Its value comes with the write.
        meta.entry("resourceVersion").or_insert_with(|| "".into());
        if !resource.is_custom() {
            lead(meta, &META);
        }
    }
    if resource.is_custom() {
        sort(object);
    } else if let Value::Object(map) = object {
        lead(map, &["kind", "apiVersion", "metadata"]);
    }
}

/// Keys of metadata, in the order of its type.
const META: [&str; 14] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// Brings keys to the front.
fn lead(map: &mut Map<String, Value>, keys: &[&str]) {
    let mut rest = std::mem::take(map);
    for key in keys {
        if let Some(value) = rest.shift_remove(*key) {
            map.insert((*key).to_owned(), value);
        }
    }
    map.append(&mut rest);
}

fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.sort_keys();
            map.values_mut().for_each(sort);
        }
        Value::Array(items) => items.iter_mut().for_each(sort),
        _ => {}
    }
}

/// Makes an object that has nothing but what its type always writes.
pub(crate) fn empty(resource: &Resource) -> Value {
    let mut out = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": {}});
    if !resource.is_custom() {
        crate::schema::typed::normalise(resource.node(), &mut out);
    }
    out
}
