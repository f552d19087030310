//! Kinds that are served in two forms: events are kept as the core group has them, autoscalers as version 2 does.

use serde_json::{Map, Value, json};

use crate::json;
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
    if is_old_autoscaler(resource) {
        autoscaler_to_v1(object);
        crate::schema::typed::normalise(resource.node(), object);
    }
}

/// Brings an object into the form in which it is stored.
pub(crate) fn to_storage(resource: &Resource, object: &mut Value) {
    if is_new_event(resource) {
        rename(object, |(old, new)| (new, old), "v1");
        crate::schema::typed::normalise(crate::schema::builtin::node("io.k8s.api.core.v1.Event"), object);
    }
    if is_old_autoscaler(resource) {
        autoscaler_from_v1(object);
        let node = crate::schema::builtin::node("io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler");
        crate::schema::typed::normalise(node, object);
    }
}

fn is_old_autoscaler(resource: &Resource) -> bool {
    resource.group == "autoscaling" && resource.version == "v1"
}

/// Tells whether a metric is the one that version 1 has a field for.
fn is_cpu(metric: &Value) -> bool {
    json::text(metric, &["resource", "name"]) == "cpu"
        && json::text(metric, &["resource", "target", "type"]) == "Utilization"
}

fn autoscaler_to_v1(object: &mut Value) {
    let metrics = json::remove(object, &["spec", "metrics"]).unwrap_or_default();
    let target = metrics.as_array().into_iter().flatten().find(|metric| is_cpu(metric));
    if let Some(share) = target.and_then(|metric| json::at(metric, &["resource", "target", "averageUtilization"])) {
        json::set(object, &["spec", "targetCPUUtilizationPercentage"], share.clone());
    }
    for path in [&["spec", "behavior"][..], &["status", "currentMetrics"], &["status", "conditions"]] {
        json::remove(object, path);
    }
    object["apiVersion"] = "autoscaling/v1".into();
}

fn autoscaler_from_v1(object: &mut Value) {
    if let Some(share) = json::remove(object, &["spec", "targetCPUUtilizationPercentage"]) {
        let target = json!({"type": "Utilization", "averageUtilization": share});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        json::set(object, &["spec", "metrics"], json!([metric]));
    }
    json::remove(object, &["status", "currentCPUUtilizationPercentage"]);
    object["apiVersion"] = "autoscaling/v2".into();
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
