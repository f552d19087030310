//! `metadata.managedFields`: who owns what, read and written.

use serde_json::{Value, json};

use super::fieldset::FieldSet;
use crate::json;

/// Entries of writers other than appliers that an object keeps; older ones become one.
const UPDATERS_MAX: usize = 10;

/// Who writes: a name, how, in which version, through which path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) applies: bool,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

impl Manager {
    /// Tells whether two entries are one writer's: an applier's version does not count.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.applies == other.applies
            && self.subresource == other.subresource
            && (self.applies || self.api_version == other.api_version)
    }
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: Manager,
    pub(crate) time: Option<String>,
    pub(crate) set: FieldSet,
}

/// Reads `managedFields`; of two entries of one writer the last counts.
pub(crate) fn read(object: &Value) -> Vec<Entry> {
    let mut out: Vec<Entry> = Vec::new();
    for entry in json::list(object, &["metadata", "managedFields"]).iter().filter_map(entry) {
        out.retain(|known| !known.manager.is(&entry.manager));
        out.push(entry);
    }
    out
}

/// Tells whether all entries of an object are of the one form that there is.
pub(crate) fn is_readable(object: &Value) -> bool {
    json::list(object, &["metadata", "managedFields"]).iter().all(|entry| entry["fieldsType"] == "FieldsV1")
}

fn entry(value: &Value) -> Option<Entry> {
    let text = |key: &str| json::text(value, &[key]).to_owned();
    let applies = match value.get("operation")?.as_str()? {
        "Apply" => true,
        "Update" => false,
        _ => return None,
    };
    Some(Entry {
        manager: Manager {
            name: text("manager"),
            applies,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        },
        time: value.get("time").and_then(Value::as_str).map(String::from),
        set: FieldSet::parse(value.get("fieldsV1").unwrap_or(&Value::Null)),
    })
}

/// Tells whether a request asks to forget all owners: a list of one empty entry.
pub(crate) fn is_reset(object: &Value) -> bool {
    matches!(json::list(object, &["metadata", "managedFields"]), [Value::Object(entry)] if entry.is_empty())
}

/// Writes `managedFields`, appliers first, then by time.
pub(crate) fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.set.is_empty());
    cap(&mut entries);
    if entries.is_empty() {
        json::remove(object, &["metadata", "managedFields"]);
        return;
    }
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (!entry.manager.applies, entry.time.clone(), entry.manager.name.clone());
        key(a).cmp(&key(b))
    });
    let list: Vec<Value> = entries.iter().map(to_value).collect();
    json::set(object, &["metadata", "managedFields"], Value::Array(list));
}

fn to_value(entry: &Entry) -> Value {
    let mut out = json!({
        "manager": entry.manager.name,
        "operation": if entry.manager.applies { "Apply" } else { "Update" },
        "apiVersion": entry.manager.api_version,
    });
    if let Some(time) = &entry.time {
        out["time"] = time.as_str().into();
    }
    out["fieldsType"] = "FieldsV1".into();
    out["fieldsV1"] = entry.set.to_value();
    if !entry.manager.subresource.is_empty() {
        out["subresource"] = entry.manager.subresource.as_str().into();
    }
    out
}

/// Joins the oldest updaters where there are too many.
fn cap(entries: &mut Vec<Entry>) {
    let updaters = entries.iter().filter(|entry| !entry.manager.applies).count();
    if updaters <= UPDATERS_MAX {
        return;
    }
    let (mut old, rest): (Vec<_>, Vec<_>) = entries.drain(..).partition(|entry| !entry.manager.applies);
    old.sort_by(|a, b| a.time.cmp(&b.time));
    let recent = old.split_off(updaters - UPDATERS_MAX + 1);
    let mut ancient: Vec<Entry> = Vec::new();
    for entry in old {
        let version = &entry.manager.api_version;
        match ancient.iter_mut().find(|known| known.manager.api_version == *version) {
            Some(known) => {
                known.set = known.set.union(&entry.set);
                known.time = entry.time;
            }
            None => {
                let manager =
                    Manager { name: "ancient-changes".to_owned(), subresource: String::new(), ..entry.manager };
                ancient.push(Entry { manager, ..entry });
            }
        }
    }
    entries.extend(rest);
    entries.extend(ancient);
    entries.extend(recent);
}

/// Tells whether two objects have the same owners, whenever these wrote.
pub(crate) fn same_but_for_times(a: &Value, b: &Value) -> bool {
    let strip = |object: &Value| {
        let mut entries = read(object);
        for entry in &mut entries {
            entry.time = None;
        }
        entries.sort_by(|a, b| {
            let key = |e: &Entry| {
                (
                    e.manager.name.clone(),
                    e.manager.applies,
                    e.manager.subresource.clone(),
                    e.manager.api_version.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        entries
    };
    let count = |object: &Value| json::list(object, &["metadata", "managedFields"]).len();
    count(a) == count(b) && strip(a) == strip(b)
}
