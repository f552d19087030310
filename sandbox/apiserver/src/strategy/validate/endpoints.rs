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
                let at = format!("{at}.{key}[{place}].ip");
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
            let number = port["port"].as_i64().unwrap_or_default();
            super::numbers::port(number, format!("{at}.ports[{place}].port"), out);
        }
    }
}

/// Checks the names of an EndpointSlice's ports.
fn port_names(object: &Value, out: &mut Vec<FieldError>) {
    for (index, port) in json::list(object, &["ports"]).iter().enumerate() {
        let name = json::text(port, &["name"]);
        let errors = if name.is_empty() { Vec::new() } else { names::label(name) };
        out.extend(
            errors.into_iter().map(|error| FieldError::invalid_text(format!("ports[{index}].name"), name, error)),
        );
    }
}

/// Checks the addresses of an EndpointSlice.
pub(super) fn slice(object: &Value, out: &mut Vec<FieldError>) {
    let kind = json::text(object, &["addressType"]);
    if kind.is_empty() {
        out.push(FieldError::required("addressType", ""));
    } else if !KINDS.contains(&kind) {
        out.push(FieldError::not_supported("addressType", &Value::from(kind), &KINDS));
    }
    port_names(object, out);
    for (index, endpoint) in json::list(object, &["endpoints"]).iter().enumerate() {
        let at = format!("endpoints[{index}].addresses");
        let addresses = json::list(endpoint, &["addresses"]);
        if addresses.is_empty() {
            out.push(FieldError::required(at.clone(), "must contain at least 1 address"));
        }
        for (place, text) in addresses.iter().filter_map(Value::as_str).enumerate() {
            if matches!(kind, "IPv4" | "IPv6") {
                address(text, format!("{at}[{place}]"), out);
            }
        }
    }
}
