//! ValidatingAdmissionPolicies and what binds them.

use serde_json::Value;

use super::expressions::{self, Scope};
use super::{FAILURE_POLICIES, matching, one_of};
use crate::field::FieldError;
use crate::json;
use crate::meta;
use crate::names;

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

pub(super) fn policy(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = &object["spec"];
    let scope = what(spec, &mut out);
    let validations = json::list(spec, &["validations"]);
    let annotations = json::list(spec, &["auditAnnotations"]);
    if validations.is_empty() && annotations.is_empty() {
        for key in ["spec.validations", "spec.auditAnnotations"] {
            out.push(FieldError::required(key, "validations or auditAnnotations must contain at least one item"));
        }
    }
    for (index, one) in validations.iter().enumerate() {
        validation(one, &format!("spec.validations[{index}]"), &scope, &mut out);
    }
    audit(annotations, meta::name(object), &scope, &mut out);
    out
}

/// Checks what all policies have: whom they are about, and what their expressions may name.
pub(super) fn what(spec: &Value, out: &mut Vec<FieldError>) -> Scope {
    one_of(spec, "failurePolicy", &FAILURE_POLICIES, "spec", out);
    if let Some(kind) = spec.get("paramKind") {
        param_kind(kind, out);
    }
    match spec.get("matchConstraints") {
        None => out.push(FieldError::required("spec.matchConstraints", "")),
        Some(constraints) => {
            matching::constraints(constraints, "spec.matchConstraints", out);
            if json::list(constraints, &["resourceRules"]).is_empty() {
                out.push(FieldError::required("spec.matchConstraints.resourceRules", ""));
            }
        }
    }
    let params = spec.get("paramKind").is_some();
    expressions::conditions(spec, "spec", &Scope { params, variables: None }, out);
    let mut scope = Scope::of_policy(params);
    variables(spec, &mut scope, out);
    scope
}

fn param_kind(kind: &Value, out: &mut Vec<FieldError>) {
    let version = json::text(kind, &["apiVersion"]);
    let at = "spec.paramKind.apiVersion";
    if version.is_empty() {
        out.push(FieldError::required(at, ""));
    } else if version.matches('/').count() > 1 {
        out.push(FieldError::invalid_text(at, version, format!("unexpected GroupVersion string: {version}")));
    }
    let name = json::text(kind, &["kind"]);
    let at = "spec.paramKind.kind";
    if name.is_empty() {
        out.push(FieldError::required(at, ""));
        return;
    }
    let errors = names::label_1035(&name.to_lowercase()).into_iter();
    let worded = |error| format!("may have mixed case, but should otherwise match: {error}");
    out.extend(errors.map(|error| FieldError::invalid_text(at, name, worded(error))));
}

/// Checks variables; each may name those before it.
fn variables(spec: &Value, scope: &mut Scope, out: &mut Vec<FieldError>) {
    for (index, variable) in json::list(spec, &["variables"]).iter().enumerate() {
        let at = format!("spec.variables[{index}]");
        let (name, text) = (json::text(variable, &["name"]), json::text(variable, &["expression"]));
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), "name is not specified"));
        } else if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            out.push(FieldError::invalid_text(format!("{at}.name"), name, "must be a valid CEL identifier"));
        }
        if text.trim().is_empty() {
            out.push(FieldError::required(format!("{at}.expression"), "expression is not specified"));
        } else {
            scope.check_any(text, &format!("{at}.expression"), out);
        }
        scope.add(name);
    }
}

