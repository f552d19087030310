//! Pods and the templates of pods.

mod changes;
pub(super) mod contents;
pub(super) mod host;
mod placement;
pub(super) mod status;

use serde_json::Value;

use super::numbers;
use crate::field::FieldError;
use crate::json;
use crate::names;

pub(super) use changes::ephemeral;

pub(super) fn pod(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match old {
        None => {
            let own = object.get("spec").unwrap_or(&Value::Null);
            let mut out = spec(own, "spec");
            if !json::list(own, &["ephemeralContainers"]).is_empty() {
                let detail = "cannot be set on create";
                out.push(FieldError::forbidden("spec.ephemeralContainers", detail));
            }
            out
        }
        Some(old) => changes::check(old, object),
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
            if key == "initContainers" {
                contents::of_init(container, &at, &mut out);
            }
            mounts(spec, container, &at, &mut out);
        }
    }
    for (index, container) in json::list(spec, &["ephemeralContainers"]).iter().enumerate() {
        let at = format!("{path}.ephemeralContainers[{index}]");
        container_of(container, &at, &mut seen, &mut out);
        contents::of_ephemeral(spec, container, &at, &mut out);
    }
    let policy = json::text(spec, &["restartPolicy"]);
    let policies = ["Always", "OnFailure", "Never"];
    if !policies.contains(&policy) {
        out.push(FieldError::not_supported(format!("{path}.restartPolicy"), &Value::from(policy), &policies));
    }
    tolerations(spec, path, &mut out);
    host::check(spec, path, &mut out);
    placement::check(spec, path, &mut out);
    if let Some(value) = spec.get("activeDeadlineSeconds").filter(|value| value.as_i64().is_some_and(|s| s < 1)) {
        let field = format!("{path}.activeDeadlineSeconds");
        out.push(FieldError::invalid(field, value, "must be between 1 and 2147483647, inclusive"));
    }
    for (key, rule) in
        [("serviceAccountName", names::subdomain as fn(&str) -> Vec<String>), ("nodeName", names::subdomain)]
    {
        let text = json::text(spec, &[key]);
        let errors = if text.is_empty() { Vec::new() } else { rule(text) };
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(format!("{path}.{key}"), text, error)));
    }
    let dns = json::text(spec, &["dnsPolicy"]);
    let known = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    if !known.contains(&dns) {
        out.push(FieldError::not_supported(format!("{path}.dnsPolicy"), &Value::from(dns), &known));
    }
    out
}

fn tolerations(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    for (index, toleration) in json::list(spec, &["tolerations"]).iter().enumerate() {
        let at = format!("{path}.tolerations[{index}]");
        let text = |key: &str| json::text(toleration, &[key]);
        let (key, value, operator, effect) = (text("key"), text("value"), text("operator"), text("effect"));
        if !key.is_empty() {
            let errors = names::qualified(key).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.key"), key, error)));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            out.push(FieldError::invalid_text(format!("{at}.operator"), operator, detail));
        }
        if toleration.get("tolerationSeconds").is_some_and(|seconds| !seconds.is_null()) && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            out.push(FieldError::invalid_text(format!("{at}.effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let errors = names::label_value(value).into_iter();
                out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.operator"), value, error)));
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                out.push(FieldError::invalid_text(format!("{at}.operator"), value, detail));
            }
            "Exists" => {}
            other => {
                let known = ["Equal", "Exists"];
                out.push(FieldError::not_supported(format!("{at}.operator"), &Value::from(other), &known));
            }
        }
        if !matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            out.push(FieldError::not_supported(format!("{at}.effect"), &Value::from(effect), &known));
        }
    }
}

