//! Objects in the form of the real server's own types: some of its texts quote them so, or tell how two of them differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::difference;
use crate::json;

/// Fields of a pod that are among those of its security in the real server's types.
const SECURITY: [&str; 5] = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];

/// One field of a type.
struct Field {
    /// As it is shown; empty for the fields of another type that stand here.
    name: &'static str,
    key: &'static str,
    form: &'static str,
    omitted: bool,
}

fn types() -> &'static BTreeMap<&'static str, Vec<Field>> {
    static TYPES: OnceLock<BTreeMap<&'static str, Vec<Field>>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let lines = include_str!("shapes.txt").lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.split_once('|'))
            .map(|(kind, fields)| (kind, fields.split(' ').map(field).collect()))
            .collect()
    })
}

fn field(text: &'static str) -> Field {
    let (name, form) = text.split_once(':').unwrap_or(("", text.trim_start_matches('.')));
    let (name, key) = name.split_once('=').unwrap_or((name, name));
    Field { name, key, form: form.trim_end_matches('!'), omitted: form.ends_with('!') }
}

/// Brings a value of the API into the form of one of the real server's types.
pub(crate) fn of(kind: &str, value: &Value) -> Value {
    let mut out = Map::new();
    let lifted;
    let mut value = value;
    if kind == "PodSpec" {
        lifted = lift(value);
        value = &lifted;
    }
    fill(kind, value, &mut out);
    Value::Object(out)
}

/// Moves what a pod says about its host to where the real server's types have it.
fn lift(spec: &Value) -> Value {
    let mut out = spec.clone();
    if !out["securityContext"].is_object() {
        json::set(&mut out, &["securityContext"], json!({}));
    }
    for key in SECURITY {
        if let Some(value) = spec.get(key) {
            json::set(&mut out, &["securityContext", key], value.clone());
        }
    }
    out
}

fn fill(kind: &str, value: &Value, out: &mut Map<String, Value>) {
    for field in types().get(kind).into_iter().flatten() {
        if field.name.is_empty() {
            let own = if field.form == "ObjectMeta" { value.get("metadata").unwrap_or(&Value::Null) } else { value };
            fill(field.form, own, out);
            continue;
        }
        let found = value.as_object().and_then(|map| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(field.key)));
        let found = found.map_or(&Value::Null, |(_, value)| value);
        if field.omitted && empty(found) {
            continue;
        }
        out.insert(field.name.to_owned(), formed(field.form, found));
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(set) => !set,
    }
}

fn formed(form: &str, value: &Value) -> Value {
    let absent = value.is_null();
    match form {
        "s" if absent => "".into(),
        "q" if absent => "0".into(),
        "i" | "o" if absent => 0.into(),
        "b" if absent => false.into(),
        "{" => sorted(value),
        _ if form.len() == 1 => value.clone(),
        _ => match form.split_at(1) {
            ("*", _) if absent => Value::Null,
            ("*", kind) => of(kind, value),
            ("[", kind) => match value {
                Value::Array(items) => items.iter().map(|item| of(kind, item)).collect(),
                _ => Value::Null,
            },
            ("{", kind) => match sorted(value) {
                Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), of(kind, item))).collect(),
                other => other,
            },
            _ => of(form, value),
        },
    }
}

fn sorted(value: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    map.iter().collect::<BTreeMap<_, _>>().into_iter().map(|(key, item)| (key.clone(), item.clone())).collect()
}

/// Tells in lines how two values of a type differ.
pub(crate) fn changes(kind: &str, old: &Value, new: &Value) -> String {
    let text = |value: &Value| {
        let mut out = String::new();
        pretty(&of(kind, value), 0, &mut out);
        out
    };
    difference::unified(&text(old), &text(new))
}

/// Writes a value over several lines, as the real server does.
fn pretty(value: &Value, depth: usize, out: &mut String) {
    let inner: Vec<(Option<&String>, &Value)> = match value {
        Value::Array(items) => items.iter().map(|item| (None, item)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (Some(key), item)).collect(),
        other => {
            out.push_str(&json::escaped(other));
            return;
        }
    };
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    out.push(open);
    for (index, (key, item)) in inner.iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(&" ".repeat(depth + 1));
        if let Some(key) = key {
            let _ = write!(out, "{}: ", json::escaped(&Value::from(key.as_str())));
        }
        pretty(item, depth + 1, out);
    }
    if !inner.is_empty() {
        out.push('\n');
        out.push_str(&" ".repeat(depth));
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_has_all_fields_in_order() {
        let claim = json!({"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]});
        let text = json::escaped(&of("PersistentVolumeClaimSpec", &claim));
        let start = r#"{"AccessModes":["ReadWriteOnce"],"Selector":null,"Resources":{"Limits":null,"Requests":{"storage":"1Gi"}},"VolumeName":"","#;
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn what_changed_is_told_with_three_lines_around() {
        let claim =
            |size: &str| json!({"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"]});
        let told = changes("PersistentVolumeClaimSpec", &claim("1Gi"), &claim("500Mi"));
        let wanted = "@@ -6,7 +6,7 @@\n  \"Resources\": {\n   \"Limits\": null,\n   \"Requests\": {\n-   \"storage\": \
                      \"1Gi\"\n+   \"storage\": \"500Mi\"\n   }\n  },\n  \"VolumeName\": \"\",\n";
        assert_eq!(told, wanted);
    }

    #[test]
    fn the_network_of_the_host_is_among_what_secures_a_pod() {
        let told = changes("PodSpec", &json!({"hostNetwork": false}), &json!({"hostNetwork": true}));
        assert!(told.contains("-  \"HostNetwork\": false,\n+  \"HostNetwork\": true,\n"), "{told}");
    }
}