fn validation(validation: &Value, at: &str, scope: &Scope, out: &mut Vec<FieldError>) {
    let text = |key: &str| json::text(validation, &[key]);
    let (expression, own, message) = (text("expression"), text("messageExpression"), text("message"));
    let lines = |text: &str| text.contains(['\n', '\r']);
    if expression.trim().is_empty() {
        out.push(FieldError::required(format!("{at}.expression"), "expression is not specified"));
    } else {
        scope.check(expression, &["bool"], &format!("{at}.expression"), out);
    }
    if !own.is_empty() {
        if own.trim().is_empty() {
            let detail = "must be non-empty if specified";
            out.push(FieldError::invalid_text(format!("{at}.messageExpression"), own, detail));
        } else {
            scope.check(own, &["string"], &format!("{at}.messageExpression"), out);
        }
    }
    if !message.is_empty() && message.trim().is_empty() {
        out.push(FieldError::invalid_text(format!("{at}.message"), message, "must be non-empty if specified"));
    } else if lines(message.trim()) {
        out.push(FieldError::invalid_text(format!("{at}.message"), message, "must not contain line breaks"));
    } else if lines(expression.trim()) && message.is_empty() {
        let detail = "message must be specified if expression contains line breaks";
        out.push(FieldError::required(format!("{at}.message"), detail));
    }
    one_of(validation, "reason", &REASONS, at, out);
}

fn audit(annotations: &[Value], name: &str, scope: &Scope, out: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let at = format!("spec.auditAnnotations[{index}]");
        let (key, text) = (json::text(annotation, &["key"]), json::text(annotation, &["valueExpression"]));
        let full = format!("{name}/{key}");
        let errors = names::qualified(&full).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.key"), &full, error)));
        if text.trim().is_empty() {
            out.push(FieldError::required(format!("{at}.valueExpression"), "valueExpression is not specified"));
        } else {
            scope.check(text, &["string", "null_type"], &format!("{at}.valueExpression"), out);
        }
        if seen.contains(&key) {
            out.push(FieldError::duplicate(format!("{at}.key"), &Value::from(key)));
        }
        seen.push(key);
    }
}

/// Checks a binding; one of a policy that only checks says what is done about it.
pub(super) fn binding(object: &Value, acts: bool) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = &object["spec"];
    let policy = json::text(spec, &["policyName"]);
    if policy.is_empty() {
        out.push(FieldError::required("spec.policyName", ""));
    } else {
        let errors = names::subdomain(policy).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text("spec.policyName", policy, error)));
    }
    if let Some(reference) = spec.get("paramRef") {
        param_ref(reference, &mut out);
    }
    if let Some(resources) = spec.get("matchResources") {
        matching::constraints(resources, "spec.matchResources", &mut out);
    }
    if acts {
        actions(spec, &mut out);
    }
    out
}

fn param_ref(reference: &Value, out: &mut Vec<FieldError>) {
    let at = "spec.paramRef";
    let (name, selector) = (json::text(reference, &["name"]), reference.get("selector"));
    match (name, selector) {
        ("", None) => out.push(FieldError::required(at, "one of name or selector must be specified")),
        (_, Some(selector)) => {
            if !name.is_empty() {
                for key in ["name", "selector"] {
                    let detail = "name and selector are mutually exclusive";
                    out.push(FieldError::forbidden(format!("{at}.{key}"), detail));
                }
            }
            out.extend(super::super::labels::selector(selector, &format!("{at}.selector")));
        }
        (name, None) => {
            let errors = names::path_segment(name).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
        }
    }
    if json::text(reference, &["parameterNotFoundAction"]).is_empty() {
        out.push(FieldError::required(format!("{at}.parameterNotFoundAction"), ""));
    } else {
        one_of(reference, "parameterNotFoundAction", &["Deny", "Allow"], at, out);
    }
}

fn actions(spec: &Value, out: &mut Vec<FieldError>) {
    let at = "spec.validationActions";
    let actions: Vec<&str> = json::list(spec, &["validationActions"]).iter().filter_map(Value::as_str).collect();
    if actions.is_empty() {
        out.push(FieldError::required(at, "at least one validation action is required"));
    }
    for (index, action) in actions.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if !ACTIONS.contains(action) {
            out.push(FieldError::not_supported(at, &Value::from(*action), &ACTIONS));
        } else if actions[..index].contains(action) {
            out.push(FieldError::duplicate(at, &Value::from(*action)));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                      API response and headers serves no purpose)";
        out.push(FieldError::invalid(at, &Value::from(actions), detail));
    }
}
