//! Volumes and the claims to them: who has which, and how long what is in use stays.

use std::sync::Arc;

use serde_json::{Value, json};

use super::notes::{self, Note};
use super::{News, concerns, store};
use crate::core::Core;
use crate::json;
use crate::kinds::Resource;
use crate::meta;
use crate::quantity;
use crate::selector::LabelSelector;
use crate::store::{Key, Stored};

const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const CLASSES: &str = "volumeattributesclasses";
const COMPONENT: &str = "persistentvolume-controller";
const BOUND_BY_US: &str = "pv.kubernetes.io/bound-by-controller";
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// Both kinds.
struct Kinds {
    claims: Arc<Resource>,
    volumes: Arc<Resource>,
}

/// Brings claims and volumes together, and lets go of what nobody uses any more.
pub(crate) fn look(core: &Core, news: &[News]) {
    if !concerns(news, &[CLAIMS, VOLUMES, CLASSES, "pods", "storageclasses"]) {
        return;
    }
    let kinds = core.registry.now();
    if let Some(classes) = kinds.find("storage.k8s.io", "v1", CLASSES) {
        for stored in core.store.list(&classes.storage, "").1 {
            class(core, &classes, &stored);
        }
    }
    let (claims, volumes) = (kinds.find("", "v1", CLAIMS), kinds.find("", "v1", VOLUMES));
    let (Some(claims), Some(volumes)) = (claims, volumes) else { return };
    let kinds = Kinds { claims, volumes };
    for stored in core.store.list(VOLUMES, "").1 {
        volume(core, &kinds, &stored);
    }
    for stored in core.store.list(CLAIMS, "").1 {
        let object = stored.value();
        if meta::is_deleting(&object) {
            let used = core.builtin_list("pods", &stored.key.namespace).iter().any(|pod| uses(pod, &stored.key.name));
            if !used {
                release(core, &kinds.claims, &stored, object, "kubernetes.io/pvc-protection");
            }
        } else if json::text(&object, &["status", "phase"]) != "Bound" {
            claim(core, &kinds, &stored, object);
        }
    }
}

