//! Patching objects, server-side apply included.

use serde_json::Value;

use super::sent::Sent;
use super::update::{self, Proposal};
use super::{Outcome, Write, create, decode, ownership};
use crate::apply::{managed, typecheck};
use crate::core::Core;
use crate::json::{self, Parsed};
use crate::kinds::Resource;
use crate::meta;
use crate::options::FieldValidation;
use crate::patch::Kind;
use crate::schema::{Place, typed};
use crate::status::{Result, Status};

/// Patches an object, or creates it where an apply finds none.
pub(crate) async fn from_body(core: &Core, write: &Write<'_>, bytes: &[u8], kind: Kind) -> Result<Outcome> {
    if kind != Kind::Apply {
        // What is not there is told before anything that is wrong with the patch.
        core.stored(write.resource, write.namespace, write.name)?;
    }
    if kind == Kind::Apply {
        return apply(core, write, bytes).await;
    }
    let sent = Sent::read(kind, bytes)?;
    let node = write.resource.node();
    update::change(core, write, &mut |live| {
        let mut object = sent.applied(node, live)?;
        let shown = object.clone();
        let refuse = |error: decode::Unreadable| match sent.strategic() {
            Some(patch) => error.of_strategic_patch(&patch),
            None if write.resource.is_custom() => error.of_patch(&shown),
            None => error.of_builtin_patch(node, live, &shown),
        };
        if sent.strategic().is_some() {
            decode::as_kind(write.resource, &mut object);
            if let Some(why) = typed::unconvertible(node, &object) {
                return Err(refuse(decode::Unreadable::Type(why)));
            }
        }
        decode::patched_kind(write.resource, &mut object).map_err(refuse)?;
        if json::text(&object, &["apiVersion"]).is_empty() {
            let why = "Object 'apiVersion' is missing in 'object has no apiVersion field'";
            return Err(Status::internal(why));
        }
        let mut warnings = Vec::new();
        decode::admit(write.resource, &mut object, &sent.odd, write.options.validation, &mut warnings)
            .map_err(refuse)?;
        if let Some(status) = decode::wrong_kind(write.resource, &object) {
            return Err(status.with_warnings(warnings));
        }
        update::check_place(write, &mut object).map_err(|status| status.with_warnings(warnings.clone()))?;
        Ok(Proposal { object, warnings, owned: false, patched: true })
    })
    .await
}

async fn apply(core: &Core, write: &Write<'_>, bytes: &[u8]) -> Result<Outcome> {
    let resource = write.resource;
    let Parsed { value: mut applied, duplicates, .. } =
        json::parse_yaml(bytes).map_err(|error| not_yaml(&format!("error converting YAML to JSON: {error}")))?;
    if !applied.is_object() && !applied.is_null() {
        let got = json::type_name(&applied).replace("integer", "number").replace("boolean", "bool");
        let why = format!("json: cannot unmarshal {got} into Go value of type map[string]interface {{}}");
        return Err(not_yaml(&format!("error unmarshaling JSON: while decoding JSON: {why}")));
    }
    check_applied(resource, &applied)?;
    let stored = core.stored(resource, write.namespace, write.name);
    if let (false, Err(status)) = (write.subresource.is_empty(), &stored) {
        return Err(status.clone());
    }
    let sent = applied.clone();
    let sent_namespace = meta::namespace(&applied).to_owned();
    let kind = format!("{}/{}, Kind={}", resource.group, resource.version, resource.kind);
    let shown = format!("{sent_namespace}/{}; {kind}", meta::name(&applied));
    typecheck::check(Place::of(resource.node()), &applied)
        .map_err(|error| Status::unforeseen(format!("failed to create typed patch object ({shown}): {error}")))?;
    if stored.is_ok() && meta::name(&applied).is_empty() {
        // What is there has its name.
        json::set(&mut applied, &["metadata", "name"], write.name.into());
    }
    update::check_place(write, &mut applied)?;
    let sent_revision = json::text(&applied, &["metadata", "resourceVersion"]).to_owned();
    let twice = told_twice(write, &duplicates);
    let told = |outcome: Outcome| Outcome { warnings: [twice.clone(), outcome.warnings].concat(), ..outcome };
    if stored.is_err() {
        return apply_missing(core, write, &applied, &sent_namespace, &duplicates).await.map(told);
    }
    update::change(core, write, &mut |live| {
        let (mut object, entries) = ownership::on_apply(write, Some(live), &applied, &core.now())?;
        strict(write, &duplicates)?;
        ownership::note(write, &mut object, &sent);
        if sent_revision.is_empty() {
            json::carry(live, &mut object, &["metadata", "resourceVersion"]);
        }
        let warnings = read(write, &mut object, &sent_namespace)?;
        managed::write(&mut object, entries);
        Ok(Proposal { object, warnings, owned: true, patched: true })
    })
    .await
    .map(told)
}

