//! The end of namespaces: what is in them goes first.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{remove, store};
use crate::core::Core;
use crate::json;
use crate::meta;
use crate::options::Propagation;

/// Empties namespaces that are being deleted and lets them go when nothing is left.
pub(crate) async fn look(core: &Core) {
    let kinds = core.registry.now();
    let Some(resource) = kinds.find("", "v1", "namespaces") else { return };
    for stored in core.store.list("namespaces", "").1 {
        let namespace = stored.value();
        if !meta::is_deleting(&namespace) || json::list(&namespace, &["spec", "finalizers"]).is_empty() {
            continue;
        }
        let name = meta::name(&namespace).to_owned();
        let mut seen: HashSet<Arc<str>> = HashSet::new();
        let mut left = 0;
        for kind in kinds.all().filter(|kind| kind.namespaced) {
            if !seen.insert(Arc::clone(&kind.storage)) {
                continue;
            }
            for object in core.store.list(&kind.storage, &name).1 {
                if !meta::is_deleting(&object.value()) {
                    remove(core, kind, &name, &object.key.name, None, Some(Propagation::Background)).await;
                }
            }
            left += core.store.list(&kind.storage, &name).1.len();
        }
        if left > 0 {
            continue;
        }
        let Some(stored) = core.store.get("namespaces", &stored.key) else { continue };
        let mut last = stored.value();
        if meta::finalizers(&last).is_empty() {
            if let Ok(gone) = core.store.remove("namespaces", &stored, last) {
                core.after_delete(&resource, &gone);
            }
        } else {
            json::set(&mut last, &["spec"], json!({}));
            let _: Value = last["spec"].clone();
            store(core, &resource, &stored, last);
        }
    }
}
