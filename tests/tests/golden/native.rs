//! Checks objects of Kubernetes' own kinds against the types of the crate `k8s-openapi`: what a type does not know gets
//! lost on the way through it.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where an object has fields that its kind does not know, or values of another type.
pub(crate) fn lost_fields(object: &Value) -> Vec<String> {
    match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => through::<Namespace>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        "Secret" => through::<Secret>(object),
        "ConfigMap" => through::<ConfigMap>(object),
        "Service" => through::<Service>(object),
        "Pod" => through::<Pod>(object),
        "Deployment" => through::<Deployment>(object),
        "DaemonSet" => through::<DaemonSet>(object),
        "ClusterRole" => through::<ClusterRole>(object),
        "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
        "CustomResourceDefinition" => through::<CustomResourceDefinition>(object),
        other => vec![format!("kind {other} is not checked: add it here")],
    }
}

fn through<T: Serialize + DeserializeOwned>(object: &Value) -> Vec<String> {
    let mut lost = Vec::new();
    match serde_json::from_value::<T>(object.clone()) {
        Ok(typed) => compare(object, &serde_json::to_value(typed).unwrap(), "", &mut lost),
        Err(error) => lost.push(error.to_string()),
    }
    lost
}

fn compare(given: &Value, kept: &Value, path: &str, lost: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given {
                compare(value, kept.get(name).unwrap_or(&Value::Null), &format!("{path}/{name}"), lost);
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (at, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(given, kept, &format!("{path}/{at}"), lost);
            }
        }
        // Types that are empty lists or maps when left out are left out when empty.
        (Value::Object(given), Value::Null) if given.is_empty() => {}
        (Value::Array(given), Value::Null) if given.is_empty() => {}
        _ if given == kept => {}
        _ => lost.push(path.to_owned()),
    }
}
