//! MutatingAdmissionPolicies.

use serde_json::Value;

use super::policies;
use crate::field::FieldError;
use crate::json;

const PATCHES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
const AGAIN: [&str; 2] = ["IfNeeded", "Never"];
const OPERATIONS: [&str; 2] = ["CREATE", "UPDATE"];

/// Checks a policy that changes what is written.
pub(super) fn policy(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = &object["spec"];
    policies::what(spec, &mut out);
    for rule in json::list(spec, &["matchConstraints", "resourceRules"]) {
        for operation in json::list(rule, &["operations"]) {
            if !OPERATIONS.iter().any(|known| operation == known) {
                let at = "spec.matchConstraints.resourceRules.operations";
                out.push(FieldError::not_supported(at, operation, &OPERATIONS));
            }
        }
    }
    let mutations = json::list(spec, &["mutations"]);
    if mutations.is_empty() {
        out.push(FieldError::required("spec.mutations", "mutations must contain at least one item"));
    }
    for (index, mutation) in mutations.iter().enumerate() {
        self::mutation(mutation, &format!("spec.mutations[{index}]"), &mut out);
    }
    let again = json::text(spec, &["reinvocationPolicy"]);
    if again.is_empty() {
        out.push(FieldError::required("spec.reinvocationPolicy", ""));
    } else if !AGAIN.contains(&again) {
        out.push(FieldError::not_supported("spec.reinvocationPolicy", &Value::from(again), &AGAIN));
    }
    out
}

fn mutation(mutation: &Value, at: &str, out: &mut Vec<FieldError>) {
    let own = match json::text(mutation, &["patchType"]) {
        "" => {
            out.push(FieldError::required(format!("{at}.patchType"), ""));
            return;
        }
        "ApplyConfiguration" => "applyConfiguration",
        "JSONPatch" => "jsonPatch",
        other => {
            out.push(FieldError::not_supported(format!("{at}.patchType"), &Value::from(other), &PATCHES));
            return;
        }
    };
    let kind = json::text(mutation, &["patchType"]);
    for key in ["applyConfiguration", "jsonPatch"] {
        let set = mutation.get(key).is_some_and(Value::is_object);
        if key == own && !set {
            let detail = format!("must be specified when patchType is {kind}");
            out.push(FieldError::required(format!("{at}.{key}"), detail));
        } else if key != own && set {
            let detail = format!("{key} cannot be set when patchType is {kind}");
            out.push(FieldError::invalid(format!("{at}.{key}"), &mutation[key], detail));
        } else if set && json::text(mutation, &[key, "expression"]).trim().is_empty() {
            out.push(FieldError::required(format!("{at}.{key}.expression"), "expression is not specified"));
        }
    }
}
