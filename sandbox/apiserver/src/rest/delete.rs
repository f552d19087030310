//! Deleting objects: at once, or when their finalizers are gone.

use std::sync::Arc;

use serde_json::Value;

use super::{Write, serve};
use crate::admission::{self, Operation};
use crate::core::Core;
use crate::json;
use crate::kinds::{EXTENSIONS, Resource};
use crate::meta;
use crate::options::{DeleteOptions, Propagation};
use crate::status::{self, Result, Status, Target};
use crate::store::{Miss, Stored};
use crate::{crd, time};

const ATTEMPTS_MAX: usize = 16;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Namespaces that stay.
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];
/// Kinds whose delete answers the object.
const ANSWER_OBJECT: [(&str, &str); 12] = [
    ("", "pods"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("", "replicationcontrollers"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "volumeattachments"),
];

/// What a delete came to.
pub(crate) struct Deleted {
    /// What is answered: the object, or a `Status`.
    pub(crate) answer: Value,
    /// The object itself is answered.
    pub(crate) is_object: bool,
    /// The object is gone.
    pub(crate) gone: bool,
    pub(crate) warnings: Vec<String>,
}

/// Deletes one object.
pub(crate) async fn one(core: &Core, write: &Write<'_>, options: &DeleteOptions) -> Result<Deleted> {
    let resource = write.resource;
    for _ in 0..ATTEMPTS_MAX {
        let stored = core.stored(resource, write.namespace, write.name)?;
        let live = serve::served(resource, &stored);
        preconditions(resource, &stored, &live, options)?;
        if resource.is("", "Namespace") && PROTECTED.contains(&write.name) {
            let why = "this namespace may not be deleted";
            return Err(Status::forbidden(&resource.target(), write.name, why));
        }
        let warnings = admission::validate(core, write, Operation::Delete, Some(&live), None).await?;
        let mut options = options.clone();
        if options.propagation.is_none() && orphans(resource, &live) {
            options.propagation = Some(Propagation::Orphan);
        }
        let options = &options;
        if let Some(deleted) = step(core, write, &stored, live, options) {
            return Ok(Deleted { warnings, ..deleted });
        }
    }
    Err(Status::modified(&resource.target(), write.name))
}

/// Returns what a delete is warned of, whatever comes of it.
pub(crate) fn warnings(resource: &Resource, options: &DeleteOptions) -> Vec<String> {
    let untold = options.propagation.is_none() && resource.is("batch", "Job");
    if untold { vec![ORPHANS.to_owned()] } else { Vec::new() }
}

const ORPHANS: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to \
                       remove them or set propagationPolicy=Orphan to suppress this warning";

/// Tells kinds whose dependents stay unless a delete says otherwise, as they did before there was a choice.
fn orphans(resource: &Resource, live: &Value) -> bool {
    let known = meta::finalizers(live).iter().any(|name| *name == ORPHAN || *name == FOREGROUND);
    !known && (resource.is("batch", "Job") || resource.is("", "ReplicationController"))
}

/// Checks preconditions of a namespace, which has words of its own for them.
fn namespace_preconditions(resource: &Resource, stored: &Stored, live: &Value, options: &DeleteOptions) -> Result<()> {
    let revision = stored.revision.to_string();
    let checks = [("UID", &options.uid, meta::uid(live)), ("ResourceVersion", &options.resource_version, &revision)];
    for (what, wanted, is) in checks {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != is) {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
            return Err(Status::conflict(&resource.target(), meta::name(live), &why));
        }
    }
    Ok(())
}

fn preconditions(resource: &Resource, stored: &Stored, live: &Value, options: &DeleteOptions) -> Result<()> {
    if resource.is("", "Namespace") {
        return namespace_preconditions(resource, stored, live, options);
    }
    let target = Target::new(&resource.group, &resource.kind);
    let conflict = |why: String| Err(Status::conflict(&target, meta::name(live), &why));
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(live)) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            meta::uid(live)
        ));
    }
    let revision = stored.revision.to_string();
    if let Some(version) = options.resource_version.as_deref().filter(|version| *version != revision) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
             ({revision}). The object might have been modified"
        ));
    }
    Ok(())
}

