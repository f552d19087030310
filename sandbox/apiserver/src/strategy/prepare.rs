//! What the server sets itself before an object is stored.

use serde_json::{Value, json};

use crate::auth::User;
use crate::core::Core;
use crate::json;
use crate::kinds::{EXTENSIONS, Resource};
use crate::meta;
use crate::{crd, strategy};

/// Kinds whose status may come with a create.
const STATUS_ON_CREATE: [&str; 2] = ["nodes", "events"];

/// Prepares a new object.
pub(crate) fn create(core: &Core, user: &User, resource: &Resource, object: &mut Value) {
    if strategy::has_generation(resource) {
        json::set(object, &["metadata", "generation"], 1.into());
    }
    if resource.splits_status() && !STATUS_ON_CREATE.contains(&resource.plural.as_str()) {
        json::remove(object, &["status"]);
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.is_custom() => {}
        ("", "namespaces") => {
            let mut finalizers = json::list(object, &["spec", "finalizers"]).to_vec();
            if !finalizers.iter().any(|name| name == "kubernetes") {
                finalizers.push("kubernetes".into());
            }
            json::set(object, &["spec", "finalizers"], Value::Array(finalizers));
            json::set(object, &["status"], json!({"phase": "Active"}));
        }
        ("", "pods") => {
            let grace = json::at(object, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
            if grace.is_some_and(|seconds| seconds < 0) {
                json::set(object, &["spec", "terminationGracePeriodSeconds"], 1.into());
            }
            json::set(object, &["status"], json!({"phase": "Pending", "qosClass": super::defaults::qos(object)}));
            if !json::list(object, &["spec", "schedulingGates"]).is_empty() {
                let waits = json!([{
                    "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": core.now(),
                    "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
                }]);
                json::set(object, &["status", "conditions"], waits);
            }
        }
        ("", "persistentvolumeclaims" | "persistentvolumes") => {
            super::defaults::sources(object);
            json::set(object, &["status", "phase"], "Pending".into());
            if resource.plural == "persistentvolumes" {
                json::set(object, &["status", "lastPhaseTransitionTime"], core.now().into());
            }
        }
        ("", "services") => crate::services::allocate(core, None, object),
        ("certificates.k8s.io", "certificatesigningrequests") => requested_by(user, object),
        ("apps", "daemonsets") => template_generation(object, 1),
        ("batch", "jobs") => super::defaults::job_labels(object),
        (EXTENSIONS, "customresourcedefinitions") => crd::prepare_create(object),
        _ => {}
    }
    if !resource.is_custom() {
        crate::schema::typed::normalise(resource.node(), object);
        // A job takes the labels of its pods only when it is read back.
        if !resource.is("batch", "Job") {
            super::defaults::apply(resource, object);
        }
    }
}

/// Finishes an object after it was checked: what is set here is nobody's mistake.
pub(crate) fn finish(resource: &Resource, object: &mut Value) {
    // Definitions are stored as they are written.
    if resource.is_custom() || resource.group == EXTENSIONS {
        return;
    }
    if resource.is("batch", "Job") {
        super::defaults::apply(resource, object);
    }
    crate::schema::typed::as_stored(resource.node(), object);
}

/// A request for a certificate tells who made it.
fn requested_by(user: &User, object: &mut Value) {
    let Value::Object(own) = user.to_value() else { return };
    for key in ["username", "uid", "groups", "extra"] {
        match own.get(key) {
            Some(value) => json::set(object, &["spec", key], value.clone()),
            None => {
                json::remove(object, &["spec", key]);
            }
        }
    }
}

/// Fills in when a request was approved or denied.
fn decided(now: &str, new: &mut Value) {
    let Some(Value::Array(conditions)) = new.pointer_mut("/status/conditions") else { return };
    for condition in conditions.iter_mut() {
        for key in ["lastUpdateTime", "lastTransitionTime"] {
            if condition.get(key).is_none_or(Value::is_null) {
                condition[key] = now.into();
            }
        }
    }
}

fn template_generation(object: &mut Value, generation: i64) {
    let key = "deprecated.daemonset.template.generation";
    json::set(object, &["metadata", "annotations", key], generation.to_string().into());
}

/// Prepares a changed object: each path of a kind writes its own part.
pub(crate) fn update(core: &Core, resource: &Resource, old: &Value, new: &mut Value, subresource: &str) {
    match subresource {
        "status" => {
            status(resource, old, new);
            if resource.is("", "Pod") {
                align_addresses(new);
            }
            if resource.group == EXTENSIONS {
                crd::stored_somewhere(new);
            }
        }
        "scale" if resource.splits_status() => json::carry(old, new, &["status"]),
        "scale" | "binding" => {}
        "resize" => resized(old, new),
        "finalize" => {
            let finalizers = json::at(new, &["spec", "finalizers"]).cloned().unwrap_or(json!([]));
            let meta = new["metadata"].clone();
            *new = old.clone();
            new["metadata"] = meta;
            json::set(new, &["spec", "finalizers"], finalizers);
        }
        "approval" => {
            json::carry(old, new, &["spec"]);
            decided(&core.now(), new);
        }
        _ => main(core, resource, old, new),
    }
    if !resource.is_custom() {
        crate::schema::typed::normalise(resource.node(), new);
    }
    generation(resource, old, new, subresource);
}

/// Brings a pod's addresses into line: the first of them and the single one are the same, which counts.
fn align_addresses(pod: &mut Value) {
    let single = json::text(pod, &["status", "podIP"]).to_owned();
    let first = json::list(pod, &["status", "podIPs"]).first().map(|first| json::text(first, &["ip"]).to_owned());
    match first {
        Some(first) if single.is_empty() => json::set(pod, &["status", "podIP"], first.into()),
        first if !single.is_empty() && first.as_deref() != Some(&single) => {
            json::set(pod, &["status", "podIPs"], json!([{"ip": single}]));
        }
        _ => {}
    }
}

/// A pod that is resized keeps all but what its containers ask for.
fn resized(old: &Value, new: &mut Value) {
    let mut spec = old.get("spec").cloned().unwrap_or_default();
    for key in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = spec.get_mut(key) else { continue };
        for container in containers {
            let wanted = json::list(new, &["spec", key]).iter().find(|other| other["name"] == container["name"]);
            for part in ["resources", "resizePolicy"] {
                if let Some(wanted) = wanted {
                    json::carry(wanted, container, &[part]);
                }
            }
        }
    }
    new["spec"] = spec;
}

