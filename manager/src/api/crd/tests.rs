//! What the generated definitions promise, checked as an API server would: structure, bounds, rules.

use kube::core::crd::CustomResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::api::testing;

fn schema(at: usize) -> Value {
    let version = &crds()[at].spec.versions[0];
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    serde_json::to_value(schema.expect("a schema")).expect("a schema is data")
}

/// Every schema below one, with its path.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), below, visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            walk(&format!("{path}[]"), &schema[key], visit);
        }
    }
}

fn every_schema(visit: &mut impl FnMut(&str, &Value)) {
    for at in [0, 1] {
        for part in ["spec", "status"] {
            walk(&format!("{at}.{part}"), &schema(at)["properties"][part], visit);
        }
    }
}

#[test]
fn every_string_list_and_map_has_a_bound() {
    every_schema(&mut |path, schema| {
        let bounded = match schema["type"].as_str() {
            Some("string") => {
                schema["maxLength"].is_number() || schema["enum"].is_array() || schema["format"] == "date-time"
            }
            Some("array") => schema["maxItems"].is_number(),
            Some("object") if schema["additionalProperties"].is_object() => schema["maxProperties"].is_number(),
            _ => true,
        };
        assert!(bounded, "{path} has no bound, so the API server's estimate of its rules' cost has none either");
    });
}

#[test]
fn schemas_are_structural() {
    every_schema(&mut |path, schema| {
        for keyword in ["oneOf", "anyOf", "allOf", "not", "$ref", "nullable", "uniqueItems"] {
            assert!(schema.get(keyword).is_none(), "{path} uses {keyword}");
        }
        assert!(schema["type"].is_string(), "{path} has no type");
        assert!(schema["description"].is_string() || path.ends_with("[]"), "{path} explains nothing");
        let formats = ["int32", "int64", "date-time"];
        assert!(schema["format"].as_str().is_none_or(|format| formats.contains(&format)), "{path}: unknown format");
        let both = schema["properties"].is_object() && schema["additionalProperties"].is_object();
        assert!(!both, "{path} has fields and is a map");
    });
}

#[test]
fn only_what_is_passed_through_may_hold_unknown_fields() {
    let mut open = Vec::new();
    every_schema(&mut |path, schema| {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            open.push(path.to_owned());
        }
    });
    assert_eq!(open, ["0.spec.components[].values", "0.spec.secretStore.spec"]);
}

#[test]
fn conditions_and_components_are_lists_by_key() {
    for (at, list, key) in [(0, "conditions", "type"), (0, "components", "name"), (1, "conditions", "type")] {
        let list = &schema(at)["properties"]["status"]["properties"][list];
        assert_eq!(
            (&list["x-kubernetes-list-type"], &list["x-kubernetes-list-map-keys"]),
            (&json!("map"), &json!([key]))
        );
    }
}

#[test]
fn names_and_columns_are_those_that_people_type_and_read() {
    let columns = |at: usize| -> Vec<String> {
        crds()[at].spec.versions[0].additional_printer_columns.iter().flatten().map(|c| c.name.clone()).collect()
    };
    assert_eq!(columns(0), ["Phase", "Ready", "Kubernetes", "Nodes", "Provider", "Agent", "Message", "Age"]);
    assert_eq!(LatticeCluster::shortnames(), ["lc"]);
    assert_eq!(InfraProvider::shortnames(), ["infra"]);
    for crd in crds() {
        assert_eq!(crd.spec.scope, "Cluster");
        assert!(crd.spec.versions[0].subresources.as_ref().is_some_and(|subresources| subresources.status.is_some()));
    }
}

#[test]
fn both_print_as_yaml_that_reads_back() {
    let yaml = crds_yaml();
    let documents: Vec<&str> = yaml.split("---\n").filter(|document| !document.is_empty()).collect();
    assert_eq!(documents.len(), 2);
    for (document, crd) in documents.iter().zip(crds()) {
        let read: Value = serde_saphyr::from_str(document).expect("YAML");
        let given = serde_json::to_value(&crd).expect("data");
        assert_eq!(read["metadata"]["name"], given["metadata"]["name"]);
        assert_eq!(read["spec"]["versions"][0]["name"], "v1alpha1");
    }
}

/// Fields of a value that a schema does not know.
fn unknown(path: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, below) in fields {
                let path = format!("{path}.{name}");
                match (schema["properties"].get(name), &schema["additionalProperties"]) {
                    (Some(schema), _) => unknown(&path, schema, below, found),
                    (None, schema) if schema.is_object() => unknown(&path, schema, below, found),
                    (None, _) => found.push(path),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| unknown(path, &schema["items"], item, found)),
        _ => {}
    }
}

#[test]
fn the_homelab_cluster_holds_no_field_that_the_schema_does_not_know() {
    let written: Value = serde_saphyr::from_str(testing::HOMELAB).expect("YAML");
    let mut found = Vec::new();
    unknown("spec", &schema(0)["properties"]["spec"], &written["spec"], &mut found);
    assert_eq!(found, [""; 0]);
    let mut typo = written;
    typo["spec"]["nodes"]["controlPlane"]["replica"] = json!(1);
    unknown("spec", &schema(0)["properties"]["spec"], &typo["spec"], &mut found);
    assert_eq!(found, ["spec.nodes.controlPlane.replica"]);
}
