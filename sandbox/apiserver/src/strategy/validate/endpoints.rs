//! Addresses behind Services.

use serde_json::Value;

use super::pods::host::address;
use crate::field::FieldError;
use crate::json;

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
                }
            }
        }
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