fn step(core: &Core, write: &Write<'_>, stored: &Arc<Stored>, live: Value, options: &DeleteOptions) -> Option<Deleted> {
    let resource = write.resource;
    let mut new = live.clone();
    set_propagation(&mut new, options.propagation);
    if resource.is(EXTENSIONS, "CustomResourceDefinition") {
        crd::mark(&mut new);
        if !meta::is_deleting(&live) {
            crd::going(&mut new, &core.now());
        }
    }
    let grace = grace_seconds(resource, &live, options);
    let held = !meta::finalizers(&new).is_empty() || grace > 0 || holds_namespace(resource, &new);
    if !held {
        return remove(core, write, stored, live);
    }
    mark(core, resource, &live, &mut new, grace);
    if options.dry_run || json::same(&new, &live) {
        return Some(Deleted { answer: new, is_object: true, gone: false, warnings: Vec::new() });
    }
    match core.store.replace(&resource.storage, stored, serve::to_storage(resource, new)) {
        Ok(stored) => {
            core.after_write(resource, &stored);
            let answer = serve::served(resource, &stored);
            Some(Deleted { answer, is_object: true, gone: false, warnings: Vec::new() })
        }
        Err(Miss::Exists | Miss::Changed | Miss::TooOld(_)) => None,
    }
}

fn remove(core: &Core, write: &Write<'_>, stored: &Arc<Stored>, live: Value) -> Option<Deleted> {
    let resource = write.resource;
    let target = resource.target();
    let answers_object = ANSWER_OBJECT.contains(&(&resource.group, &resource.plural)) || resource.is("", "Namespace");
    let answer = if answers_object {
        let mut last = live.clone();
        if resource.is("", "Pod") {
            mark(core, resource, &live, &mut last, 0);
        }
        last
    } else {
        status::deleted(&target, write.name, meta::uid(&live))
    };
    let mut done = Deleted { answer, is_object: answers_object, gone: true, warnings: Vec::new() };
    if write.options.dry_run {
        return Some(done);
    }
    let mut stored = Arc::clone(stored);
    if resource.is("", "Pod") {
        // A pod is marked before it goes, however short a time that is.
        let marked = serve::to_storage(resource, done.answer.clone());
        stored = core.store.replace(&resource.storage, &stored, marked).ok()?;
        core.after_write(resource, &stored);
    }
    match core.store.remove(&resource.storage, &stored, stored.value()) {
        Ok(gone) => {
            core.after_delete(resource, &gone);
            if answers_object {
                json::set(&mut done.answer, &["metadata", "resourceVersion"], gone.revision.to_string().into());
            }
            Some(done)
        }
        Err(_) => None,
    }
}

fn set_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> = meta::finalizers(object)
        .into_iter()
        .filter(|name| *name != ORPHAN && *name != FOREGROUND)
        .map(String::from)
        .collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
    }
    if finalizers.is_empty() {
        json::remove(object, &["metadata", "finalizers"]);
    } else {
        json::set(object, &["metadata", "finalizers"], finalizers.into());
    }
}

/// Returns how long an object may take to end; only pods on a node take time.
fn grace_seconds(resource: &Resource, live: &Value, options: &DeleteOptions) -> i64 {
    if !resource.is("", "Pod") {
        return 0;
    }
    let phase = json::text(live, &["status", "phase"]);
    if json::text(live, &["spec", "nodeName"]).is_empty() || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let own = json::at(live, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
    match options.grace_seconds.unwrap_or(own) {
        ..0 => 1,
        seconds => seconds,
    }
}

/// A namespace is only marked by the first delete, even where nothing holds it.
fn holds_namespace(resource: &Resource, object: &Value) -> bool {
    let held = !meta::is_deleting(object) || !json::list(object, &["spec", "finalizers"]).is_empty();
    resource.is("", "Namespace") && held
}

/// Marks an object as being deleted. One that is marked already keeps its mark, or a shorter grace takes its place.
fn mark(core: &Core, resource: &Resource, live: &Value, new: &mut Value, grace: i64) {
    let known = json::at(live, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    if resource.is("", "Namespace") {
        json::set(new, &["status", "phase"], "Terminating".into());
    }
    if meta::is_deleting(live) && known.is_none_or(|known| known <= grace) {
        return;
    }
    let at = core.config.clock.now();
    let at = at.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(at);
    json::set(new, &["metadata", "deletionTimestamp"], time::seconds(at).into());
    if !resource.is("", "Namespace") && !resource.is(EXTENSIONS, "CustomResourceDefinition") {
        json::set(new, &["metadata", "deletionGracePeriodSeconds"], grace.into());
    }
    let generation = meta::generation(live);
    let counts = !resource.is(EXTENSIONS, "CustomResourceDefinition");
    if counts && generation > 0 && !meta::is_deleting(live) {
        json::set(new, &["metadata", "generation"], (generation + 1).into());
    }
}
