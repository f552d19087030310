//! Creating objects.

use serde_json::Value;

use super::{Outcome, Write, decode, ownership, serve};
use crate::admission::{self, Operation};
use crate::auth::rbac;
use crate::core::Core;
use crate::json::{self, Parsed};
use crate::meta;
use crate::status::{Result, Status};
use crate::store::{Key, Miss};
use crate::strategy;

/// Creates the object that a body describes.
pub(crate) async fn from_body(core: &Core, write: &Write<'_>, bytes: &[u8], content_type: &str) -> Result<Outcome> {
    let resource = write.resource;
    let Parsed { mut value, duplicates, .. } = decode::body(bytes, content_type, &resource.kind)?;
    decode::check_kind(resource, &mut value, bytes, write.options.validation)?;
    let mut warnings = Vec::new();
    decode::admit(resource, &mut value, &duplicates, write.options.validation, &mut warnings)
        .map_err(|error| error.of_body(&resource.kind, &resource.version))?;
    decode::check_version(resource, &value).map_err(|status| status.with_warnings(warnings.clone()))?;
    let mut outcome = match object(core, write, value, true).await {
        Ok(outcome) => outcome,
        Err(status) => return Err(status.with_warnings(warnings)),
    };
    warnings.append(&mut outcome.warnings);
    outcome.warnings = warnings;
    Ok(outcome)
}

/// Creates an object that is already read as its kind; `track` writes who owns its fields.
pub(crate) async fn object(core: &Core, write: &Write<'_>, mut object: Value, track: bool) -> Result<Outcome> {
    let resource = write.resource;
    if resource.custom().is_some_and(|custom| custom.terminating) {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(Status::forbidden(&resource.target(), meta::name(&object), why));
    }
    place(write, &mut object)?;
    // What is no number counts as none.
    if json::text(&object, &["metadata", "resourceVersion"]).parse::<u64>().is_ok_and(|revision| revision > 0) {
        return Err(Status::unforeseen("resourceVersion should not be set on objects to be created"));
    }
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        json::remove(&mut object, &["metadata", key]);
    }
    let now = core.now();
    if track {
        ownership::on_update(write, None, &mut object, &now);
    }
    let twice: Vec<String> = meta::dedup_owners(&mut object, "").into_iter().collect();
    let mut warnings = twice.clone();
    meta::on_create(&mut object, &now);
    admission::mutate(core, write, Operation::Create, None, &mut object)?;
    warnings.extend(admission::mutate_by_webhooks(core, write, Operation::Create, None, &mut object).await?);
    strategy::prepare::create(core, write.user, resource, &mut object);
    if let Some(status) = decode::wrong_kind(resource, &object) {
        return Err(status);
    }
    warnings.extend(meta::finalizer_warnings(None, &object));
    let errors = strategy::validate::create(core, resource, &object);
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.kind_target(), meta::name(&object), &errors).with_warnings(twice));
    }
    strategy::prepare::finish(resource, &mut object);
    warnings.extend(strategy::warnings::of_new(resource, &object));
    warnings.extend(strategy::warnings::of_any(resource, &object, None));
    warnings.extend(admission::validate(core, write, Operation::Create, None, Some(&object)).await?);
    commit(core, write, object, warnings)
}

/// Refuses who may not create: a replace and an apply make an object that is not there.
pub(crate) fn may(core: &Core, write: &Write<'_>) -> Result<()> {
    let wanted = rbac::Attributes {
        verb: "create".to_owned(),
        group: write.resource.group.clone(),
        resource: write.resource.plural.clone(),
        namespace: write.namespace.to_owned(),
        name: write.name.to_owned(),
        ..rbac::Attributes::default()
    };
    if rbac::decide(core, write.user, &wanted).allowed {
        return Ok(());
    }
    Err(rbac::refusal(write.user, &wanted))
}

/// Puts the object into the namespace of the path.
fn place(write: &Write<'_>, object: &mut Value) -> Result<()> {
    if !write.resource.namespaced {
        json::remove(object, &["metadata", "namespace"]);
        return Ok(());
    }
    let sent = meta::namespace(object);
    if !sent.is_empty() && sent != write.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    json::set(object, &["metadata", "namespace"], write.namespace.into());
    Ok(())
}

fn commit(core: &Core, write: &Write<'_>, object: Value, warnings: Vec<String>) -> Result<Outcome> {
    let resource = write.resource;
    let key = Key::new(if resource.namespaced { write.namespace } else { "" }, meta::name(&object));
    let exists = |name: &str| {
        let mut status = Status::already_exists(&resource.target(), name);
        let old = core.store.get(&resource.storage, &key).map(|old| old.value());
        if old.is_some_and(|old| meta::is_deleting(&old)) {
            status.message = format!("object is being deleted: {}", status.message);
        }
        status
    };
    if write.options.dry_run {
        if core.store.get(&resource.storage, &key).is_some() {
            return Err(exists(&key.name));
        }
        return Ok(Outcome { object, created: true, warnings });
    }
    let stored = serve::to_storage(resource, object);
    match core.store.create(&resource.storage, key.clone(), stored) {
        Ok(stored) => {
            core.after_write(resource, &stored);
            Ok(Outcome { object: serve::served(resource, &stored), created: true, warnings })
        }
        Err(Miss::Exists) => Err(exists(&key.name)),
        Err(_) => Err(Status::not_found(&resource.target(), &key.name)),
    }
}
