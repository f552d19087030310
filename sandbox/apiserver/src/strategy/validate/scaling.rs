//! How much there may be: limits, quotas.

use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::json;
use crate::names;
use crate::quantity;

fn amounts<'a>(item: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    let map = item.get(key).and_then(Value::as_object);
    map.into_iter().flat_map(Map::iter).map(|(name, amount)| (name, amount.as_str().unwrap_or_default()))
}

/// Checks that limits do not contradict each other.
pub(super) fn limits(object: &Value, out: &mut Vec<FieldError>) {
    let items = json::list(object, &["spec", "limits"]);
    for (index, item) in items.iter().enumerate() {
        let at = format!("spec.limits[{index}]");
        let kind = json::text(item, &["type"]);
        if items[..index].iter().any(|other| other["type"] == item["type"]) {
            out.push(FieldError::duplicate(format!("{at}.type"), &item["type"]));
        }
        if kind == "Pod" {
            let set = |key: &&str| item.get(*key).and_then(Value::as_object).is_some_and(|map| !map.is_empty());
            let detail = "may not be specified when `type` is 'Pod'";
            let wrong = ["default", "defaultRequest"].into_iter().filter(set);
            out.extend(wrong.map(|key| FieldError::forbidden(format!("{at}.{key}"), detail)));
        }
        for (name, ratio) in amounts(item, "maxLimitRequestRatio") {
            if quantity::nanos(ratio).is_some_and(|nanos| nanos < 1_000_000_000) {
                let field = format!("{at}.maxLimitRequestRatio[{name}]");
                out.push(FieldError::invalid_text(field, ratio, format!("ratio {ratio} is less than 1")));
            }
        }
        let sized = ["min", "max"].iter().any(|key| json::at(item, &[key, "storage"]).is_some());
        if kind == "PersistentVolumeClaim" && !sized {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            out.push(FieldError::required(format!("{at}.limits"), detail));
        }
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
                    let shown = match (named, high) {
                        ("default", "default") => least,
                        ("default", _) => most,
                        _ => shown,
                    };
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
pub(super) fn quota(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    if let Some(old) = old
        && !json::same(&old["spec"]["scopes"], &object["spec"]["scopes"])
    {
        out.push(FieldError::invalid("spec.scopes", &object["spec"]["scopes"], "field is immutable"));
    }
    for (name, amount) in amounts(&object["spec"], "hard") {
        let at = format!("spec.hard[{name}]");
        let known = WEIGHED.contains(&name.as_str()) || COUNTED.contains(&name.as_str());
        if !name.contains('/') && !known {
            let wrong = names::qualified(name);
            if wrong.is_empty() {
                out.push(FieldError::invalid_text(
                    at.clone(),
                    name,
                    "must be a standard resource type or fully qualified",
                ));
            }
            out.extend(wrong.iter().map(|why| FieldError::invalid_text(at.clone(), name, why)));
            out.push(FieldError::invalid_text(at.clone(), name, "must be a standard resource for quota"));
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
    let has = |scope: &str| scopes.iter().any(|known| known == scope);
    if (has("BestEffort") && has("NotBestEffort")) || (has("Terminating") && has("NotTerminating")) {
        out.push(FieldError::invalid("spec.scopes", &Value::Array(scopes.to_vec()), "conflicting scopes"));
    }
    let counted = |scope: &&Value| {
        let best = **scope == "BestEffort";
        let fits = |name: &String| name == "pods" || (!best && !COUNTED.contains(&name.as_str()));
        amounts(&object["spec"], "hard").all(|(name, _)| fits(name))
    };
    for _ in scopes.iter().filter(|scope| SCOPES.iter().any(|known| *scope == known)).filter(|scope| !counted(scope)) {
        let detail = "unsupported scope applied to resource";
        out.push(FieldError::invalid("spec.scopes", &Value::Array(scopes.to_vec()), detail));
    }
    let at = "spec.scopeSelector.matchExpressions";
    for expression in json::list(object, &["spec", "scopeSelector", "matchExpressions"]) {
        scope(expression, at, out);
    }
    if scopes.iter().any(|scope| !SCOPES.iter().any(|known| scope == known)) {
        out.push(FieldError::invalid("spec.scopes", &Value::Array(scopes.to_vec()), "unsupported scope"));
    }
}

/// Checks what selects the objects that a quota is about.
fn scope(expression: &Value, at: &str, out: &mut Vec<FieldError>) {
    let (name, operator) = (json::text(expression, &["scopeName"]), json::text(expression, &["operator"]));
    let values = json::list(expression, &["values"]);
    if !SCOPES.contains(&name) {
        out.push(FieldError::invalid_text(format!("{at}.scopeName"), name, "unsupported scope"));
    }
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            out.push(FieldError::required(format!("{at}.values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector";
            out.push(FieldError::invalid(format!("{at}.values"), &Value::Array(values.to_vec()), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => out.push(FieldError::invalid_text(format!("{at}.operator"), other, "not a valid selector operator")),
    }
}