/// A write of status changes nothing else.
fn status(resource: &Resource, old: &Value, new: &mut Value) {
    let Value::Object(all) = new else { return };
    let status = all.get("status").cloned();
    if resource.is_custom() {
        let managed = json::at(new, &["metadata", "managedFields"]).cloned();
        *new = old.clone();
        match managed {
            Some(managed) => json::set(new, &["metadata", "managedFields"], managed),
            None => {
                json::remove(new, &["metadata", "managedFields"]);
            }
        }
    } else {
        let Value::Object(before) = old else { return };
        for (key, value) in before {
            if key != "metadata" && key != "status" {
                all.insert(key.clone(), value.clone());
            }
        }
        all.retain(|key, _| before.contains_key(key) || key == "status");
        for key in ["ownerReferences", "deletionTimestamp", "finalizers"] {
            json::carry(old, new, &["metadata", key]);
        }
        if resource.is("apps", "Deployment") {
            json::carry(old, new, &["metadata", "labels"]);
        }
    }
    match status {
        Some(status) => json::set(new, &["status"], status),
        None => {
            json::remove(new, &["status"]);
        }
    }
}

fn main(core: &Core, resource: &Resource, old: &Value, new: &mut Value) {
    if resource.splits_status() {
        json::carry(old, new, &["status"]);
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.is_custom() => {}
        ("", "namespaces") => json::carry(old, new, &["spec", "finalizers"]),
        ("", "services") => crate::services::allocate(core, Some(old), new),
        ("apps", "daemonsets") => {
            let key = "deprecated.daemonset.template.generation";
            let known = json::text(old, &["metadata", "annotations", key]).parse::<i64>().unwrap_or(1);
            let same = json::at(old, &["spec", "template"]) == json::at(new, &["spec", "template"]);
            template_generation(new, if same { known } else { known + 1 });
        }
        (EXTENSIONS, "customresourcedefinitions") => crd::prepare_update(old, new),
        _ => {}
    }
}

/// Counts a generation for each change of what is wanted.
fn generation(resource: &Resource, old: &Value, new: &mut Value, subresource: &str) {
    // A driver begins without a generation.
    let counts = strategy::has_generation(resource) && !resource.is("scheduling.k8s.io", "PriorityClass");
    if !(counts || resource.is("storage.k8s.io", "CSIDriver"))
        || matches!(subresource, "status" | "approval" | "binding")
    {
        return;
    }
    let wanted = |object: &Value| {
        let mut out = object.clone();
        if let Value::Object(map) = &mut out {
            map.shift_remove("metadata");
            if resource.splits_status() || !resource.is_custom() {
                map.shift_remove("status");
            }
        }
        out
    };
    // Annotations of a Deployment reach its ReplicaSets, so they count as something wanted.
    let annotations = |object: &Value| json::at(object, &["metadata", "annotations"]).cloned().unwrap_or_default();
    let noted = resource.is("apps", "Deployment") && !json::same(&annotations(old), &annotations(new));
    // What an EndpointSlice's labels say is what it is about.
    let labels = |object: &Value| json::at(object, &["metadata", "labels"]).cloned().unwrap_or_default();
    let noted = noted || (resource.plural == "endpointslices" && !json::same(&labels(old), &labels(new)));
    let marked = noted || (meta::is_deleting(new) && !meta::is_deleting(old));
    if marked || !json::same(&wanted(old), &wanted(new)) {
        json::set(new, &["metadata", "generation"], (meta::generation(old) + 1).into());
    }
}
