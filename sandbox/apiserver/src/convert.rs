//! Events are kept as the core group has them and served by both groups.

use serde_json::{Map, Value};

use crate::kinds::Resource;

/// Fields of events by their names in the core group and in `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn is_new_event(resource: &Resource) -> bool {
    resource.group == "events.k8s.io"
}

/// Brings a stored object into the form of a group.
pub(crate) fn from_storage(resource: &Resource, object: &mut Value) {
    if is_new_event(resource) {
        rename(object, |(old, new)| (old, new), &resource.api_version());
        crate::schema::typed::normalise(resource.node(), object);
    }
}

/// Brings an object into the form in which it is stored.
pub(crate) fn to_storage(resource: &Resource, object: &mut Value) {
    if is_new_event(resource) {
        rename(object, |(old, new)| (new, old), "v1");
        crate::schema::typed::normalise(crate::schema::builtin::node("io.k8s.api.core.v1.Event"), object);
    }
}

fn rename(object: &mut Value, pair: fn((&'static str, &'static str)) -> (&'static str, &'static str), version: &str) {
    let Value::Object(map) = object else { return };
    let renamed: Map<String, Value> = std::mem::take(map)
        .into_iter()
        .map(|(key, value)| {
            let to = EVENT_FIELDS.iter().map(|names| pair(*names)).find(|(from, _)| *from == key).map(|(_, to)| to);
            (to.map_or(key, String::from), value)
        })
        .collect();
    *map = renamed;
    map.insert("apiVersion".to_owned(), version.into());
}
