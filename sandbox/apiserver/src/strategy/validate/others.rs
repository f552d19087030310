//! Kinds that need little checking: budgets, ingresses, claims, classes, leases, slices.

use serde_json::{Value, json};

use super::{endpoints, labels, numbers, scaling, volumes};
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
        "horizontalpodautoscalers" => scaling::autoscaler(object, &mut out),
        "persistentvolumes" => volumes::volume(object, old, &mut out),
        "endpoints" => endpoints::subsets(object, &mut out),
        "limitranges" => scaling::limits(object, &mut out),
        "resourcequotas" => scaling::quota(object, &mut out),
        "certificatesigningrequests" => request(object, &mut out),
        "podtemplates" => {
            let spec = json::at(object, &["template", "spec"]).unwrap_or(&Value::Null);
            out.extend(super::pods::spec(spec, "template.spec"));
        }
        "ingresses" => ingress(object, &mut out),
        "persistentvolumeclaims" => volumes::claim(object, old, &mut out),
        "leases" => lease(object, &mut out),
        "networkpolicies" => network_policy(object, &mut out),
        "storageclasses" => storage_class(object, old, &mut out),
        "priorityclasses" => priority_class(object, old, &mut out),
        "runtimeclasses" => {
            let handler = json::text(object, &["handler"]);
            if handler.is_empty() {
                out.push(FieldError::required("handler", ""));
                return out;
            }
            let errors = names::label(handler).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text("handler", handler, error)));
            fixed(object, old, "handler", &mut out);
        }
        "endpointslices" => {
            endpoints::slice(object, &mut out);
            fixed(object, old, "addressType", &mut out);
        }
        _ => {}
    }
    out
}

/// Checks what holds a namespace.
pub(super) fn namespace(object: &Value, finalizing: bool) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (index, finalizer) in json::list(object, &["spec", "finalizers"]).iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        let field = if finalizing { format!("spec.finalizers[{index}]") } else { "spec.finalizers".to_owned() };
        let errors = names::qualified(name);
        let plain = errors.is_empty() && !name.contains('/') && !crate::meta::FINALIZERS.contains(&name);
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(field.clone(), name, error)));
        if plain {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            out.push(FieldError::invalid_text(field, name, detail));
        }
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
        let shown = json!({
            "MinAvailable": spec["minAvailable"], "Selector": spec["selector"],
            "MaxUnavailable": spec["maxUnavailable"],
            "UnhealthyPodEvictionPolicy": spec["unhealthyPodEvictionPolicy"],
        });
        out.push(FieldError::invalid("spec", &shown, "minAvailable and maxUnavailable cannot be both set"));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        let field = format!("spec.{key}");
        numbers::count_or_percent(at(key), &field, out);
        numbers::at_most_all(at(key), &field, out);
    }
    let policy = json::text(spec, &["unhealthyPodEvictionPolicy"]);
    if !matches!(policy, "" | "AlwaysAllow" | "IfHealthyBudget") {
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        out.push(FieldError::not_supported("spec.unhealthyPodEvictionPolicy", &Value::from(policy), &known));
    }
    out.extend(at("selector").map(|found| labels::selector(found, "spec.selector")).unwrap_or_default());
}

/// Checks whom a policy of the network is about.
fn network_policy(object: &Value, out: &mut Vec<FieldError>) {
    let known = ["Ingress", "Egress"];
    for (index, kind) in json::list(object, &["spec", "policyTypes"]).iter().enumerate() {
        if !known.iter().any(|known| kind == known) {
            out.push(FieldError::not_supported(format!("spec.policyTypes[{index}]"), kind, &known));
        }
    }
    for (direction, whom) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in json::list(object, &["spec", direction]).iter().enumerate() {
            for (place, peer) in json::list(rule, &[whom]).iter().enumerate() {
                self::peer(peer, &format!("spec.{direction}[{index}].{whom}[{place}]"), out);
            }
        }
    }
}

fn peer(peer: &Value, at: &str, out: &mut Vec<FieldError>) {
    if peer.as_object().is_none_or(serde_json::Map::is_empty) {
        out.push(FieldError::required(at, "must specify a peer"));
    }
    let Some(block) = peer.get("ipBlock") else { return };
    let range = json::text(block, &["cidr"]);
    if crate::schema::formats::check("cidr", range) != Some(true) {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        out.push(FieldError::invalid_text(format!("{at}.ipBlock.cidr"), range, detail));
    }
}

/// Checks counts that a budget's status tells.
pub(super) fn budget_status(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    let keys = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    super::workloads::not_negative(object, &["status"], &keys, &mut out);
    out
}

