//! From the crate's JSON schemas to ours.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::{notes, types};
use crate::schema::{Field, Link, Node, Shape};

/// Types that JSON schema cannot tell from plain texts or objects.
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
/// Types with a default that is part of a list's key.
const CONTAINER_PORT: &str = "io.k8s.api.core.v1.ContainerPort";
const SERVICE_PORT: &str = "io.k8s.api.core.v1.ServicePort";
/// Types whose content is free.
const FREE: [&str; 6] = [
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
];
/// An object of which no field is known.
const SUBRESOURCE_STATUS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresourceStatus";

/// Compiles a type and every type that it uses.
pub(super) fn with_everything_it_uses(name: &'static str) -> Vec<(&'static str, Node)> {
    let Some(definitions) = types::definitions(name) else { return Vec::new() };
    definitions
        .iter()
        .map(|(name, schema)| {
            let name = types::intern(name);
            (name, node(name, schema))
        })
        .collect()
}

fn node(name: &'static str, schema: &Value) -> Node {
    let mut out = plain(name, schema);
    out.name = name;
    match name {
        QUANTITY => {
            out.shape = Shape::String;
            "quantity".clone_into(&mut out.format);
        }
        INT_OR_STRING => out.shape = Shape::IntOrString,
        SUBRESOURCE_STATUS => {
            return Node { name, shape: Shape::Object, preserve: true, nullable: true, ..Node::default() };
        }
        name if FREE.contains(&name) => return Node { name, preserve: true, nullable: true, ..Node::default() },
        _ => {}
    }
    if let Some(note) = notes().get(&(name, "*")) {
        out.atomic |= note.atomic;
    }
    out
}

fn plain(owner: &'static str, schema: &Value) -> Node {
    let mut out = Node { shape: shape(schema), format: super::super::crd::text(schema, "format"), ..Node::default() };
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        out.fields = self::fields(owner, fields);
    }
    out.required = required(schema);
    out.values = schema.get("additionalProperties").filter(|values| values.is_object()).map(link);
    out.items = schema.get("items").map(link);
    out
}

fn required(schema: &Value) -> Vec<String> {
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(String::from).collect::<HashSet<_>>().into_iter().collect()
}

fn shape(schema: &Value) -> Shape {
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or(""),
        _ => "",
    };
    match kind {
        "object" => Shape::Object,
        "array" => Shape::Array,
        "string" => Shape::String,
        "integer" => Shape::Integer,
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        _ => Shape::Any,
    }
}

fn fields(owner: &'static str, schemas: &Map<String, Value>) -> BTreeMap<String, Field> {
    let mut out = BTreeMap::new();
    for (key, schema) in schemas {
        if key == "protocol" && matches!(owner, CONTAINER_PORT | SERVICE_PORT) {
            let protocol = Node { shape: Shape::String, default: Some("TCP".into()), ..Node::default() };
            out.insert(key.clone(), protocol.into());
            continue;
        }
        let note = notes().get(&(owner, key.as_str())).cloned().unwrap_or_default();
        let field = Field {
            link: link(schema),
            wire: note.wire,
            list: note.list,
            atomic: if note.granular { Some(false) } else { note.atomic.then_some(true) },
            strategic: note.strategic,
        };
        out.insert(key.clone(), field);
    }
    out
}

fn link(schema: &Value) -> Link {
    match reference(schema) {
        Some(name) => Link::Named(types::intern(name), std::sync::OnceLock::new()),
        None => plain("", schema).into(),
    }
}

/// Finds the type that a schema refers to, also where it is wrapped to carry a description.
fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref").and_then(Value::as_str);
    let wrapped = ["allOf", "anyOf", "oneOf"]
        .iter()
        .find_map(|key| schema.get(*key)?.as_array()?.iter().find_map(|part| part.get("$ref").and_then(Value::as_str)));
    direct.or(wrapped)?.rsplit('/').next()
}
