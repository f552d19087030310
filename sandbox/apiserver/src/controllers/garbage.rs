//! Garbage collection: objects go when all their owners have gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::{News, remove, store};
use crate::core::Core;
use crate::json;
use crate::kinds::Resource;
use crate::meta;
use crate::options::Propagation;
use crate::store::{Event, Key};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Rounds of one look; deletes make news of their own, which the next look takes up.
const ROUNDS_MAX: usize = 64;

/// Where an object is.
type Place = (Arc<str>, Key);

/// Knows who owns what.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// Dependents by their owners' uid.
    dependents: HashMap<String, HashSet<Place>>,
    /// Owners by their dependents.
    owners: HashMap<Place, Vec<String>>,
    /// Where objects are that own others, or that are being deleted with dependents in mind.
    places: HashMap<String, Place>,
}

impl Collector {
    /// Takes up news and collects what has to go.
    pub(crate) async fn look(&mut self, core: &Core, news: &[News]) {
        let mut queue: Vec<Place> = Vec::new();
        for one in news {
            if one.everything {
                for stored in core.store.list(&one.resource.storage, "").1 {
                    let place = (Arc::clone(&one.resource.storage), stored.key.clone());
                    self.note(&place, &stored.value(), &mut queue);
                }
            }
            for change in &one.changes {
                let place = (Arc::clone(&one.resource.storage), change.object.key.clone());
                let object = change.object.value();
                if change.event == Event::Deleted {
                    self.forget(&place, &object, &mut queue);
                } else {
                    self.note(&place, &object, &mut queue);
                }
            }
        }
        for _ in 0..ROUNDS_MAX {
            let Some(batch) = (!queue.is_empty()).then(|| std::mem::take(&mut queue)) else { return };
            let unique: HashSet<Place> = batch.into_iter().collect();
            for place in unique {
                self.judge(core, &place).await;
            }
        }
    }

    fn note(&mut self, place: &Place, object: &Value, queue: &mut Vec<Place>) {
        let owners: Vec<String> = json::list(object, &["metadata", "ownerReferences"])
            .iter()
            .map(|owner| json::text(owner, &["uid"]).to_owned())
            .collect();
        // Owners that were judged before are not judged again: when one goes, its dependents are.
        if self.owners.get(place).map(Vec::as_slice).unwrap_or_default() != owners {
            for gone in self.owners.remove(place).unwrap_or_default() {
                if let Some(set) = self.dependents.get_mut(&gone) {
                    set.remove(place);
                }
            }
            for uid in &owners {
                self.dependents.entry(uid.clone()).or_default().insert(place.clone());
            }
            if !owners.is_empty() {
                self.owners.insert(place.clone(), owners);
                queue.push(place.clone());
            }
        }
        let uid = meta::uid(object);
        if self.places.get(uid) != Some(place) {
            self.places.insert(uid.to_owned(), place.clone());
        }
        let waits = meta::finalizers(object).iter().any(|name| *name == ORPHAN || *name == FOREGROUND);
        if meta::is_deleting(object) && waits {
            queue.push(place.clone());
        }
    }

    fn forget(&mut self, place: &Place, object: &Value, queue: &mut Vec<Place>) {
        let uid = meta::uid(object);
        self.places.remove(uid);
        queue.extend(self.dependents.remove(uid).into_iter().flatten());
        for owner in self.owners.remove(place).unwrap_or_default() {
            if let Some(set) = self.dependents.get_mut(&owner) {
                set.remove(place);
            }
            // An owner may have waited for this one.
            queue.extend(self.places.get(&owner).cloned());
        }
    }

