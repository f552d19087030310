//! Whether an object may be stored.

mod autoscalers;
mod config;
mod endpoints;
mod labels;
mod network;
mod nodes;
mod numbers;
mod others;
mod pods;
mod rbac;
mod scale;
mod scaling;
mod services;
mod storage;
mod volumes;
mod webhooks;
mod workloads;

use serde_json::Value;

use crate::core::Core;
use crate::field::FieldError;
use crate::json;
use crate::kinds::{EXTENSIONS, Resource};
use crate::schema::validate as schema;
use crate::{crd, meta};

const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing \
                           errors to complete validation";

/// Checks whether a requirement has the values that its operator needs.
pub(crate) fn requirement_values(requirement: &Value, at: &str, out: &mut Vec<FieldError>) {
    labels::values(requirement, at, out);
}

/// Checks a requirement on labels.
pub(crate) fn requirement(requirement: &Value, at: &str, out: &mut Vec<FieldError>) {
    labels::requirement(requirement, at, false, out);
}

/// Checks a new object.
pub(crate) fn create(core: &Core, resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut out = meta::validate(resource, object);
    match resource.custom() {
        Some(_) => {
            let found = custom(resource, object, None, "", &out);
            out.extend(found);
        }
        None => out.extend(builtin(core, resource, object, None)),
    }
    out
}

/// Checks a changed object.
pub(crate) fn update(core: &Core, resource: &Resource, old: &Value, new: &Value, subresource: &str) -> Vec<FieldError> {
    let mut out = meta::validate_update(resource, old, new);
    if subresource.is_empty() || resource.is_custom() {
        out.extend(meta::validate_again(resource, new));
    }
    match resource.custom() {
        Some(_) => {
            let found = custom(resource, new, Some(old), subresource, &out);
            out.extend(found);
        }
        None if subresource.is_empty() => out.extend(builtin(core, resource, new, Some(old))),
        None if subresource == "ephemeralcontainers" => out.extend(pods::ephemeral(old, new)),
        None if subresource == "finalize" => out.extend(others::namespace(new, true)),
        None if subresource == "status" && resource.plural == "poddisruptionbudgets" => {
            out.extend(others::budget_status(new));
        }
        None if subresource == "status" && resource.is("", "Pod") => {
            out.extend(pods::status::changed(old, new));
        }
        None if subresource == "status" && resource.is("", "Node") => {
            nodes::amounts(new, &mut out);
            nodes::addresses(new, &mut out);
        }
        None if subresource == "status" && resource.is("networking.k8s.io", "Ingress") => {
            out.extend(network::status(new));
        }
        None if subresource == "status" && resource.plural == "horizontalpodautoscalers" => {
            workloads::not_negative(new, &["status"], &["currentReplicas", "desiredReplicas"], &mut out);
        }
        None if subresource == "status" && resource.is("", "Service") => out.extend(services::status(new)),
        None if subresource == "status" && resource.is("", "Namespace") => out.extend(ending_too_early(new)),
        None if subresource == "status" => out.extend(workloads::status(resource, new, old)),
        None => {}
    }
    out
}

/// Checks that a namespace does not say that it ends before it was deleted.
fn ending_too_early(namespace: &Value) -> Option<FieldError> {
    let ends = json::text(namespace, &["status", "phase"]) == "Terminating" && !meta::is_deleting(namespace);
    let detail = "may only be 'Active' if `deletionTimestamp` is empty";
    ends.then(|| FieldError::invalid_text("status.Phase", "Terminating", detail))
}

/// Words what rules would say of a changed custom resource, were it not so before.
pub(crate) fn tolerated(resource: &Resource, old: &Value, new: &Value) -> Vec<String> {
    let Some(custom) = resource.custom().filter(|custom| custom.rules().any()) else { return Vec::new() };
    let mut failed = custom.rules().check(new, Some(old));
    failed.retain(|error| error.field != "<nil>" && unchanged(old, new, error));
    failed.iter().map(ToString::to_string).collect()
}

