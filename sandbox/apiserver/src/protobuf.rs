//! Bodies in protobuf, as `kubectl` and `client-go` send objects of built-in kinds and ask for them.
//!
//! Fields are told apart by the numbers in `schema/builtin/numbers.txt`; their types come from the kinds' schemas.

pub(crate) mod write;

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use serde_json::{Map, Number, Value, json};

use crate::schema::{Node, Place, Shape, builtin};

/// The content type of objects.
pub(crate) const MEDIA: &str = "application/vnd.kubernetes.protobuf";
/// The content type of the old OpenAPI document.
pub(crate) const SWAGGER: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The content type that it is answered with.
pub(crate) const SWAGGER_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What every body begins with.
const PREFIX: &[u8] = b"k8s\0";
/// Levels of objects within objects. Lower: real objects are refused; higher: hostile ones use up the stack.
const DEPTH_MAX: usize = 64;

/// A field's content on the wire.
#[derive(Clone, Copy)]
enum Raw<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// Where a field of a message belongs.
#[derive(Clone, Copy)]
enum Slot {
    Field(&'static str),
    /// A message whose fields stand in its owner.
    Inline(&'static str),
}

type Numbers = HashMap<&'static str, HashMap<u64, Slot>>;

fn numbers() -> &'static Numbers {
    static NUMBERS: OnceLock<Numbers> = OnceLock::new();
    NUMBERS.get_or_init(|| include_str!("schema/builtin/numbers.txt").lines().filter_map(line).collect())
}

fn line(line: &'static str) -> Option<(&'static str, HashMap<u64, Slot>)> {
    let (name, fields) = line.split_once(' ').filter(|_| !line.starts_with('#'))?;
    let package = name.rsplit_once('.')?.0;
    let fields = fields.split(' ').filter_map(|field| {
        let (field, number) = field.split_once(':')?;
        let slot = match field.strip_prefix('+') {
            Some(inner) => Slot::Inline(builtin::intern(&format!("{package}.{inner}"))),
            None => Slot::Field(field),
        };
        Some((number.parse().ok()?, slot))
    });
    Some((name, fields.collect()))
}

/// Reads a body; `None` where it is not protobuf or not well formed.
pub(crate) fn read(bytes: &[u8], schema: impl Fn(&str, &str) -> Option<&'static Node>) -> Option<Value> {
    let unknown = bytes.strip_prefix(PREFIX)?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for (number, content) in fields(unknown)? {
        match (number, content) {
            (1, Raw::Bytes(meta)) => {
                for (number, content) in fields(meta)? {
                    match (number, content) {
                        (1, Raw::Bytes(text)) => version = String::from_utf8(text.to_vec()).ok()?,
                        (2, Raw::Bytes(text)) => kind = String::from_utf8(text.to_vec()).ok()?,
                        _ => {}
                    }
                }
            }
            (2, Raw::Bytes(content)) => raw = content,
            _ => {}
        }
    }
    let mut object = message(raw, schema(&version, &kind)?, 0)?;
    object.insert("apiVersion".to_owned(), version.into());
    object.insert("kind".to_owned(), kind.into());
    Some(Value::Object(object))
}

/// Splits a message into its fields.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Raw<'_>)>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let content = match tag & 7 {
            0 => Raw::Varint(varint(&mut bytes)?),
            1 => Raw::Fixed(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            2 => {
                let length = varint(&mut bytes)?;
                Raw::Bytes(take(&mut bytes, usize::try_from(length).ok()?)?)
            }
            5 => Raw::Fixed(u64::from(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?))),
            _ => return None,
        };
        out.push((tag >> 3, content));
    }
    Some(out)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut out = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        out |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(out);
        }
    }
    None
}

fn message(bytes: &[u8], node: &Node, depth: usize) -> Option<Map<String, Value>> {
    let mut out = Map::new();
    into(bytes, node.name, Place::of(node), depth, &mut out)?;
    Some(out)
}

/// Reads a message's fields into an object.
fn into(bytes: &[u8], name: &str, place: Place<'_>, depth: usize, out: &mut Map<String, Value>) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let known = numbers().get(name)?;
    for (number, content) in fields(bytes)? {
        match known.get(&number) {
            Some(Slot::Inline(inner)) => match content {
                Raw::Bytes(bytes) => into(bytes, inner, place, depth + 1, out)?,
                _ => return None,
            },
            Some(Slot::Field(key)) => {
                let Some(field) = place.field(key) else { continue };
                put(out, key, content, field.node, depth)?;
            }
            None => {}
        }
    }
    Some(())
}

fn put(out: &mut Map<String, Value>, key: &str, content: Raw<'_>, node: &Node, depth: usize) -> Option<()> {
    match (node.shape, content) {
        (Shape::Array, Raw::Bytes(bytes)) => {
            let item = node.items.as_ref()?.node();
            let list = out.entry(key).or_insert_with(|| json!([])).as_array_mut()?;
            if matches!(item.shape, Shape::Integer) {
                let mut rest = bytes;
                while !rest.is_empty() {
                    list.push(Number::from(varint(&mut rest)?.cast_signed()).into());
                }
            } else {
                list.push(one(content, item, depth)?);
            }
        }
        (Shape::Array, _) => {
            let value = one(content, node.items.as_ref()?.node(), depth)?;
            out.entry(key).or_insert_with(|| json!([])).as_array_mut()?.push(value);
        }
        (Shape::Object, Raw::Bytes(bytes)) if !node.is_struct() && node.values.is_some() => {
            let values = node.values.as_ref()?.node();
            let map = out.entry(key).or_insert_with(|| json!({})).as_object_mut()?;
            entry(bytes, values, depth, map)?;
        }
        _ => {
            out.insert(key.to_owned(), one(content, node, depth)?);
        }
    }
    Some(())
}

