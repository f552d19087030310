//! Which columns the tables of each kind have, and what stands in them.

mod network;
mod others;
mod pods;
mod workloads;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::jsonpath;
use crate::json;
use crate::kinds::Resource;
use crate::time;

/// What stands in a cell.
type Cell = fn(&Value, Timestamp) -> Value;

/// A column: its name, type, priority and cell.
struct Column(&'static str, &'static str, i64, Cell);

/// How many items a cell lists.
const SHOWN_MAX: usize = 3;
const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";
const UNSET: &str = "<unset>";

fn column(name: &str, kind: &str, format: &str, description: &str, priority: i64) -> Value {
    json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority})
}

/// Returns the columns of a kind.
pub(crate) fn of(resource: &Resource) -> Value {
    let name = |priority| column("Name", "string", "name", "The object's name, unique in its namespace.", priority);
    if let Some(custom) = resource.custom() {
        let own = custom.columns.iter().map(|c| column(&c.name, &c.kind, &c.format, &c.description, c.priority));
        return std::iter::once(name(0)).chain(own).collect();
    }
    let own = builtin(resource).iter().map(|Column(name, kind, priority, _)| {
        let format = if matches!(*name, "Name" | "Attacher") { "name" } else { "" };
        column(name, kind, format, &format!("{name} of the object."), *priority)
    });
    if resource.plural == "events" {
        return own.collect();
    }
    std::iter::once(name(0)).chain(own).collect()
}

/// Returns the columns of the scale of an object.
pub(crate) fn of_scale(custom: bool) -> Value {
    let own = SCALES.iter().map(|Column(name, kind, priority, _)| {
        let (kind, format) = match *name {
            "Name" if custom => (*kind, "name"),
            "Age" if custom => ("date", ""),
            _ => (*kind, ""),
        };
        column(name, kind, format, &format!("{name} of the object."), *priority)
    });
    own.collect()
}

/// Returns the cells of the scale of an object.
pub(crate) fn scale_cells(scale: &Value, now: Timestamp) -> Vec<Value> {
    SCALES.iter().map(|Column(_, _, _, cell)| cell(scale, now)).collect()
}

/// Returns the cells of an object.
pub(crate) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut name = object["metadata"]["name"].clone();
    if resource.is("storage.k8s.io", "StorageClass") || resource.is("networking.k8s.io", "IngressClass") {
        name = marked_name(object, &resource.kind);
    }
    if let Some(custom) = resource.custom() {
        let own = custom.columns.iter().map(|own| custom_cell(&own.kind, jsonpath::first(object, &own.path), now));
        return std::iter::once(name).chain(own).collect();
    }
    let own = builtin(resource).iter().map(|Column(_, _, _, cell)| cell(object, now));
    if resource.plural == "events" {
        return own.collect();
    }
    std::iter::once(name).chain(own).collect()
}

/// Names a class, and says so if it is the one that is taken where none is named.
fn marked_name(object: &Value, kind: &str) -> Value {
    let marks: &[&str] = match kind {
        "IngressClass" => &["ingressclass.kubernetes.io/is-default-class"],
        _ => &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"],
    };
    let name = json::text(object, &["metadata", "name"]);
    let marked = marks.iter().any(|mark| json::text(object, &["metadata", "annotations", mark]) == "true");
    if marked { format!("{name} (default)").into() } else { name.into() }
}

fn custom_cell(kind: &str, value: Option<Value>, now: Timestamp) -> Value {
    let Some(value) = value else { return Value::Null };
    match (kind, &value) {
        ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => value,
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) | ("string", Value::String(_) | Value::Null) => {
            value
        }
        ("date", Value::String(text)) if !text.is_empty() && text.parse::<Timestamp>().is_err() => "<invalid>".into(),
        ("date", Value::String(text)) => ago(text, now).into(),
        ("string", other) => json::compact(&json::sorted(other)).into(),
        _ => Value::Null,
    }
}

/// Says how long ago a time was.
fn ago(text: &str, now: Timestamp) -> String {
    text.parse::<Timestamp>().map_or_else(|_| UNKNOWN.to_owned(), |since| time::age(since, now))
}

fn age(object: &Value, now: Timestamp) -> Value {
    ago(json::text(object, &["metadata", "creationTimestamp"]), now).into()
}

fn created(object: &Value, _: Timestamp) -> Value {
    object["metadata"]["creationTimestamp"].clone()
}

fn or(text: &str, instead: &str) -> Value {
    if text.is_empty() { instead.into() } else { text.into() }
}

