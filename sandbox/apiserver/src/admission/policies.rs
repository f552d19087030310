//! ValidatingAdmissionPolicies: CEL expressions that a request has to satisfy.

use std::sync::Arc;

use serde_json::Value;

use super::expressions::Scope;
use super::{Operation, rules};
use crate::core::Core;
use crate::json;
use crate::meta;
use crate::rest::{Write, serve};
use crate::selector::LabelSelector;
use crate::status::{Cause, Status};
use crate::store::{Key, Stored};

const POLICIES: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/validatingadmissionpolicybindings";

/// Bytes of a message that an expression makes; longer ones are not taken.
const MESSAGE_MAX: usize = 5 * 1024;

/// A request as policies see it.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) core: &'a Core,
    pub(super) write: &'a Write<'a>,
    pub(super) operation: Operation,
    pub(super) old: Option<&'a Value>,
    pub(super) new: Option<&'a Value>,
}

/// A validation that failed.
struct Failure {
    message: String,
    reason: String,
}

/// Asks all bound policies. Answers warnings, or the refusal.
pub(super) fn check(request: &Request<'_>) -> Result<Vec<String>, Status> {
    let bindings = request.core.builtin_list(BINDINGS, "");
    let mut warnings = Vec::new();
    let mut denials: Vec<(String, String)> = Vec::new();
    for binding in &bindings {
        let name = json::text(binding, &["spec", "policyName"]);
        let Some(policy) = request.core.builtin(POLICIES, "", name) else { continue };
        if !applies(request, &policy, binding) {
            continue;
        }
        let actions = json::list(binding, &["spec", "validationActions"]);
        let takes = |action: &str| actions.iter().any(|known| known == action);
        for failure in failures(request, &policy, binding) {
            let bound = meta::name(binding);
            if takes("Deny") {
                let text = format!(
                    "ValidatingAdmissionPolicy '{name}' with binding '{bound}' denied request: {}",
                    failure.message
                );
                denials.push((text, failure.reason));
            } else if takes("Warn") {
                warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{bound}': {}",
                    failure.message
                ));
            }
        }
    }
    match denials.first() {
        None => Ok(warnings),
        Some((text, reason)) => Err(denied(request, text, reason)),
    }
}

fn denied(request: &Request<'_>, text: &str, reason: &str) -> Status {
    let name = match request.new.or(request.old).map(meta::name).unwrap_or_default() {
        // Who deletes many at once names none.
        _ if request.write.options.of_many => "Unknown",
        name => name,
    };
    let mut status = Status::forbidden(&request.write.resource.target(), name, text);
    (status.code, status.reason) = match reason {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    // The first refusal speaks for all.
    status.with_cause(Cause { message: text.to_owned(), ..Cause::default() })
}

fn applies(request: &Request<'_>, policy: &Value, binding: &Value) -> bool {
    let constraints = json::at(policy, &["spec", "matchConstraints"]).unwrap_or(&Value::Null);
    let narrowed = json::at(binding, &["spec", "matchResources"]).unwrap_or(&Value::Null);
    rules::constraints(request, constraints).is_some() && rules::constraints(request, narrowed).is_some()
}

/// Tells whether all conditions of a webhook hold; one that is false decides, whatever others cannot be evaluated.
///
/// # Errors
/// Why conditions cannot be evaluated.
pub(super) fn conditions(request: &Request<'_>, conditions: &[Value]) -> Result<bool, String> {
    all_hold(&Scope::new(request, None), conditions)
}

fn all_hold(scope: &Scope, conditions: &[Value]) -> Result<bool, String> {
    let mut wrong = Vec::new();
    for condition in conditions {
        match scope.holds(json::text(condition, &["expression"])) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => wrong.push(why),
        }
    }
    match wrong.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn failures(request: &Request<'_>, policy: &Value, binding: &Value) -> Vec<Failure> {
    let fails_closed = json::text(policy, &["spec", "failurePolicy"]) != "Ignore";
    match params(request, policy, binding) {
        Ok(params) => params.iter().flat_map(|params| failures_with(request, policy, params.as_ref())).collect(),
        Err(_) if !fails_closed => Vec::new(),
        Err(why) => {
            vec![Failure { message: format!("failed to configure binding: {why}"), reason: String::new() }]
        }
    }
}

/// Evaluates a policy with one object of parameters.
fn failures_with(request: &Request<'_>, policy: &Value, params: Option<&Value>) -> Vec<Failure> {
    let fails_closed = json::text(policy, &["spec", "failurePolicy"]) != "Ignore";
    let takes = json::at(policy, &["spec", "paramKind"]).is_some();
    let scope = Scope::new(request, params.or(takes.then_some(&Value::Null)));
    match all_hold(&scope, json::list(policy, &["spec", "matchConditions"])) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(_) if !fails_closed => return Vec::new(),
        Err(message) => return vec![Failure { message, reason: String::new() }],
    }
    let scope = scope.with_variables(policy);
    let mut out = Vec::new();
    for validation in json::list(policy, &["spec", "validations"]) {
        let message = match scope.holds(json::text(validation, &["expression"])) {
            Ok(true) => continue,
            Ok(false) => message(&scope, validation),
            Err(_) if !fails_closed => continue,
            Err(why) => why,
        };
        out.push(Failure { message, reason: json::text(validation, &["reason"]).to_owned() });
    }
    out
}

