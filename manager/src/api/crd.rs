//! The CustomResourceDefinitions, generated from the types.
//!
//! What the generator leaves is made fit for a real API server: no `nullable` (an API server drops nulls by itself, and
//! a rule's `has()` stays simple), and no number formats that it does not know and would warn about.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::{InfraProvider, LatticeCluster};

/// Both CustomResourceDefinitions.
///
/// # Panics
///
/// When a generated definition is not one: a mistake in the types, which every test would show.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [LatticeCluster::crd(), InfraProvider::crd()].into_iter().map(fit).collect()
}

/// Both CustomResourceDefinitions as YAML documents, as `lattice-manager crds` prints them.
///
/// # Panics
///
/// As [`crds`].
pub fn crds_yaml() -> String {
    crds()
        .iter()
        .map(|crd| {
            let yaml = serde_saphyr::to_string(crd).expect("a CustomResourceDefinition is plain data");
            format!("---\n{}\n", yaml.trim_end())
        })
        .collect()
}

/// Makes a generated definition fit for a real API server.
fn fit(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(crd).expect("a CustomResourceDefinition is plain data");
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                fit_schema(schema);
            }
        }
    }
    serde_json::from_value(value).expect("removing keywords leaves a CustomResourceDefinition")
}

/// Walks one schema and those below it.
fn fit_schema(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("nullable");
    if object.contains_key("x-kubernetes-preserve-unknown-fields") {
        object.remove("additionalProperties");
    }
    if object.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        object.remove("format");
        object.entry("minimum").or_insert_with(|| Value::from(0));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = object.get_mut(key) {
            fit_schema(below);
        }
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(fit_schema);
    }
}

#[cfg(test)]
mod tests;
