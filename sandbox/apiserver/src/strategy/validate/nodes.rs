//! Nodes.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::json;
use crate::names;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn node(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = taints(object);
    // A change is looked at twice.
    let again = if old.is_some() { out.clone() } else { Vec::new() };
    out.extend(again);
    amounts(object, &mut out);
    ranges(object, old, &mut out);
    if let Some(old) = old {
        addresses(object, &mut out);
        let provider = |object: &Value| json::text(object, &["spec", "providerID"]).to_owned();
        if !provider(old).is_empty() && provider(old) != provider(object) {
            let detail = "node updates may not change providerID except from \"\" to valid";
            out.push(FieldError::forbidden("spec.providerID", detail));
        }
        if old["spec"]["externalID"] != object["spec"]["externalID"] {
            out.push(FieldError::forbidden("spec.externalID", "may not be updated"));
        }
    }
    out
}

fn taints(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (index, taint) in json::list(object, &["spec", "taints"]).iter().enumerate() {
        let effect = json::text(taint, &["effect"]);
        let key = json::text(taint, &["key"]);
        let at = format!("metadata.taints[{index}]");
        let errors = names::qualified(key).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.key"), key, error)));
        let value = json::text(taint, &["value"]);
        let errors = names::label_value(value).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.value"), value, error)));
        let same = |other: &&Value| other["key"] == taint["key"] && other["effect"] == taint["effect"];
        if json::list(object, &["spec", "taints"])[..index].iter().any(|other| same(&other)) {
            let shown = json!({"Key": key, "Value": value, "Effect": effect, "TimeAdded": null});
            let mut error = FieldError::duplicate(at, &shown);
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            out.push(error);
        }
        if effect.is_empty() {
            out.push(FieldError::required(format!("metadata.taints[{index}].effect"), ""));
            continue;
        }
        if !EFFECTS.contains(&effect) {
            out.push(FieldError::not_supported(
                format!("metadata.taints[{index}].effect"),
                &Value::from(effect),
                &EFFECTS,
            ));
        }
    }
    out
}

/// An address is told once.
pub(super) fn addresses(object: &Value, out: &mut Vec<FieldError>) {
    let all = json::list(object, &["status", "addresses"]);
    for (index, address) in all.iter().enumerate().filter(|(index, address)| all[..*index].contains(address)) {
        let text = |key: &str| json::text(address, &[key]);
        let shown = json!({"Type": text("type"), "Address": text("address")});
        out.push(FieldError::duplicate(format!("status.addresses[{index}]"), &shown));
    }
}

/// Checks what a node has, and what of it pods may take.
pub(super) fn amounts(object: &Value, out: &mut Vec<FieldError>) {
    for key in ["capacity", "allocatable"] {
        let amounts = json::at(object, &["status", key]).and_then(Value::as_object);
        for (name, amount) in amounts.into_iter().flatten() {
            let text = amount.as_str().unwrap_or_default();
            if crate::quantity::nanos(text).is_some_and(|nanos| nanos < 0) {
                let detail = "must be greater than or equal to 0";
                out.push(FieldError::invalid_text(format!("status.{key}.{name}"), text, detail));
            }
        }
    }
}

/// Checks the addresses of a node's pods; once they are set they stay.
fn ranges(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let of = |object: &Value| json::list(object, &["spec", "podCIDRs"]).to_vec();
    for (index, range) in of(object).iter().enumerate() {
        let text = range.as_str().unwrap_or_default();
        if crate::schema::formats::check("cidr", text) != Some(true) {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            out.push(FieldError::invalid_text(format!("spec.podCIDRs[{index}]"), text, detail));
        }
    }
    let long = |range: &Value| range.as_str().is_some_and(|text| text.contains(':'));
    let (list, long) = (of(object), of(object).iter().filter(|range| long(range)).count());
    if list.len() > 2 || list.len() - long > 1 || long > 1 {
        let detail = "may specify no more than one CIDR for each IP family";
        out.push(FieldError::invalid("spec.podCIDRs", &Value::Array(list), detail));
    }
    // The plain field is the first of the list; who changes it alone changes the list.
    let first = |object: &Value| json::text(object, &["spec", "podCIDR"]).to_owned();
    let moved = old.is_some_and(|old| !first(old).is_empty() && first(old) != first(object));
    if moved || old.map(of).is_some_and(|known| !known.is_empty() && known != of(object)) {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        out.push(FieldError::forbidden("spec.podCIDRs", detail));
    }
}
