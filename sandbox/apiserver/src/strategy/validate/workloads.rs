//! Deployments, DaemonSets, StatefulSets, ReplicaSets, Jobs.

mod jobs;
mod rollout;

use serde_json::Value;

use super::pods;
use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;
use crate::selector::LabelSelector;

const SECONDS: &[&str] = &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"];

pub(super) fn workload(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    let template = match resource.plural.as_str() {
        "cronjobs" => &["spec", "jobTemplate", "spec", "template"][..],
        "controllerrevisions" => return revision(object, old),
        _ => &["spec", "template"],
    };
    let path = template.join(".");
    let mut readable = true;
    not_negative(object, &["spec"], &["replicas"], &mut out);
    if resource.group.is_empty() {
        plain_selector(object, &mut out);
        let unset = json::at(object, template).is_none_or(|template| {
            json::list(template, &["spec", "containers"]).is_empty() && template["metadata"].get("labels").is_none()
        });
        if unset {
            out.push(FieldError::required(path, ""));
            return out;
        }
    } else if resource.group == "apps" {
        not_negative(object, &["spec"], SECONDS, &mut out);
        readable = selector(resource, object, &path, &mut out);
    } else {
        jobs::check(resource, object, &path, &mut out);
    }
    let spec = json::at(object, template).and_then(|template| template.get("spec")).unwrap_or(&Value::Null);
    // Where no selector can be read, the template is not looked at.
    if readable {
        let metadata = json::at(object, template).and_then(|template| template.get("metadata"));
        out.extend(crate::meta::maps_at(&path, metadata.unwrap_or(&Value::Null)));
        out.extend(pods::spec(spec, &format!("{path}.spec")));
        if resource.group != "batch" {
            always(spec, &path, &mut out);
        }
    }
    match resource.plural.as_str() {
        "deployments" => rollout::deployment(object, &mut out),
        "daemonsets" => rollout::daemon_set(object, &mut out),
        "statefulsets" => rollout::stateful_set(object, &mut out),
        _ => {}
    }
    if let Some(old) = old {
        immutable(resource, object, old, &mut out);
    }
    out
}

/// Checks the selector of a ReplicationController, which is a map of labels.
fn plain_selector(object: &Value, out: &mut Vec<FieldError>) {
    let selector = json::at(object, &["spec", "selector"]).and_then(Value::as_object);
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
        out.push(FieldError::required("spec.selector", ""));
        return;
    };
    let labels = json::at(object, &["spec", "template", "metadata", "labels"]).unwrap_or(&Value::Null);
    if selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        let detail = "`selector` does not match template `labels`";
        out.push(FieldError::invalid("spec.template.metadata.labels", labels, detail));
    }
}

/// What runs for ever is always restarted and has no deadline.
fn always(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    let policy = json::text(spec, &["restartPolicy"]);
    if !policy.is_empty() && policy != "Always" {
        let field = format!("{path}.spec.restartPolicy");
        out.push(FieldError::not_supported(field, &Value::from(policy), &["Always"]));
    }
    if spec.get("activeDeadlineSeconds").is_some_and(|value| !value.is_null()) {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        out.push(FieldError::forbidden(format!("{path}.spec.activeDeadlineSeconds"), detail));
    }
}

/// Refuses counts below zero.
pub(super) fn not_negative(object: &Value, path: &[&str], keys: &[&str], out: &mut Vec<FieldError>) {
    let Some(holder) = json::at(object, path) else { return };
    for key in keys {
        if let Some(value) = holder.get(*key).filter(|value| value.as_i64().is_some_and(|count| count < 0)) {
            let field = format!("{}.{key}", path.join("."));
            out.push(FieldError::invalid(field, value, "must be greater than or equal to 0"));
        }
    }
}

fn revision(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    let data = object.get("data").filter(|data| !data.is_null());
    if data.is_none() {
        out.push(FieldError::required("data", "data is mandatory"));
    }
    if let Some(value) = object.get("revision").filter(|value| value.as_i64().is_some_and(|count| count < 0)) {
        out.push(FieldError::invalid("revision", value, "must be greater than or equal to 0"));
    }
    if let Some(old) = old
        && !json::same(&old["data"], &object["data"])
    {
        out.push(FieldError::invalid("data", &object["data"], "field is immutable"));
    }
    out
}

/// Checks the selector of pods. Answers whether it can be read.
fn selector(resource: &Resource, object: &Value, path: &str, out: &mut Vec<FieldError>) -> bool {
    let selector = json::at(object, &["spec", "selector"]).filter(|selector| selector.is_object());
    let daemon = resource.plural == "daemonsets";
    if let Some(selector) = selector {
        let wrong = super::labels::selector(selector, "spec.selector");
        if !wrong.is_empty() {
            out.extend(wrong);
            // What cannot be read matches nothing, and only some say so.
            if !daemon {
                out.push(FieldError::invalid("spec.selector", selector, "invalid label selector"));
            }
            return daemon;
        }
    }
    let empty = selector.is_some_and(|selector| LabelSelector::of_object(selector).is_empty());
    if let (true, Some(selector)) = (empty, selector) {
        let detail = match resource.plural.as_str() {
            "daemonsets" => "empty selector is invalid for daemonset",
            "statefulsets" => "empty selector is invalid for statefulset",
            _ => "empty selector is invalid for deployment",
        };
        out.push(FieldError::invalid("spec.selector", selector, detail));
        return true;
    }
    let Some(selector) = selector else {
        if !daemon {
            out.push(FieldError::required("spec.selector", ""));
        }
        let labels = json::at(object, &["spec", "template", "metadata", "labels"]).unwrap_or(&Value::Null);
        let detail = "`selector` does not match template `labels`";
        out.push(FieldError::invalid(format!("{path}.metadata.labels"), labels, detail));
        return true;
    };
    let labels = json::at(object, &["spec", "template", "metadata", "labels"]).unwrap_or(&Value::Null);
    if !LabelSelector::of_object(selector).matches_labels(labels) {
        let detail = "`selector` does not match template `labels`";
        out.push(FieldError::invalid(format!("{path}.metadata.labels"), labels, detail));
    }
    true
}

fn immutable(resource: &Resource, object: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let fields: &[&[&str]] = match resource.plural.as_str() {
        "deployments" | "daemonsets" | "replicasets" => &[&["spec", "selector"]],
        "jobs" => return jobs::changed(object, old, out),
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
pub(super) fn status(resource: &Resource, object: &Value, old: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    if resource.is("batch", "Job") {
        jobs::status(object, old, &mut out);
    }
    if resource.group != "apps" {
        return out;
    }
    let count = |key: &str| json::at(object, &["status", key]).and_then(Value::as_i64).unwrap_or(0);
    let names: &[&str] = match resource.plural.as_str() {
        "deployments" => &["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"],
        "replicasets" => &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "statefulsets" => &["replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
        "daemonsets" => {
            let keys = [
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
            ];
            not_negative(object, &["status"], &keys, &mut out);
            return out;
        }
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
