//! Admission policies: says that the rules as they are now were looked at.

use serde_json::json;

use super::{News, concerns, store};
use crate::core::Core;
use crate::json;
use crate::meta;

const PLURAL: &str = "validatingadmissionpolicies";

/// Brings the status of policies up to date. Types are not checked, so nothing is warned of.
pub(crate) fn look(core: &Core, news: &[News]) {
    if !concerns(news, &[PLURAL]) {
        return;
    }
    let Some(resource) = core.registry.now().find("admissionregistration.k8s.io", "v1", PLURAL) else { return };
    for stored in core.store.list(&resource.storage, "").1 {
        let mut policy = stored.value();
        let generation = meta::generation(&policy);
        if json::at(&policy, &["status", "observedGeneration"]).and_then(serde_json::Value::as_i64) != Some(generation)
        {
            json::set(&mut policy, &["status", "observedGeneration"], generation.into());
            json::set(&mut policy, &["status", "typeChecking"], json!({}));
            store(core, &resource, &stored, policy);
        }
    }
}
