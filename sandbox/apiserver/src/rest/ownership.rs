//! `managedFields` of writes through the API.

use serde_json::Value;

use super::Write;
use super::serve;
use crate::apply::fieldset::FieldSet;
use crate::apply::managed::{self, Entry, Manager};
use crate::apply::ownership::{self, Applied};
use crate::json;
use crate::kinds::Resource;
use crate::meta::ANNOTATIONS_MAX;
use crate::schema::Place;
use crate::status::Status;

/// The manager of what `kubectl apply` writes by itself.
const CLIENT_SIDE: &str = "kubectl-client-side-apply";
/// The manager of what `kubectl apply --server-side` writes.
const SERVER_SIDE: &str = "kubectl";
/// Where `kubectl apply` by itself notes what it applied.
const NOTE: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Fields that a path of a kind does not write.
pub(crate) fn reset_fields(resource: &Resource, subresource: &str) -> FieldSet {
    match subresource {
        "status" if resource.is_custom() => FieldSet::of_paths(&[&["spec"], &["metadata"]]),
        "status" if resource.is("apps", "Deployment") => FieldSet::of_paths(&[&["spec"], &["metadata", "labels"]]),
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
    if live.is_some() && managed::is_reset(new) {
        json::remove(new, &["metadata", "managedFields"]);
        return;
    }
    // Who sends owners that cannot be read changes none.
    let mut entries = if managed::is_readable(new) { managed::read(new) } else { Vec::new() };
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
    let again = (manager.name == "kubectl" && !write.options.force).then(|| entries.clone());
    let Applied { object, entries } = match mover.apply(&live, applied, entries, write.options.force) {
        Ok(applied) => applied,
        Err(refused) => match again.filter(|entries| only_client_side(&live, &refused, entries)) {
            Some(entries) => mover.apply(&live, applied, entries, true)?,
            None => return Err(refused),
        },
    };
    Ok((object, entries))
}

/// Keeps the note of `kubectl apply` true where there is one, so that its user can go back to applying without the server;
/// `sent` is what was applied, as it came.
pub(crate) fn note(write: &Write<'_>, object: &mut Value, sent: &Value) {
    let place = ["metadata", "annotations", NOTE];
    if write.options.manager != SERVER_SIDE || json::text(object, &place).is_empty() {
        return;
    }
    let mut noted = sent.clone();
    json::remove(&mut noted, &place);
    // As Go writes it.
    let text = json::sorted(&noted).to_string();
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    json::set(object, &place, format!("{text}\n").into());
    let all = json::at(object, &place[..2]).and_then(Value::as_object);
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if all.into_iter().flatten().map(size).sum::<usize>() > ANNOTATIONS_MAX {
        json::remove(object, &place);
    }
}

/// `kubectl apply` without and with the server are one and the same to their user: what the first wrote and noted, the
/// second may change.
fn only_client_side(live: &Value, refused: &Status, entries: &[Entry]) -> bool {
    let noted = json::text(live, &["metadata", "annotations", NOTE]);
    let Ok(noted) = serde_json::from_str::<Value>(noted) else { return false };
    let client = entries.iter().any(|entry| entry.manager.name == CLIENT_SIDE && !entry.manager.applies);
    let own = |cause: &crate::status::Cause| {
        let by = format!("conflict with {CLIENT_SIDE:?}");
        cause.message.starts_with(&by) && has(&noted, &cause.field)
    };
    let causes = refused.details.as_deref().map(|details| details.causes.as_slice()).unwrap_or_default();
    client && !causes.is_empty() && causes.iter().all(own)
}

/// Says whether an object has a path such as `.data.a`; of a list it is enough that it is there.
fn has(value: &Value, path: &str) -> bool {
    if path.is_empty() || path.starts_with('[') {
        return true;
    }
    let Some(path) = path.strip_prefix('.') else { return false };
    // Keys may have dots of their own.
    value.as_object().into_iter().flatten().any(|(key, inner)| {
        path.strip_prefix(key.as_str())
            .is_some_and(|rest| (rest.is_empty() || rest.starts_with(['.', '['])) && has(inner, rest))
    })
}
