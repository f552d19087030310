//! Pods and the templates of pods.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::names;

const UPDATE_RULE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                           `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
                           additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
                           to 1 if it was previously negative)";

pub(super) fn pod(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match old {
        None => spec(object.get("spec").unwrap_or(&Value::Null), "spec"),
        Some(old) => changed(old, object),
    }
}

/// Checks the spec of a pod or of a template.
pub(super) fn spec(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut out = Vec::new();
    volumes(spec, path, &mut out);
    if json::list(spec, &["containers"]).is_empty() {
        out.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut seen = Vec::new();
    for key in ["containers", "initContainers"] {
        for (index, container) in json::list(spec, &[key]).iter().enumerate() {
            let at = format!("{path}.{key}[{index}]");
            container_of(container, &at, &mut seen, &mut out);
            mounts(spec, container, &at, &mut out);
        }
    }
    let policy = json::text(spec, &["restartPolicy"]);
    let policies = ["Always", "OnFailure", "Never"];
    if !policies.contains(&policy) {
        out.push(FieldError::not_supported(format!("{path}.restartPolicy"), &Value::from(policy), &policies));
    }
    let dns = json::text(spec, &["dnsPolicy"]);
    let known = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    if !known.contains(&dns) {
        out.push(FieldError::not_supported(format!("{path}.dnsPolicy"), &Value::from(dns), &known));
    }
    out
}

fn container_of(container: &Value, at: &str, seen: &mut Vec<String>, out: &mut Vec<FieldError>) {
    let name = json::text(container, &["name"]);
    if name.is_empty() {
        out.push(FieldError::required(format!("{at}.name"), ""));
    } else {
        let errors = names::label(name);
        let valid = errors.is_empty();
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
        if valid && seen.iter().any(|known| known == name) {
            out.push(FieldError::duplicate(format!("{at}.name"), &Value::from(name)));
        }
        seen.push(name.to_owned());
    }
    if json::text(container, &["image"]).is_empty() {
        out.push(FieldError::required(format!("{at}.image"), ""));
    }
    for (index, port) in json::list(container, &["ports"]).iter().enumerate() {
        let number = port["containerPort"].as_i64().unwrap_or(0);
        if !(1..=65535).contains(&number) {
            let field = format!("{at}.ports[{index}].containerPort");
            out.push(FieldError::invalid(field, &Value::from(number), "must be between 1 and 65535, inclusive"));
        }
    }
    for (index, variable) in json::list(container, &["env"]).iter().enumerate() {
        if json::text(variable, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{at}.env[{index}].name"), ""));
        }
    }
    resources(container, at, out);
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get(key).filter(|probe| probe.is_object()) {
            let kinds = ["exec", "httpGet", "tcpSocket", "grpc"];
            let mut set = kinds.iter().filter(|kind| probe.get(**kind).is_some_and(|handler| !handler.is_null()));
            if set.next().is_none() {
                out.push(FieldError::required(format!("{at}.{key}"), "must specify a handler type"));
            }
            let detail = "may not specify more than 1 handler type";
            out.extend(set.map(|kind| FieldError::forbidden(format!("{at}.{key}.{kind}"), detail)));
        }
    }
    let policy = json::text(container, &["imagePullPolicy"]);
    let policies = ["Always", "IfNotPresent", "Never"];
    if !policies.contains(&policy) {
        let mut sorted = policies;
        sorted.sort_unstable();
        out.push(FieldError::not_supported(format!("{at}.imagePullPolicy"), &Value::from(policy), &sorted));
    }
}

/// Requests may not be above limits.
fn resources(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let limits = json::at(container, &["resources", "limits"]).and_then(Value::as_object);
    let requests = json::at(container, &["resources", "requests"]).and_then(Value::as_object);
    for (name, request) in requests.into_iter().flatten() {
        let Some(limit) = limits.and_then(|limits| limits.get(name)) else { continue };
        let amount = |value: &Value| value.as_str().and_then(crate::quantity::nanos);
        if amount(request) > amount(limit) {
            let limit = limit.as_str().unwrap_or_default();
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            out.push(FieldError::invalid(format!("{at}.resources.requests"), request, detail));
        }
    }
}

fn volumes(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, volume) in json::list(spec, &["volumes"]).iter().enumerate() {
        let at = format!("{path}.volumes[{index}].name");
        let name = json::text(volume, &["name"]);
        if name.is_empty() {
            out.push(FieldError::required(at, ""));
            continue;
        }
        out.extend(names::label(name).into_iter().map(|error| FieldError::invalid_text(at.clone(), name, error)));
        if seen.contains(&name) {
            out.push(FieldError::duplicate(at, &Value::from(name)));
        }
        seen.push(name);
    }
}

fn mounts(spec: &Value, container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let volumes = json::list(spec, &["volumes"]);
    for (index, mount) in json::list(container, &["volumeMounts"]).iter().enumerate() {
        let name = json::text(mount, &["name"]);
        let field = format!("{at}.volumeMounts[{index}]");
        if !volumes.iter().any(|volume| json::text(volume, &["name"]) == name) {
            out.push(FieldError::not_found(format!("{field}.name"), &Value::from(name)));
        }
        if json::text(mount, &["mountPath"]).is_empty() {
            out.push(FieldError::required(format!("{field}.mountPath"), ""));
        }
    }
}

fn changed(old: &Value, new: &Value) -> Vec<FieldError> {
    let strip = |pod: &Value| {
        let mut spec = pod.get("spec").cloned().unwrap_or_default();
        for key in ["containers", "initContainers"] {
            if let Some(Value::Array(containers)) = spec.get_mut(key) {
                for container in containers.iter_mut().filter_map(Value::as_object_mut) {
                    container.shift_remove("image");
                }
            }
        }
        for key in
            ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName", "schedulingGates"]
        {
            json::remove(&mut spec, &[key]);
        }
        spec
    };
    let mut out = Vec::new();
    if !json::same(&strip(old), &strip(new)) {
        out.push(FieldError::forbidden("spec", UPDATE_RULE));
    }
    let node = |pod: &Value| json::text(pod, &["spec", "nodeName"]).to_owned();
    if out.is_empty() && node(old) != node(new) {
        out.push(FieldError::forbidden("spec", UPDATE_RULE));
    }
    out
}
