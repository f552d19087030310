//! ConfigMaps, Secrets, Events.

use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;
use crate::names;

/// Bytes that all values of a ConfigMap or Secret may have.
const DATA_MAX: usize = 1 << 20;
/// Characters of an event's note.
const NOTE_MAX: usize = 1024;
/// Characters of an event's reason, action and reporting instance.
const WORD_MAX: usize = 128;
const IMMUTABLE: &str = "field is immutable when `immutable` is set";

fn map<'a>(object: &'a Value, key: &str) -> &'a Map<String, Value> {
    static EMPTY: std::sync::OnceLock<Map<String, Value>> = std::sync::OnceLock::new();
    object.get(key).and_then(Value::as_object).unwrap_or_else(|| EMPTY.get_or_init(Map::new))
}

fn keys(object: &Value, field: &str, out: &mut Vec<FieldError>) {
    for key in map(object, field).keys() {
        for error in names::config_key(key) {
            out.push(FieldError::invalid_text(format!("{field}[{key}]"), key, error));
        }
    }
}

/// Returns how many bytes a base64 text stands for.
fn decoded_length(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(2)
}

pub(super) fn config_map(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    if let Some(old) = old {
        immutable(object, old, &["data", "binaryData"], &mut out);
        if !out.is_empty() {
            return out;
        }
    }
    keys(object, "data", &mut out);
    keys(object, "binaryData", &mut out);
    for key in map(object, "data").keys().filter(|key| map(object, "binaryData").contains_key(*key)) {
        let detail = "duplicate of key present in binaryData";
        out.push(FieldError::invalid_text(format!("data[{key}]"), key, detail));
    }
    let plain: usize = map(object, "data").values().filter_map(Value::as_str).map(str::len).sum();
    let binary: usize = map(object, "binaryData").values().filter_map(Value::as_str).map(decoded_length).sum();
    if plain + binary > DATA_MAX {
        out.push(FieldError::too_long("[]", DATA_MAX));
    }
    out
}

fn immutable(object: &Value, old: &Value, fields: &[&str], out: &mut Vec<FieldError>) {
    if old["immutable"] != true {
        return;
    }
    if object["immutable"] != true {
        out.push(FieldError::forbidden("immutable", IMMUTABLE));
    }
    for field in fields {
        if map(object, field) != map(old, field) {
            out.push(FieldError::forbidden(*field, IMMUTABLE));
        }
    }
}

pub(super) fn secret(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    if let Some(old) = old {
        if object["type"] != old["type"] {
            out.push(FieldError::invalid("type", &object["type"], "field is immutable"));
        }
        immutable(object, old, &["data"], &mut out);
        if !out.is_empty() {
            return out;
        }
    }
    keys(object, "data", &mut out);
    let size: usize = map(object, "data").values().filter_map(Value::as_str).map(decoded_length).sum();
    if size > DATA_MAX {
        out.push(FieldError::too_long("data", DATA_MAX));
    }
    if let Some((key, why)) = not_json(object) {
        let redacted = "<secret contents redacted>";
        out.push(FieldError::invalid_text(format!("data[{key}]"), redacted, why));
    }
    let mut need = |key: &str| {
        if !map(object, "data").contains_key(key) {
            out.push(FieldError::required(format!("data[{key}]"), ""));
        }
    };
    match json::text(object, &["type"]) {
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        "kubernetes.io/dockerconfigjson" => need(".dockerconfigjson"),
        "kubernetes.io/dockercfg" => need(".dockercfg"),
        "kubernetes.io/basic-auth"
            if ["username", "password"].iter().all(|key| map(object, "data").get(*key).is_none()) =>
        {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" => need("ssh-privatekey"),
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if json::text(object, &["metadata", "annotations", key]).is_empty() {
                out.push(FieldError::required(format!("metadata.annotations[{key}]"), ""));
            }
        }
        _ => {}
    }
    out
}

/// Says why the configuration of a registry is none.
fn not_json(object: &Value) -> Option<(&'static str, String)> {
    use base64::Engine as _;
    let key = match json::text(object, &["type"]) {
        "kubernetes.io/dockerconfigjson" => ".dockerconfigjson",
        "kubernetes.io/dockercfg" => ".dockercfg",
        _ => return None,
    };
    let text = map(object, "data").get(key)?.as_str()?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    json::parse(&bytes).err().map(|why| (key, why))
}

/// Checks an event; errors name the fields of the core group.
pub(super) fn event(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    let new_style = resource.group == "events.k8s.io";
    let target = if new_style { "regarding" } else { "involvedObject" };
    let namespace = json::text(object, &["metadata", "namespace"]);
    let involved = json::text(object, &[target, "namespace"]);
    let expected = if involved.is_empty() { "default" } else { involved };
    if namespace != expected {
        let detail = "does not match event.namespace";
        out.push(FieldError::invalid_text("involvedObject.namespace", involved, detail));
    }
    match old {
        // An event that tells its time is one of the new kind, through whichever group it comes.
        None if !object["eventTime"].is_null() => new_event(object, new_style, &mut out),
        None if new_style => {
            out.push(FieldError::required("eventTime", ""));
            kind_and_note(object, &mut out);
        }
        Some(old) if new_style => changed_event(object, old, &mut out),
        None | Some(_) => {}
    }
    out
}

fn kind_and_note(object: &Value, out: &mut Vec<FieldError>) {
    let kind = json::text(object, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        out.push(FieldError::invalid_text("type", "", format!("has invalid value: {kind}")));
    }
    if json::text(object, &["note"]).chars().count() > NOTE_MAX {
        out.push(FieldError::invalid_text("message", "", format!("can have at most {NOTE_MAX} characters")));
    }
}

fn new_event(object: &Value, new_style: bool, out: &mut Vec<FieldError>) {
    let reporter = if new_style { "reportingController" } else { "reportingComponent" };
    let name = json::text(object, &[reporter]);
    if name.is_empty() {
        out.push(FieldError::required(reporter, ""));
    }
    out.extend(names::qualified(name).into_iter().map(|error| FieldError::invalid_text(reporter, name, error)));
    for key in ["reportingInstance", "action", "reason"] {
        let text = json::text(object, &[key]);
        if text.is_empty() {
            out.push(FieldError::required(key, ""));
        } else if text.len() > WORD_MAX {
            out.push(FieldError::invalid_text(key, "", format!("can have at most {WORD_MAX} characters")));
        }
    }
    if new_style {
        kind_and_note(object, out);
        if object["deprecatedCount"].as_i64().unwrap_or(0) != 0 {
            out.push(FieldError::invalid_text("count", "", "needs to be unset"));
        }
    }
    if let Some(series) = object.get("series").filter(|series| series.is_object()) {
        if series["count"].as_i64().unwrap_or(0) < 2 {
            out.push(FieldError::invalid_text("series.count", "", "should be at least 2"));
        }
        if series["lastObservedTime"].is_null() {
            out.push(FieldError::required("series.lastObservedTime", ""));
        }
    }
}

fn changed_event(object: &Value, old: &Value, out: &mut Vec<FieldError>) {
    for (key, field) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        let (was, is) = (&old[key], &object[key]);
        if was != is {
            out.push(FieldError::invalid(field, is, "field is immutable"));
        }
    }
}
