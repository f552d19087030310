//! Objects of built-in kinds in protobuf, as clients written in Go ask for them.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::{DEPTH_MAX, PREFIX, Slot, numbers};
use crate::kinds;
use crate::schema::{Node, Place, Shape, builtin};

/// The kinds that lists and refusals have beside those that are kept.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Writes an object, a list or a refusal; `None` where its kind has no form in protobuf.
pub(crate) fn object(value: &Value) -> Option<Vec<u8>> {
    let (version, kind) = (value.get("apiVersion")?.as_str()?, value.get("kind")?.as_str()?);
    let raw = match value.get("items").and_then(Value::as_array) {
        Some(items) => list(version, kind, value, items)?,
        None => {
            let (name, place) = described(version, kind)?;
            message(name, place, value.as_object()?, 0)?
        }
    };
    let mut meta = Vec::new();
    bytes(1, version.as_bytes(), &mut meta);
    bytes(2, kind.as_bytes(), &mut meta);
    let mut out = PREFIX.to_vec();
    bytes(1, &meta, &mut out);
    bytes(2, &raw, &mut out);
    // The encoding and content type of what is inside: none but protobuf.
    bytes(3, &[], &mut out);
    bytes(4, &[], &mut out);
    Some(out)
}

/// Writes an event of a watch, with its length before it.
pub(crate) fn event(kind: &str, value: &Value) -> Option<Vec<u8>> {
    let (mut holder, mut event) = (Vec::new(), Vec::new());
    bytes(1, &object(value)?, &mut holder);
    bytes(1, kind.as_bytes(), &mut event);
    bytes(2, &holder, &mut event);
    let mut out = u32::try_from(event.len()).ok()?.to_be_bytes().to_vec();
    out.extend(event);
    Some(out)
}

/// Tells whether objects of a kind have a form in protobuf.
pub(crate) fn has_form(version: &str, kind: &str) -> bool {
    described(version, kind).is_some()
}

fn described(version: &str, kind: &str) -> Option<(&'static str, Place<'static>)> {
    let node = match (version, kind) {
        ("meta.k8s.io/v1" | "meta.k8s.io/v1beta1", "PartialObjectMetadata") => {
            return Some(("io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata", Place::of(partial())));
        }
        ("v1", "Status") => builtin::node(builtin::intern(&format!("{META}Status"))),
        // Definitions hold schemas whose forms in protobuf and in JSON are not alike.
        (_, "CustomResourceDefinition") => return None,
        _ => kinds::node_of(version, kind)?,
    };
    numbers().contains_key(node.name).then(|| (node.name, Place::of(node)))
}

/// The schema of an object's metadata alone: every kind has it.
fn partial() -> &'static Node {
    builtin::node("io.k8s.api.core.v1.ConfigMap")
}

fn list(version: &str, kind: &str, value: &Value, items: &[Value]) -> Option<Vec<u8>> {
    let item = kind.strip_suffix("List")?;
    let (name, place) = described(version, item)?;
    let meta = value.get("metadata")?;
    let mut head = Vec::new();
    bytes(1, &[], &mut head);
    for (number, key) in [(2, "resourceVersion"), (3, "continue")] {
        let text = meta.get(key).and_then(Value::as_str).unwrap_or_default();
        bytes(number, text.as_bytes(), &mut head);
    }
    if let Some(left) = meta.get("remainingItemCount").and_then(Value::as_u64) {
        varint(4, left, &mut head);
    }
    let mut out = Vec::new();
    bytes(1, &head, &mut out);
    for item in items {
        bytes(2, &message(name, place, item.as_object()?, 0)?, &mut out);
    }
    Some(out)
}

fn varint(number: u64, value: u64, out: &mut Vec<u8>) {
    tag(number, 0, out);
    plain(value, out);
}

