//! Addresses behind Services.

use std::net::IpAddr;

use serde_json::Value;

use super::pods::host::address;
use crate::field::FieldError;
use crate::json;
use crate::names;

const KINDS: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

/// Checks the addresses of Endpoints.
pub(super) fn subsets(object: &Value, out: &mut Vec<FieldError>) {
    for (index, subset) in json::list(object, &["subsets"]).iter().enumerate() {
        let at = format!("subsets[{index}]");
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|key| json::list(subset, &[key]).is_empty()) {
            let detail = "must specify `addresses` or `notReadyAddresses`";
            out.push(FieldError::required(at.clone(), detail));
        }
        for key in lists {
            for (place, one) in json::list(subset, &[key]).iter().enumerate() {
                let at = format!("{at}.{key}[{place}]");
                let hostname = json::text(one, &["hostname"]);
                let errors = if hostname.is_empty() { Vec::new() } else { names::label(hostname) };
                let wrong = |error| FieldError::invalid_text(format!("{at}.hostname"), hostname, error);
                out.extend(errors.into_iter().map(wrong));
                let at = format!("{at}.ip");
                let ip = json::text(one, &["ip"]);
                let before = out.len();
                address(ip, at.clone(), out);
                if out.len() > before {
                    // Two steps look at it, each in words of its own.
                    out.push(FieldError::invalid_text(at, ip, "must be a valid IP address"));
                } else if ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
                    let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
                    out.push(FieldError::invalid_text(at, ip, detail));
                }
            }
        }
        for (place, port) in json::list(subset, &["ports"]).iter().enumerate() {
            let at = format!("{at}.ports[{place}]");
            let name = json::text(port, &["name"]);
            if name.is_empty() && json::list(subset, &["ports"]).len() > 1 {
                out.push(FieldError::required(format!("{at}.name"), ""));
            }
            let errors = if name.is_empty() { Vec::new() } else { names::label(name) };
            out.extend(errors.into_iter().map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
            let number = port["port"].as_i64().unwrap_or_default();
            super::numbers::port(number, format!("{at}.port"), out);
            let protocol = json::text(port, &["protocol"]);
            let known = ["SCTP", "TCP", "UDP"];
            if !known.contains(&protocol) {
                out.push(FieldError::not_supported(format!("{at}.protocol"), &Value::from(protocol), &known));
            }
        }
    }
}

/// Checks the ports of an EndpointSlice.
fn ports(object: &Value, out: &mut Vec<FieldError>) {
    let all = json::list(object, &["ports"]);
    for (index, port) in all.iter().enumerate() {
        let at = format!("ports[{index}]");
        let name = json::text(port, &["name"]);
        let errors = if name.is_empty() { Vec::new() } else { names::label(name) };
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
        if all[..index].iter().any(|other| json::text(other, &["name"]) == name) {
            out.push(FieldError::duplicate(format!("{at}.name"), &Value::from(name)));
        }
        let protocol = json::text(port, &["protocol"]);
        let known = ["SCTP", "TCP", "UDP"];
        if !known.contains(&protocol) {
            out.push(FieldError::not_supported(format!("{at}.protocol"), &Value::from(protocol), &known));
        }
        let word = json::text(port, &["appProtocol"]);
        let errors = if word.is_empty() { Vec::new() } else { names::qualified(word) };
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(format!("{at}.appProtocol"), word, error)));
    }
}

/// Checks the addresses of an EndpointSlice.
pub(super) fn slice(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let kind = json::text(object, &["addressType"]);
    if kind.is_empty() {
        out.push(FieldError::required("addressType", ""));
    } else if !KINDS.contains(&kind) {
        out.push(FieldError::not_supported("addressType", &Value::from(kind), &KINDS));
    }
    ports(object, out);
    // What was there before is not looked at again.
    if old.is_some_and(|old| old["endpoints"] == object["endpoints"]) {
        return;
    }
    for (index, endpoint) in json::list(object, &["endpoints"]).iter().enumerate() {
        let at = format!("endpoints[{index}].addresses");
        let addresses = json::list(endpoint, &["addresses"]);
        if addresses.is_empty() {
            out.push(FieldError::required(at.clone(), "must contain at least 1 address"));
        }
        for (place, text) in addresses.iter().filter_map(Value::as_str).enumerate() {
            self::endpoint(kind, text, &at, place, out);
        }
        let node = json::text(endpoint, &["nodeName"]);
        let errors = if node.is_empty() { Vec::new() } else { names::subdomain(node) };
        let at = format!("endpoints[{index}].nodeName");
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(at.clone(), node, error)));
        let hostname = json::text(endpoint, &["hostname"]);
        let errors = if hostname.is_empty() { Vec::new() } else { names::label(hostname) };
        let at = format!("endpoints[{index}].hostname");
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(at.clone(), hostname, error)));
    }
}

/// Checks one address of an EndpointSlice.
fn endpoint(kind: &str, text: &str, at: &str, place: usize, out: &mut Vec<FieldError>) {
    let one = format!("{at}[{place}]");
    let before = out.len();
    match kind {
        "IPv4" | "IPv6" => address(text, one.clone(), out),
        "FQDN" => {
            out.extend(names::subdomain(text).into_iter().map(|error| FieldError::invalid_text(&one, text, error)));
        }
        _ => {}
    }
    let Ok(ip) = text.parse::<IpAddr>() else { return };
    if out.len() > before || kind == "FQDN" {
        return;
    }
    if ip.is_ipv4() != (kind == "IPv4") {
        out.push(FieldError::invalid_text(at, text, format!("must be an {kind} address")));
    }
    if ip.is_loopback() {
        let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        out.push(FieldError::invalid_text(one, text, detail));
    }
}
