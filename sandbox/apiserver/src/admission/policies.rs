//! ValidatingAdmissionPolicies: CEL expressions that a request has to satisfy.

use std::sync::Arc;

use kube_cel::{AdmissionRequest, GroupVersionKind, GroupVersionResource, VapEvaluator, VapExpression};
use serde_json::Value;

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
    let expressions: Vec<VapExpression> = conditions
        .iter()
        .map(|condition| VapExpression {
            expression: json::text(condition, &["expression"]).to_owned(),
            message: Some(String::new()),
            message_expression: None,
        })
        .collect();
    let mut wrong = Vec::new();
    for result in evaluator(request, None).evaluate(&expressions) {
        match result.message.as_deref().and_then(|message| message.strip_prefix("evaluation error: ")) {
            Some(error) => wrong.push(format!("expression '{}' resulted in error: {error}", result.expression)),
            None if !result.passed => return Ok(false),
            None => {}
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
    let evaluator = evaluator(request, params.or(takes.then_some(&Value::Null)));
    let variables = variables(policy);
    let expression = |text: &str| inline(text, &variables);
    let conditions: Vec<VapExpression> = json::list(policy, &["spec", "matchConditions"])
        .iter()
        .map(|condition| VapExpression {
            expression: expression(json::text(condition, &["expression"])),
            message: None,
            message_expression: None,
        })
        .collect();
    if evaluator.evaluate(&conditions).iter().any(|result| !result.passed) {
        return Vec::new();
    }
    let validations = json::list(policy, &["spec", "validations"]);
    let expressions: Vec<VapExpression> = validations
        .iter()
        .map(|validation| {
            let own = json::text(validation, &["messageExpression"]);
            VapExpression {
                expression: expression(json::text(validation, &["expression"])),
                message: Some(said(validation)),
                message_expression: (!own.is_empty()).then(|| expression(own)),
            }
        })
        .collect();
    let results = evaluator.evaluate(&expressions);
    let mut out = Vec::new();
    for (result, validation) in results.into_iter().zip(validations) {
        if result.passed {
            continue;
        }
        let mut message = result.message.unwrap_or_default().trim().to_owned();
        if message.is_empty() || message.contains('\n') || message.len() > MESSAGE_MAX {
            message = said(validation);
        }
        if let Some(error) = message.strip_prefix("evaluation error: ") {
            if !fails_closed {
                continue;
            }
            let error = crate::rules::cel_error(error);
            message = format!("expression '{}' resulted in error: {error}", json::text(validation, &["expression"]));
        }
        out.push(Failure { message, reason: json::text(validation, &["reason"]).to_owned() });
    }
    out
}

/// Returns what a validation says by itself when it fails.
fn said(validation: &Value) -> String {
    match json::text(validation, &["message"]) {
        "" => format!("failed expression: {}", json::text(validation, &["expression"]).trim()),
        message => message.to_owned(),
    }
}

/// Returns a policy's variables, each with those before it put in.
fn variables(policy: &Value) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for variable in json::list(policy, &["spec", "variables"]) {
        let text = inline(json::text(variable, &["expression"]), &out);
        out.push((json::text(variable, &["name"]).to_owned(), text));
    }
    out
}

/// Puts variables in the places where an expression names them.
fn inline(text: &str, variables: &[(String, String)]) -> String {
    let mut out = text.to_owned();
    for (name, expression) in variables {
        if let Ok(pattern) = regex::Regex::new(&format!(r"\bvariables\.{name}\b")) {
            out = pattern.replace_all(&out, regex::NoExpand(&format!("({expression})"))).into_owned();
        }
    }
    out
}

fn evaluator(request: &Request<'_>, params: Option<&Value>) -> VapEvaluator {
    let write = request.write;
    let resource = write.resource;
    let mut builder = VapEvaluator::builder().request(AdmissionRequest {
        operation: request.operation.name().to_owned(),
        username: write.user.name.clone(),
        uid: write.user.uid.clone(),
        groups: write.user.groups.clone(),
        name: request.new.or(request.old).map(meta::name).unwrap_or_default().to_owned(),
        namespace: write.namespace.to_owned(),
        dry_run: write.options.dry_run,
        kind: GroupVersionKind {
            group: resource.group.clone(),
            version: resource.version.clone(),
            kind: resource.kind.clone(),
        },
        resource: GroupVersionResource {
            group: resource.group.clone(),
            version: resource.version.clone(),
            resource: resource.plural.clone(),
        },
    });
    builder = builder.object(request.new.cloned().unwrap_or_default());
    if let Some(old) = request.old {
        builder = builder.old_object(old.clone());
    }
    if resource.namespaced
        && let Some(namespace) = request.core.builtin("namespaces", "", write.namespace)
    {
        builder = builder.namespace_object(namespace);
    }
    if let Some(params) = params {
        builder = builder.params(params.clone());
    }
    builder.build()
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