/// Checks a custom resource. Values that were invalid before may stay as they are; `before` is wrong with its metadata.
fn custom(
    resource: &Resource,
    object: &Value,
    old: Option<&Value>,
    subresource: &str,
    before: &[FieldError],
) -> Vec<FieldError> {
    let Some(custom) = resource.custom() else { return Vec::new() };
    let node = custom.node();
    let mut errors = match object.get("status").filter(|_| subresource == "status") {
        Some(status) => status_errors(node, status),
        None => schema::object(node, object, ""),
    };
    errors.extend(scale::check(custom, object, subresource));
    schema::lists(node, object, "", &mut errors);
    errors.extend(crate::schema::embedded::check(node, object));
    if let Some(old) = old {
        errors.retain(|error| !unchanged(old, object, error));
    }
    if !custom.rules().any() {
        return errors;
    }
    let blocked = before.iter().chain(&errors).any(|error| {
        use crate::field::Problem::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(error.problem, TypeInvalid | Required | TooLong | TooMany | NotSupported)
    });
    if blocked {
        errors.push(FieldError::invalid("<nil>", &Value::Null, NOT_CHECKED));
        return errors;
    }
    let mut failed = custom.rules().check(object, old);
    if let Some(old) = old {
        failed.retain(|error| error.field == "<nil>" || !unchanged(old, object, error));
    }
    errors.extend(failed);
    errors
}

/// Checks a status that is written by itself: texts tell the path within it.
fn status_errors(node: &crate::schema::Node, status: &Value) -> Vec<FieldError> {
    let Some(field) = node.fields.get("status") else { return Vec::new() };
    let mut errors = schema::object(field.link.node(), status, "");
    for error in &mut errors {
        error.field = match error.field.as_str() {
            "<nil>" => "status".to_owned(),
            inner => format!("status.{inner}"),
        };
    }
    errors
}

/// Tells whether an error is about something that was there before in the same form.
fn unchanged(old: &Value, new: &Value, error: &FieldError) -> bool {
    use crate::field::Problem::{Duplicate, Required};
    let field = error.field.as_str();
    if field.is_empty() || field == "<nil>" {
        return false;
    }
    // Items of a list are not told apart: a list is the same as a whole or not at all.
    let (field, within) = field.split_once('[').map_or((field, None), |(list, rest)| (list, Some(rest)));
    let mut path: Vec<&str> = field.trim_start_matches('.').split('.').collect();
    if error.problem == Required && within.is_none() {
        path.pop();
    }
    let (Some(old), Some(new)) = (json::at(old, &path), json::at(new, &path)) else { return false };
    if json::same(old, new) {
        return true;
    }
    // What was twice in a set may stay there twice.
    let index = within.and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
    let item = index.filter(|_| error.problem == Duplicate).and_then(|index| new.get(index));
    let times = |item: &Value| json::list(old, &[]).iter().filter(|known| json::same(known, item)).count();
    item.is_some_and(|item| times(item) > 1)
}

fn builtin(core: &Core, resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "configmaps") => config::config_map(object, old),
        ("", "secrets") => config::secret(object, old),
        ("" | "events.k8s.io", "events") => config::event(resource, object, old),
        ("", "namespaces") => others::namespace(object, false),
        ("", "pods") => pods::pod(object, old),
        ("", "nodes") => nodes::node(object, old),
        ("", "services") => {
            let found = services::service(object, old);
            if found.is_empty() { crate::services::taken(core, object, old) } else { found }
        }
        ("apps" | "batch", _) | ("", "replicationcontrollers") => workloads::workload(resource, object, old),
        ("rbac.authorization.k8s.io", _) => rbac::check(resource, object, old),
        ("admissionregistration.k8s.io", _) => webhooks::check(resource, object),
        (EXTENSIONS, "customresourcedefinitions") => crd::validate::check(core, object, old),
        _ => others::check(resource, object, old),
    }
}