/// Reads an entry of a map.
fn entry(bytes: &[u8], node: &Node, depth: usize, map: &mut Map<String, Value>) -> Option<()> {
    let (mut key, mut content) = (String::new(), Raw::Bytes(&[]));
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Raw::Bytes(text)) => key = String::from_utf8(text.to_vec()).ok()?,
            (2, field) => content = field,
            _ => {}
        }
    }
    let value = match (node.shape, content) {
        // A list as a map's value has a message around it.
        (Shape::Array, Raw::Bytes(bytes)) => {
            let item = node.items.as_ref()?.node();
            let items = fields(bytes)?.into_iter().map(|(_, content)| one(content, item, depth));
            Value::Array(items.collect::<Option<_>>()?)
        }
        _ => one(content, node, depth)?,
    };
    map.insert(key, value);
    Some(())
}

/// Reads a single value.
fn one(content: Raw<'_>, node: &Node, depth: usize) -> Option<Value> {
    let (bytes, number) = match content {
        Raw::Bytes(bytes) => (bytes, 0),
        Raw::Varint(number) | Raw::Fixed(number) => (&[][..], number),
    };
    if node.name.ends_with(".meta.v1.Time") || node.name.ends_with(".meta.v1.MicroTime") {
        return time(bytes, node.name.ends_with("MicroTime"));
    }
    match node.shape {
        Shape::String if node.format == "quantity" => {
            let text = fields(bytes)?.into_iter().find_map(|(_, content)| match content {
                Raw::Bytes(text) => Some(text.to_vec()),
                _ => None,
            });
            Some(String::from_utf8(text.unwrap_or_else(|| b"0".to_vec())).ok()?.into())
        }
        Shape::String if node.format == "byte" => Some(base64::engine::general_purpose::STANDARD.encode(bytes).into()),
        Shape::String => Some(String::from_utf8(bytes.to_vec()).ok()?.into()),
        Shape::Integer => Some(number.cast_signed().into()),
        Shape::Number => Some(Number::from_f64(f64::from_bits(number))?.into()),
        Shape::Boolean => Some((number != 0).into()),
        Shape::IntOrString => int_or_string(bytes),
        Shape::Object if node.is_struct() => Some(message(bytes, node, depth + 1)?.into()),
        // Free content is JSON inside of a message.
        Shape::Any | Shape::Object => match fields(bytes)?.first() {
            Some((_, Raw::Bytes(text))) => serde_json::from_slice(text).ok(),
            _ => Some(json!({})),
        },
        Shape::Array => None,
    }
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut text, mut number, mut is_text) = (String::new(), 0, false);
    for (field, content) in fields(bytes)? {
        match (field, content) {
            (1, Raw::Varint(kind)) => is_text = kind == 1,
            (2, Raw::Varint(value)) => number = value.cast_signed(),
            (3, Raw::Bytes(bytes)) => text = String::from_utf8(bytes.to_vec()).ok()?,
            _ => {}
        }
    }
    Some(if is_text { text.into() } else { number.into() })
}

fn time(bytes: &[u8], micro: bool) -> Option<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    for (field, content) in fields(bytes)? {
        match (field, content) {
            (1, Raw::Varint(value)) => seconds = value.cast_signed(),
            (2, Raw::Varint(value)) => nanos = i32::try_from(value.cast_signed()).ok()?,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Some(Value::Null);
    }
    let at = jiff::Timestamp::new(seconds, nanos).ok()?;
    Some(if micro { crate::time::micros(at) } else { crate::time::seconds(at) }.into())
}

/// Writes a field that holds bytes.
fn field(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut length = content.len();
    while length > 0x7f {
        out.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or_default());
    out.extend_from_slice(content);
}

fn nest(number: u8, content: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    field(number, &content.concat(), &mut out);
    out
}

/// Writes the old OpenAPI document, of which `kubectl` reads only whether patches of namespaces take
/// `fieldValidation`; it asks for it when the new document does not have a kind.
pub(crate) fn swagger() -> Vec<u8> {
    let query = nest(3, &[&nest(2, &[b"query"]), &nest(4, &[b"fieldValidation"])]);
    let parameter = nest(8, &[&nest(1, &[&nest(2, &[&query])])]);
    let kind = nest(2, &[&nest(2, &[b"group: \"\"\nkind: Namespace\nversion: v1\n"])]);
    let extension = nest(13, &[&nest(1, &[b"x-kubernetes-group-version-kind"]), &kind]);
    let patch = nest(8, &[&parameter, &extension]);
    let path = nest(2, &[&nest(1, &[b"/api/v1/namespaces/{name}"]), &nest(2, &[&patch])]);
    let info = nest(2, &[&nest(1, &[b"Kubernetes"]), &nest(2, &[b"v1.36.2"])]);
    [nest(1, &[b"2.0"]), info, nest(8, &[&path])].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_as_kubectl_sends_it_is_read() {
        let body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x19\x0a\x11\x0a\x01q\x12\x00\x1a\x00\x22\x00*\x002\x008\x00B\x00\x12\x00\x1a\x02\x0a\x00\x1a\x00\"\x00";
        let read = read(body, |_, _| Some(builtin::node("io.k8s.api.core.v1.Namespace"))).unwrap();
        assert_eq!(read["metadata"]["name"], "q");
        assert_eq!(read["kind"], "Namespace");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let body = [PREFIX, &b"\x0a\x09\x0a\x02v1\x12\x03Pod\x12"[..], &[u8::try_from(bytes.len().min(127)).unwrap()], &bytes[..bytes.len().min(127)]].concat();
            let _ = read(&body, |_, _| Some(builtin::node("io.k8s.api.core.v1.Pod")));
        }
    }
}