fn ingress(object: &Value, out: &mut Vec<FieldError>) {
    let rules = json::list(object, &["spec", "rules"]);
    let default = json::at(object, &["spec", "defaultBackend"]);
    if rules.is_empty() && default.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        out.push(FieldError::invalid("spec", &Value::Null, detail));
    }
    if let Some(default) = default {
        backend(default, "spec.defaultBackend", out);
    }
    for (index, hosts) in json::list(object, &["spec", "tls"]).iter().enumerate() {
        for (place, host) in json::list(hosts, &["hosts"]).iter().filter_map(Value::as_str).enumerate() {
            host_name(host, format!("spec.tls[{index}].hosts[{place}]"), out);
        }
    }
    let class = json::text(object, &["spec", "ingressClassName"]);
    if !class.is_empty() {
        let errors = names::subdomain(class).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text("spec.ingressClassName", class, error)));
    }
    for (index, rule) in rules.iter().enumerate() {
        let host = json::text(rule, &["host"]);
        if host.parse::<std::net::IpAddr>().is_ok() {
            let detail = "must be a DNS name, not an IP address";
            out.push(FieldError::invalid_text(format!("spec.rules[{index}].host"), host, detail));
        } else if !host.is_empty() {
            host_name(host, format!("spec.rules[{index}].host"), out);
        }
        for (place, path) in json::list(rule, &["http", "paths"]).iter().enumerate() {
            let at = format!("spec.rules[{index}].http.paths[{place}]");
            let text = json::text(path, &["path"]);
            match json::text(path, &["pathType"]) {
                "" => {
                    out.push(FieldError::required(format!("{at}.pathType"), "pathType must be specified"));
                    continue;
                }
                "Exact" | "Prefix" if !text.starts_with('/') => {
                    out.push(FieldError::invalid_text(format!("{at}.path"), text, "must be an absolute path"));
                }
                "Exact" | "Prefix" | "ImplementationSpecific" => {}
                other => {
                    let known = ["Exact", "ImplementationSpecific", "Prefix"];
                    out.push(FieldError::not_supported(format!("{at}.pathType"), &Value::from(other), &known));
                }
            }
            backend(&path["backend"], &format!("{at}.backend"), out);
        }
    }
}

/// Checks a name of a host, which may stand for all names below another.
fn host_name(host: &str, at: String, out: &mut Vec<FieldError>) {
    let errors = names::subdomain(host.strip_prefix("*.").unwrap_or(host)).into_iter();
    out.extend(errors.map(|error| FieldError::invalid_text(at.clone(), host, error)));
}

fn backend(backend: &Value, at: &str, out: &mut Vec<FieldError>) {
    let set = |key: &str| backend.get(key).is_some_and(|value| !value.is_null());
    match (set("resource"), set("service")) {
        (true, true) => out.push(FieldError::invalid_text(at, "", "cannot set both resource and service backends")),
        (true, false) => {}
        (false, false) => out.push(FieldError::invalid_text(at, "", "resource or service backend is required")),
        (false, true) => {
            let name = json::text(backend, &["service", "name"]);
            if name.is_empty() {
                out.push(FieldError::required(format!("{at}.service.name"), ""));
            }
            let port = json::text(backend, &["service", "port", "name"]);
            let number = json::at(backend, &["service", "port", "number"]).and_then(Value::as_i64).unwrap_or(0);
            match (port.is_empty(), number) {
                (true, 0) => out.push(FieldError::required(at, "port name or number is required")),
                (true, number) => numbers::port(number, format!("{at}.service.port.number"), out),
                (false, 0) => numbers::port_name(port, &format!("{at}.service.port.name"), out),
                (false, _) => out.push(FieldError::invalid_text(at, "", "cannot set both port name & port number")),
            }
        }
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
    let provisioner = json::text(object, &["provisioner"]).to_lowercase();
    if provisioner.is_empty() {
        out.push(FieldError::required("provisioner", ""));
    } else {
        let errors = names::qualified(&provisioner).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text("provisioner", &provisioner, error)));
    }
    for (key, known) in
        [("reclaimPolicy", ["Delete", "Retain"]), ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"])]
    {
        let word = json::text(object, &[key]);
        if !word.is_empty() && !known.contains(&word) {
            out.push(FieldError::not_supported(key, &Value::from(word), &known));
        }
    }
    let Some(old) = old else { return };
    for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        fixed(object, Some(old), key, out);
    }
}

/// Checks a request for a certificate.
fn request(object: &Value, out: &mut Vec<FieldError>) {
    use base64::Engine as _;
    let text = json::text(object, &["spec", "request"]);
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    if !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE REQUEST-----") {
        let detail = "PEM block type must be CERTIFICATE REQUEST";
        out.push(FieldError::invalid("spec.request", &Value::from(text), detail));
    }
    let signer = json::text(object, &["spec", "signerName"]);
    if !signer.split_once('/').is_some_and(|(domain, path)| domain.contains('.') && !path.is_empty()) {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        out.push(FieldError::invalid_text("spec.signerName", signer, detail));
    }
}

fn priority_class(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let known = ["PreemptLowerPriority", "Never"];
    let policy = json::text(object, &["preemptionPolicy"]);
    if !policy.is_empty() && !known.contains(&policy) {
        out.push(FieldError::not_supported("preemptionPolicy", &Value::from(policy), &known));
    }
    let Some(old) = old else {
        if crate::meta::name(object).starts_with("system-") {
            let name = crate::meta::name(object);
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known \
                 system priority class"
            );
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
