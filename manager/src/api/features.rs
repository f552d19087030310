//! What a cluster carries besides its nodes: monitoring, secrets, backups, overrides, parenthood.

#![expect(unreachable_pub, reason = "derive(KubeSchema) makes copies of the types inside functions")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A Secret by name, in the namespace of the cluster's objects.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Metrics agent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.enabled) || !self.enabled || has(self.remoteWriteUrl)")
        .message("monitoring.remoteWriteUrl: required when monitoring.enabled is true")
)]
pub struct Monitoring {
    /// Whether the cluster gets a metrics agent.
    #[serde(default)]
    pub enabled: bool,

    /// Where metrics are written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^ ]+$')").message("monitoring.remoteWriteUrl must be an http or https URL: write for example https://metrics.example.com/api/v1/write"))]
    pub remote_write_url: Option<String>,

    /// Credentials for the remote write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// ClusterSecretStore that External Secrets gets.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretStore {
    /// Name of the ClusterSecretStore.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The store's own spec, passed through.
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub spec: Map<String, Value>,

    /// Credentials for the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// Backup scheduler.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.enabled) || !self.enabled || has(self.location)")
        .message("backups.location: required when backups.enabled is true")
)]
pub struct Backups {
    /// Whether the cluster is backed up.
    #[serde(default)]
    pub enabled: bool,

    /// Where backups go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<BackupLocation>,

    /// When, as a cron expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128))]
    pub schedule: Option<String>,
}

/// Where backups go.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupLocation {
    /// Kind of object store.
    #[schemars(length(min = 1, max = 64))]
    pub provider: String,

    /// Bucket.
    #[schemars(length(min = 1, max = 253))]
    pub bucket: String,

    /// Region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,

    /// Credentials for the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// Override of a catalog entry.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ComponentOverride {
    /// Whether the component belongs to the cluster; by default as the catalog says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,

    /// Version instead of the matrix's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub version: Option<String>,

    /// Values for the component's chart, passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub values: Option<Map<String, Value>>,
}

/// Makes a cluster a parent of others.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ParentConfig {
    /// Port of the gateway that agents dial.
    #[serde(default = "grpc_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub grpc_port: u16,

    /// Port that agents enrol at.
    #[serde(default = "bootstrap_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub bootstrap_port: u16,

    /// How the ports are reached from outside.
    #[serde(default)]
    pub service: ParentService,

    /// Names or addresses that children reach the parent by, when the Service does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    pub external_addresses: Vec<String>,
}

/// How a parent's ports are reached from outside.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ParentService {
    /// Type of the Service.
    #[serde(default, rename = "type")]
    pub type_: ParentServiceType,

    /// Annotations of the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 1024})))]
    pub annotations: BTreeMap<String, String>,
}

/// Type of a parent's Service.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParentServiceType {
    /// An address of its own.
    #[default]
    LoadBalancer,
    /// A port on every node.
    NodePort,
    /// Reached by other means.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
}

fn grpc_port() -> u16 {
    50051
}

fn bootstrap_port() -> u16 {
    8443
}