/// Returns what a validation says when it fails: what its expression makes, where that is one line of no great length.
fn message(scope: &Scope, validation: &Value) -> String {
    let own = json::text(validation, &["messageExpression"]);
    let made = if own.is_empty() { None } else { scope.text(own) };
    let made = made.map(|text| text.trim().to_owned());
    made.filter(|text| !text.is_empty() && !text.contains('\n') && text.len() <= MESSAGE_MAX)
        .unwrap_or_else(|| said(validation))
}

/// Returns what a validation says by itself when it fails.
fn said(validation: &Value) -> String {
    match json::text(validation, &["message"]) {
        "" => format!("failed expression: {}", json::text(validation, &["expression"]).trim()),
        message => message.to_owned(),
    }
}

/// Finds the objects that parametrise a policy: each is a reason to look at the request once more.
///
/// # Errors
/// Why the binding cannot be used.
fn params(request: &Request<'_>, policy: &Value, binding: &Value) -> Result<Vec<Option<Value>>, String> {
    let kind = json::at(policy, &["spec", "paramKind"]);
    let reference = json::at(binding, &["spec", "paramRef"]);
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
    let version = json::text(kind, &["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = json::text(kind, &["kind"]);
    let Some(resource) = request.core.registry.now().of_kind(group, version, kind) else {
        return Err(format!("failed to find resource referenced by paramKind: '{}'", shown_kind(group, version, kind)));
    };
    let own = json::text(reference, &["namespace"]);
    let namespace = match (resource.namespaced, own) {
        (false, "") => "",
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        (true, "") if request.write.namespace.is_empty() => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "") => request.write.namespace,
        (true, own) => own,
    };
    let served = |stored: &Stored| serve::served(&Arc::clone(&resource), stored);
    let found: Vec<Option<Value>> = match reference.get("selector").filter(|selector| selector.is_object()) {
        Some(selector) => {
            let selector = LabelSelector::of_object(selector);
            let (_, all) = request.core.store.list(&resource.storage, namespace);
            all.iter().map(|stored| served(stored)).filter(|object| selector.matches(object)).map(Some).collect()
        }
        None => {
            let key = Key::new(namespace, json::text(reference, &["name"]));
            request.core.store.get(&resource.storage, &key).iter().map(|stored| Some(served(stored))).collect()
        }
    };
    if found.is_empty() && json::text(reference, &["parameterNotFoundAction"]) != "Allow" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}

fn shown_kind(group: &str, version: &str, kind: &str) -> String {
    format!("{group}/{version}, Kind={kind}")
}
