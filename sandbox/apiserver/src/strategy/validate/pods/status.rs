//! What a pod's status may become.

use std::net::IpAddr;

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::names;

/// Conditions of the server's own, whose names are not checked.
const OWN: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];

/// Checks a changed status.
pub(in crate::strategy::validate) fn changed(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut out = conditions(new);
    let nominated = |pod| json::text(pod, &["status", "nominatedNodeName"]);
    if nominated(new) != nominated(old) && !nominated(new).is_empty() {
        let field = "status.nominatedNodeName";
        out.extend(
            names::subdomain(nominated(new)).iter().map(|why| FieldError::invalid_text(field, nominated(new), why)),
        );
        if !json::text(old, &["spec", "nodeName"]).is_empty() {
            out.push(FieldError::forbidden(field, "may not be set on pods that are already bound to a node"));
        }
    }
    out.extend(seen(new.get("status").unwrap_or(&Value::Null), "status"));
    let class = |object: &Value| json::at(object, &["status", "qosClass"]).cloned().unwrap_or_default();
    if class(old) != class(new) {
        out.push(FieldError::invalid("status.qosClass", &class(new), "field is immutable"));
    }
    for (statuses, specs) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
        out.extend(restarts(old, new, statuses, specs));
    }
    out.extend(addresses(old, new, "podIPs"));
    let (first, host) = (json::list(new, &["status", "hostIPs"]).first(), json::text(new, &["status", "hostIP"]));
    if let Some(first) = first.map(|first| json::text(first, &["ip"])).filter(|first| *first != host) {
        out.push(FieldError::invalid_text("status.hostIPs[0].ip", first, "must be equal to `hostIP`"));
    }
    out.extend(addresses(old, new, "hostIPs"));
    out
}

fn seen(holder: &Value, path: &str) -> Option<FieldError> {
    let generation = holder.get("observedGeneration").filter(|seen| seen.as_i64().is_some_and(|seen| seen < 0))?;
    let detail = "must be a non-negative integer";
    Some(FieldError::invalid(format!("{path}.observedGeneration"), generation, detail))
}

fn conditions(pod: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (index, condition) in json::list(pod, &["status", "conditions"]).iter().enumerate() {
        let path = format!("status.conditions[{index}]");
        out.extend(seen(condition, &path));
        let kind = json::text(condition, &["type"]);
        if !OWN.contains(&kind) {
            let wrong = names::qualified(kind);
            out.extend(wrong.iter().map(|why| FieldError::invalid_text(format!("{path}.Type"), kind, why)));
        }
    }
    out
}

/// A container that ended stays so where nothing starts it again.
fn restarts(old: &Value, new: &Value, statuses: &str, specs: &str) -> Vec<FieldError> {
    let ended = |status: &Value| json::at(status, &["state", "terminated"]).filter(|end| !end.is_null()).cloned();
    let mut out = Vec::new();
    for (index, before) in json::list(old, &["status", statuses]).iter().enumerate() {
        let Some(end) = ended(before) else { continue };
        let name = json::text(before, &["name"]);
        let named = |all: &'_ [Value]| all.iter().find(|one| json::text(one, &["name"]) == name).cloned();
        let runs = named(json::list(new, &["status", statuses])).is_some_and(|after| ended(&after).is_none());
        let own = named(json::list(new, &["spec", specs]));
        let own = own.as_ref().map_or("", |container| json::text(container, &["restartPolicy"])).to_owned();
        let policy = if own.is_empty() { json::text(new, &["spec", "restartPolicy"]) } else { &own };
        let failed = end["exitCode"].as_i64().is_some_and(|code| code != 0);
        if runs && !(policy == "Always" || (policy == "OnFailure" && failed)) {
            let field = format!("status.{statuses}[{index}].state");
            out.push(FieldError::forbidden(field, "may not be transitioned to non-terminated state"));
        }
    }
    out
}

/// Checks addresses: one of a family, except what was there before.
fn addresses(old: &Value, new: &Value, key: &str) -> Vec<FieldError> {
    let listed = |pod| -> Vec<String> {
        json::list(pod, &["status", key]).iter().map(|one| json::text(one, &["ip"]).to_owned()).collect()
    };
    let (before, after) = (listed(old), listed(new));
    let mut out = Vec::new();
    for (index, text) in after.iter().enumerate().filter(|(_, text)| !before.contains(text)) {
        super::host::address(text, format!("status.{key}[{index}]"), &mut out);
    }
    let families: Vec<bool> =
        after.iter().filter_map(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.is_ipv4()).collect();
    if after.len() > 1 && families.len() == after.len() && (after.len() > 2 || families[0] == families[1]) {
        let shown = json::at(new, &["status", key]).cloned().unwrap_or_default();
        let detail = "may specify no more than one IP for each IP family";
        out.push(FieldError::invalid(format!("status.{key}"), &shown, detail));
    }
    out
}
