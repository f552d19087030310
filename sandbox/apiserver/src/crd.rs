//! CustomResourceDefinitions: accepted names, being established, and what goes with them when they go.

pub(crate) mod validate;

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use crate::apply::fieldset::FieldSet;
use crate::apply::managed::{self, Manager};
use crate::apply::ownership;
use crate::core::Core;
use crate::json;
use crate::kinds::{EXTENSIONS, Resource, custom};
use crate::meta;
use crate::schema::Place;
use crate::store::Stored;

/// A definition always tells that the version which is stored now is stored.
pub(crate) fn stored_somewhere(object: &mut Value) {
    if json::list(object, &["status", "storedVersions"]).is_empty() {
        let versions = json::list(object, &["spec", "versions"]).iter();
        let stored: Vec<Value> =
            versions.filter(|version| version["storage"] == true).map(|version| version["name"].clone()).collect();
        json::set(object, &["status", "storedVersions"], Value::Array(stored));
    }
}

/// Where definitions are stored.
pub(crate) const STORAGE: &str = "apiextensions.k8s.io/customresourcedefinitions";
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What a definition says while it is installed and after.
const INITIAL: &str = "the initial names have been accepted";

/// Prepares a new definition: its status begins with the version that is stored.
pub(crate) fn prepare_create(object: &mut Value) {
    let versions = json::list(object, &["spec", "versions"]);
    let stored: Vec<Value> =
        versions.iter().filter(|v| v["storage"] == true).map(|v| v["name"].clone()).take(1).collect();
    let stored = if stored.is_empty() { Value::Null } else { Value::Array(stored) };
    let status = json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored});
    json::set(object, &["status"], status);
}

/// Prepares a changed definition: a new storage version is remembered.
pub(crate) fn prepare_update(_old: &Value, new: &mut Value) {
    let versions = json::list(new, &["spec", "versions"]);
    let Some(name) = versions.iter().find(|version| version["storage"] == true).map(|v| v["name"].clone()) else {
        return;
    };
    let mut stored = json::list(new, &["status", "storedVersions"]).to_vec();
    if !stored.contains(&name) {
        stored.push(name);
        json::set(new, &["status", "storedVersions"], Value::Array(stored));
    }
}

/// Holds a definition that is being deleted until its objects are gone.
pub(crate) fn mark(object: &mut Value) {
    if meta::finalizers(object).contains(&FINALIZER) || meta::is_deleting(object) {
        return;
    }
    let mut list = json::list(object, &["metadata", "finalizers"]).to_vec();
    list.push(FINALIZER.into());
    json::set(object, &["metadata", "finalizers"], Value::Array(list));
}

/// Says that a definition is marked for deletion, and that its objects go next.
pub(crate) fn going(object: &mut Value, now: &str) {
    let reason = "InstanceDeletionPending";
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    condition(object, "Terminating", "True", reason, message, now);
}

/// What is known of a definition that is served, so that it is not read again while it stays as it is.
#[derive(Debug)]
pub(crate) struct Served {
    name: Box<str>,
    revision: u64,
    group: Value,
    names: Value,
    resources: Vec<Arc<Resource>>,
}

impl Core {
    /// Looks after what follows from a write.
    pub(crate) fn after_write(&self, resource: &Resource, stored: &Stored) {
        if resource.is(EXTENSIONS, "CustomResourceDefinition") {
            let _ = stored;
            self.definitions_changed();
        }
    }

    /// Looks after what follows from the end of an object.
    pub(crate) fn after_delete(&self, resource: &Resource, gone: &Stored) {
        let terminating = resource.custom().is_some_and(|custom| custom.terminating);
        if terminating || resource.is(EXTENSIONS, "CustomResourceDefinition") {
            let _ = gone;
            self.definitions_changed();
        }
    }

    /// Brings definitions' status and the kinds that are served up to date.
    pub(crate) fn definitions_changed(&self) {
        let mut known = self.defining.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let mut definitions = self.store.list(STORAGE, "").1;
        // Those that have their names keep them.
        let has = |stored: &Stored| known.iter().any(|one| one.name == stored.key.name);
        definitions.sort_by_key(|stored| (!has(stored), stored.revision));
        let mut served: Vec<Served> = Vec::new();
        for stored in definitions {
            let same = |one: &Served| one.name == stored.key.name && one.revision == stored.revision;
            let one = match known.iter().position(same) {
                Some(index) => Some(known.swap_remove(index)),
                None => self.look_at_definition(&stored, &served, &now),
            };
            served.extend(one);
        }
        let resources = served.iter().flat_map(|one| one.resources.iter().cloned()).collect();
        *known = served;
        self.registry.set_custom(resources);
    }

    /// Brings one definition's status up to date, and answers what it serves.
    fn look_at_definition(&self, stored: &Arc<Stored>, others: &[Served], now: &str) -> Option<Served> {
        let (mut stored, mut definition) = (Arc::clone(stored), stored.value());
        let mut new = definition.clone();
        names(&mut new, others, now);
        if is_established(&new) && !is_established(&definition) {
            // Names are accepted first; the kind is served a moment later.
            let mut first = new.clone();
            condition(&mut first, "Established", "False", "Installing", INITIAL, now);
            own(&definition, &mut first, now);
            if let Ok(next) = self.store.replace(STORAGE, &stored, first.clone()) {
                new = first.clone();
                condition(&mut new, "Established", "True", "InitialNamesAccepted", INITIAL, now);
                (stored, definition) = (next, first);
            }
        }
        let going = meta::is_deleting(&new);
        if going {
            let (reason, message) = ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
            condition(&mut new, "Terminating", "True", reason, message, now);
            self.empty(&new);
            if self.is_empty(&new) {
                self.finish(&stored, &new);
                return None;
            }
        }
        if !json::same(&new, &definition) {
            own(&definition, &mut new, now);
            if let Ok(written) = self.store.replace(STORAGE, &stored, new.clone()) {
                stored = written;
            }
        }
        if !is_established(&new) {
            return None;
        }
        let resources = custom::resources(&new, &stored.bytes);
        for resource in &resources {
            self.store.add_kind(&resource.storage);
        }
        Some(Served {
            name: stored.key.name.clone(),
            // One that is going is looked at each time.
            revision: if going { 0 } else { stored.revision },
            group: new["spec"]["group"].clone(),
            names: new["status"]["acceptedNames"].clone(),
            resources,
        })
    }

