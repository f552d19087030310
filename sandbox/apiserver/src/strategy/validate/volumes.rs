//! Volumes and the claims on them.

use serde_json::Value;

use crate::field::{FieldError, internal};
use crate::json;
use crate::names;
use crate::quantity;

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

/// Checks words that volumes and claims share.
fn words(object: &Value, out: &mut Vec<FieldError>) {
    let mode = json::text(object, &["spec", "volumeMode"]);
    if !matches!(mode, "" | "Block" | "Filesystem") {
        out.push(FieldError::not_supported("spec.volumeMode", &Value::from(mode), &["Block", "Filesystem"]));
    }
    let class = json::text(object, &["spec", "storageClassName"]);
    if !class.is_empty() {
        let errors = names::subdomain(class).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text("spec.storageClassName", class, error)));
    }
}

/// Tells where the data of a volume is.
fn source(object: &Value) -> Vec<(&String, &Value)> {
    let spec = object.get("spec").and_then(Value::as_object);
    spec.into_iter().flatten().filter(|(key, value)| value.is_object() && !PLAIN.contains(&key.as_str())).collect()
}

pub(super) fn volume(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    modes(object, "", out);
    words(object, out);
    let policy = json::text(object, &["spec", "persistentVolumeReclaimPolicy"]);
    if !matches!(policy, "" | "Delete" | "Recycle" | "Retain") {
        let known = ["Delete", "Recycle", "Retain"];
        out.push(FieldError::not_supported("spec.persistentVolumeReclaimPolicy", &Value::from(policy), &known));
    }
    if let Some(old) = old
        && source(old) != source(object)
    {
        let spec = |object: &Value| object.get("spec").cloned().unwrap_or_default();
        let told = internal::changes("PersistentVolumeSource", &spec(old), &spec(object));
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{told}");
        out.push(FieldError::forbidden("spec.persistentvolumesource", detail));
    }
    fixed_mode(object, old, out);
    let capacity = json::at(object, &["spec", "capacity"]).and_then(Value::as_object);
    if capacity.is_none_or(serde_json::Map::is_empty) {
        out.push(FieldError::required("spec.capacity", ""));
        out.push(FieldError::not_supported("spec.capacity", &Value::Null, &["storage"]));
    } else if capacity.is_some_and(|capacity| capacity.len() > 1 || !capacity.contains_key("storage")) {
        let shown = json::at(object, &["spec", "capacity"]).map(json::sorted).unwrap_or_default();
        out.push(FieldError::not_supported("spec.capacity", &shown, &["storage"]));
    }
    if let Some(host) = json::at(object, &["spec", "hostPath"]).filter(|host| host.is_object()) {
        super::pods::contents::host_path(host, "spec.hostPath", out);
    }
    let storage = json::at(object, &["spec", "capacity", "storage"]).and_then(Value::as_str).unwrap_or("1");
    let nanos = quantity::nanos(storage).unwrap_or(1);
    if nanos < 0 {
        let shown = serde_json::from_str(storage).unwrap_or(Value::from(storage));
        out.push(FieldError::invalid("spec.capacity[storage]", &shown, "must be a valid resource quantity"));
    }
    if nanos <= 0 {
        out.push(FieldError::invalid_text("spec.capacity[storage]", storage, "must be greater than zero"));
    }
    placed(object, out);
    if let Some(csi) = json::at(object, &["spec", "csi"]).filter(|csi| csi.is_object()) {
        for key in ["driver", "volumeHandle"].into_iter().filter(|key| json::text(csi, &[key]).is_empty()) {
            out.push(FieldError::required(format!("spec.csi.{key}"), ""));
        }
    }
    let mut sources = source(object).into_iter().map(|(key, _)| key);
    if sources.next().is_none() {
        out.push(FieldError::required("spec", "must specify a volume type"));
    }
    out.extend(
        sources.map(|key| FieldError::forbidden(format!("spec.{key}"), "may not specify more than 1 volume type")),
    );
}

