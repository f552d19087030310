//! Volumes and the claims on them.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Fields of a volume that are not where its data is.
const PLAIN: [&str; 9] = [
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
];

fn modes(object: &Value, empty: &str, out: &mut Vec<FieldError>) {
    let modes = json::list(object, &["spec", "accessModes"]);
    if modes.is_empty() {
        out.push(FieldError::required("spec.accessModes", empty));
    }
    for mode in modes.iter().filter(|mode| !MODES.iter().any(|known| mode == known)) {
        out.push(FieldError::not_supported("spec.accessModes", mode, &MODES));
    }
}

pub(super) fn volume(object: &Value, out: &mut Vec<FieldError>) {
    modes(object, "", out);
    let capacity = json::at(object, &["spec", "capacity"]).and_then(Value::as_object);
    if capacity.is_none_or(serde_json::Map::is_empty) {
        out.push(FieldError::required("spec.capacity", ""));
    } else if capacity.is_some_and(|capacity| capacity.len() > 1 || !capacity.contains_key("storage")) {
        let shown = json::at(object, &["spec", "capacity"]).cloned().unwrap_or_default();
        out.push(FieldError::not_supported("spec.capacity", &shown, &["storage"]));
    }
    let spec = object.get("spec").and_then(Value::as_object);
    let sources = spec.into_iter().flatten().filter(|(key, value)| value.is_object() && !PLAIN.contains(&key.as_str()));
    let mut sources = sources.map(|(key, _)| key);
    if sources.next().is_none() {
        out.push(FieldError::required("spec", "must specify a volume type"));
    }
    out.extend(
        sources.map(|key| FieldError::forbidden(format!("spec.{key}"), "may not specify more than 1 volume type")),
    );
}

pub(super) fn claim(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    modes(object, "at least 1 access mode is required", out);
    if json::at(object, &["spec", "resources", "requests", "storage"]).is_none() {
        out.push(FieldError::required("spec.resources[storage]", ""));
    }
    let Some(old) = old else { return };
    let strip = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        json::remove(&mut spec, &["resources", "requests"]);
        json::remove(&mut spec, &["volumeAttributesClassName"]);
        if json::text(old, &["spec", "volumeName"]).is_empty() {
            json::remove(&mut spec, &["volumeName"]);
        }
        spec
    };
    if !json::same(&strip(old), &strip(object)) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                      bound claims";
        out.push(FieldError::forbidden("spec", detail));
    }
}
