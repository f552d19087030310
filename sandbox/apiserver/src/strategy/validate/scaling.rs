//! How much there may be: autoscalers, limits, quotas.

use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::json;
use crate::names;
use crate::quantity;

/// Checks an autoscaler.
pub(super) fn autoscaler(object: &Value, out: &mut Vec<FieldError>) {
    let number = |key: &str| json::at(object, &["spec", key]).and_then(Value::as_i64);
    let (least, most) = (number("minReplicas"), number("maxReplicas").unwrap_or(0));
    if let Some(least) = least.filter(|least| *least < 1) {
        out.push(FieldError::invalid("spec.minReplicas", &least.into(), "must be greater than or equal to 1"));
    }
    if most == 0 {
        out.push(FieldError::required("spec.maxReplicas", "must be set and greater than 0"));
    } else if most < 1 {
        out.push(FieldError::invalid("spec.maxReplicas", &most.into(), "must be greater than 0"));
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        out.push(FieldError::invalid("spec.maxReplicas", &most.into(), detail));
    }
    let target = |key: &str| json::text(object, &["spec", "scaleTargetRef", key]);
    for key in ["kind", "name"] {
        let text = target(key);
        let field = format!("spec.scaleTargetRef.{key}");
        if text.is_empty() {
            out.push(FieldError::required(field.clone(), ""));
        }
        let errors = names::path_segment(text).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(field.clone(), text, error)));
    }
    if !target("apiVersion").contains('/')
        && (target("apiVersion").is_empty() || target("kind") != "ReplicationController")
    {
        let detail = "apiVersion must specify API group";
        out.push(FieldError::invalid_text("spec.scaleTargetRef.apiVersion", target("apiVersion"), detail));
    }
}

fn amounts<'a>(item: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    let map = item.get(key).and_then(Value::as_object);
    map.into_iter().flat_map(Map::iter).map(|(name, amount)| (name, amount.as_str().unwrap_or_default()))
}

/// Checks that limits do not contradict each other.
pub(super) fn limits(object: &Value, out: &mut Vec<FieldError>) {
    for (index, item) in json::list(object, &["spec", "limits"]).iter().enumerate() {
        let at = format!("spec.limits[{index}]");
        let kind = json::text(item, &["type"]);
        if !matches!(kind, "Container" | "Pod" | "PersistentVolumeClaim") && !kind.contains('/') {
            let detail = "must be a standard limit type or fully qualified";
            out.push(FieldError::invalid_text(format!("{at}.type"), kind, detail));
        }
        for (low, low_words, high, high_words, named) in [
            ("min", "min", "max", "max", "min"),
            ("min", "min", "defaultRequest", "default request", "defaultRequest"),
            ("defaultRequest", "default request", "max", "max", "defaultRequest"),
            ("defaultRequest", "default request", "default", "default limit", "defaultRequest"),
            ("min", "min", "default", "default", "default"),
            ("default", "default", "max", "max", "default"),
        ] {
            for (name, least) in amounts(item, low) {
                let Some(most) = json::at(item, &[high, name]).and_then(Value::as_str) else { continue };
                if quantity::nanos(least) > quantity::nanos(most) {
                    let shown = json::at(item, &[named, name]).and_then(Value::as_str).unwrap_or_default();
                    let shown = if named == "defaultRequest" && high == "defaultRequest" { most } else { shown };
                    let shown = if named == "default" && high == "default" { least } else { shown };
                    let detail = format!("{low_words} value {least} is greater than {high_words} value {most}");
                    out.push(FieldError::invalid_text(format!("{at}.{named}[{name}]"), shown, detail));
                }
            }
        }
    }
}

/// What quotas weigh.
const WEIGHED: [&str; 12] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "storage",
    "hugepages-2Mi",
];
/// What quotas count.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Checks a quota.
pub(super) fn quota(object: &Value, out: &mut Vec<FieldError>) {
    for (name, amount) in amounts(&object["spec"], "hard") {
        let at = format!("spec.hard[{name}]");
        let known = WEIGHED.contains(&name.as_str()) || COUNTED.contains(&name.as_str());
        if !name.contains('/') && !known {
            for detail in
                ["must be a standard resource type or fully qualified", "must be a standard resource for quota"]
            {
                out.push(FieldError::invalid_text(at.clone(), name, detail));
            }
        }
        let nanos = quantity::nanos(amount).unwrap_or(0);
        if nanos < 0 {
            out.push(FieldError::invalid_text(at, amount, "must be greater than or equal to 0"));
        } else if COUNTED.contains(&name.as_str()) && nanos % 1_000_000_000 != 0 {
            let shown = format!("{}m", nanos / 1_000_000);
            out.push(FieldError::invalid_text(at, &shown, "must be an integer"));
        }
    }
    let scopes = json::list(object, &["spec", "scopes"]);
    if scopes.iter().any(|scope| !SCOPES.iter().any(|known| scope == known)) {
        out.push(FieldError::invalid("spec.scopes", &Value::Array(scopes.to_vec()), "unsupported scope"));
    }
}