/// Checks which nodes a volume can be reached from.
fn placed(object: &Value, out: &mut Vec<FieldError>) {
    let affinity = json::at(object, &["spec", "nodeAffinity"]).filter(|affinity| affinity.is_object());
    let Some(affinity) = affinity else {
        if json::at(object, &["spec", "local"]).is_some_and(Value::is_object) {
            out.push(FieldError::required("spec.nodeAffinity", "Local volume requires node affinity"));
        }
        return;
    };
    let at = "spec.nodeAffinity.required";
    if affinity.get("required").is_none_or(Value::is_null) {
        out.push(FieldError::required(at, "must specify required node constraints"));
        return;
    }
    let terms = json::list(affinity, &["required", "nodeSelectorTerms"]);
    let at = format!("{at}.nodeSelectorTerms");
    if terms.is_empty() {
        out.push(FieldError::required(at.clone(), "must have at least one node selector term"));
    }
    for (index, term) in terms.iter().enumerate() {
        for (place, expression) in json::list(term, &["matchExpressions"]).iter().enumerate() {
            super::labels::requirement(expression, &format!("{at}[{index}].matchExpressions[{place}]"), true, out);
        }
    }
}

pub(super) fn claim(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    modes(object, "at least 1 access mode is required", out);
    words(object, out);
    let listed = json::list(object, &["spec", "accessModes"]);
    if listed.len() > 1 && listed.iter().any(|mode| mode == "ReadWriteOncePod") {
        let detail = "may not use ReadWriteOncePod with other access modes";
        out.push(FieldError::forbidden("spec.accessModes", detail));
    }
    let size = |object: &Value| {
        let text = json::at(object, &["spec", "resources", "requests", "storage"])?.as_str()?;
        Some((text.to_owned(), quantity::nanos(text).unwrap_or(0)))
    };
    match size(object) {
        None => out.push(FieldError::required("spec.resources[storage]", "")),
        Some((text, nanos)) if nanos <= 0 => {
            out.push(FieldError::invalid_text("spec.resources[storage]", &text, "must be greater than zero"));
        }
        Some(_) => {}
    }
    let Some(old) = old else { return };
    let bound = json::text(old, &["status", "phase"]) == "Bound";
    let spec = |object: &Value| object.get("spec").cloned().unwrap_or_default();
    let (mut was, mut is) = (spec(old), spec(object));
    if json::text(&was, &["volumeName"]).is_empty() {
        json::carry(&is, &mut was, &["volumeName"]);
    }
    if was.get("storageClassName").is_none() {
        json::carry(&was, &mut is, &["storageClassName"]);
    }
    if bound {
        json::carry(&was, &mut is, &["resources", "requests", "storage"]);
        json::carry(&was, &mut is, &["volumeAttributesClassName"]);
    }
    if !json::same(&was, &is) {
        let told = internal::changes("PersistentVolumeClaimSpec", &was, &is);
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                      bound claims";
        out.push(FieldError::forbidden("spec", format!("{detail}\n{told}")));
    }
    let capacity = json::at(old, &["status", "capacity", "storage"]).and_then(Value::as_str);
    let least = capacity.and_then(quantity::nanos).unwrap_or(0);
    if let (Some((_, was)), Some((_, is))) = (size(old), size(object))
        && is < was
        && is <= least
    {
        let detail = "field can not be less than status.capacity";
        out.push(FieldError::forbidden("spec.resources.requests.storage", detail));
    }
    fixed_mode(object, Some(old), out);
}

/// A volume stays what it is, files or blocks.
fn fixed_mode(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    if let Some(old) = old
        && old["spec"]["volumeMode"] != object["spec"]["volumeMode"]
    {
        out.push(FieldError::invalid("volumeMode", &object["spec"]["volumeMode"], "field is immutable"));
    }
}
