//! Warnings about objects that are taken all the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::json;
use crate::kinds::{EXTENSIONS, Resource};

/// Labels of nodes that have new names, since when, and these names.
const RENAMED: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
];
/// What a selector that is not there means where pods are selected.
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// Words warnings about a new object.
pub(crate) fn of_new(resource: &Resource, object: &Value) -> Vec<String> {
    if resource.is("", "Secret") && json::text(object, &["type"]) == "kubernetes.io/tls" {
        let certificate = json::text(object, &["data", "tls.crt"]);
        if !certificate.starts_with("LS0t") {
            return vec!["tls: failed to find any PEM data in certificate input".to_owned()];
        }
    }
    let mut out: Vec<String> = hostname(resource, crate::meta::name(object)).into_iter().collect();
    if resource.is("", "Pod") {
        pod(object.get("spec").unwrap_or(&Value::Null), "spec", &mut out);
    }
    out
}

/// Words warnings about an object that is new or was changed.
pub(crate) fn of_any(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = headless(resource, object);
    if resource.is("discovery.k8s.io", "EndpointSlice") && old.is_none() && object["addressType"] == "FQDN" {
        out.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    if resource.is(EXTENSIONS, "CustomResourceDefinition") {
        let known = old.map(formats).unwrap_or_default();
        let unknown = formats(object).into_iter().filter(|format| !known.contains(format));
        out.extend(unknown.map(|format| format!("unrecognized format {format:?}")));
    }
    let class = "kubernetes.io/ingress.class";
    if resource.is("networking.k8s.io", "Ingress") && json::at(object, &["metadata", "annotations", class]).is_some() {
        out.push(format!("annotation {class:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
    let tokens = json::list(object, &["spec", "tokenRequests"]);
    if resource.is("storage.k8s.io", "CSIDriver")
        && !tokens.is_empty()
        && json::at(object, &["spec", "serviceAccountTokenInSecrets"]).is_none()
    {
        let why = "is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume \
                   attributes";
        out.push(format!("spec.serviceAccountTokenInSecrets {why}"));
    }
    let Some(path) = template(resource) else { return out };
    let changed = old.is_none_or(|old| !json::same(&old["spec"], &object["spec"]));
    if let Some(spec) = json::at(object, path).filter(|_| changed) {
        pod(spec, &path.join("."), &mut out);
    }
    out
}

/// Collects the formats in a definition's schemas that nobody checks.
fn formats(definition: &Value) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for version in json::list(definition, &["spec", "versions"]) {
        if let Some(schema) = json::at(version, &["schema", "openAPIV3Schema"]) {
            unknown(schema, &mut out);
        }
    }
    out
}

fn unknown(schema: &Value, out: &mut BTreeSet<String>) {
    let format = json::text(schema, &["format"]);
    let known = match json::text(schema, &["type"]) {
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => format == "password" || crate::schema::formats::check(format, "").is_some(),
    };
    if !format.is_empty() && !known {
        out.insert(format.to_owned());
    }
    for (_, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        unknown(inner, out);
    }
    for key in ["items", "additionalProperties", "not"] {
        if let Some(inner) = schema.get(key).filter(|inner| inner.is_object()) {
            unknown(inner, out);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for inner in json::list(schema, &[key]) {
            unknown(inner, out);
        }
    }
}

/// Returns where a kind has the specification of its pods.
fn template(resource: &Resource) -> Option<&'static [&'static str]> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("apps", "deployments" | "daemonsets" | "statefulsets" | "replicasets")
        | ("batch", "jobs")
        | ("", "replicationcontrollers") => Some(&["spec", "template", "spec"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template", "spec"]),
        ("", "podtemplates") => Some(&["template", "spec"]),
        _ => None,
    }
}

/// Warns of what means nothing for a Service without an address.
fn headless(resource: &Resource, object: &Value) -> Vec<String> {
    let mut ignored = Vec::new();
    if resource.is("", "Service") && json::text(object, &["spec", "clusterIP"]) == "None" {
        if !json::text(object, &["spec", "loadBalancerIP"]).is_empty() {
            ignored.push("loadBalancerIP");
        }
        if !json::list(object, &["spec", "externalIPs"]).is_empty() {
            ignored.push("externalIPs");
        }
        if !matches!(json::text(object, &["spec", "sessionAffinity"]), "" | "None") {
            ignored.push("SessionAffinity");
        }
    }
    ignored.into_iter().map(|field| format!("spec.{field} is ignored for headless services")).collect()
}

/// Warns of names that make no names of hosts.
fn hostname(resource: &Resource, name: &str) -> Option<String> {
    let used = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => "the Pod's hostname",
        ("", "replicationcontrollers") | ("apps", "deployments" | "replicasets") | ("batch", "jobs" | "cronjobs") => {
            "Pod names and hostnames"
        }
        _ => return None,
    };
    let wrong = crate::names::label(name);
    let why = "which can result in surprising behavior; a DNS label is recommended";
    (!wrong.is_empty()).then(|| format!("metadata.name: this is used in {used}, {why}: [{}]", wrong.join(" ")))
}

/// Warns of what in the specification of a pod is taken and hardly meant.
fn pod(spec: &Value, at: &str, out: &mut Vec<String>) {
    for (label, since, instead) in RENAMED {
        if json::at(spec, &["nodeSelector", label]).is_some() {
            out.push(format!("{at}.nodeSelector[{label}]: deprecated since {since}; use {instead:?} instead"));
        }
    }
    for (index, constraint) in json::list(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        if constraint.get("labelSelector").is_none() {
            out.push(format!("{at}.topologySpreadConstraints[{index}].labelSelector: {NO_SELECTOR}"));
        }
    }
    twice(json::list(spec, &["hostAliases"]), "ip", &format!("{at}.hostAliases"), out);
    twice(json::list(spec, &["imagePullSecrets"]), "name", &format!("{at}.imagePullSecrets"), out);
    affinity(spec, at, out);
    let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if grace.is_some_and(|seconds| seconds < 0) {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        out.push(format!("{at}.terminationGracePeriodSeconds: {why}"));
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in json::list(spec, &[key]).iter().enumerate() {
            self::container(container, &format!("{at}.{key}[{index}]"), out);
        }
    }
}

/// Warns of items of a list that are there twice or have no name.
fn twice(items: &[Value], key: &str, at: &str, out: &mut Vec<String>) {
    for (index, item) in items.iter().enumerate() {
        let value = json::text(item, &[key]);
        if value.is_empty() && key == "name" {
            out.push(format!("{at}[{index}].{key}: invalid empty name \"\""));
        } else if items[..index].iter().any(|other| json::text(other, &[key]) == value) {
            out.push(format!("{at}[{index}].{key}: duplicate {key} {value:?}"));
        }
    }
}

fn affinity(spec: &Value, at: &str, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (list, inner) in [(required, ""), (preferred, ".podAffinityTerm")] {
            for (index, term) in json::list(spec, &["affinity", kind, list]).iter().enumerate() {
                let term = if inner.is_empty() { term } else { term.get("podAffinityTerm").unwrap_or(&Value::Null) };
                if term.get("labelSelector").is_none() {
                    out.push(format!("{at}.affinity.{kind}.{list}[{index}]{inner}.labelSelector: {NO_SELECTOR}"));
                }
            }
        }
    }
}

fn container(container: &Value, at: &str, out: &mut Vec<String>) {
    for list in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage"] {
            let amount = json::text(container, &["resources", list, name]);
            if amount.ends_with('m') {
                let why = format!("fractional byte value {amount:?} is invalid, must be an integer");
                out.push(format!("{at}.resources.{list}[{name}]: {why}"));
            }
        }
    }
    let mut known: Vec<&str> = Vec::new();
    for (index, variable) in json::list(container, &["env"]).iter().enumerate() {
        let name = json::text(variable, &["name"]);
        let extends = json::text(variable, &["value"]).contains(&format!("$({name})"));
        if known.contains(&name) && !extends {
            let why = format!("hides previous definition of {name:?}, which may be dropped when using apply");
            out.push(format!("{at}.env[{index}]: {why}"));
        }
        known.push(name);
    }
    let mut taken: BTreeMap<(i64, &str), usize> = BTreeMap::new();
    for (index, port) in json::list(container, &["ports"]).iter().enumerate() {
        let number = port["containerPort"].as_i64().unwrap_or_default();
        match taken.get(&(number, json::text(port, &["protocol"]))) {
            Some(first) => {
                out.push(format!("{at}.ports[{index}]: duplicate port definition with {at}.ports[{first}]"));
            }
            None => {
                taken.insert((number, json::text(port, &["protocol"])), index);
            }
        }
    }
}
