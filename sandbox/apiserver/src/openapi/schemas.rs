//! The schemas of a document: built-in types as their crate describes them, with what the tables add; custom ones as
//! their definitions say.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::kinds::{Resource, Source};
use crate::schema::builtin::{self, Note, OBJECT_META};
use crate::schema::{ListType, Wire};

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
                types(full, &mut out);
            }
            Source::Custom(custom) => {
                out.insert(own.clone(), custom_schema(&custom.schema()));
                types(OBJECT_META, &mut out);
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
            selectable(resource, schema);
        }
        if resource.allows("list") {
            out.insert(format!("{own}List"), list(resource, &own));
        }
        for sub in &resource.subresources {
            match sub.kind.as_str() {
                "Scale" => types("io.k8s.api.autoscaling.v1.Scale", &mut out),
                "TokenRequest" => types("io.k8s.api.authentication.v1.TokenRequest", &mut out),
                "Eviction" => types("io.k8s.api.policy.v1.Eviction", &mut out),
                _ => {}
            }
        }
    }
    let custom = resources.iter().any(|resource| resource.is_custom());
    for kind in if custom { &REQUESTS[..4] } else { &REQUESTS } {
        types(&format!("{META}{kind}"), &mut out);
    }
    for (kind, full) in [("Status", "Status"), ("DeleteOptions", "DeleteOptions")] {
        if let Some(schema) = out.get_mut(&format!("{META}{kind}")) {
            schema["x-kubernetes-group-version-kind"] = json!([{"group": "", "kind": full, "version": "v1"}]);
        }
    }
    Value::Object(out)
}

/// Where the types of requests and answers are that all kinds share.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// Those types; custom kinds have none of the last ones.
const REQUESTS: [&str; 6] = ["DeleteOptions", "ListMeta", "Patch", "Status", "APIResourceList", "WatchEvent"];

/// Returns the schemas of types that answers of a server about itself have.
pub(super) fn meta(kind: &str) -> Value {
    let mut out = Map::new();
    types(&format!("{META}{kind}"), &mut out);
    Value::Object(out)
}

/// Adds a type of the crate and all that it uses.
fn types(full: &str, out: &mut Map<String, Value>) {
    for (key, schema) in builtin::described(full).into_iter().flatten() {
        out.entry(key.clone()).or_insert_with(|| enriched(&key, schema));
    }
}

fn list(resource: &Resource, item: &str) -> Value {
    let mut meta = json!({"allOf": [{"$ref": format!("#/components/schemas/{META}ListMeta")}]});
    if !resource.is_custom() {
        meta["default"] = json!({});
    }
    let mut out = json!({
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": format!("#/components/schemas/{item}")}},
            "kind": {"type": "string"},
            "metadata": meta,
        },
        "x-kubernetes-group-version-kind":
            [{"group": resource.group, "version": resource.version, "kind": resource.list_kind}],
    });
    selectable(resource, &mut out);
    out
}

/// Says by which fields objects of a custom kind can be selected.
fn selectable(resource: &Resource, schema: &mut Value) {
    let fields = resource.custom().map(|custom| &custom.selectable).filter(|fields| !fields.is_empty());
    if let Some(fields) = fields {
        let paths: Vec<Value> = fields.iter().map(|path| json!({"fieldPath": path})).collect();
        schema["x-kubernetes-selectable-fields"] = paths.into();
    }
}

/// Names the types of what may be a number or a text.
fn alternatives(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
                let types = || json!([{"type": "integer"}, {"type": "string"}]);
                map.entry("anyOf").or_insert_with(types);
            }
            map.values_mut().for_each(alternatives);
        }
        Value::Array(items) => items.iter_mut().for_each(alternatives),
        _ => {}
    }
}

fn custom_schema(schema: &Value) -> Value {
    const EXAMPLE: &str = "io.k8s.api.core.v1.ConfigMap";
    let described = builtin::described(EXAMPLE).and_then(|mut all| all.remove(EXAMPLE)).unwrap_or_default();
    // What every object has is described as it is for built-in kinds.
    let text = |key: &str| described["properties"][key]["description"].clone();
    let mut out = schema.clone();
    alternatives(&mut out);
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
    let required = schema.get("required").cloned().unwrap_or_default();
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (key, field) in fields.iter_mut() {
            if let Some(note) =
                notes.iter().find(|((owner, own), _)| *owner == name && *own == key).map(|(_, note)| note)
            {
                add(field, note);
            }
            whole(field);
        }
        zeros(name, fields, &required);
        enumerate(name, fields);
    }
    let scalar = match name.rsplit('.').next() {
        Some("Quantity") => Some((json!([{"type": "string"}, {"type": "number"}]), None)),
        Some("IntOrString") => Some((json!([{"type": "integer"}, {"type": "string"}]), Some("int-or-string"))),
        _ => None,
    };
    if let (Some((types, format)), Value::Object(map)) = (scalar, &mut schema) {
        map.shift_remove("x-kubernetes-int-or-string");
        map.insert("oneOf".to_owned(), types);
        map.extend(format.map(|format| ("format".to_owned(), format.into())));
    }
    if notes.get(&(builtin::intern(name), "*")).is_some_and(|note| note.atomic) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    schema
}

/// Says of a list that nothing else is said of that it is replaced as a whole.
fn whole(field: &mut Value) {
    if field["type"] == "array" && field.get("x-kubernetes-list-type").is_none() {
        field["x-kubernetes-list-type"] = "atomic".into();
    }
}

fn is_metadata(field: &Value) -> bool {
    field["allOf"][0]["$ref"].as_str().is_some_and(|target| target.ends_with(".meta.v1.ObjectMeta"))
}

/// Says what fields are that are never absent, where nobody sets them.
fn zeros(name: &str, fields: &mut Map<String, Value>, required: &Value) {
    let notes = builtin::notes();
    for (key, field) in fields.iter_mut().filter(|(_, field)| field.get("default").is_none()) {
        let wire = notes.iter().find(|((owner, own), _)| *owner == name && *own == key).map(|(_, note)| note.wire);
        let needed = required.as_array().is_some_and(|all| all.iter().any(|known| known == key.as_str()));
        let always = wire == Some(Wire::Always) || (needed && wire != Some(Wire::Pointer));
        let zero = match field["type"].as_str() {
            Some("string") if always => json!(""),
            Some("integer") if always => json!(0),
            Some("boolean") if always => json!(false),
            None if (wire == Some(Wire::Struct) || is_metadata(field)) && field.get("allOf").is_some() => json!({}),
            _ => continue,
        };
        field["default"] = zero;
    }
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
