//! The schemas of a document: built-in types as their crate describes them, with what the tables add; custom ones as
//! their definitions say.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::kinds::{Resource, Source};
use crate::schema::ListType;
use crate::schema::builtin::{self, Note, OBJECT_META};

/// Returns the name of a kind's schema.
pub(super) fn name(resource: &Resource) -> String {
    match &resource.source {
        Source::BuiltIn(name) => (*name).to_owned(),
        Source::Custom(_) => {
            let reversed: Vec<&str> = resource.group.split('.').rev().collect();
            format!("{}.{}.{}", reversed.join("."), resource.version, resource.kind)
        }
    }
}

/// Names a kind.
pub(super) fn kind_of(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

/// Returns the schemas of resources and of all that they use.
pub(super) fn of(resources: &[Arc<Resource>]) -> Value {
    let mut out = Map::new();
    for resource in resources {
        let own = name(resource);
        match &resource.source {
            Source::BuiltIn(full) => {
                for (key, schema) in builtin::described(full).into_iter().flatten() {
                    out.entry(key.clone()).or_insert_with(|| enriched(&key, schema));
                }
            }
            Source::Custom(custom) => {
                out.insert(own.clone(), custom_schema(&custom.schema()));
                for (key, schema) in builtin::described(OBJECT_META).into_iter().flatten() {
                    out.entry(key.clone()).or_insert_with(|| enriched(&key, schema));
                }
            }
        }
        if let Some(schema) = out.get_mut(&own) {
            if !resource.is_custom() && own != "io.k8s.api.core.v1.Event" {
                without_required(schema, "metadata");
            }
            if own == "io.k8s.api.events.v1.Event" {
                schema["required"] = json!(["eventTime"]);
            }
            schema["x-kubernetes-group-version-kind"] = json!([kind_of(resource)]);
        }
        out.insert(format!("{own}List"), list(resource, &own));
    }
    Value::Object(out)
}

fn list(resource: &Resource, item: &str) -> Value {
    json!({
        "description": format!("{} is a list of {}.", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": format!("#/components/schemas/{item}")}},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        },
        "x-kubernetes-group-version-kind":
            [{"group": resource.group, "version": resource.version, "kind": resource.list_kind}],
    })
}

fn custom_schema(schema: &Value) -> Value {
    const EXAMPLE: &str = "io.k8s.api.core.v1.ConfigMap";
    let described = builtin::described(EXAMPLE).and_then(|mut all| all.remove(EXAMPLE)).unwrap_or_default();
    // What every object has is described as it is for built-in kinds.
    let text = |key: &str| described["properties"][key]["description"].clone();
    let mut out = schema.clone();
    if let Some(fields) = out.get_mut("properties").and_then(Value::as_object_mut) {
        for key in ["apiVersion", "kind"] {
            fields.insert(key.to_owned(), json!({"type": "string", "description": text(key)}));
        }
        let meta = json!({
            "description": text("metadata"), "allOf": [{"$ref": format!("#/components/schemas/{OBJECT_META}")}],
        });
        fields.insert("metadata".to_owned(), meta);
    }
    out
}

/// References to something of the same namespace; the crate says that they need a name, the documents do not.
const REFERENCES: [&str; 8] = [
    "LocalObjectReference",
    "ConfigMapKeySelector",
    "SecretKeySelector",
    "ConfigMapEnvSource",
    "SecretEnvSource",
    "ConfigMapProjection",
    "SecretProjection",
    "ConfigMapVolumeSource",
];

/// Takes back that a field is needed: the crate says so of the metadata of all its kinds.
fn without_required(schema: &mut Value, field: &str) {
    let Some(Value::Array(required)) = schema.get_mut("required") else { return };
    required.retain(|name| name != field);
    if required.is_empty()
        && let Value::Object(map) = schema
    {
        map.shift_remove("required");
    }
}

/// Brings a schema of the crate into the form of the documents and adds what the tables know.
fn enriched(name: &str, mut schema: Value) -> Value {
    references(&mut schema);
    if name.strip_prefix("io.k8s.api.core.v1.").is_some_and(|short| REFERENCES.contains(&short)) {
        without_required(&mut schema, "name");
    }
    let notes = builtin::notes();
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (key, field) in fields.iter_mut() {
            if let Some(note) =
                notes.iter().find(|((owner, own), _)| *owner == name && *own == key).map(|(_, note)| note)
            {
                add(field, note);
            }
        }
        enumerate(name, fields);
    }
    if notes.get(&(builtin::intern(name), "*")).is_some_and(|note| note.atomic) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    schema
}

/// Texts that fields may have: a kind, its field (`[]` stands for items of a list) and the texts in a line.
const ENUMS: &str = include_str!("enums.txt");

/// Lists the texts that fields may have.
fn enumerate(name: &str, fields: &mut serde_json::Map<String, Value>) {
    let name = name.strip_prefix("io.k8s.api.").unwrap_or(name);
    for line in ENUMS.lines() {
        let mut parts = line.splitn(3, ' ');
        let (Some(owner), Some(key), Some(texts)) = (parts.next(), parts.next(), parts.next()) else { continue };
        if owner != name {
            continue;
        }
        let texts: Vec<&str> = texts.split('|').collect();
        match key.strip_suffix("[]") {
            Some(key) => {
                if let Some(items) = fields.get_mut(key).and_then(|field| field.get_mut("items")) {
                    items["enum"] = texts.into();
                }
            }
            None => {
                if let Some(field) = fields.get_mut(key) {
                    describe(field, key, &texts);
                    field["enum"] = texts.into();
                }
            }
        }
    }
}

/// Ends a field's description with the texts that it may have.
fn describe(field: &mut Value, key: &str, texts: &[&str]) {
    let Some(Value::String(description)) = field.get_mut("description") else { return };
    description.push_str("\n\nPossible enum values:");
    for text in texts {
        description.extend(["\n - `\"", text, "\"`"]);
        if key == "protocol" {
            description.extend([" is the ", text, " protocol."]);
        }
    }
}

fn add(field: &mut Value, note: &Note) {
    match &note.list {
        Some(ListType::Map(keys)) => {
            field["x-kubernetes-list-type"] = "map".into();
            field["x-kubernetes-list-map-keys"] = keys.clone().into();
        }
        Some(ListType::Set) => field["x-kubernetes-list-type"] = "set".into(),
        Some(ListType::Atomic) | None => {}
    }
    if note.atomic {
        field["x-kubernetes-map-type"] = "atomic".into();
    }
    let strategic = &note.strategic;
    let mut strategies = Vec::new();
    if strategic.merge {
        strategies.push("merge");
    }
    if strategic.retain_keys {
        strategies.push("retainKeys");
    }
    if strategic.replace {
        strategies.push("replace");
    }
    if !strategies.is_empty() {
        field["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
    if let Some(key) = &strategic.key {
        field["x-kubernetes-patch-merge-key"] = key.as_str().into();
    }
}

/// Points references at the place where documents keep schemas; beside a description they are wrapped.
fn references(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                let target = format!("#/components/schemas/{}", target.rsplit('/').next().unwrap_or_default());
                if map.len() == 1 {
                    map.insert("$ref".to_owned(), target.into());
                } else {
                    map.shift_remove("$ref");
                    map.insert("allOf".to_owned(), json!([{"$ref": target}]));
                }
                return;
            }
            map.shift_remove("$schema");
            map.shift_remove("title");
            for (key, inner) in map.iter_mut() {
                match inner {
                    // Fields may have any name, those of the words above too.
                    Value::Object(fields) if key == "properties" => fields.values_mut().for_each(references),
                    inner => references(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(references),
        _ => {}
    }
}
