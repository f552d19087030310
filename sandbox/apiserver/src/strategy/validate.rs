//! Whether an object may be stored.

mod config;
mod labels;
mod nodes;
mod numbers;
mod others;
mod pods;
mod rbac;
mod services;
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

/// Checks a new object.
pub(crate) fn create(core: &Core, resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut out = meta::validate(resource, object);
    match resource.custom() {
        Some(_) => out.extend(custom(resource, object, None)),
        None => out.extend(builtin(core, resource, object, None)),
    }
    out
}

/// Checks a changed object.
pub(crate) fn update(core: &Core, resource: &Resource, old: &Value, new: &Value, subresource: &str) -> Vec<FieldError> {
    let mut out = meta::validate_update(old, new);
    if subresource.is_empty() || resource.is_custom() {
        out.extend(meta::validate(resource, new));
    }
    match resource.custom() {
        Some(_) => out.extend(custom(resource, new, Some(old))),
        None if subresource.is_empty() => out.extend(builtin(core, resource, new, Some(old))),
        None if subresource == "finalize" => out.extend(others::namespace(new)),
        None if subresource == "status" && resource.plural == "poddisruptionbudgets" => {
            out.extend(others::budget_status(new));
        }
        None if subresource == "status" => out.extend(workloads::status(resource, new)),
        None => {}
    }
    out
}

/// Checks a custom resource. Values that were invalid before may stay as they are.
fn custom(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let Some(custom) = resource.custom() else { return Vec::new() };
    let node = custom.node();
    let mut errors = schema::object(node, object, "");
    schema::lists(node, object, "", &mut errors);
    if let Some(old) = old {
        errors.retain(|error| !unchanged(old, object, &error.field));
    }
    if !custom.rules().any() {
        return errors;
    }
    let blocked = errors.iter().any(|error| {
        use crate::field::Problem::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(error.problem, TypeInvalid | Required | TooLong | TooMany | NotSupported)
    });
    if blocked {
        errors.push(FieldError::invalid("<nil>", &Value::Null, NOT_CHECKED));
        return errors;
    }
    let mut failed = custom.rules().check(object, old);
    if let Some(old) = old {
        failed.retain(|error| error.field == "<nil>" || !unchanged(old, object, &error.field));
    }
    errors.extend(failed);
    errors
}

/// Tells whether a field has the value that it had before.
fn unchanged(old: &Value, new: &Value, field: &str) -> bool {
    if field.is_empty() || field == "<nil>" || field.contains('[') {
        return false;
    }
    let path: Vec<&str> = field.trim_start_matches('.').split('.').collect();
    match (json::at(old, &path), json::at(new, &path)) {
        (Some(old), Some(new)) => json::same(old, new),
        _ => false,
    }
}

fn builtin(core: &Core, resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "configmaps") => config::config_map(object, old),
        ("", "secrets") => config::secret(object, old),
        ("" | "events.k8s.io", "events") => config::event(resource, object, old),
        ("", "namespaces") => others::namespace(object),
        ("", "pods") => pods::pod(object, old),
        ("", "nodes") => nodes::node(object, old),
        ("", "services") => services::service(object, old),
        ("apps" | "batch", _) => workloads::workload(resource, object, old),
        ("rbac.authorization.k8s.io", _) => rbac::check(resource, object, old),
        ("admissionregistration.k8s.io", _) => webhooks::check(resource, object),
        (EXTENSIONS, "customresourcedefinitions") => crd::validate::check(core, object, old),
        _ => others::check(resource, object, old),
    }
}
