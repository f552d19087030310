//! The end of namespaces: what is in them goes first.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{News, remove, store};
use crate::core::Core;
use crate::json;
use crate::kinds::Resource;
use crate::meta;
use crate::options::Propagation;
use crate::store::Key;

/// Which namespaces may be being deleted, and when each is looked at.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    names: BTreeMap<String, Timestamp>,
}

impl Ending {
    /// Takes up news, empties namespaces that are being deleted and lets them go when nothing is left. Answers when to
    /// look again, where that is known.
    pub(crate) async fn look(&mut self, core: &Core, news: &[News]) -> Option<Timestamp> {
        for one in news.iter().filter(|one| &*one.resource.storage == "namespaces") {
            let all = if one.everything { core.store.list("namespaces", "").1 } else { Vec::new() };
            let changed = one.changes.iter().map(|change| &change.object);
            for stored in all.iter().chain(changed) {
                if !self.names.contains_key(&*stored.key.name) {
                    self.names.insert(stored.key.name.to_string(), begins(core, &stored.value()));
                }
            }
        }
        let now = core.config.clock.now();
        let asked: Vec<String> =
            self.names.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone()).collect();
        for name in asked {
            if empty(core, &name).await {
                self.names.insert(name, now + core.config.namespace_grace);
            } else {
                self.names.remove(&name);
            }
        }
        self.names.values().min().copied().filter(|due| *due > now)
    }
}

/// When a namespace is emptied; one that is not being deleted is found out at once.
fn begins(core: &Core, namespace: &Value) -> Timestamp {
    let since = json::text(namespace, &["metadata", "deletionTimestamp"]).parse::<Timestamp>();
    since.map_or(Timestamp::UNIX_EPOCH, |since| since + core.config.namespace_grace)
}

/// Empties a namespace that is being deleted; answers whether it is one and still there.
async fn empty(core: &Core, name: &str) -> bool {
    let kinds = core.registry.now();
    let Some(resource) = kinds.find("", "v1", "namespaces") else { return false };
    let key = Key::new("", name);
    let Some(stored) = core.store.get("namespaces", &key) else { return false };
    let namespace = stored.value();
    if !meta::is_deleting(&namespace) || json::list(&namespace, &["spec", "finalizers"]).is_empty() {
        return false;
    }
    let mut seen: HashSet<Arc<str>> = HashSet::new();
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    for kind in kinds.all().filter(|kind| kind.namespaced) {
        if !seen.insert(Arc::clone(&kind.storage)) {
            continue;
        }
        for object in core.store.list(&kind.storage, name).1 {
            if !meta::is_deleting(&object.value()) {
                remove(core, kind, name, &object.key.name, None, Some(Propagation::Background)).await;
            }
        }
        let remaining = core.store.list(&kind.storage, name).1;
        if !remaining.is_empty() {
            left.insert(format!("{}.{}", kind.plural, kind.group), remaining.len());
        }
        for object in remaining {
            for finalizer in meta::finalizers(&object.value()) {
                *held.entry(finalizer.to_owned()).or_default() += 1;
            }
        }
    }
    tell(core, &resource, name, &left, &held);
    if !left.is_empty() {
        return true;
    }
    let Some(stored) = core.store.get("namespaces", &key) else { return false };
    let mut last = stored.value();
    if meta::finalizers(&last).is_empty() {
        let Ok(gone) = core.store.remove("namespaces", &stored, last) else { return true };
        core.after_delete(&resource, &gone);
        return false;
    }
    json::set(&mut last, &["spec"], json!({}));
    store(core, &resource, &stored, last);
    true
}

/// What a namespace says of its own end: type, reason and message while all is well.
const WELL: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// Says in the namespace's conditions what keeps it.
fn tell(core: &Core, resource: &Resource, name: &str, left: &BTreeMap<String, usize>, held: &BTreeMap<String, usize>) {
    let Some(stored) = core.store.get("namespaces", &Key::new("", name)) else { return };
    let mut namespace = stored.value();
    let old = json::list(&namespace, &["status", "conditions"]).to_vec();
    if left.is_empty() && old.is_empty() {
        return;
    }
    let listed = |all: &BTreeMap<String, usize>, joint: &str| {
        all.iter()
            .map(|(what, count)| format!("{what} {joint} {count} resource instances"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let one = |(kind, reason, message): (&str, &str, &str)| {
        let (state, reason, message) = match kind {
            "NamespaceContentRemaining" if !left.is_empty() => {
                let text = format!("Some resources are remaining: {}", listed(left, "has"));
                ("True", "SomeResourcesRemain", text)
            }
            "NamespaceFinalizersRemaining" if !held.is_empty() => {
                let text = format!("Some content in the namespace has finalizers remaining: {}", listed(held, "in"));
                ("True", "SomeFinalizersRemain", text)
            }
            _ => ("False", reason, message.to_owned()),
        };
        let known = old.iter().find(|known| known["type"] == kind && known["status"] == state);
        let since = known.map_or_else(|| core.now().into(), |known| known["lastTransitionTime"].clone());
        json!({"type": kind, "status": state, "lastTransitionTime": since, "reason": reason, "message": message})
    };
    let new: Vec<Value> = WELL.into_iter().map(one).collect();
    if new != old {
        json::set(&mut namespace, &["status", "conditions"], Value::Array(new));
        store(core, resource, &stored, namespace);
    }
}
