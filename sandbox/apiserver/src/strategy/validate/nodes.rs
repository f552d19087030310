//! Nodes.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn node(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (index, taint) in json::list(object, &["spec", "taints"]).iter().enumerate() {
        let effect = json::text(taint, &["effect"]);
        if !EFFECTS.contains(&effect) {
            out.push(FieldError::not_supported(
                format!("metadata.taints[{index}].effect"),
                &Value::from(effect),
                &EFFECTS,
            ));
        }
    }
    if let Some(old) = old {
        let provider = |object: &Value| json::text(object, &["spec", "providerID"]).to_owned();
        if !provider(old).is_empty() && provider(old) != provider(object) {
            let detail = "node updates may not change providerID except from \"\" to valid";
            out.push(FieldError::forbidden("spec.providerID", detail));
        }
    }
    out
}
