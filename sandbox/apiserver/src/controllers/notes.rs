//! Events of the controllers; one that is told again is counted.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::owners;
use crate::core::Core;
use crate::json;
use crate::meta;
use crate::store::Key;

/// What is told about an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note<'a> {
    pub(crate) warning: bool,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    pub(crate) component: &'a str,
}

/// Tells of an object, unless it was told since a time: what is looked at often is told once.
pub(crate) fn tell_once(core: &Core, about: &Value, note: Note<'_>, since: Timestamp) {
    let told = core.store.get("events", &key(about, note)).map(|stored| stored.value());
    let last = told.and_then(|event| json::text(&event, &["lastTimestamp"]).parse::<Timestamp>().ok());
    if last.is_none_or(|last| last < since) {
        tell(core, about, note);
    }
}

/// Names the event by what it says, so that it is found again.
fn key(about: &Value, note: Note<'_>) -> Key {
    let mut hash = Sha256::new();
    for part in [meta::uid(about), note.reason, note.message, note.component] {
        hash.update(part);
        hash.update([0]);
    }
    let mark: String = crate::names::hex(&hash.finalize()).chars().take(16).collect();
    let name = format!("{}.{mark}", meta::name(about));
    Key::new(meta::namespace(about), &name)
}

/// Tells of an object of a namespace.
pub(crate) fn tell(core: &Core, about: &Value, note: Note<'_>) {
    let namespace = meta::namespace(about);
    let key = key(about, note);
    let name = key.name.to_string();
    let now = core.now();
    if let Some(stored) = core.store.get("events", &key) {
        let mut event = stored.value();
        event["count"] = (event["count"].as_i64().unwrap_or(1) + 1).into();
        event["lastTimestamp"] = now.into();
        let _ = core.store.replace("events", &stored, event);
        return;
    }
    let mut event = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": namespace, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now,
        },
        "involvedObject": {
            "kind": about["kind"], "namespace": namespace, "name": meta::name(about), "uid": meta::uid(about),
            "apiVersion": about["apiVersion"], "resourceVersion": json::text(about, &["metadata", "resourceVersion"]),
        },
        "reason": note.reason, "message": note.message, "source": {"component": note.component},
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        "type": if note.warning { "Warning" } else { "Normal" },
        "eventTime": null, "reportingComponent": note.component, "reportingInstance": "",
    });
    if let Some(resource) = core.registry.now().find("", "v1", "events") {
        owners::made(core, &resource, &mut event);
    }
    let _ = core.store.create("events", key, event);
}
