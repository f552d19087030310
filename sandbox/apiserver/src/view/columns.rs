//! Which columns the tables of each kind have, and what stands in them.

mod others;
mod pods;
mod workloads;

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

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

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
        let format = if *name == "Name" { "name" } else { "" };
        column(name, kind, format, &format!("{name} of the object."), *priority)
    });
    if resource.plural == "events" {
        return own.collect();
    }
    std::iter::once(name(0)).chain(own).collect()
}

/// Returns the cells of an object.
pub(crate) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
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

fn custom_cell(kind: &str, value: Option<Value>, now: Timestamp) -> Value {
    let Some(value) = value else { return Value::Null };
    match (kind, &value) {
        ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => value,
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) | ("string", Value::String(_) | Value::Null) => {
            value
        }
        ("date", Value::String(text)) => ago(text, now).into(),
        ("string", other) => json::compact(other).into(),
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

/// Returns the columns of a built-in kind after its name.
fn builtin(resource: &Resource) -> &'static [Column] {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pods::COLUMNS,
        ("", "nodes") => NODES,
        ("", "namespaces") => NAMESPACES,
        ("", "configmaps") => CONFIG_MAPS,
        ("", "secrets") => SECRETS,
        ("", "services") => SERVICES,
        ("", "endpoints") => ENDPOINTS,
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
        ("networking.k8s.io", "ingresses") => INGRESSES,
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations" | "mutatingwebhookconfigurations") => {
            WEBHOOKS
        }
        (group, plural) => others::of(group, plural).unwrap_or(DEFAULT),
    }
}

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
    Column("Kernel-Version", "string", 1, |o, _| or(json::text(o, &["status", "nodeInfo", "kernelVersion"]), UNKNOWN)),
    Column("Container-Runtime", "string", 1, |o, _| {
        or(json::text(o, &["status", "nodeInfo", "containerRuntimeVersion"]), UNKNOWN)
    }),
];

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
    let mut roles: Vec<&str> =
        labels.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    roles.sort_unstable();
    or(&roles.join(","), NONE)
}

fn address(object: &Value, kind: &str) -> Value {
    let found = json::list(object, &["status", "addresses"]).iter().find(|address| address["type"] == kind);
    or(found.map(|address| json::text(address, &["address"])).unwrap_or_default(), NONE)
}

const SERVICES: &[Column] = &[
    Column("Type", "string", 0, |o, _| json::text(o, &["spec", "type"]).into()),
    Column("Cluster-IP", "string", 0, |o, _| or(json::text(o, &["spec", "clusterIP"]), NONE)),
    Column("External-IP", "string", 0, external_ip),
    Column("Port(s)", "string", 0, ports),
    AGE,
    Column("Selector", "string", 1, |o, _| labels(json::at(o, &["spec", "selector"]))),
];

fn external_ip(object: &Value, _: Timestamp) -> Value {
    let ingress = json::list(object, &["status", "loadBalancer", "ingress"]);
    let shown: Vec<&str> = ingress
        .iter()
        .map(|one| {
            if json::text(one, &["ip"]).is_empty() { json::text(one, &["hostname"]) } else { json::text(one, &["ip"]) }
        })
        .collect();
    match json::text(object, &["spec", "type"]) {
        "LoadBalancer" if shown.is_empty() => "<pending>".into(),
        "LoadBalancer" => shown.join(",").into(),
        "ExternalName" => json::text(object, &["spec", "externalName"]).into(),
        _ => NONE.into(),
    }
}

fn ports(object: &Value, _: Timestamp) -> Value {
    let shown: Vec<String> = json::list(object, &["spec", "ports"])
        .iter()
        .map(|port| {
            let node = port.get("nodePort").and_then(Value::as_i64).map(|node| format!(":{node}")).unwrap_or_default();
            format!("{}{node}/{}", port["port"], json::text(port, &["protocol"]))
        })
        .collect();
    or(&shown.join(","), NONE)
}

/// Writes labels as one text.
fn labels(value: Option<&Value>) -> Value {
    let map = value.and_then(Value::as_object);
    let mut terms: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    terms.sort();
    or(&terms.join(","), NONE)
}

const ENDPOINTS: &[Column] = &[
    Column("Endpoints", "string", 0, |o, _| {
        let mut shown = Vec::new();
        for subset in json::list(o, &["subsets"]) {
            for address in json::list(subset, &["addresses"]) {
                for port in json::list(subset, &["ports"]) {
                    shown.push(format!("{}:{}", json::text(address, &["ip"]), port["port"]));
                }
            }
        }
        or(&shown.join(","), NONE)
    }),
    AGE,
];

const EVENTS: &[Column] = &[
    Column("Last Seen", "string", 0, last_seen),
    Column("Type", "string", 0, |o, _| o["type"].clone()),
    Column("Reason", "string", 0, |o, _| o["reason"].clone()),
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
    format!("{}/{}", json::text(target, &["kind"]).to_lowercase(), json::text(target, &["name"])).into()
}

fn event_source(object: &Value, _: Timestamp) -> Value {
    let source = if object["source"].is_object() { &object["source"] } else { &object["deprecatedSource"] };
    let component = json::text(source, &["component"]);
    let component = if component.is_empty() { json::text(object, &["reportingComponent"]) } else { component };
    let host = json::text(source, &["host"]);
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

/// Abbreviates ways of access.
fn modes(list: &[Value]) -> Value {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOncePod" => "RWOP".to_owned(),
        "ReadOnlyMany" => "ROX".to_owned(),
        "ReadWriteMany" => "RWX".to_owned(),
        other => other.chars().filter(char::is_ascii_uppercase).collect(),
    };
    list.iter().map(short).collect::<Vec<_>>().join(",").into()
}

const CLAIMS: &[Column] = &[
    Column("Status", "string", 0, |o, _| json::text(o, &["status", "phase"]).into()),
    Column("Volume", "string", 0, |o, _| json::text(o, &["spec", "volumeName"]).into()),
    Column("Capacity", "string", 0, |o, _| json::text(o, &["status", "capacity", "storage"]).into()),
    Column("Access Modes", "string", 0, |o, _| modes(json::list(o, &["status", "accessModes"]))),
    Column("StorageClass", "string", 0, |o, _| json::text(o, &["spec", "storageClassName"]).into()),
    Column("VolumeAttributesClass", "string", 0, |_, _| "<unset>".into()),
    AGE,
    Column("VolumeMode", "string", 1, |o, _| json::text(o, &["spec", "volumeMode"]).into()),
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

const INGRESSES: &[Column] = &[
    Column("Class", "string", 0, |o, _| or(json::text(o, &["spec", "ingressClassName"]), NONE)),
    Column("Hosts", "string", 0, |o, _| {
        let hosts: Vec<&str> = json::list(o, &["spec", "rules"])
            .iter()
            .map(|rule| json::text(rule, &["host"]))
            .filter(|h| !h.is_empty())
            .collect();
        or(&hosts.join(","), "*")
    }),
    Column("Address", "string", 0, |o, _| {
        let ingress = json::list(o, &["status", "loadBalancer", "ingress"]);
        ingress.iter().map(|one| json::text(one, &["ip"])).collect::<Vec<_>>().join(",").into()
    }),
    Column("Ports", "string", 0, |o, _| {
        if json::list(o, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" }.into()
    }),
    AGE,
];