fn image(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let image = json::text(container, &["image"]);
    if image.is_empty() {
        out.push(FieldError::required(format!("{at}.image"), ""));
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        out.push(FieldError::invalid_text(format!("{at}.image"), image, detail));
    }
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
    image(container, at, out);
    for (index, port) in json::list(container, &["ports"]).iter().enumerate() {
        let at = format!("{at}.ports[{index}]");
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => out.push(FieldError::required(format!("{at}.containerPort"), "")),
            number => numbers::port(number, format!("{at}.containerPort"), out),
        }
        if let Some(host) = port["hostPort"].as_i64().filter(|host| *host != 0) {
            let clashes =
                |other: &&Value| ["hostPort", "protocol", "hostIP"].iter().all(|key| other.get(*key) == port.get(*key));
            if json::list(container, &["ports"])[..index].iter().any(|other| clashes(&other)) {
                let (protocol, ip) = (json::text(port, &["protocol"]), json::text(port, &["hostIP"]));
                let shown = Value::from(format!("{protocol}/{ip}/{host}"));
                out.push(FieldError::duplicate(format!("{at}.hostPort"), &shown));
            }
            numbers::port(host, format!("{at}.hostPort"), out);
        }
        let (name, protocol) = (json::text(port, &["name"]), json::text(port, &["protocol"]));
        if !name.is_empty() {
            let known = out.len();
            numbers::port_name(name, &format!("{at}.name"), out);
            let ports = &json::list(container, &["ports"])[..index];
            if out.len() == known && ports.iter().any(|other| other["name"] == name) {
                out.push(FieldError::duplicate(format!("{at}.name"), &Value::from(name)));
            }
        }
        let known = ["SCTP", "TCP", "UDP"];
        if !known.contains(&protocol) {
            out.push(FieldError::not_supported(format!("{at}.protocol"), &Value::from(protocol), &known));
        }
    }
    for (index, variable) in json::list(container, &["env"]).iter().enumerate() {
        let name = json::text(variable, &["name"]);
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.env[{index}].name"), ""));
        } else if name.contains('=') || !name.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            out.push(FieldError::invalid_text(format!("{at}.env[{index}].name"), name, VARIABLE));
        }
        sources(variable, &format!("{at}.env[{index}].valueFrom"), out);
        if variable.get("valueFrom").is_some_and(Value::is_object) && !json::text(variable, &["value"]).is_empty() {
            let detail = "may not be specified when `value` is not empty";
            out.push(FieldError::invalid_text(format!("{at}.env[{index}].valueFrom"), "", detail));
        }
    }
    contents::env_from(container, at, out);
    resources(container, at, out);
    host::container(container, at, out);
    contents::lifecycle(container, at, out);
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get(key).filter(|probe| probe.is_object()) {
            let kinds = ["exec", "httpGet", "tcpSocket", "grpc"];
            let mut set = kinds.iter().filter(|kind| probe.get(**kind).is_some_and(|handler| !handler.is_null()));
            if set.next().is_none() {
                out.push(FieldError::required(format!("{at}.{key}"), "must specify a handler type"));
            }
            let detail = "may not specify more than 1 handler type";
            out.extend(set.map(|kind| FieldError::forbidden(format!("{at}.{key}.{kind}"), detail)));
            probe_numbers(key, probe, &format!("{at}.{key}"), out);
        }
    }
    let policy = json::text(container, &["terminationMessagePolicy"]);
    let policies = ["File", "FallbackToLogsOnError"];
    if policy.is_empty() {
        out.push(FieldError::required(format!("{at}.terminationMessagePolicy"), ""));
    } else if !policies.contains(&policy) {
        let at = format!("{at}.terminationMessagePolicy");
        out.push(FieldError::not_supported(at, &Value::from(policy), &policies));
    }
    let policy = json::text(container, &["imagePullPolicy"]);
    let policies = ["Always", "IfNotPresent", "Never"];
    if !policies.contains(&policy) {
        let mut sorted = policies;
        sorted.sort_unstable();
        out.push(FieldError::not_supported(format!("{at}.imagePullPolicy"), &Value::from(policy), &sorted));
    }
}

