//! Replacing objects, and what all other changes of an object share with it.

use std::sync::Arc;

use serde_json::Value;

use super::{Outcome, Write, create, decode, ownership, serve};
use crate::admission::{self, Operation};
use crate::apply::managed;
use crate::core::Core;
use crate::field::FieldError;
use crate::json::{self, Parsed};
use crate::kinds::{self, Resource};
use crate::meta;
use crate::options::unsigned;
use crate::status::{Result, Status};
use crate::store::{Miss, Stored};
use crate::strategy;

/// How often a change that names no revision is tried again when others write in between.
const ATTEMPTS_MAX: usize = 16;

/// Kinds that a replace of a missing object creates.
const CREATE_ON_UPDATE: [(&str, &str); 11] = [
    ("coordination.k8s.io", "leases"),
    ("", "endpoints"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
];

/// Kinds that may not be replaced without a revision; a star stands for all of a group.
const CONDITIONAL: [(&str, &str); 10] = [
    ("admissionregistration.k8s.io", "*"),
    ("apiextensions.k8s.io", "*"),
    ("apiregistration.k8s.io", "*"),
    ("coordination.k8s.io", "leases"),
    ("node.k8s.io", "runtimeclasses"),
    ("policy", "poddisruptionbudgets"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "volumeattachments"),
];

/// The new state of an object, as a request wants it.
pub(crate) struct Proposal {
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
    /// The owners are in it already (an apply wrote them).
    pub(crate) owned: bool,
    /// A patch made it.
    pub(crate) patched: bool,
}

/// Replaces an object by the one that a body describes.
pub(crate) async fn from_body(core: &Core, write: &Write<'_>, bytes: &[u8], content_type: &str) -> Result<Outcome> {
    let resource = write.resource;
    let Parsed { mut value, duplicates, .. } = decode::body(bytes, content_type, &resource.kind)?;
    decode::check_kind(resource, &mut value, bytes, write.options.validation)?;
    let mut warnings = Vec::new();
    decode::admit(resource, &mut value, &duplicates, write.options.validation, &mut warnings)
        .map_err(|error| error.of_body(&resource.kind, &resource.version))?;
    decode::check_version(resource, &value).map_err(|status| status.with_warnings(warnings.clone()))?;
    check_place(write, &mut value)?;
    let creates = CREATE_ON_UPDATE.contains(&(&resource.group, &resource.plural)) && write.subresource.is_empty();
    if creates && core.stored(resource, write.namespace, write.name).is_err() {
        create::may(core, write)?;
        json::remove(&mut value, &["metadata", "resourceVersion"]);
        if !meta::uid(&value).is_empty() {
            return Err(uid_conflict(write, meta::uid(&value), ""));
        }
        let mut outcome = create::object(core, write, value, true).await?;
        warnings.append(&mut outcome.warnings);
        return Ok(Outcome { warnings, ..outcome });
    }
    let sent_uid = meta::uid(&value).to_owned();
    change(core, write, &mut |live| {
        if !sent_uid.is_empty() && sent_uid != meta::uid(live) {
            return Err(uid_conflict(write, &sent_uid, meta::uid(live)));
        }
        Ok(Proposal { object: value.clone(), warnings: warnings.clone(), owned: false, patched: false })
    })
    .await
    .map_err(|status| if status.warnings.is_empty() { status.with_warnings(warnings.clone()) } else { status })
}

pub(super) fn uid_conflict(write: &Write<'_>, sent: &str, known: &str) -> Status {
    let plural = &write.resource.plural;
    let kind = match (write.resource.group.as_str(), plural.as_str()) {
        (group, plural) if write.resource.is_custom() => format!("{group}/{plural}"),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "nodes") => "minions".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        (group @ (kinds::EXTENSIONS | "apiregistration.k8s.io"), plural) => format!("{group}/{plural}"),
        (_, plural) => plural.to_owned(),
    };
    let key = match write.namespace {
        "" => format!("/registry/{kind}/{}", write.name),
        namespace => format!("/registry/{kind}/{namespace}/{}", write.name),
    };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: UID in precondition: {sent}, UID in object meta: {known}"
    );
    Status::conflict(&write.resource.target(), write.name, &why)
}

/// Checks that a body is about the object of the path.
pub(crate) fn check_place(write: &Write<'_>, object: &mut Value) -> Result<()> {
    let name = meta::name(object);
    if name.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            write.name
        )));
    }
    if name != write.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            write.name
        )));
    }
    if !write.resource.namespaced {
        json::remove(object, &["metadata", "namespace"]);
        return Ok(());
    }
    let namespace = meta::namespace(object);
    if !namespace.is_empty() && namespace != write.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    json::set(object, &["metadata", "namespace"], write.namespace.into());
    Ok(())
}