fn count(object: &Value, key: &str) -> usize {
    object.get(key).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

const AGE: Column = Column("Age", "string", 0, age);
const DEFAULT: &[Column] = &[AGE];
const CREATED: &[Column] = &[Column("Created At", "date", 0, created)];

/// Returns whether a kind has only the columns that every kind without its own has.
pub(crate) fn are_plain(resource: &Resource) -> bool {
    resource.custom().is_none() && builtin(resource).iter().all(|Column(name, ..)| *name == "Created At")
}

/// Returns the columns of a built-in kind after its name.
fn builtin(resource: &Resource) -> &'static [Column] {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pods::COLUMNS,
        ("", "nodes") => NODES,
        ("", "namespaces") => NAMESPACES,
        ("", "configmaps") => CONFIG_MAPS,
        ("", "secrets") => SECRETS,
        ("", "services") => network::SERVICES,
        ("", "endpoints") => network::ENDPOINTS,
        (_, "events") => EVENTS,
        ("", "persistentvolumeclaims") => CLAIMS,
        ("coordination.k8s.io", "leases") => LEASES,
        ("policy", "poddisruptionbudgets") => BUDGETS,
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => BINDINGS,
        ("rbac.authorization.k8s.io", "roles" | "clusterroles")
        | ("apiextensions.k8s.io", "customresourcedefinitions") => CREATED,
        ("apps", "deployments") => workloads::DEPLOYMENTS,
        ("apps", "replicasets") => workloads::REPLICA_SETS,
        ("apps", "statefulsets") => workloads::STATEFUL_SETS,
        ("apps", "daemonsets") => workloads::DAEMON_SETS,
        ("batch", "jobs") => workloads::JOBS,
        ("batch", "cronjobs") => workloads::CRON_JOBS,
        ("storage.k8s.io", "storageclasses") => STORAGE_CLASSES,
        ("scheduling.k8s.io", "priorityclasses") => PRIORITY_CLASSES,
        ("networking.k8s.io", "ingresses") => network::INGRESSES,
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations" | "mutatingwebhookconfigurations") => {
            WEBHOOKS
        }
        (group, plural) => others::of(group, plural).unwrap_or(DEFAULT),
    }
}

const SCALES: &[Column] = &[
    Column("Name", "string", 0, |o, _| o["metadata"]["name"].clone()),
    Column("Desired", "integer", 0, |o, _| json::at(o, &["spec", "replicas"]).cloned().unwrap_or(0.into())),
    Column("Available", "integer", 0, |o, _| json::at(o, &["status", "replicas"]).cloned().unwrap_or(0.into())),
    AGE,
];
const NAMESPACES: &[Column] = &[Column("Status", "string", 0, |o, _| json::text(o, &["status", "phase"]).into()), AGE];
const CONFIG_MAPS: &[Column] =
    &[Column("Data", "string", 0, |o, _| (count(o, "data") + count(o, "binaryData")).into()), AGE];
const SECRETS: &[Column] = &[
    Column("Type", "string", 0, |o, _| o["type"].clone()),
    Column("Data", "string", 0, |o, _| count(o, "data").into()),
    AGE,
];
const LEASES: &[Column] =
    &[Column("Holder", "string", 0, |o, _| json::text(o, &["spec", "holderIdentity"]).into()), AGE];
const WEBHOOKS: &[Column] = &[Column("Webhooks", "integer", 0, |o, _| json::list(o, &["webhooks"]).len().into()), AGE];

const NODES: &[Column] = &[
    Column("Status", "string", 0, node_status),
    Column("Roles", "string", 0, node_roles),
    AGE,
    Column("Version", "string", 0, |o, _| json::text(o, &["status", "nodeInfo", "kubeletVersion"]).into()),
    Column("Internal-IP", "string", 1, |o, _| address(o, "InternalIP")),
    Column("External-IP", "string", 1, |o, _| address(o, "ExternalIP")),
    Column("OS-Image", "string", 1, |o, _| or(json::text(o, &["status", "nodeInfo", "osImage"]), UNKNOWN)),
    Column("Kernel-Version", "string", 1, kernel),
    Column("Container-Runtime", "string", 1, |o, _| {
        or(json::text(o, &["status", "nodeInfo", "containerRuntimeVersion"]), UNKNOWN)
    }),
];

