//! What the network lets through: policies, and ways in from outside.

use serde_json::Value;

use super::{labels, numbers, others};
use crate::field::FieldError;
use crate::json;
use crate::names;
use crate::schema::formats;

const DIRECTIONS: [&str; 2] = ["Ingress", "Egress"];
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
/// What the path of a rule may not contain, and what it may not end with.
const PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const ENDS: [&str; 2] = ["/..", "/."];

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                        consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character \
                        (e.g. '*.example.com', regex used for validation is \
                        '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Checks the status of a way in.
pub(super) fn status(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (index, point) in json::list(object, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
        let at = format!("status.loadBalancer.ingress[{index}]");
        let (ip, host) = (json::text(point, &["ip"]), json::text(point, &["hostname"]));
        if !ip.is_empty() {
            super::pods::host::address(ip, format!("{at}.ip"), &mut out);
        }
        let at = format!("{at}.hostname");
        let errors = if host.is_empty() { Vec::new() } else { names::subdomain(host) };
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(at.clone(), host, error)));
        if host.parse::<std::net::IpAddr>().is_ok() {
            out.push(FieldError::invalid_text(at, host, "must be a DNS name, not an IP address"));
        }
    }
    out
}

/// Checks whom a policy of the network is about.
pub(super) fn policy(object: &Value, out: &mut Vec<FieldError>) {
    let selector = json::at(object, &["spec", "podSelector"]);
    out.extend(selector.map(|selector| labels::selector(selector, "spec.podSelector")).unwrap_or_default());
    for (direction, whom) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in json::list(object, &["spec", direction]).iter().enumerate() {
            let at = format!("spec.{direction}[{index}]");
            for (place, port) in json::list(rule, &["ports"]).iter().enumerate() {
                self::port(port, &format!("{at}.ports[{place}]"), out);
            }
            for (place, peer) in json::list(rule, &[whom]).iter().enumerate() {
                self::peer(peer, &format!("{at}.{whom}[{place}]"), out);
            }
        }
    }
    let kinds = json::list(object, &["spec", "policyTypes"]);
    if kinds.len() > DIRECTIONS.len() {
        let shown = Value::Array(kinds.to_vec());
        out.push(FieldError::invalid("spec.policyTypes", &shown, "may not specify more than two policyTypes"));
        return;
    }
    for (index, kind) in kinds.iter().enumerate() {
        if !DIRECTIONS.iter().any(|known| kind == known) {
            out.push(FieldError::not_supported(format!("spec.policyTypes[{index}]"), kind, &DIRECTIONS));
        }
    }
}

fn port(port: &Value, at: &str, out: &mut Vec<FieldError>) {
    let protocol = json::text(port, &["protocol"]);
    let known = ["TCP", "UDP", "SCTP"];
    if !protocol.is_empty() && !known.contains(&protocol) {
        out.push(FieldError::not_supported(format!("{at}.protocol"), &Value::from(protocol), &known));
    }
    let end = port.get("endPort").filter(|end| !end.is_null());
    let refused = |detail: &str| end.map(|end| FieldError::invalid(format!("{at}.endPort"), end, detail));
    match port.get("port") {
        Some(Value::String(name)) => {
            out.extend(refused("may not be specified when `port` is non-numeric"));
            numbers::port_name(name, &format!("{at}.port"), out);
        }
        Some(value @ Value::Number(number)) => {
            let first = number.as_i64().unwrap_or(0);
            numbers::port(first, format!("{at}.port"), out);
            let Some(last) = end.and_then(Value::as_i64) else { return };
            if last < first {
                let detail = "must be greater than or equal to `port`";
                out.push(FieldError::invalid(format!("{at}.endPort"), value, detail));
            }
            numbers::port(last, format!("{at}.endPort"), out);
        }
        _ => out.extend(refused("may not be specified when `port` is not specified")),
    }
}