fn bytes(number: u64, content: &[u8], out: &mut Vec<u8>) {
    tag(number, 2, out);
    plain(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn tag(number: u64, wire: u64, out: &mut Vec<u8>) {
    plain(number << 3 | wire, out);
}

fn plain(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Writes a message's fields, by their numbers.
fn message(name: &str, place: Place<'_>, object: &Map<String, Value>, depth: usize) -> Option<Vec<u8>> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut slots: Vec<(u64, Slot)> = numbers().get(name)?.iter().map(|(number, slot)| (*number, *slot)).collect();
    slots.sort_unstable_by_key(|(number, _)| *number);
    let mut out = Vec::new();
    for (number, slot) in slots {
        match slot {
            Slot::Inline(inner) => bytes(number, &message(inner, place, object, depth + 1)?, &mut out),
            Slot::Field(key) => {
                let Some(value) = object.get(key).filter(|value| !value.is_null()) else { continue };
                let Some(field) = place.field(key) else { continue };
                put(number, value, field.node, depth, &mut out)?;
            }
        }
    }
    Some(out)
}

fn put(number: u64, value: &Value, node: &Node, depth: usize, out: &mut Vec<u8>) -> Option<()> {
    match (node.shape, value) {
        (Shape::Array, Value::Array(items)) => {
            let item = node.items.as_ref()?.node();
            items.iter().try_for_each(|value| one(number, value, item, depth, out))
        }
        (Shape::Object, Value::Object(map)) if !node.is_struct() && node.values.is_some() => {
            let values = node.values.as_ref()?.node();
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                let mut entry = Vec::new();
                bytes(1, key.as_bytes(), &mut entry);
                if values.shape == Shape::Array {
                    // A list as a map's value has a message around it.
                    let mut inner = Vec::new();
                    put(1, value, values, depth, &mut inner)?;
                    bytes(2, &inner, &mut entry);
                } else {
                    one(2, value, values, depth, &mut entry)?;
                }
                bytes(number, &entry, out);
            }
            Some(())
        }
        _ => one(number, value, node, depth, out),
    }
}

/// Writes a single value.
fn one(number: u64, value: &Value, node: &Node, depth: usize, out: &mut Vec<u8>) -> Option<()> {
    if node.name.ends_with(".meta.v1.Time") || node.name.ends_with(".meta.v1.MicroTime") {
        let at: jiff::Timestamp = value.as_str()?.parse().ok()?;
        let mut inner = Vec::new();
        varint(1, at.as_second().cast_unsigned(), &mut inner);
        varint(2, u64::try_from(at.subsec_nanosecond()).ok()?, &mut inner);
        bytes(number, &inner, out);
        return Some(());
    }
    match (node.shape, value) {
        (Shape::String, Value::String(text)) if node.format == "quantity" => {
            let mut inner = Vec::new();
            bytes(1, text.as_bytes(), &mut inner);
            bytes(number, &inner, out);
        }
        (Shape::String, Value::String(text)) if node.format == "byte" => {
            bytes(number, &base64::engine::general_purpose::STANDARD.decode(text).ok()?, out);
        }
        (Shape::String, Value::String(text)) => bytes(number, text.as_bytes(), out),
        (Shape::Integer, Value::Number(integer)) => varint(number, integer.as_i64()?.cast_unsigned(), out),
        (Shape::Number, Value::Number(float)) => {
            tag(number, 1, out);
            out.extend(float.as_f64()?.to_bits().to_le_bytes());
        }
        (Shape::Boolean, Value::Bool(on)) => varint(number, u64::from(*on), out),
        (Shape::IntOrString, value) => {
            let mut inner = Vec::new();
            varint(1, u64::from(value.is_string()), &mut inner);
            varint(2, value.as_i64().unwrap_or(0).cast_unsigned(), &mut inner);
            bytes(3, value.as_str().unwrap_or_default().as_bytes(), &mut inner);
            bytes(number, &inner, out);
        }
        (Shape::Object, Value::Object(map)) if node.is_struct() => {
            bytes(number, &message(node.name, Place::of(node), map, depth + 1)?, out);
        }
        // Free content is JSON inside of a message.
        (Shape::Any | Shape::Object, value) => {
            let mut inner = Vec::new();
            bytes(1, &serde_json::to_vec(value).ok()?, &mut inner);
            bytes(number, &inner, out);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Asserts that an object is read back as it was written.
    #[track_caller]
    fn survives(value: &Value) {
        let written = object(value).unwrap();
        assert_eq!(super::super::read(&written, kinds::node_of).unwrap(), *value);
    }

    #[test]
    fn objects_of_all_shapes_of_fields_survive() {
        survives(&json!({
            "metadata": {
                "name": "p", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3,
                "managedFields": [{"manager": "m", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {
                "containers": [{
                    "name": "c", "image": "i", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "100m"}},
                    "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 10},
                    "securityContext": {"privileged": false, "runAsUser": -1},
                }],
                "volumes": [{"name": "v", "configMap": {"name": "cm"}}], "securityContext": {"supplementalGroups": [1, 200]},
            },
            "apiVersion": "v1", "kind": "Pod",
        }));
        survives(&json!({
            "metadata": {"name": "s"}, "data": {"a": "AAEC"}, "apiVersion": "v1", "kind": "Secret",
        }));
        survives(&json!({
            "metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T00:00:00.123456Z"},
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        }));
    }

    #[test]
    fn kinds_without_numbers_have_no_form() {
        assert_eq!(object(&json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {}})), None);
    }
}
