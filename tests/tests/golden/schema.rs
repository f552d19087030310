//! Checks objects against CustomResourceDefinitions, unknown fields included. Rules in CEL are not run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

/// Schemas by kind and API version.
pub(crate) struct Schemas {
    schemas: BTreeMap<(String, String), Value>,
}

impl Schemas {
    /// The folder that `LATTICE_CRDS_DIR` names; `None`, and a loud word about it, when it is not set.
    pub(crate) fn folder() -> Option<PathBuf> {
        let folder = std::env::var_os("LATTICE_CRDS_DIR").map(PathBuf::from);
        if folder.is_none() {
            eprintln!(
                "SKIPPED: LATTICE_CRDS_DIR is not set, so nothing was checked against Cluster API's real schemas"
            );
        }
        folder
    }

    /// Reads the schemas of `kinds` from every file of a folder.
    pub(crate) fn load(folder: &Path, kinds: &[&str]) -> Self {
        let mut schemas = BTreeMap::new();
        for crd in definitions(folder, kinds) {
            add(&crd, &mut schemas);
        }
        Self { schemas }
    }

    /// Everything that is wrong with an object; `None` when there is no schema for it.
    pub(crate) fn problems(&self, object: &Value) -> Option<Vec<String>> {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let schema = self.schemas.get(&(text("kind"), text("apiVersion")))?;
        let mut problems = Vec::new();
        let fields = object.as_object()?;
        for (name, value) in fields {
            match schema["properties"].get(name) {
                Some(property) if name != "metadata" => check(property, value, name, &mut problems),
                None if !["apiVersion", "kind", "metadata"].contains(&name.as_str()) => {
                    problems.push(format!("{name}: unknown field"));
                }
                _ => {}
            }
        }
        Some(problems)
    }
}

/// The definitions of `kinds` in every file of a folder. Only these: the whole folder is 5 MB of YAML.
pub(crate) fn definitions(folder: &Path, kinds: &[&str]) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let wanted = |document: &&str| kinds.iter().any(|kind| document.contains(&format!("\n    kind: {kind}\n")));
        for document in text.split("\n---").filter(wanted) {
            let options = serde_saphyr::options! { budget: None };
            found.push(
                serde_saphyr::from_str_with_options(document, options)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            );
        }
    }
    found
}

fn add(crd: &Value, schemas: &mut BTreeMap<(String, String), Value>) {
    let group = crd["spec"]["group"].as_str().unwrap();
    let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
    for version in crd["spec"]["versions"].as_array().unwrap() {
        let api_version = format!("{group}/{}", version["name"].as_str().unwrap());
        schemas.insert((kind.to_owned(), api_version), version["schema"]["openAPIV3Schema"].clone());
    }
}

fn check(schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
    if value.is_null() {
        if schema["nullable"] != true {
            problems.push(format!("{path}: is null"));
        }
        return;
    }
    let int_or_string = schema["x-kubernetes-int-or-string"] == true && (value.is_i64() || value.is_string());
    let fits = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("{path}: schema of unknown type {other}"),
    };
    if !fits && !int_or_string {
        problems.push(format!("{path}: {value} is no {}", schema["type"]));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        problems.push(format!("{path}: {value} is none of {allowed:?}"));
    }
    match value {
        Value::Object(_) => check_object(schema, value, path, problems),
        Value::Array(items) => check_array(schema, items, path, problems),
        Value::String(text) => check_string(schema, text, path, problems),
        Value::Number(number) => {
            let outside = |bound: &str, outside: fn(f64, f64) -> bool| {
                schema[bound].as_f64().is_some_and(|bound| outside(number.as_f64().unwrap(), bound))
            };
            if outside("minimum", |n, bound| n < bound) || outside("maximum", |n, bound| n > bound) {
                problems.push(format!("{path}: {number} is out of bounds"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_object(schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
    let fields = value.as_object().unwrap();
    for required in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(required.as_str().unwrap()) {
            problems.push(format!("{path}: misses {required}"));
        }
    }
    check_count(schema, fields.len(), ["minProperties", "maxProperties"], path, problems);
    for (name, field) in fields {
        let path = format!("{path}.{name}");
        let below = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        match below {
            Some(below) if below.is_object() => check(below, field, &path, problems),
            Some(_) => {}
            None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => problems.push(format!("{path}: unknown field")),
        }
    }
}

fn check_array(schema: &Value, items: &[Value], path: &str, problems: &mut Vec<String>) {
    check_count(schema, items.len(), ["minItems", "maxItems"], path, problems);
    let key = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().unwrap();
            Some(keys.iter().map(|key| item[key.as_str().unwrap()].clone()).collect::<Value>())
        }
        Some("set") => Some(item.clone()),
        _ => None,
    };
    for (at, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{path}[{at}]"), problems);
        if key(item).is_some() && items[..at].iter().any(|earlier| key(earlier) == key(item)) {
            problems.push(format!("{path}[{at}]: is there twice"));
        }
    }
}

fn check_string(schema: &Value, text: &str, path: &str, problems: &mut Vec<String>) {
    check_count(schema, text.chars().count(), ["minLength", "maxLength"], path, problems);
    if let Some(pattern) = schema["pattern"].as_str() {
        // Go counts a '-' between classes as itself; this engine wants to be told.
        let pattern = pattern.replace("A-Z-_", r"A-Z\-_");
        let regex = Regex::new(&pattern).unwrap_or_else(|error| panic!("{path}: {error}"));
        if !regex.is_match(text) {
            problems.push(format!("{path}: {text:?} does not match {pattern}"));
        }
    }
}

fn check_count(schema: &Value, count: usize, bounds: [&str; 2], path: &str, problems: &mut Vec<String>) {
    let [least, most] = bounds.map(|bound| schema[bound].as_u64().map(|bound| usize::try_from(bound).unwrap()));
    if least.is_some_and(|least| count < least) || most.is_some_and(|most| count > most) {
        problems.push(format!("{path}: has {count}, {least:?} to {most:?} are allowed"));
    }
}
