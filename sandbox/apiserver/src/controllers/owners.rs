//! `managedFields` of what controllers write without a request.

use serde_json::Value;

use super::MANAGER;
use crate::apply::managed::{self, Entry, Manager};
use crate::apply::ownership::Write;
use crate::core::Core;
use crate::json;
use crate::kinds::Resource;
use crate::rest::{ownership, serve};
use crate::schema::Place;

/// Notes the controller as the owner of what it made.
pub(super) fn made(core: &Core, resource: &Resource, new: &mut Value) {
    let entries = part(core, resource, "", (&serve::empty(resource), new), Vec::new());
    managed::write(new, entries);
}

/// Notes the controller as the owner of what it changed, the status apart where the kind has it apart.
pub(super) fn changed(core: &Core, resource: &Resource, old: &Value, new: &mut Value) {
    let entries = managed::read(old);
    // What nobody tracks stays so.
    if entries.is_empty() {
        return;
    }
    let (before, mut after) = (bare(old), bare(new));
    let entries = if resource.splits_status() {
        let all = after.clone();
        json::carry(old, &mut after, &["status"]);
        let entries = part(core, resource, "", (&before, &after), entries);
        part(core, resource, "status", (&after, &all), entries)
    } else {
        part(core, resource, "", (&before, &after), entries)
    };
    managed::write(new, entries);
}

fn part(
    core: &Core,
    resource: &Resource,
    subresource: &str,
    (old, new): (&Value, &Value),
    entries: Vec<Entry>,
) -> Vec<Entry> {
    let manager = Manager {
        name: MANAGER.to_owned(),
        applies: false,
        api_version: resource.api_version(),
        subresource: subresource.to_owned(),
    };
    let reset = ownership::reset_fields(resource, subresource);
    let now = core.now();
    Write { place: Place::of(resource.node()), manager: &manager, now: &now, reset: &reset }.update(old, new, entries)
}

fn bare(object: &Value) -> Value {
    let mut out = object.clone();
    json::remove(&mut out, &["metadata", "managedFields"]);
    out
}
