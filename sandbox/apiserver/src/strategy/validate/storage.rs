//! Where volumes come from: classes, drivers, attachments.

use serde_json::Value;

use super::others::fixed;
use crate::field::{FieldError, internal};
use crate::json;
use crate::names;

const LIFECYCLES: [&str; 2] = ["Persistent", "Ephemeral"];
const OWNERSHIPS: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];

/// Checks a class of volumes.
pub(super) fn class(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let provisioner = json::text(object, &["provisioner"]).to_lowercase();
    if provisioner.is_empty() {
        out.push(FieldError::required("provisioner", ""));
    } else {
        let errors = names::qualified(&provisioner).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text("provisioner", &provisioner, error)));
    }
    if object["parameters"].get("").is_some() {
        out.push(FieldError::invalid_text("parameters", "", "field can not be empty."));
    }
    for (key, known) in
        [("reclaimPolicy", ["Delete", "Retain"]), ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"])]
    {
        let word = json::text(object, &[key]);
        if !word.is_empty() && !known.contains(&word) {
            out.push(FieldError::not_supported(key, &Value::from(word), &known));
        }
    }
    let Some(old) = old else { return };
    for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        fixed(object, Some(old), key, out);
    }
}

/// Checks a driver of volumes.
pub(super) fn driver(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let policy = json::text(spec, &["fsGroupPolicy"]);
    if !policy.is_empty() && !OWNERSHIPS.contains(&policy) {
        out.push(FieldError::not_supported("spec.fsGroupPolicy", &Value::from(policy), &OWNERSHIPS));
    }
    for mode in json::list(spec, &["volumeLifecycleModes"]) {
        if !LIFECYCLES.iter().any(|known| mode == known) {
            out.push(FieldError::not_supported("spec.volumeLifecycleModes", mode, &LIFECYCLES));
        }
    }
    let requests = json::list(spec, &["tokenRequests"]);
    for (index, request) in requests.iter().enumerate() {
        let audience = json::text(request, &["audience"]);
        if requests[..index].iter().any(|other| json::text(other, &["audience"]) == audience) {
            out.push(FieldError::duplicate(format!("spec.tokenRequests[{index}].audience"), &Value::from(audience)));
        }
    }
    let Some(old) = old else { return };
    for (key, field) in
        [("attachRequired", "spec.attachedRequired"), ("volumeLifecycleModes", "spec.volumeLifecycleModes")]
    {
        if !json::same(&old["spec"][key], &spec[key]) {
            out.push(FieldError::invalid(field, &spec[key], "field is immutable"));
        }
    }
}

/// Checks that a volume is attached to a node.
pub(super) fn attachment(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let attacher = json::text(spec, &["attacher"]);
    if attacher.is_empty() {
        out.push(FieldError::required("spec.attacher", ""));
    } else {
        let errors = names::subdomain(&attacher.to_lowercase()).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text("spec.attacher", attacher, error)));
    }
    let set = |key: &str| json::at(spec, &["source", key]).is_some_and(|value| !value.is_null());
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (set("inlineVolumeSpec"), set("persistentVolumeName")) {
        (false, false) => out.push(FieldError::required("spec.source", detail)),
        (true, true) => out.push(FieldError::forbidden("spec.source", detail)),
        (true, false) => {}
        (false, true) => {
            let name = json::text(spec, &["source", "persistentVolumeName"]);
            let at = "spec.source.persistentVolumeName";
            if name.is_empty() {
                out.push(FieldError::required(at, "must specify non empty persistentVolumeName"));
            }
            out.extend(names::subdomain(name).into_iter().map(|error| FieldError::invalid_text(at, name, error)));
        }
    }
    let node = json::text(spec, &["nodeName"]);
    out.extend(names::subdomain(node).into_iter().map(|error| FieldError::invalid_text("spec.nodeName", node, error)));
    if let Some(old) = old
        && !json::same(&old["spec"], spec)
    {
        let shown = internal::of("VolumeAttachmentSpec", spec);
        out.push(FieldError::invalid("spec", &shown, "field is immutable"));
    }
}

/// Checks which drivers a node has.
pub(super) fn node(object: &Value, out: &mut Vec<FieldError>) {
    let drivers = json::list(object, &["spec", "drivers"]);
    for (index, driver) in drivers.iter().enumerate() {
        let at = format!("spec.drivers[{index}]");
        let name = json::text(driver, &["name"]);
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        } else {
            let errors = names::subdomain(&name.to_lowercase()).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
        }
        if json::text(driver, &["nodeID"]).is_empty() {
            out.push(FieldError::required(format!("{at}.nodeID"), ""));
        }
        if drivers[..index].iter().any(|other| other["name"] == driver["name"]) {
            out.push(FieldError::duplicate(format!("{at}.name"), &driver["name"]));
        }
        let keys = json::list(driver, &["topologyKeys"]);
        for (place, key) in keys.iter().enumerate() {
            let text = key.as_str().unwrap_or_default();
            let at = format!("{at}.topologyKeys");
            if keys[..place].contains(key) {
                out.push(FieldError::duplicate(at.clone(), key));
            }
            out.extend(names::qualified(text).into_iter().map(|error| FieldError::invalid_text(&at, text, error)));
        }
    }
}