    async fn judge(&mut self, core: &Core, place: &Place) {
        let (storage, key) = place;
        let Some(stored) = core.store.get(storage, key) else { return };
        let kinds = core.registry.now();
        let Some(resource) = kinds.all().find(|resource| resource.storage == *storage).cloned() else { return };
        let object = stored.value();
        let finalizers = meta::finalizers(&object);
        if meta::is_deleting(&object) && finalizers.contains(&ORPHAN) {
            self.orphan(core, &object);
            finish(core, &resource, key, ORPHAN);
            return;
        }
        if meta::is_deleting(&object) && finalizers.contains(&FOREGROUND) {
            if self.foreground(core, &object).await {
                finish(core, &resource, key, FOREGROUND);
            }
            return;
        }
        let owners = json::list(&object, &["metadata", "ownerReferences"]);
        if owners.is_empty() || meta::is_deleting(&object) {
            return;
        }
        let (present, absent): (Vec<&Value>, Vec<&Value>) =
            owners.iter().partition(|owner| exists(core, &resource, &object, owner));
        if absent.is_empty() {
            return;
        }
        if present.is_empty() {
            let uid = meta::uid(&object).to_owned();
            remove(core, &resource, &key.namespace, &key.name, Some(&uid), Some(Propagation::Background)).await;
            return;
        }
        let kept: Vec<Value> = present.into_iter().cloned().collect();
        let mut new = object.clone();
        json::set(&mut new, &["metadata", "ownerReferences"], Value::Array(kept));
        store(core, &resource, &stored, new);
    }

    /// Takes an owner out of its dependents.
    fn orphan(&self, core: &Core, owner: &Value) {
        let uid = meta::uid(owner);
        let kinds = core.registry.now();
        for (storage, key) in self.dependents.get(uid).into_iter().flatten() {
            let Some(stored) = core.store.get(storage, key) else { continue };
            let Some(resource) = kinds.all().find(|resource| resource.storage == *storage) else { continue };
            let mut object = stored.value();
            let mut owners = json::list(&object, &["metadata", "ownerReferences"]).to_vec();
            owners.retain(|owner| json::text(owner, &["uid"]) != uid);
            if owners.is_empty() {
                json::remove(&mut object, &["metadata", "ownerReferences"]);
            } else {
                json::set(&mut object, &["metadata", "ownerReferences"], Value::Array(owners));
            }
            store(core, resource, &stored, object);
        }
    }

    /// Deletes an owner's dependents; answers whether none is left that it waits for.
    async fn foreground(&self, core: &Core, owner: &Value) -> bool {
        let uid = meta::uid(owner);
        let kinds = core.registry.now();
        let mut waits = false;
        let dependents: Vec<Place> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for (storage, key) in dependents {
            let Some(stored) = core.store.get(&storage, &key) else { continue };
            let Some(resource) = kinds.all().find(|resource| resource.storage == storage).cloned() else { continue };
            let object = stored.value();
            let blocks = json::list(&object, &["metadata", "ownerReferences"])
                .iter()
                .any(|owner| json::text(owner, &["uid"]) == uid && owner["blockOwnerDeletion"] == true);
            if !meta::is_deleting(&object) {
                let own = meta::uid(&object).to_owned();
                remove(core, &resource, &key.namespace, &key.name, Some(&own), Some(Propagation::Foreground)).await;
            }
            waits |= blocks && core.store.get(&storage, &key).is_some();
        }
        !waits
    }
}

/// Tells whether an owner is there.
fn exists(core: &Core, dependent: &Resource, object: &Value, owner: &Value) -> bool {
    let version = json::text(owner, &["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kinds = core.registry.now();
    let kind = json::text(owner, &["kind"]);
    let found = kinds
        .of_kind(group, version, kind)
        .or_else(|| kinds.all().find(|resource| resource.group == group && resource.kind == kind).cloned());
    // An owner of a kind that nobody serves is not known to be gone.
    let Some(resource) = found else { return true };
    if resource.namespaced && !dependent.namespaced {
        return true;
    }
    let namespace = if resource.namespaced { meta::namespace(object) } else { "" };
    let key = Key::new(namespace, json::text(owner, &["name"]));
    core.store
        .get(&resource.storage, &key)
        .is_some_and(|stored| meta::uid(&stored.value()) == json::text(owner, &["uid"]))
}

/// Takes a finalizer off an object, which ends when it was the last.
fn finish(core: &Core, resource: &Resource, key: &Key, finalizer: &str) {
    let Some(stored) = core.store.get(&resource.storage, key) else { return };
    let mut object = stored.value();
    let left: Vec<Value> =
        meta::finalizers(&object).into_iter().filter(|name| *name != finalizer).map(Value::from).collect();
    if left.is_empty() {
        if let Ok(gone) = core.store.remove(&resource.storage, &stored, object) {
            core.after_delete(resource, &gone);
        }
    } else {
        json::set(&mut object, &["metadata", "finalizers"], Value::Array(left));
        store(core, resource, &stored, object);
    }
}