fn kernel(object: &Value, _: Timestamp) -> Value {
    let of = |key: &str| json::text(object, &["status", "nodeInfo", key]);
    let version = if of("kernelVersion").is_empty() { UNKNOWN } else { of("kernelVersion") };
    match of("architecture") {
        "" => version.into(),
        architecture => format!("{version} ({architecture})").into(),
    }
}

fn node_status(object: &Value, _: Timestamp) -> Value {
    let ready = json::list(object, &["status", "conditions"]).iter().find(|condition| condition["type"] == "Ready");
    let mut out = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        out.push_str(",SchedulingDisabled");
    }
    out.into()
}

fn node_roles(object: &Value, _: Timestamp) -> Value {
    let labels = json::at(object, &["metadata", "labels"]).and_then(Value::as_object);
    let role = |(key, value): (&'_ String, &'_ Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().map(String::from),
        None => None,
    };
    let roles: BTreeSet<String> =
        labels.into_iter().flatten().filter_map(role).filter(|role| !role.is_empty()).collect();
    let roles: Vec<String> = roles.into_iter().collect();
    or(&roles.join(","), NONE)
}

fn address(object: &Value, kind: &str) -> Value {
    let found = json::list(object, &["status", "addresses"]).iter().find(|address| address["type"] == kind);
    or(found.map(|address| json::text(address, &["address"])).unwrap_or_default(), NONE)
}

/// Writes labels as one text.
fn labels(value: Option<&Value>) -> Value {
    let map = value.and_then(Value::as_object);
    let mut terms: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    terms.sort();
    or(&terms.join(","), NONE)
}