/// Says whether a pod that was placed on a node uses a claim.
fn uses(pod: &Value, claim: &str) -> bool {
    let placed = !json::text(pod, &["spec", "nodeName"]).is_empty();
    let ended = matches!(json::text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    let volumes = json::list(pod, &["spec", "volumes"]);
    placed && !ended && volumes.iter().any(|v| json::text(v, &["persistentVolumeClaim", "claimName"]) == claim)
}

/// Takes the finalizer off that holds what is in use.
fn release(core: &Core, resource: &Arc<Resource>, stored: &Stored, mut object: Value, finalizer: &str) {
    let mut left = json::list(&object, &["metadata", "finalizers"]).to_vec();
    let before = left.len();
    left.retain(|name| name != finalizer);
    if left.len() == before {
        return;
    }
    if left.is_empty() {
        if let Ok(gone) = core.store.remove(&resource.storage, stored, object) {
            core.after_delete(resource, &gone);
        }
    } else {
        json::set(&mut object, &["metadata", "finalizers"], Value::Array(left));
        store(core, resource, stored, object);
    }
}

/// Lets go of a class of attributes that no claim or volume has any more.
fn class(core: &Core, classes: &Arc<Resource>, stored: &Stored) {
    let object = stored.value();
    if !meta::is_deleting(&object) {
        return;
    }
    let has = |one: &Value, path: &[&str]| json::text(one, path) == &*stored.key.name;
    let wants = |one: &Value| has(one, &["spec", "volumeAttributesClassName"]);
    let used = core.builtin_list(VOLUMES, "").iter().any(wants)
        || core
            .builtin_list(CLAIMS, "")
            .iter()
            .any(|claim| wants(claim) || has(claim, &["status", "currentVolumeAttributesClassName"]));
    if !used {
        release(core, classes, stored, object, "kubernetes.io/vac-protection");
    }
}

/// Says what state a volume is in.
fn volume(core: &Core, kinds: &Kinds, stored: &Stored) {
    let mut object = stored.value();
    let phase = json::text(&object, &["status", "phase"]).to_owned();
    if meta::is_deleting(&object) && phase != "Bound" {
        release(core, &kinds.volumes, stored, object, "kubernetes.io/pv-protection");
        return;
    }
    let reference = &object["spec"]["claimRef"];
    let uid = json::text(reference, &["uid"]);
    let wanted = if uid.is_empty() {
        "Available"
    } else {
        let claim = core.builtin(CLAIMS, json::text(reference, &["namespace"]), json::text(reference, &["name"]));
        match claim {
            Some(claim) if meta::uid(&claim) == uid => "Bound",
            _ => "Released",
        }
    };
    if phase != wanted {
        json::set(&mut object, &["status", "phase"], wanted.into());
        json::set(&mut object, &["status", "lastPhaseTransitionTime"], core.now().into());
        store(core, &kinds.volumes, stored, object);
    }
}

/// Finds a claim its volume, or tells why it has none.
fn claim(core: &Core, kinds: &Kinds, stored: &Stored, mut object: Value) {
    let Some(found) = fitting(core, &object) else {
        pending(core, &object);
        return;
    };
    let mut volume = found.value();
    let reference = json!({
        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": meta::namespace(&object),
        "name": meta::name(&object), "uid": meta::uid(&object),
        "resourceVersion": json::text(&object, &["metadata", "resourceVersion"]),
    });
    json::set(&mut volume, &["spec", "claimRef"], reference);
    json::set(&mut volume, &["metadata", "annotations", BOUND_BY_US], "yes".into());
    json::set(&mut volume, &["status", "phase"], "Bound".into());
    json::set(&mut volume, &["status", "lastPhaseTransitionTime"], core.now().into());
    if !store(core, &kinds.volumes, &found, volume.clone()) {
        return;
    }
    let chosen = json::text(&object, &["spec", "volumeName"]).is_empty();
    json::set(&mut object, &["spec", "volumeName"], meta::name(&volume).into());
    if chosen {
        json::set(&mut object, &["metadata", "annotations", BOUND_BY_US], "yes".into());
    }
    json::set(&mut object, &["metadata", "annotations", COMPLETED], "yes".into());
    json::set(&mut object, &["status", "phase"], "Bound".into());
    json::set(&mut object, &["status", "accessModes"], volume["spec"]["accessModes"].clone());
    json::set(&mut object, &["status", "capacity"], volume["spec"]["capacity"].clone());
    store(core, &kinds.claims, stored, object);
}

/// Finds the smallest free volume that has all that a claim asks for.
fn fitting(core: &Core, claim: &Value) -> Option<Arc<Stored>> {
    let named = json::text(claim, &["spec", "volumeName"]);
    if !named.is_empty() {
        let stored = core.store.get(VOLUMES, &Key::new("", named))?;
        return free(&stored.value(), claim).then_some(stored);
    }
    let class = json::text(claim, &["spec", "storageClassName"]);
    let waits = core.builtin("storage.k8s.io/storageclasses", "", class);
    if waits.is_some_and(|class| class["volumeBindingMode"] == "WaitForFirstConsumer") {
        return None;
    }
    let size = |value: &Value, path: &[&str]| quantity::nanos(json::text(value, path)).unwrap_or(0);
    let asked = size(claim, &["spec", "resources", "requests", "storage"]);
    let selector = claim["spec"].get("selector").map(LabelSelector::of_object);
    let fits = |stored: &Arc<Stored>| {
        let volume = stored.value();
        let has = json::list(&volume, &["spec", "accessModes"]);
        let fits = free(&volume, claim)
            && json::text(&volume, &["spec", "storageClassName"]) == class
            && volume["spec"]["volumeMode"] == claim["spec"]["volumeMode"]
            && json::list(claim, &["spec", "accessModes"]).iter().all(|mode| has.contains(mode))
            && selector.as_ref().is_none_or(|selector| selector.matches(&volume));
        let room = size(&volume, &["spec", "capacity", "storage"]);
        (fits && room >= asked).then_some((room, Arc::clone(stored)))
    };
    let all = core.store.list(VOLUMES, "").1;
    all.iter().filter_map(fits).min_by_key(|(room, _)| *room).map(|(_, stored)| stored)
}

/// Says whether a volume is nobody's, or kept for this claim.
fn free(volume: &Value, claim: &Value) -> bool {
    if meta::is_deleting(volume) {
        return false;
    }
    let reference = &volume["spec"]["claimRef"];
    let uid = json::text(reference, &["uid"]);
    reference.is_null()
        || (json::text(reference, &["namespace"]) == meta::namespace(claim)
            && json::text(reference, &["name"]) == meta::name(claim)
            && (uid.is_empty() || uid == meta::uid(claim)))
}

/// Tells why a claim waits.
fn pending(core: &Core, claim: &Value) {
    let name = json::text(claim, &["spec", "storageClassName"]);
    let class = core.builtin("storage.k8s.io/storageclasses", "", name);
    let (warning, reason, message) = match class {
        _ if !json::text(claim, &["spec", "volumeName"]).is_empty() => return,
        None if name.is_empty() => (
            false,
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set".to_owned(),
        ),
        None => (true, "ProvisioningFailed", format!("storageclass.storage.k8s.io {name:?} not found")),
        Some(class) if class["volumeBindingMode"] == "WaitForFirstConsumer" => {
            (false, "WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned())
        }
        Some(class) => {
            let provisioner = json::text(&class, &["provisioner"]);
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by \
                 the system administrator. If volume creation is delayed, please verify that the provisioner is running \
                 and correctly registered."
            );
            (false, "ExternalProvisioning", message)
        }
    };
    let known = core.builtin_list("events", meta::namespace(claim)).into_iter().any(|event| {
        json::text(&event, &["involvedObject", "uid"]) == meta::uid(claim)
            && event["reason"] == reason
            && event["message"] == message.as_str()
    });
    // Said once: a claim may wait for ever.
    if !known {
        notes::tell(core, claim, Note { warning, reason, message: &message, component: COMPONENT });
    }
}
