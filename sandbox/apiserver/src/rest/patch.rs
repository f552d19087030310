//! Patching objects, server-side apply included.

use serde_json::Value;

use super::update::{self, Proposal};
use super::{Outcome, Write, create, decode, ownership};
use crate::apply::{managed, typecheck};
use crate::core::Core;
use crate::json::{self, Parsed};
use crate::kinds::Resource;
use crate::meta;
use crate::options::FieldValidation;
use crate::patch::{self, Kind};
use crate::schema::{Place, typed};
use crate::status::{Result, Status};

/// Operations that one JSON patch may have.
const OPERATIONS_MAX: usize = 10_000;

/// Reads the operations of a JSON patch; null stands for none.
fn operations(value: Value) -> Result<Vec<Value>> {
    let wrong = |value: &Value, wanted: &str| {
        let got = json::type_name(value).replace("integer", "number");
        not_decoded(&format!("json: cannot unmarshal {got} into Go {wanted}"))
    };
    let list = match value {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        other => return Err(wrong(&other, "value of type []handlers.jsonPatchOp")),
    };
    if list.len() > OPERATIONS_MAX {
        let text = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            list.len()
        );
        return Err(Status::new(413, "RequestEntityTooLarge", text));
    }
    for operation in &list {
        match operation {
            Value::Object(map) => {
                for key in ["op", "path", "from"] {
                    if let Some(other) = map.get(key).filter(|value| !value.is_string() && !value.is_null()) {
                        return Err(wrong(other, &format!("struct field jsonPatchOp.{key} of type string")));
                    }
                }
            }
            Value::Null => {}
            other => return Err(wrong(other, "value of type handlers.jsonPatchOp")),
        }
    }
    Ok(list)
}

/// Names what operations have that means nothing.
fn beyond(operations: &[Value]) -> Vec<String> {
    let mut out = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let keys = operation.as_object().into_iter().flat_map(serde_json::Map::keys);
        let unknown = keys.filter(|key| !matches!(key.as_str(), "op" | "path" | "from" | "value"));
        out.extend(unknown.map(|key| format!("{}\"[{index}].{key}\"", decode::JSON_PATCH)));
    }
    out
}

/// Patches an object, or creates it where an apply finds none.
pub(crate) async fn from_body(core: &Core, write: &Write<'_>, bytes: &[u8], kind: Kind) -> Result<Outcome> {
    if kind != Kind::Apply {
        // What is not there is told before anything that is wrong with the patch.
        core.stored(write.resource, write.namespace, write.name)?;
    }
    match kind {
        Kind::Apply => apply(core, write, bytes).await,
        Kind::Json => {
            let operations = operations(decoded(bytes)?.value)?;
            change(core, write, beyond(&operations), None, &move |target| {
                let mut out = target.clone();
                patch::apply_json(&mut out, &operations).map_err(|_| {
                    Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
                        .with_empty_details()
                })?;
                Ok(out)
            })
            .await
        }
        Kind::Merge | Kind::Strategic => {
            let parsed =
                if kind == Kind::Strategic { json::parse(bytes).map_err(Status::bad_request) } else { decoded(bytes) };
            let Parsed { mut value, duplicates, .. } = parsed?;
            if value.is_null() {
                if kind == Kind::Merge {
                    return Err(Status::bad_request("Invalid JSON Patch"));
                }
                value = Value::Object(serde_json::Map::new());
            }
            let Value::Object(_) = &value else {
                let got = json::type_name(&value).replace("integer", "number");
                if kind == Kind::Strategic {
                    return Err(Status::bad_request(format!(
                        "json: cannot unmarshal {got} into Go value of type map[string]interface {{}}"
                    )));
                }
                return Err(not_decoded(&format!(
                    "json: cannot unmarshal {got} into Go value of type map[string]interface {{}}"
                )));
            };
            let resource = std::sync::Arc::clone(write.resource);
            let shown = (kind == Kind::Strategic).then(|| value.clone());
            change(core, write, duplicates, shown, &move |target| merged(&resource, kind, target, &value)).await
        }
    }
}

fn merged(resource: &Resource, kind: Kind, target: &Value, value: &Value) -> Result<Value> {
    if let (Kind::Strategic, Value::Object(map)) = (kind, value) {
        return patch::apply_strategic(resource.node(), target, map).map_err(Status::unforeseen);
    }
    let mut out = target.clone();
    patch::apply_merge(&mut out, value);
    Ok(out)
}

fn not_decoded(why: &str) -> Status {
    Status::bad_request(format!("error decoding patch: {why}"))
}

fn decoded(bytes: &[u8]) -> Result<Parsed> {
    json::parse(bytes).map_err(|error| not_decoded(&error))
}

async fn change(
    core: &Core,
    write: &Write<'_>,
    duplicates: Vec<String>,
    strategic: Option<Value>,
    patched: &(dyn Fn(&Value) -> Result<Value> + Send + Sync),
) -> Result<Outcome> {
    update::change(core, write, &mut |live| {
        let mut object = patched(live)?;
        let shown = object.clone();
        let own_order = !write.resource.is_custom() && shown.get("metadata") == live.get("metadata");
        let refuse = |error: decode::Unreadable| match &strategic {
            Some(patch) => error.of_strategic_patch(patch),
            None if own_order => error.of_builtin_patch(&shown),
            None => error.of_patch(&shown),
        };
        if strategic.is_some() {
            decode::as_kind(write.resource, &mut object);
            if let Some(why) = typed::unconvertible(write.resource.node(), &object) {
                return Err(refuse(decode::Unreadable::Type(why)));
            }
        }
        decode::patched_kind(write.resource, &mut object).map_err(refuse)?;
        if json::text(&object, &["apiVersion"]).is_empty() {
            let why = "Object 'apiVersion' is missing in 'object has no apiVersion field'";
            return Err(Status::internal(why));
        }
        let mut warnings = Vec::new();
        decode::admit(write.resource, &mut object, &duplicates, write.options.validation, &mut warnings)
            .map_err(refuse)?;
        if let Some(status) = decode::wrong_kind(write.resource, &object) {
            return Err(status);
        }
        update::check_place(write, &mut object)?;
        Ok(Proposal { object, warnings, owned: false })
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
    if write.options.validation == FieldValidation::Strict && !duplicates.is_empty() {
        let all = duplicates.join("\n  ");
        let all = all.trim_start_matches(json::YAML_ERRORS);
        return Err(Status::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {all}"
        )));
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
        return apply_missing(core, write, &applied, &sent_namespace).await.map(told);
    }
    update::change(core, write, &mut |live| {
        let (mut object, entries) = ownership::on_apply(write, Some(live), &applied, &core.now())?;
        ownership::note(write, &mut object, &sent);
        if sent_revision.is_empty() {
            json::carry(live, &mut object, &["metadata", "resourceVersion"]);
        }
        let warnings = read(write, &mut object, &sent_namespace)?;
        managed::write(&mut object, entries);
        Ok(Proposal { object, warnings, owned: true })
    })
    .await
    .map(told)
}

fn not_yaml(why: &str) -> Status {
    Status::bad_request(format!("error decoding YAML: {why}"))
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
    if json::at(applied, &["metadata", "managedFields"]).is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

async fn apply_missing(core: &Core, write: &Write<'_>, applied: &Value, namespace: &str) -> Result<Outcome> {
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