/// Writes a label selector as one text, its terms sorted by key.
pub(crate) fn selector(value: Option<&Value>) -> String {
    let Some(value) = value else { return String::new() };
    let exact = value.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let mut terms: Vec<(String, String)> =
        exact.map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or_default()))).collect();
    for term in json::list(value, &["matchExpressions"]) {
        let key = json::text(term, &["key"]);
        let mut values: Vec<&str> = json::list(term, &["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match json::text(term, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        terms.push((key.to_owned(), text));
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// Lists the first few items and how many more there are.
fn few(items: &[String], most: usize) -> String {
    let shown = items[..items.len().min(most)].join(if most == 2 { ", " } else { "," });
    match items.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

const EVENTS: &[Column] = &[
    Column("Last Seen", "string", 0, last_seen),
    Column("Type", "string", 0, |o, _| json::text(o, &["type"]).into()),
    Column("Reason", "string", 0, |o, _| json::text(o, &["reason"]).into()),
    Column("Object", "string", 0, event_object),
    Column("Subobject", "string", 1, |o, _| json::text(o, &["involvedObject", "fieldPath"]).into()),
    Column("Source", "string", 1, event_source),
    Column("Message", "string", 0, |o, _| {
        let text = json::text(o, &["message"]);
        if text.is_empty() { json::text(o, &["note"]).trim().into() } else { text.trim().into() }
    }),
    Column("First Seen", "string", 1, |o, now| {
        let first = json::text(o, &["firstTimestamp"]);
        ago(if first.is_empty() { json::text(o, &["eventTime"]) } else { first }, now).into()
    }),
    Column("Count", "string", 1, |o, _| {
        let count = o.get("count").or(o.get("deprecatedCount")).and_then(Value::as_i64);
        count.or(json::at(o, &["series", "count"]).and_then(Value::as_i64)).unwrap_or(1).into()
    }),
    Column("Name", "string", 1, |o, _| o["metadata"]["name"].clone()),
];

fn last_seen(object: &Value, now: Timestamp) -> Value {
    let times = [
        json::text(object, &["series", "lastObservedTime"]),
        json::text(object, &["lastTimestamp"]),
        json::text(object, &["deprecatedLastTimestamp"]),
        json::text(object, &["firstTimestamp"]),
        json::text(object, &["eventTime"]),
    ];
    let last = times.iter().find(|time| !time.is_empty()).copied().unwrap_or_default();
    ago(last, now).into()
}

fn event_object(object: &Value, _: Timestamp) -> Value {
    let target = if object["involvedObject"].is_object() { &object["involvedObject"] } else { &object["regarding"] };
    let kind = json::text(target, &["kind"]).to_lowercase();
    match json::text(target, &["name"]) {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

fn event_source(object: &Value, _: Timestamp) -> Value {
    let source = if object["source"].is_object() { &object["source"] } else { &object["deprecatedSource"] };
    let reporting = ["reportingComponent", "reportingController"].map(|key| json::text(object, &[key]));
    let reporting = if reporting[0].is_empty() { reporting[1] } else { reporting[0] };
    let component = json::text(source, &["component"]);
    let component = if component.is_empty() { reporting } else { component };
    let host = json::text(source, &["host"]);
    let host = if host.is_empty() { json::text(object, &["reportingInstance"]) } else { host };
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

/// Abbreviates ways of access, in their own order.
fn modes(list: &[Value]) -> Value {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let shown = short.iter().filter(|(mode, _)| list.iter().any(|known| known == mode)).map(|(_, short)| *short);
    shown.collect::<Vec<_>>().join(",").into()
}

/// Says what a claim shows of its volume; nothing before it has one.
fn bound(object: &Value, shown: Value) -> Value {
    if json::text(object, &["spec", "volumeName"]).is_empty() { "".into() } else { shown }
}

fn phase(object: &Value, _: Timestamp) -> Value {
    match json::text(object, &["metadata", "deletionTimestamp"]) {
        "" => json::text(object, &["status", "phase"]).into(),
        _ => "Terminating".into(),
    }
}

/// Names the storage class, which an annotation of old may name.
fn storage_class(object: &Value, _: Timestamp) -> Value {
    let old = json::text(object, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
    or(old, json::text(object, &["spec", "storageClassName"]))
}

const CLAIMS: &[Column] = &[
    Column("Status", "string", 0, phase),
    Column("Volume", "string", 0, |o, _| json::text(o, &["spec", "volumeName"]).into()),
    Column("Capacity", "string", 0, |o, _| bound(o, or(json::text(o, &["status", "capacity", "storage"]), "0"))),
    Column("Access Modes", "string", 0, |o, _| bound(o, modes(json::list(o, &["status", "accessModes"])))),
    Column("StorageClass", "string", 0, storage_class),
    Column("VolumeAttributesClass", "string", 0, |o, _| {
        or(json::text(o, &["spec", "volumeAttributesClassName"]), UNSET)
    }),
    AGE,
    Column("VolumeMode", "string", 1, |o, _| or(json::text(o, &["spec", "volumeMode"]), UNSET)),
];

const BUDGETS: &[Column] = &[
    Column("Min Available", "string", 0, |o, _| budget(o, "minAvailable")),
    Column("Max Unavailable", "string", 0, |o, _| budget(o, "maxUnavailable")),
    Column("Allowed Disruptions", "integer", 0, |o, _| {
        json::at(o, &["status", "disruptionsAllowed"]).and_then(Value::as_i64).unwrap_or(0).into()
    }),
    AGE,
];

fn budget(object: &Value, key: &str) -> Value {
    match json::at(object, &["spec", key]) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(number) => number.to_string().into(),
        None => "N/A".into(),
    }
}

const BINDINGS: &[Column] = &[
    Column("Role", "string", 0, |o, _| {
        format!("{}/{}", json::text(o, &["roleRef", "kind"]), json::text(o, &["roleRef", "name"])).into()
    }),
    AGE,
    Column("Users", "string", 1, |o, _| subjects(o, "User")),
    Column("Groups", "string", 1, |o, _| subjects(o, "Group")),
    Column("ServiceAccounts", "string", 1, |o, _| subjects(o, "ServiceAccount")),
];

fn subjects(object: &Value, kind: &str) -> Value {
    let named = json::list(object, &["subjects"]).iter().filter(|subject| subject["kind"] == kind);
    let shown: Vec<String> = named
        .map(|subject| {
            let name = json::text(subject, &["name"]);
            if kind == "ServiceAccount" {
                format!("{}/{name}", json::text(subject, &["namespace"]))
            } else {
                name.to_owned()
            }
        })
        .collect();
    shown.join(", ").into()
}

const STORAGE_CLASSES: &[Column] = &[
    Column("Provisioner", "string", 0, |o, _| o["provisioner"].clone()),
    Column("ReclaimPolicy", "string", 0, |o, _| o["reclaimPolicy"].clone()),
    Column("VolumeBindingMode", "string", 0, |o, _| o["volumeBindingMode"].clone()),
    Column("AllowVolumeExpansion", "string", 0, |o, _| (o["allowVolumeExpansion"] == true).into()),
    AGE,
];

const PRIORITY_CLASSES: &[Column] = &[
    Column("Value", "integer", 0, |o, _| o["value"].clone()),
    Column("Global-Default", "boolean", 0, |o, _| (o["globalDefault"] == true).into()),
    AGE,
    Column("PreemptionPolicy", "string", 0, |o, _| o["preemptionPolicy"].clone()),
];
