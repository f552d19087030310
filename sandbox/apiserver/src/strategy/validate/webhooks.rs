//! Webhooks and admission policies.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;
use crate::names;

pub(super) fn check(resource: &Resource, object: &Value) -> Vec<FieldError> {
    match resource.plural.as_str() {
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => webhooks(object),
        "validatingadmissionpolicies" => policy(object),
        "validatingadmissionpolicybindings" => binding(object),
        _ => Vec::new(),
    }
}

fn webhooks(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (index, hook) in json::list(object, &["webhooks"]).iter().enumerate() {
        let at = format!("webhooks[{index}]");
        let name = json::text(hook, &["name"]);
        let mut errors = names::subdomain(name);
        if errors.is_empty() && name.split('.').count() < 3 {
            errors.push("should be a domain with at least three segments separated by dots".to_owned());
        }
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
        crate::crd::validate::client::check(&hook["clientConfig"], &format!("{at}.clientConfig"), &mut out);
        if json::text(hook, &["sideEffects"]).is_empty() {
            let known = ["None", "NoneOnDryRun"];
            out.push(FieldError::required(
                format!("{at}.sideEffects"),
                format!("must specify one of {}", known.join(", ")),
            ));
        }
        if json::list(hook, &["admissionReviewVersions"]).is_empty() {
            let detail = "must specify one of v1, v1beta1";
            out.push(FieldError::required(format!("{at}.admissionReviewVersions"), detail));
        }
    }
    out
}

fn policy(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    if json::at(object, &["spec", "matchConstraints"]).is_none() {
        out.push(FieldError::required("spec.matchConstraints", ""));
    } else if json::list(object, &["spec", "matchConstraints", "resourceRules"]).is_empty() {
        out.push(FieldError::required("spec.matchConstraints.resourceRules", ""));
    }
    let validations = json::list(object, &["spec", "validations"]);
    if validations.is_empty() && json::list(object, &["spec", "auditAnnotations"]).is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        out.push(FieldError::required("spec.validations", detail));
    }
    for (index, validation) in validations.iter().enumerate() {
        let at = format!("spec.validations[{index}].expression");
        let text = json::text(validation, &["expression"]);
        if text.trim().is_empty() {
            out.push(FieldError::required(at, "expression is not specified"));
        } else if let Err(error) = kube_cel::cel::Program::compile(text) {
            out.push(FieldError::invalid_text(at, text, format!("compilation failed: {error}")));
        }
    }
    out
}

fn binding(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    if json::text(object, &["spec", "policyName"]).is_empty() {
        out.push(FieldError::required("spec.policyName", ""));
    }
    let actions: Vec<&str> =
        json::list(object, &["spec", "validationActions"]).iter().filter_map(Value::as_str).collect();
    let known = ["Audit", "Deny", "Warn"];
    if actions.is_empty() {
        out.push(FieldError::required("spec.validationActions", "at least one validation action is required"));
    }
    for (index, action) in actions.iter().enumerate() {
        let at = format!("spec.validationActions[{index}]");
        if !known.contains(action) {
            out.push(FieldError::not_supported(at, &Value::from(*action), &known));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                      API response and headers serves no purpose)";
        out.push(FieldError::invalid("spec.validationActions", &Value::from(actions.clone()), detail));
    }
    out
}