    fn storage_of(definition: &Value) -> String {
        let group = json::text(definition, &["spec", "group"]);
        crate::kinds::join(group, json::text(definition, &["spec", "names", "plural"]))
    }

    fn is_empty(&self, definition: &Value) -> bool {
        self.store.list(&Self::storage_of(definition), "").1.is_empty()
    }

    /// Deletes the objects of a definition that is going; those with finalizers wait for them.
    fn empty(&self, definition: &Value) {
        let storage = Self::storage_of(definition);
        if !is_established(definition) {
            return;
        }
        for stored in self.store.list(&storage, "").1 {
            let mut object = stored.value();
            if meta::finalizers(&object).is_empty() {
                let _ = self.store.remove(&storage, &stored, object);
            } else if !meta::is_deleting(&object) {
                json::set(&mut object, &["metadata", "deletionTimestamp"], self.now().into());
                json::set(&mut object, &["metadata", "deletionGracePeriodSeconds"], 0.into());
                let generation = meta::generation(&object) + 1;
                json::set(&mut object, &["metadata", "generation"], generation.into());
                let _ = self.store.replace(&storage, &stored, object);
            }
        }
    }

    /// Removes a definition that has no objects left.
    fn finish(&self, stored: &Arc<Stored>, definition: &Value) {
        let mut last = definition.clone();
        let others: Vec<Value> = json::list(definition, &["metadata", "finalizers"])
            .iter()
            .filter(|name| *name != FINALIZER)
            .cloned()
            .collect();
        if others.is_empty() {
            if self.store.remove(STORAGE, stored, stored.value()).is_ok() && is_established(definition) {
                self.store.drop_kind(&Self::storage_of(definition));
            }
        } else if others.len() != json::list(definition, &["metadata", "finalizers"]).len() {
            json::set(&mut last, &["metadata", "finalizers"], Value::Array(others));
            let _ = self.store.replace(STORAGE, stored, last);
        }
    }
}

/// Notes that the server itself wrote the status of a definition.
fn own(old: &Value, new: &mut Value, now: &str) {
    let entries = managed::read(old);
    let node = crate::kinds::node_of("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let (false, Some(node)) = (entries.is_empty(), node) else { return };
    let manager = Manager {
        name: "kube-apiserver".to_owned(),
        applies: false,
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        subresource: "status".to_owned(),
    };
    let reset = FieldSet::of_paths(&[&["spec"], &["metadata"]]);
    let write = ownership::Write { place: Place::of(node), manager: &manager, now, reset: &reset };
    let entries = write.update(old, new, entries);
    managed::write(new, entries);
}

fn is_established(definition: &Value) -> bool {
    json::list(definition, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

/// Accepts the names of a definition that no other in its group has.
fn names(definition: &mut Value, others: &[Served], now: &str) {
    let group = definition["spec"]["group"].clone();
    let rivals: Vec<&Value> = others.iter().filter(|other| other.group == group).map(|other| &other.names).collect();
    let wanted = definition["spec"]["names"].clone();
    let mut accepted = definition["status"]["acceptedNames"].clone();
    let mut conflict: Option<(&str, String)> = None;
    let taken = |key: &str, name: &str| {
        !name.is_empty()
            && rivals.iter().any(|names| match key {
                "kind" | "listKind" => json::text(names, &["kind"]) == name || json::text(names, &["listKind"]) == name,
                _ => {
                    json::text(names, &["plural"]) == name
                        || json::text(names, &["singular"]) == name
                        || json::list(names, &["shortNames"]).iter().any(|short| short == name)
                }
            })
    };
    for (key, reason) in [
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
        ("kind", "KindConflict"),
        ("listKind", "ListKindConflict"),
    ] {
        let name = json::text(&wanted, &[key]);
        if taken(key, name) {
            conflict = Some((reason, format!("{name:?} is already in use")));
        } else if !name.is_empty() {
            accepted[key] = name.into();
        }
    }
    for key in ["shortNames", "categories"] {
        match wanted.get(key) {
            Some(list) => accepted[key] = list.clone(),
            None => {
                json::remove(&mut accepted, &[key]);
            }
        }
    }
    json::set(definition, &["status", "acceptedNames"], accepted);
    match conflict {
        Some((reason, message)) => {
            condition(definition, "NamesAccepted", "False", reason, &message, now);
            if !is_established(definition) {
                condition(definition, "Established", "False", "NotAccepted", "not all names are accepted", now);
            }
        }
        None => {
            condition(definition, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now);
            condition(definition, "Established", "True", "InitialNamesAccepted", INITIAL, now);
        }
    }
}

fn condition(definition: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    let mut list = json::list(definition, &["status", "conditions"]).to_vec();
    let known = list.iter_mut().find(|condition| condition["type"] == kind);
    let fresh =
        json!({"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message});
    match known {
        Some(condition) if condition["status"] == status && condition["reason"] == reason => return,
        Some(condition) => *condition = fresh,
        None => list.push(fresh),
    }
    json::set(definition, &["status", "conditions"], Value::Array(list));
}
