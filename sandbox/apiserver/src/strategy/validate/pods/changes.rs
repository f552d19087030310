//! What may change in a pod that is there.

use serde_json::Value;

use crate::field::{FieldError, internal};
use crate::json;

const UPDATE_RULE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                           `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
                           additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
                           to 1 if it was previously negative)";

/// Seconds of a deadline at most.
const SECONDS_MAX: i64 = i32::MAX as i64;

/// Checks a changed pod.
pub(super) fn check(old: &Value, new: &Value) -> Vec<FieldError> {
    let spec = |pod: &Value| pod.get("spec").cloned().unwrap_or_default();
    let (was, is) = (spec(old), spec(new));
    let mut out = super::spec(&is, "spec");
    for key in ["containers", "initContainers"] {
        if json::list(&was, &[key]).len() != json::list(&is, &[key]).len() {
            out.push(FieldError::forbidden(format!("spec.{key}"), "pod updates may not add or remove containers"));
            return out;
        }
        // Images are looked at once more.
        for (index, container) in json::list(&is, &[key]).iter().enumerate() {
            super::image(container, &format!("spec.{key}[{index}]"), &mut out);
        }
    }
    if !deadline(&was, &is, &mut out) {
        return out;
    }
    tolerations(&was, &is, &mut out);
    gates(&was, &is, &mut out);
    let wanted = allowed(&was, is);
    if !json::same(&was, &wanted) {
        let told = internal::changes("PodSpec", &was, &wanted);
        out.push(FieldError::forbidden("spec", format!("{UPDATE_RULE}\n{told}")));
    }
    out
}

/// Takes back what may change.
fn allowed(was: &Value, mut is: Value) -> Value {
    for key in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = is.get_mut(key) else { continue };
        for (container, before) in containers.iter_mut().zip(json::list(was, &[key])) {
            json::carry(before, container, &["image"]);
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        json::carry(was, &mut is, &[key]);
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(was) < Some(0) && grace(&is) == Some(1) {
        json::carry(was, &mut is, &["terminationGracePeriodSeconds"]);
    }
    // A pod that waits may be told more closely where it runs.
    if !json::list(was, &["schedulingGates"]).is_empty() {
        json::carry(was, &mut is, &["nodeSelector"]);
    }
    is
}

/// A deadline only comes closer. Answers whether the rest is worth looking at.
fn deadline(was: &Value, is: &Value, out: &mut Vec<FieldError>) -> bool {
    let at = |spec: &Value| json::at(spec, &["activeDeadlineSeconds"]).and_then(Value::as_i64);
    let field = "spec.activeDeadlineSeconds";
    match (at(was), at(is)) {
        (Some(_), None) => {
            let detail = "must not update from a positive integer to nil value";
            out.push(FieldError::invalid(field, &Value::Null, detail));
        }
        (_, Some(seconds)) if !(0..=SECONDS_MAX).contains(&seconds) => {
            let detail = format!("must be between 0 and {SECONDS_MAX}, inclusive");
            out.push(FieldError::invalid(field, &seconds.into(), detail));
            return false;
        }
        (Some(before), Some(seconds)) if seconds > before => {
            let detail = "must be less than or equal to previous value";
            out.push(FieldError::invalid(field, &seconds.into(), detail));
            return false;
        }
        _ => {}
    }
    true
}

fn tolerations(was: &Value, is: &Value, out: &mut Vec<FieldError>) {
    let listed = |spec: &Value| {
        let mut list = json::list(spec, &["tolerations"]).to_vec();
        for toleration in list.iter_mut().filter_map(Value::as_object_mut) {
            toleration.shift_remove("tolerationSeconds");
        }
        list
    };
    let known = listed(is);
    if listed(was).iter().any(|toleration| !known.contains(toleration)) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        out.push(FieldError::forbidden("spec.tolerations", detail));
        return;
    }
    super::tolerations(is, "spec", out);
}

/// What a pod waits for may only become less.
fn gates(was: &Value, is: &Value, out: &mut Vec<FieldError>) {
    let before = json::list(was, &["schedulingGates"]);
    for (index, gate) in json::list(is, &["schedulingGates"]).iter().enumerate() {
        if !before.contains(gate) {
            let detail = "only deletion is allowed, but found new scheduling gate '";
            let name = json::text(gate, &["name"]);
            out.push(FieldError::forbidden(format!("spec.schedulingGates[{index}].name"), format!("{detail}{name}'")));
        }
    }
}

/// Checks that containers for looking into a pod stay as they are.
pub(in crate::strategy::validate) fn ephemeral(old: &Value, new: &Value) -> Vec<FieldError> {
    let field = "spec.ephemeralContainers";
    let (before, now) =
        (json::list(old, &["spec", "ephemeralContainers"]), json::list(new, &["spec", "ephemeralContainers"]));
    let mut out = super::spec(new.get("spec").unwrap_or(&Value::Null), "spec");
    for container in before {
        let name = json::text(container, &["name"]);
        let what = format!("existing ephemeral containers {name:?} may not be");
        match now.iter().find(|other| other["name"] == container["name"]) {
            None => out.push(FieldError::forbidden(field, format!("{what} removed\n"))),
            Some(other) if !json::same(container, other) => {
                let told = internal::changes("EphemeralContainer", container, other);
                out.push(FieldError::forbidden(field, format!("{what} changed\n{told}")));
            }
            Some(_) => {}
        }
    }
    out
}