fn peer(peer: &Value, at: &str, out: &mut Vec<FieldError>) {
    let set = |key: &str| peer.get(key).filter(|value| !value.is_null());
    for key in ["podSelector", "namespaceSelector"] {
        out.extend(set(key).map(|selector| labels::selector(selector, &format!("{at}.{key}"))).unwrap_or_default());
    }
    let selected = set("podSelector").is_some() || set("namespaceSelector").is_some();
    match (set("ipBlock"), selected) {
        (Some(block), _) => {
            self::block(block, &format!("{at}.ipBlock"), out);
            if selected {
                out.push(FieldError::forbidden(at, "may not specify both ipBlock and another peer"));
            }
        }
        (None, false) => out.push(FieldError::required(at, "must specify a peer")),
        (None, true) => {}
    }
}

fn block(block: &Value, at: &str, out: &mut Vec<FieldError>) {
    let range = json::text(block, &["cidr"]);
    if range.is_empty() {
        out.push(FieldError::required(format!("{at}.cidr"), ""));
        return;
    }
    let Some(whole) = network(range) else {
        out.push(FieldError::invalid_text(format!("{at}.cidr"), range, CIDR));
        return;
    };
    for (index, text) in json::list(block, &["except"]).iter().filter_map(Value::as_str).enumerate() {
        let at = format!("{at}.except[{index}]");
        match network(text) {
            None => out.push(FieldError::invalid_text(at, text, CIDR)),
            Some(part) if !within(part, whole) => {
                out.push(FieldError::invalid_text(at, text, "must be a strict subset of `cidr`"));
            }
            Some(_) => {}
        }
    }
}

/// Reads a range of addresses: its first one as bits, how many of them are fixed, and whether it is of the short kind.
fn network(text: &str) -> Option<(u128, u32, bool)> {
    if formats::check("cidr", text) != Some(true) {
        return None;
    }
    let (address, fixed) = text.split_once('/')?;
    let fixed = fixed.parse().ok()?;
    Some(match address.parse().ok()? {
        std::net::IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, fixed, true),
        std::net::IpAddr::V6(ip) => (u128::from(ip), fixed, false),
    })
}

fn within(part: (u128, u32, bool), whole: (u128, u32, bool)) -> bool {
    let mask = u128::MAX.checked_shl(128 - whole.1).unwrap_or(0);
    part.2 == whole.2 && part.1 > whole.1 && part.0 & mask == whole.0 & mask
}

