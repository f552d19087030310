//! Deployments, DaemonSets, StatefulSets, ReplicaSets, Jobs.

use serde_json::Value;

use super::pods;
use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;
use crate::selector::LabelSelector;

pub(super) fn workload(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    let template = match resource.plural.as_str() {
        "cronjobs" => &["spec", "jobTemplate", "spec", "template"][..],
        "controllerrevisions" => return out,
        _ => &["spec", "template"],
    };
    let path = template.join(".");
    if let Some(replicas) = json::at(object, &["spec", "replicas"]).filter(|count| count.as_i64() < Some(0)) {
        out.push(FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0"));
    }
    if resource.group == "apps" {
        selector(object, &path, &mut out);
    }
    let spec = json::at(object, template).and_then(|template| template.get("spec")).unwrap_or(&Value::Null);
    out.extend(pods::spec(spec, &format!("{path}.spec")));
    if resource.group == "apps" && !json::text(spec, &["restartPolicy"]).is_empty() {
        let policy = json::text(spec, &["restartPolicy"]);
        if policy != "Always" {
            out.push(FieldError::not_supported(
                format!("{path}.spec.restartPolicy"),
                &Value::from(policy),
                &["Always"],
            ));
        }
    }
    if resource.plural == "jobs" && json::text(spec, &["restartPolicy"]) == "Always" {
        out.push(FieldError::not_supported(
            format!("{path}.spec.restartPolicy"),
            &Value::from("Always"),
            &["OnFailure", "Never"],
        ));
    }
    if resource.plural == "deployments" {
        let zero = |key: &str| {
            let value = json::at(object, &["spec", "strategy", "rollingUpdate", key]);
            value.is_some_and(|value| *value == 0 || *value == "0%")
        };
        if zero("maxSurge") && zero("maxUnavailable") {
            let field = "spec.strategy.rollingUpdate.maxUnavailable";
            out.push(FieldError::invalid(field, &Value::from(0), "may not be 0 when `maxSurge` is 0"));
        }
    }
    if resource.plural == "cronjobs" {
        schedule(json::text(object, &["spec", "schedule"]), &mut out);
    }
    if let Some(old) = old {
        immutable(resource, object, old, &mut out);
    }
    out
}

/// Checks that a schedule has five fields, or one of the names for such.
fn schedule(text: &str, out: &mut Vec<FieldError>) {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if text.is_empty() {
        out.push(FieldError::required("spec.schedule", ""));
    } else if !text.starts_with('@') && fields.len() != 5 {
        let detail = format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "));
        out.push(FieldError::invalid_text("spec.schedule", text, detail));
    }
}

fn selector(object: &Value, path: &str, out: &mut Vec<FieldError>) {
    let selector = json::at(object, &["spec", "selector"]);
    let Some(selector) = selector.filter(|selector| selector.as_object().is_some_and(|map| !map.is_empty())) else {
        out.push(FieldError::required("spec.selector", ""));
        let labels = json::at(object, &["spec", "template", "metadata", "labels"]).unwrap_or(&Value::Null);
        let detail = "`selector` does not match template `labels`";
        out.push(FieldError::invalid(format!("{path}.metadata.labels"), labels, detail));
        return;
    };
    let empty = Value::Object(serde_json::Map::new());
    let labels = json::at(object, &["spec", "template", "metadata", "labels"]).unwrap_or(&empty);
    if !LabelSelector::of_object(selector).matches_labels(labels) {
        let detail = "`selector` does not match template `labels`";
        out.push(FieldError::invalid(format!("{path}.metadata.labels"), labels, detail));
    }
}

fn immutable(resource: &Resource, object: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let fields: &[&[&str]] = match resource.plural.as_str() {
        "deployments" | "daemonsets" | "replicasets" => &[&["spec", "selector"]],
        "jobs" => &[&["spec", "selector"], &["spec", "completions"], &["spec", "template"]],
        "statefulsets" => return stateful(object, old, out),
        _ => return,
    };
    for path in fields {
        let at = |object: &Value| json::at(object, path).cloned().unwrap_or_default();
        if !json::same(&at(object), &at(old)) {
            out.push(FieldError::invalid(path.join("."), &at(object), "field is immutable"));
        }
    }
}

fn stateful(object: &Value, old: &Value, out: &mut Vec<FieldError>) {
    const MAY_CHANGE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let strip = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for key in MAY_CHANGE {
            json::remove(&mut spec, &[key]);
        }
        spec
    };
    if !json::same(&strip(object), &strip(old)) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                      'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                      'minReadySeconds' are forbidden";
        out.push(FieldError::forbidden("spec", detail));
    }
}

/// Checks counts that a status tells.
pub(super) fn status(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    if resource.group != "apps" {
        return out;
    }
    let count = |key: &str| json::at(object, &["status", key]).and_then(Value::as_i64).unwrap_or(0);
    let names: &[&str] = match resource.plural.as_str() {
        "deployments" => &["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"],
        "replicasets" => &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        _ => return out,
    };
    for name in names.iter().filter(|name| count(name) < 0) {
        let field = format!("status.{name}");
        out.push(FieldError::invalid(field, &count(name).into(), "must be greater than or equal to 0"));
    }
    for name in names.iter().skip(1).filter(|name| **name != "unavailableReplicas") {
        if count(name) > count("replicas") {
            let detail = "cannot be greater than status.replicas";
            out.push(FieldError::invalid(format!("status.{name}"), &count(name).into(), detail));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        out.push(FieldError::invalid("status.availableReplicas", &count("availableReplicas").into(), detail));
    }
    out
}