const VARIABLE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// Paths that a variable may name of its pod.
const PATHS: [&str; 8] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
];

/// Checks where the value of a variable comes from.
fn sources(variable: &Value, at: &str, out: &mut Vec<FieldError>) {
    let Some(from) = variable.get("valueFrom").filter(|from| from.is_object()) else { return };
    let kinds = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let set = kinds.iter().filter(|kind| from.get(**kind).is_some_and(Value::is_object)).count();
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = from.get(kind).filter(|reference| reference.is_object()) else { continue };
        if json::text(reference, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{at}.{kind}.name"), ""));
        }
        if json::text(reference, &["key"]).is_empty() {
            out.push(FieldError::required(format!("{at}.{kind}.key"), ""));
        }
    }
    if let Some(reference) = from.get("resourceFieldRef").filter(|reference| reference.is_object()) {
        contents::amount(reference, &format!("{at}.resourceFieldRef"), out);
    }
    if let Some(reference) = from.get("fieldRef").filter(|reference| reference.is_object()) {
        let path = json::text(reference, &["fieldPath"]);
        let at = format!("{at}.fieldRef.fieldPath");
        let subscript = path.starts_with("metadata.labels['") || path.starts_with("metadata.annotations['");
        if path.is_empty() {
            out.push(FieldError::required(at, ""));
        } else if !subscript && !PATHS.contains(&path) && path != "status.podIPs" {
            out.push(FieldError::invalid_text(
                at,
                path,
                format!("error converting fieldPath: field label not supported: {path}"),
            ));
        }
    }
    match set {
        0 => {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            out.push(FieldError::invalid_text(at, "", detail));
        }
        1 => {}
        _ => out.push(FieldError::invalid_text(at, "", "may not have more than one field specified at a time")),
    }
}

fn probe_numbers(key: &str, probe: &Value, at: &str, out: &mut Vec<FieldError>) {
    for count in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        if let Some(value) = probe.get(count).filter(|value| value.as_i64() < Some(0)) {
            out.push(FieldError::invalid(format!("{at}.{count}"), value, "must be greater than or equal to 0"));
        }
    }
    if key != "readinessProbe"
        && let Some(value) = probe.get("successThreshold").filter(|value| value.as_i64() != Some(1))
    {
        out.push(FieldError::invalid(format!("{at}.successThreshold"), value, "must be 1"));
    }
    for kind in ["httpGet", "tcpSocket"] {
        match json::at(probe, &[kind, "port"]) {
            Some(Value::Number(number)) => {
                numbers::port(number.as_i64().unwrap_or(0), format!("{at}.{kind}.port"), out);
            }
            Some(Value::String(name)) => numbers::port_name(name, &format!("{at}.{kind}.port"), out),
            _ => {}
        }
    }
    let scheme = json::text(probe, &["httpGet", "scheme"]);
    if !matches!(scheme, "" | "HTTP" | "HTTPS") {
        let known = ["HTTP", "HTTPS"];
        out.push(FieldError::not_supported(format!("{at}.httpGet.scheme"), &Value::from(scheme), &known));
    }
    for header in json::list(probe, &["httpGet", "httpHeaders"]) {
        let name = json::text(header, &["name"]);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', \
                          regex used for validation is '[-A-Za-z0-9]+')";
            out.push(FieldError::invalid_text(format!("{at}.httpGet.httpHeaders"), name, detail));
        }
    }
    if probe.get("exec").is_some_and(Value::is_object) && json::list(probe, &["exec", "command"]).is_empty() {
        out.push(FieldError::required(format!("{at}.exec.command"), ""));
    }
}