fn not_yaml(why: &str) -> Status {
    Status::bad_request(format!("error decoding YAML: {why}"))
}

/// Refuses keys that came twice, where an apply asks for that.
fn strict(write: &Write<'_>, duplicates: &[String]) -> Result<()> {
    if write.options.validation != FieldValidation::Strict || duplicates.is_empty() {
        return Ok(());
    }
    let all = duplicates.join("\n  ");
    let all = all.trim_start_matches(json::YAML_ERRORS);
    Err(Status::bad_request(format!(
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {all}"
    )))
}

/// Returns what an apply warns of: keys that came twice.
fn told_twice(write: &Write<'_>, duplicates: &[String]) -> Vec<String> {
    if write.options.validation != FieldValidation::Warn {
        return Vec::new();
    }
    let lines = duplicates.iter().flat_map(|text| text.trim_start_matches(json::YAML_ERRORS).split("\n  "));
    lines
        .map(|line| if line.starts_with("line ") { line.to_owned() } else { format!("duplicate field {line:?}") })
        .collect()
}

/// Reads a merged object as its kind does.
fn read(write: &Write<'_>, object: &mut Value, namespace: &str) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let shown = object.clone();
    decode::admit_merged(write.resource, object, &[], FieldValidation::Ignore, &mut warnings).map_err(|error| {
        match error {
            decode::Unreadable::Type(why) if !write.resource.is_custom() => unconverted(write, namespace, &why),
            error => error.of_patch(&shown),
        }
    })?;
    Ok(warnings)
}

/// Says that a merged object cannot be read as its type.
fn unconverted(write: &Write<'_>, namespace: &str, why: &str) -> Status {
    let resource = write.resource;
    let kind = format!("{}/{}, Kind={}", resource.group, resource.version, resource.kind);
    let decoding = if why.starts_with("illegal base64") { "error decoding from json: " } else { "" };
    Status::unforeseen(format!(
        "failed to convert new object ({namespace}/{}; {kind}) to proper version: unable to convert unstructured object to \
         {kind}: {decoding}{why}",
        write.name
    ))
}

fn check_applied(resource: &Resource, applied: &Value) -> Result<()> {
    let version = json::text(applied, &["apiVersion"]);
    let kind = json::text(applied, &["kind"]);
    if version != resource.api_version() || kind != resource.kind {
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!("invalid object type: {slash}{version}, Kind={kind}")));
    }
    let owners = json::list(applied, &["metadata", "managedFields"]);
    if !owners.is_empty() && owners.iter().all(Value::is_object) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

async fn apply_missing(
    core: &Core,
    write: &Write<'_>,
    applied: &Value,
    namespace: &str,
    duplicates: &[String],
) -> Result<Outcome> {
    strict(write, duplicates)?;
    let uid = meta::uid(applied);
    if !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Status::conflict(&write.resource.target(), write.name, &why));
    }
    create::may(core, write)?;
    let revision = json::text(applied, &["metadata", "resourceVersion"]);
    if !revision.is_empty() && revision.parse::<u64>().is_err() {
        return Err(update::unreadable_revision(revision));
    }
    let (mut object, entries) = ownership::on_apply(write, None, applied, &core.now())?;
    let mut warnings = read(write, &mut object, namespace)?;
    json::remove(&mut object, &["metadata", "resourceVersion"]);
    managed::write(&mut object, entries);
    let mut outcome = create::object(core, write, object, false).await?;
    warnings.append(&mut outcome.warnings);
    Ok(Outcome { warnings, ..outcome })
}
