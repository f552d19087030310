//! `managedFields` of writes through the API.

use serde_json::Value;

use super::Write;
use super::serve;
use crate::apply::fieldset::FieldSet;
use crate::apply::managed::{self, Entry, Manager};
use crate::apply::ownership::{self, Applied};
use crate::json;
use crate::kinds::Resource;
use crate::schema::Place;
use crate::status::Status;

/// Fields that a path of a kind does not write.
pub(crate) fn reset_fields(resource: &Resource, subresource: &str) -> FieldSet {
    match subresource {
        "status" if resource.is_custom() => FieldSet::of_paths(&[&["spec"], &["metadata"]]),
        "status" => {
            FieldSet::of_paths(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]])
        }
        _ if resource.splits_status() => FieldSet::of_paths(&[&["status"]]),
        _ => FieldSet::default(),
    }
}

fn manager(write: &Write<'_>, applies: bool) -> Manager {
    Manager {
        name: write.options.manager.clone(),
        applies,
        api_version: write.resource.api_version(),
        subresource: write.subresource.to_owned(),
    }
}

fn bare(object: &Value) -> Value {
    let mut out = object.clone();
    json::remove(&mut out, &["metadata", "managedFields"]);
    out
}

/// Writes the owners of an object that an update (or create, with no live object) brings.
pub(crate) fn on_update(write: &Write<'_>, live: Option<&Value>, new: &mut Value, now: &str) {
    if managed::is_reset(new) {
        json::remove(new, &["metadata", "managedFields"]);
        return;
    }
    let mut entries = managed::read(new);
    if entries.is_empty() {
        entries = live.map(managed::read).unwrap_or_default();
    }
    // An object whose owners nobody tracked stays so until somebody applies.
    if entries.is_empty() && live.is_some() {
        json::remove(new, &["metadata", "managedFields"]);
        return;
    }
    let empty = serve::empty(write.resource);
    let live = live.map_or(empty, bare);
    let manager = manager(write, false);
    let reset = reset_fields(write.resource, write.subresource);
    let mover = ownership::Write { place: Place::of(write.resource.node()), manager: &manager, now, reset: &reset };
    let entries = mover.update(&live, &bare(new), entries);
    managed::write(new, entries);
}

/// Merges an applied object into the live one and writes the owners.
pub(crate) fn on_apply(
    write: &Write<'_>,
    live: Option<&Value>,
    applied: &Value,
    now: &str,
) -> Result<(Value, Vec<Entry>), Status> {
    let manager = manager(write, true);
    let reset = reset_fields(write.resource, write.subresource);
    let place = Place::of(write.resource.node());
    let mut entries = live.map(managed::read).unwrap_or_default();
    let empty = serve::empty(write.resource);
    if let (Some(live), true) = (live, entries.is_empty()) {
        let before = Manager { name: "before-first-apply".to_owned(), applies: false, ..manager.clone() };
        let mover = ownership::Write { place, manager: &before, now, reset: &reset };
        entries = mover.update(&empty, &bare(live), Vec::new());
    }
    let mover = ownership::Write { place, manager: &manager, now, reset: &reset };
    let live = live.map_or(empty, bare);
    let Applied { object, entries } = mover.apply(&live, applied, entries, write.options.force)?;
    Ok((object, entries))
}