/// Requests may not be above limits, and neither below zero.
fn resources(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let limits = json::at(container, &["resources", "limits"]).and_then(Value::as_object);
    let requests = json::at(container, &["resources", "requests"]).and_then(Value::as_object);
    for (key, amounts) in [("limits", limits), ("requests", requests)] {
        for (name, value) in amounts.into_iter().flatten() {
            contents::resource(name, &format!("{at}.resources.{key}[{name}]"), out);
            contents::whole(name, value, &format!("{at}.resources.{key}[{name}]"), out);
            if value.as_str().is_some_and(|text| text.starts_with('-')) {
                let field = format!("{at}.resources.{key}[{name}]");
                out.push(FieldError::invalid(field, value, "must be greater than or equal to 0"));
            }
        }
    }
    for (name, request) in requests.into_iter().flatten() {
        let Some(limit) = limits.and_then(|limits| limits.get(name)) else {
            if name.contains('/') && !name.contains("kubernetes.io/") {
                let detail = "Limit must be set for non overcommitable resources";
                out.push(FieldError::required(format!("{at}.resources.limits"), detail));
            }
            continue;
        };
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
        source(volume, &format!("{path}.volumes[{index}]"), out);
    }
}

/// Checks where a volume comes from.
fn source(volume: &Value, at: &str, out: &mut Vec<FieldError>) {
    let kinds: Vec<&String> = volume.as_object().into_iter().flatten().map(|(key, _)| key).collect();
    let mut sources = kinds.into_iter().filter(|key| *key != "name" && volume[key.as_str()].is_object());
    if sources.next().is_none() {
        out.push(FieldError::required(at, "must specify a volume type"));
    }
    let detail = "may not specify more than 1 volume type";
    out.extend(sources.map(|key| FieldError::forbidden(format!("{at}.{key}"), detail)));
    contents::volume(volume, at, out);
    for (kind, key) in [("secret", "secretName"), ("configMap", "name"), ("persistentVolumeClaim", "claimName")] {
        let Some(own) = volume.get(kind).filter(|own| own.is_object()) else { continue };
        if json::text(own, &[key]).is_empty() {
            out.push(FieldError::required(format!("{at}.{kind}.{key}"), ""));
        }
        if let Some(mode) = own.get("defaultMode").filter(|mode| !(0..=0o777).contains(&mode.as_i64().unwrap_or(0))) {
            let detail = "must be a number between 0 and 0777 (octal), both inclusive";
            out.push(FieldError::invalid(format!("{at}.{kind}.defaultMode"), mode, detail));
        }
    }
}

fn mounts(spec: &Value, container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let volumes = json::list(spec, &["volumes"]);
    for (index, mount) in json::list(container, &["volumeMounts"]).iter().enumerate() {
        let name = json::text(mount, &["name"]);
        let field = format!("{at}.volumeMounts[{index}]");
        if name.is_empty() {
            out.push(FieldError::required(format!("{field}.name"), ""));
        }
        if !volumes.iter().any(|volume| json::text(volume, &["name"]) == name) {
            out.push(FieldError::not_found(format!("{field}.name"), &Value::from(name)));
        }
        let path = json::text(mount, &["mountPath"]);
        if path.is_empty() {
            out.push(FieldError::required(format!("{field}.mountPath"), ""));
        } else if json::list(container, &["volumeMounts"])[..index].iter().any(|other| other["mountPath"] == path) {
            out.push(FieldError::invalid_text(format!("{field}.mountPath"), path, "must be unique"));
        }
        contents::below(json::text(mount, &["subPath"]), &format!("{at}.volumeMounts.subPath"), out);
        let formed = json::text(mount, &["subPathExpr"]);
        if !formed.is_empty() && !json::text(mount, &["subPath"]).is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            out.push(FieldError::invalid_text(format!("{field}.subPathExpr"), formed, detail));
        }
        let way = json::text(mount, &["mountPropagation"]);
        let known = ["Bidirectional", "HostToContainer", "None"];
        if !way.is_empty() && !known.contains(&way) {
            let at = format!("{at}.volumeMounts.mountPropagation");
            out.push(FieldError::not_supported(at, &Value::from(way), &known));
        }
    }
}
