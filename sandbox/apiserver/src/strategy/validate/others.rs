//! Kinds that need little checking: budgets, ingresses, claims, classes, leases, slices.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;
use crate::names;

/// The greatest priority that is not the system's own.
const PRIORITY_MAX: i64 = 1_000_000_000;

pub(super) fn check(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    match resource.plural.as_str() {
        "poddisruptionbudgets" => budget(object, &mut out),
        "ingresses" => ingress(object, &mut out),
        "persistentvolumeclaims" => claim(object, &mut out),
        "leases" => lease(object, &mut out),
        "storageclasses" => storage_class(object, old, &mut out),
        "priorityclasses" => priority_class(object, old, &mut out),
        "runtimeclasses" => {
            let handler = json::text(object, &["handler"]);
            let errors = names::label(handler).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text("handler", handler, error)));
            fixed(object, old, "handler", &mut out);
        }
        "endpointslices" => {
            if json::text(object, &["addressType"]).is_empty() {
                out.push(FieldError::required("addressType", ""));
            }
            fixed(object, old, "addressType", &mut out);
        }
        _ => {}
    }
    out
}

/// Refuses a change of a field.
fn fixed(object: &Value, old: Option<&Value>, field: &str, out: &mut Vec<FieldError>) {
    if let Some(old) = old
        && !json::same(&old[field], &object[field])
    {
        out.push(FieldError::invalid(field, &object[field], "field is immutable"));
    }
}

fn budget(object: &Value, out: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let at = |key: &str| spec.get(key).filter(|value| !value.is_null());
    if at("minAvailable").is_some() && at("maxUnavailable").is_some() {
        out.push(FieldError::invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        match at(key) {
            Some(Value::Number(number)) if number.as_i64() < Some(0) => {
                let value = Value::from(number.clone());
                let detail = "must be greater than or equal to 0";
                out.push(FieldError::invalid(format!("spec.{key}"), &value, detail));
            }
            Some(Value::String(text)) if !is_percent(text) => {
                let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                              '93%', regex used for validation is '[0-9]+%')";
                out.push(FieldError::invalid_text(format!("spec.{key}"), text, detail));
            }
            _ => {}
        }
    }
}

fn is_percent(text: &str) -> bool {
    text.strip_suffix('%').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn ingress(object: &Value, out: &mut Vec<FieldError>) {
    let rules = json::list(object, &["spec", "rules"]);
    let default = json::at(object, &["spec", "defaultBackend"]);
    if rules.is_empty() && default.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        out.push(FieldError::invalid("spec", &object["spec"], detail));
    }
    for (index, rule) in rules.iter().enumerate() {
        for (place, path) in json::list(rule, &["http", "paths"]).iter().enumerate() {
            let at = format!("spec.rules[{index}].http.paths[{place}]");
            let text = json::text(path, &["path"]);
            match json::text(path, &["pathType"]) {
                "" => out.push(FieldError::required(format!("{at}.pathType"), "pathType must be specified")),
                "Exact" | "Prefix" if !text.starts_with('/') => {
                    out.push(FieldError::invalid_text(format!("{at}.path"), text, "must be an absolute path"));
                }
                "Exact" | "Prefix" | "ImplementationSpecific" => {}
                other => {
                    let known = ["Exact", "ImplementationSpecific", "Prefix"];
                    out.push(FieldError::not_supported(format!("{at}.pathType"), &Value::from(other), &known));
                }
            }
        }
    }
}

fn claim(object: &Value, out: &mut Vec<FieldError>) {
    if json::list(object, &["spec", "accessModes"]).is_empty() {
        out.push(FieldError::required("spec.accessModes", "at least 1 access mode is required"));
    }
    if json::at(object, &["spec", "resources", "requests", "storage"]).is_none() {
        out.push(FieldError::required("spec.resources[storage]", ""));
    }
}

fn lease(object: &Value, out: &mut Vec<FieldError>) {
    for (key, least, detail) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if let Some(value) = json::at(object, &["spec", key]).filter(|value| value.as_i64() < Some(least)) {
            out.push(FieldError::invalid(format!("spec.{key}"), value, detail));
        }
    }
}

fn storage_class(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    if json::text(object, &["provisioner"]).is_empty() {
        out.push(FieldError::required("provisioner", ""));
    }
    let Some(old) = old else { return };
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if !json::same(&old[key], &object[key]) {
            out.push(FieldError::forbidden(key, format!("updates to {key} are forbidden.")));
        }
    }
    fixed(object, Some(old), "volumeBindingMode", out);
}

fn priority_class(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let Some(old) = old else {
        if crate::meta::name(object).starts_with("system-") {
            let detail = "priority class names with 'system-' prefix are reserved for system use only";
            out.push(FieldError::forbidden("metadata.name", detail));
        } else if object["value"].as_i64() > Some(PRIORITY_MAX) {
            let detail = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
            out.push(FieldError::forbidden("value", detail));
        }
        return;
    };
    if old["value"].as_i64().unwrap_or(0) != object["value"].as_i64().unwrap_or(0) {
        out.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    fixed(object, Some(old), "preemptionPolicy", out);
}