/// Checks a class of ways in.
pub(super) fn class(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if let Some(old) = old
        && old["spec"]["controller"] != spec["controller"]
    {
        out.push(FieldError::invalid("spec.controller", &spec["controller"], "field is immutable"));
    }
    others::prefixed(json::text(spec, &["controller"]), "spec.controller", out);
    let Some(parameters) = spec.get("parameters").filter(|parameters| parameters.is_object()) else { return };
    let at = "spec.parameters";
    reference(parameters, at, out);
    let namespace = parameters.get("namespace").and_then(Value::as_str);
    match (json::text(parameters, &["scope"]), namespace) {
        ("", _) => out.push(FieldError::required(format!("{at}.scope"), "")),
        ("Namespace", None) => {
            out.push(FieldError::required(format!("{at}.namespace"), "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(name)) => {
            let errors = names::label(name).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.namespace"), name, error)));
        }
        ("Cluster", Some(_)) => {
            out.push(FieldError::forbidden(format!("{at}.namespace"), "`parameters.scope` is set to 'Cluster'"));
        }
        ("Cluster", None) => {}
        (other, _) => {
            let known = ["Cluster", "Namespace"];
            out.push(FieldError::not_supported(format!("{at}.scope"), &Value::from(other), &known));
        }
    }
}

/// Checks what names another object.
fn reference(reference: &Value, at: &str, out: &mut Vec<FieldError>) {
    if let Some(group) = reference.get("apiGroup").and_then(Value::as_str) {
        let errors = names::subdomain(group).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.apiGroup"), group, error)));
    }
    for key in ["kind", "name"] {
        let text = json::text(reference, &[key]);
        if text.is_empty() {
            out.push(FieldError::required(format!("{at}.{key}"), ""));
        }
        let errors = names::path_segment(text).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.{key}"), text, error)));
    }
}

/// Checks ways in from outside.
pub(super) fn ingress(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    // Only a new one must not name two classes: there are older ones that do.
    const CLASS: &str = "kubernetes.io/ingress.class";
    let named = json::at(object, &["metadata", "annotations", CLASS]).and_then(Value::as_str);
    let class = json::at(object, &["spec", "ingressClassName"]).and_then(Value::as_str);
    if let (None, Some(named), Some(_)) = (old, named, class.filter(|class| Some(*class) != named)) {
        let detail = "must match `ingressClassName` when both are specified";
        out.push(FieldError::invalid_text(format!("annotations.{CLASS}"), named, detail));
    }
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
        let secret = json::text(hosts, &["secretName"]);
        let errors = if secret.is_empty() { Vec::new() } else { names::subdomain(secret) };
        let at = format!("spec.tls[{index}].secretName");
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(at.clone(), secret, error)));
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
        let paths = json::list(rule, &["http", "paths"]);
        if paths.is_empty() && rule.get("http").is_some_and(Value::is_object) {
            out.push(FieldError::required(format!("spec.rules[{index}].http.paths"), ""));
        }
        for (place, path) in paths.iter().enumerate() {
            let at = format!("spec.rules[{index}].http.paths[{place}]");
            let text = json::text(path, &["path"]);
            match json::text(path, &["pathType"]) {
                "" => {
                    out.push(FieldError::required(format!("{at}.pathType"), "pathType must be specified"));
                    continue;
                }
                "Exact" | "Prefix" => self::path(text, &format!("{at}.path"), out),
                "ImplementationSpecific" if text.is_empty() || text.starts_with('/') => {}
                "ImplementationSpecific" => {
                    out.push(FieldError::invalid_text(format!("{at}.path"), text, "must be an absolute path"));
                }
                other => {
                    let known = ["Exact", "ImplementationSpecific", "Prefix"];
                    out.push(FieldError::not_supported(format!("{at}.pathType"), &Value::from(other), &known));
                }
            }
            backend(&path["backend"], &format!("{at}.backend"), out);
        }
    }
}

/// Checks the path of a rule.
fn path(text: &str, at: &str, out: &mut Vec<FieldError>) {
    let mut say = |detail: String| out.push(FieldError::invalid_text(at, text, detail));
    if !text.starts_with('/') {
        say("must be an absolute path".to_owned());
    }
    for part in PARTS.iter().filter(|part| text.contains(**part)) {
        say(format!("must not contain '{part}'"));
    }
    for end in ENDS.iter().filter(|end| text.ends_with(**end)) {
        say(format!("cannot end with '{end}'"));
    }
}

/// Checks a name of a host, which may stand for all names below another.
fn host_name(host: &str, at: String, out: &mut Vec<FieldError>) {
    if host.contains('*') {
        if !host.strip_prefix("*.").is_some_and(names::is_subdomain) {
            out.push(FieldError::invalid_text(at, host, WILDCARD));
        }
        return;
    }
    out.extend(names::subdomain(host).into_iter().map(|error| FieldError::invalid_text(at.clone(), host, error)));
}

fn backend(backend: &Value, at: &str, out: &mut Vec<FieldError>) {
    let set = |key: &str| backend.get(key).is_some_and(|value| !value.is_null());
    match (set("resource"), set("service")) {
        (true, true) => out.push(FieldError::invalid_text(at, "", "cannot set both resource and service backends")),
        (true, false) => reference(&backend["resource"], &format!("{at}.resource"), out),
        (false, false) => out.push(FieldError::invalid_text(at, "", "resource or service backend is required")),
        (false, true) => {
            let name = json::text(backend, &["service", "name"]);
            if name.is_empty() {
                out.push(FieldError::required(format!("{at}.service.name"), ""));
            } else {
                let errors = names::label(name).into_iter();
                out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.service.name"), name, error)));
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