/// Changes an object: `propose` makes the new state of the live one, and is asked again when another write came first.
pub(crate) async fn change(
    core: &Core,
    write: &Write<'_>,
    propose: &mut (dyn FnMut(&Value) -> Result<Proposal> + Send),
) -> Result<Outcome> {
    for _ in 0..ATTEMPTS_MAX {
        let stored = core.stored(write.resource, write.namespace, write.name)?;
        let live = serve::served(write.resource, &stored);
        let proposal = propose(&live)?;
        let conditional = check_revision(write, &stored, &live, &proposal.object)
            .map_err(|status| status.with_warnings(proposal.warnings.clone()))?;
        match step(core, write, &stored, &live, proposal).await? {
            Some(outcome) => return Ok(outcome),
            None if conditional => return Err(Status::modified(&write.resource.target(), write.name)),
            None => {}
        }
    }
    Err(Status::modified(&write.resource.target(), write.name))
}

/// Checks the revision that a request saw. Answers whether it named one that the live object does not have by itself.
fn check_revision(write: &Write<'_>, stored: &Stored, live: &Value, new: &Value) -> Result<bool> {
    let resource = write.resource;
    let sent = json::text(new, &["metadata", "resourceVersion"]);
    let revision = if sent.is_empty() { 0 } else { sent.parse::<u64>().map_err(|_| unreadable_revision(sent))? };
    if revision == 0 {
        let unconditional = !resource.is_custom()
            && !CONDITIONAL.contains(&(resource.group.as_str(), "*"))
            && !CONDITIONAL.contains(&(resource.group.as_str(), resource.plural.as_str()));
        if unconditional || write.subresource == "scale" {
            return Ok(false);
        }
        let error = FieldError::invalid("metadata.resourceVersion", &Value::from(0), "must be specified for an update");
        return Err(Status::invalid(&resource.target(), write.name, &[error]));
    }
    if revision != stored.revision {
        return Err(Status::modified(&resource.target(), write.name));
    }
    let _ = live;
    Ok(false)
}

/// Refuses a revision that is no number.
pub(crate) fn unreadable_revision(sent: &str) -> Status {
    let why = unsigned(sent).err();
    Status::unforeseen(why.unwrap_or_else(|| format!("strconv.ParseUint: parsing {sent:?}: invalid syntax")))
}

/// Tries to store a proposal; answers nothing when another write came first.
async fn step(
    core: &Core,
    write: &Write<'_>,
    stored: &Arc<Stored>,
    live: &Value,
    proposal: Proposal,
) -> Result<Option<Outcome>> {
    let resource = write.resource;
    let Proposal { object: mut new, mut warnings, owned, patched } = proposal;
    let before = warnings.clone();
    let late = if patched { " after mutating admission happens" } else { "" };
    let now = core.now();
    json::set(&mut new, &["metadata", "resourceVersion"], stored.revision.to_string().into());
    meta::on_update(live, &mut new);
    warnings.extend(meta::dedup_owners(&mut new, late));
    if !owned {
        ownership::on_update(write, Some(live), &mut new, &now);
    }
    admission::mutate(core, write, Operation::Update, Some(live), &mut new)?;
    warnings.extend(admission::mutate_by_webhooks(core, write, Operation::Update, Some(live), &mut new).await?);
    strategy::prepare::update(core, resource, live, &mut new, write.subresource);
    if let Some(status) = decode::wrong_kind(resource, &new) {
        return Err(status.with_warnings(before));
    }
    warnings.extend(meta::finalizer_warnings(Some(live), &new));
    let errors = strategy::validate::update(core, resource, live, &new, write.subresource);
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.kind_target(), write.name, &errors).with_warnings(before));
    }
    warnings.extend(admission::validate(core, write, Operation::Update, Some(live), Some(&new)).await?);
    warnings.extend(strategy::warnings::of_any(resource, &new, Some(live)));
    warnings.extend(strategy::validate::tolerated(resource, live, &new));
    strategy::prepare::finish(resource, &mut new);
    if managed::same_but_for_times(live, &new) {
        json::carry(live, &mut new, &["metadata", "managedFields"]);
    }
    let done = |object: Value, warnings: Vec<String>| Ok(Some(Outcome { object, created: false, warnings }));
    if write.options.dry_run {
        return done(new, warnings);
    }
    if finished(resource, &new) {
        let last = stored.value();
        return match core.store.remove(&resource.storage, stored, last) {
            Ok(gone) => {
                core.after_delete(resource, &gone);
                done(new, warnings)
            }
            Err(_) => Ok(None),
        };
    }
    let form = serve::to_storage(resource, new.clone());
    if json::same(&form, &stored.value()) {
        return done(serve::served(resource, stored), warnings);
    }
    match core.store.replace(&resource.storage, stored, form) {
        Ok(stored) => {
            core.after_write(resource, &stored);
            done(serve::served(resource, &stored), warnings)
        }
        Err(Miss::Exists | Miss::Changed | Miss::TooOld(_)) => Ok(None),
    }
}

/// Tells whether an object was only waiting for its last finalizer.
fn finished(resource: &Resource, object: &Value) -> bool {
    let grace = json::at(object, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
    meta::is_deleting(object)
        && meta::finalizers(object).is_empty()
        && grace == 0
        && (!resource.is("", "Namespace") || json::list(object, &["spec", "finalizers"]).is_empty())
}
