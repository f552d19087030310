//! First appearances: facts about objects by role, with the place of the write that first showed them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

/// Fact, the number of the write that first showed it, and its time in seconds.
pub(crate) type Facts = BTreeMap<String, (usize, f64)>;

/// One write.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Seconds since the start, where a recording tells them.
    pub(crate) at: f64,
    pub(crate) kind: String,
    pub(crate) object: Value,
}

/// Reads a recording.
pub(crate) fn read(path: &Path) -> Vec<Event> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let event = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        Event {
            at: value["t"].as_f64().unwrap(),
            kind: value["type"].as_str().unwrap().to_owned(),
            object: value["object"].clone(),
        }
    };
    text.lines().map(event).collect()
}

fn begins_deletion(event: &Event) -> bool {
    event.object["kind"] == "Cluster" && !event.object["metadata"]["deletionTimestamp"].is_null()
}

/// The part before the Cluster is deleted.
pub(crate) fn until_deletion(events: &[Event]) -> &[Event] {
    &events[..events.iter().position(begins_deletion).unwrap_or(events.len())]
}

/// The part from the Cluster's deletion on.
pub(crate) fn from_deletion(events: &[Event]) -> &[Event] {
    &events[events.iter().position(begins_deletion).unwrap_or(events.len())..]
}

/// The facts that the writes show.
pub(crate) fn firsts(events: &[Event]) -> Facts {
    let mut facts = Facts::new();
    for (at, event) in events.iter().enumerate() {
        if event.object["kind"] == "Event" {
            continue;
        }
        for fact in of(event) {
            facts.entry(fact).or_insert((at, event.at));
        }
    }
    facts
}

fn of(event: &Event) -> Vec<String> {
    let object = &event.object;
    let role = role(object);
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let mut facts = Vec::new();
    let mut add = |fact: String| facts.push(format!("{role} {fact}"));
    match event.kind.as_str() {
        "ADDED" => add("added".to_owned()),
        "DELETED" => add("deleted".to_owned()),
        _ => {}
    }
    if meta["finalizers"].as_array().is_some_and(|list| !list.is_empty()) {
        add("finalizer".to_owned());
    }
    if !meta["deletionTimestamp"].is_null() {
        add("deletionTimestamp".to_owned());
    }
    for owner in meta["ownerReferences"].as_array().into_iter().flatten() {
        let star = if owner["controller"] == true { "*" } else { "" };
        add(format!("owner {}{star}", owner["kind"].as_str().unwrap_or_default()));
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let at = |key: &str| condition[key].as_str().unwrap_or_default();
        let reason = if at("type") == "Deleting" { format!("/{}", at("reason")) } else { String::new() };
        add(format!("{}={}{reason}", at("type"), at("status")));
    }
    if let Some(phase) = status["phase"].as_str() {
        add(format!("phase {phase}"));
    }
    for (key, value) in status["initialization"].as_object().into_iter().flatten() {
        add(format!("init.{key}={value}"));
    }
    if let Some(generation) = status["observedGeneration"].as_i64() {
        add(format!("observed {generation}"));
    }
    for field in ["replicas", "readyReplicas", "availableReplicas", "upToDateReplicas"] {
        if let Some(number) = status[field].as_i64() {
            add(format!("status.{field}{}", sign(number)));
        }
    }
    for field in ["version", "nodeRef", "dataSecretName"] {
        if !status[field].is_null() {
            add(format!("status.{field}"));
        }
    }
    if role == "Cluster" {
        for part in ["controlPlane", "workers"] {
            for (key, value) in status[part].as_object().into_iter().flatten() {
                add(format!("{part}.{key}{}", sign(value.as_i64().unwrap_or(0))));
            }
        }
    }
    for (pointer, name) in [("providerID", "providerID"), ("controlPlaneEndpoint", "endpoint")] {
        if !spec[pointer].is_null() {
            add(name.to_owned());
        }
    }
    if !spec["bootstrap"]["dataSecretName"].is_null() {
        add("spec.dataSecretName".to_owned());
    }
    facts
}

fn sign(number: i64) -> &'static str {
    if number == 0 { "=0" } else { ">0" }
}

/// The kind, with what the object is for where a kind has several uses.
fn role(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let master = !object["metadata"]["labels"]["cluster.x-k8s.io/control-plane"].is_null();
    match kind {
        "Machine" | "KubeadmConfig" | "DevMachine" => format!("{kind}/{}", if master { "master" } else { "worker" }),
        "Secret" => {
            let part = name.trim_start_matches("demo-");
            match part {
                "ca" | "etcd" | "sa" | "proxy" => "Secret/certificates".to_owned(),
                "kubeconfig" => "Secret/kubeconfig".to_owned(),
                _ if part.starts_with("cp-") => "Secret/bootstrap-master".to_owned(),
                _ => "Secret/bootstrap-worker".to_owned(),
            }
        }
        _ => kind.to_owned(),
    }
}
