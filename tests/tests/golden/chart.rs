//! `charts/lattice-agent`: made from `templates/agent`, with values where the manager would put a cluster's own.

use serde_json::Value;

use crate::files;

/// The documents of a manifest.
pub(crate) fn documents(manifest: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifest).expect("a manifest is YAML")
}

/// One document of a manifest, for a person to read.
pub(crate) fn document(object: &Value) -> String {
    format!("---\n{}", files::yaml(object))
}
