//! The `scale` of a workload: a small object of its own that reads and writes the replicas of another.

use serde_json::{Value, json};

use super::sent::Sent;
use super::update::{self, Proposal};
use super::{Outcome, Write, decode, serve};
use crate::apply::managed;
use crate::apply::{fieldset::FieldSet, managed::Entry, managed::Manager};
use crate::core::Core;
use crate::field::FieldError;
use crate::json::{self, Parsed};
use crate::kinds::{self, Resource};
use crate::meta;
use crate::patch::Kind;
use crate::status::{Result, Status, Target};

/// What is said of a body that is no scale, where custom resources are scaled.
const UNREGISTERED: &str = "no kind is registered for the type v1.Scale in scheme \
                            \"k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go:781\"";

struct Paths {
    spec: Vec<String>,
    status: Vec<String>,
    selector: Option<Vec<String>>,
}

fn paths(resource: &Resource) -> Paths {
    let custom = resource.custom().and_then(|custom| custom.scale.clone());
    let own = |text: &str| text.split('.').map(String::from).collect();
    match custom {
        Some(scale) => Paths { spec: scale.spec, status: scale.status, selector: scale.selector },
        None => Paths { spec: own("spec.replicas"), status: own("status.replicas"), selector: None },
    }
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Makes the scale of an object.
pub(crate) fn of(resource: &Resource, object: &Value) -> Value {
    let paths = paths(resource);
    let number = |path: &[String]| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut meta = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = json::at(object, &["metadata", key]) {
            meta[key] = value.clone();
        }
    }
    let mut spec = json!({});
    if number(&paths.spec) != 0 {
        spec["replicas"] = number(&paths.spec).into();
    }
    let mut status = json!({"replicas": number(&paths.status)});
    let selector = match &paths.selector {
        Some(path) => at(object, path).and_then(Value::as_str).unwrap_or_default().to_owned(),
        None if resource.is_custom() => String::new(),
        None => shown(json::at(object, &["spec", "selector"]).unwrap_or(&Value::Null)),
    };
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status})
}

/// Writes a selector as one text.
fn shown(selector: &Value) -> String {
    if selector.get("matchLabels").or(selector.get("matchExpressions")).is_some_and(|part| !part.is_string()) {
        return crate::view::columns::selector(Some(selector));
    }
    let mut terms: Vec<String> = selector
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    terms.sort();
    terms.join(",")
}

/// Reads the scale.
pub(crate) fn get(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<Value> {
    let object = serve::served(resource, &*core.stored(resource, namespace, name)?);
    let paths = paths(resource);
    if resource.is_custom() && at(&object, &paths.spec).is_none() {
        let text = format!("the spec replicas field \".{}\" does not exist", paths.spec.join("."));
        return Err(Status::internal(text));
    }
    Ok(of(resource, &object))
}

/// Replaces the scale.
pub(crate) async fn replace(core: &Core, write: &Write<'_>, bytes: &[u8], content_type: &str) -> Result<Outcome> {
    let Parsed { mut value, duplicates, .. } = decode::body(bytes, content_type, "Scale")?;
    decode::expect_kind(&mut value, "Scale", "autoscaling", "v1")
        .map_err(|status| if write.resource.is_custom() { Status::bad_request(UNREGISTERED) } else { status })?;
    let mut warnings = Vec::new();
    if let Some(node) = kinds::node_of("autoscaling/v1", "Scale") {
        decode::admit_type(node, &mut value, &duplicates, write.options.validation, &mut warnings).map_err(
            |error| match error {
                decode::Unreadable::Type(_) if write.resource.is_custom() => Status::bad_request(UNREGISTERED),
                error => error.of_body("Scale", "v1"),
            },
        )?;
    }
    named(write, &value)?;
    let stored = core.stored(write.resource, write.namespace, write.name)?.value();
    let (sent, known) = (meta::uid(&value), meta::uid(&stored));
    if !sent.is_empty() && sent != known {
        return Err(update::uid_conflict(write, sent, known));
    }
    set(core, write, &|_| Ok((value.clone(), warnings.clone()))).await
}

/// Patches the scale.
pub(crate) async fn patch(core: &Core, write: &Write<'_>, bytes: &[u8], kind: Kind) -> Result<Outcome> {
    if kind == Kind::Apply {
        return apply(core, write, bytes).await;
    }
    let sent = Sent::read(kind, bytes)?;
    let (Some(node), Ok(_)) =
        (kinds::node_of("autoscaling/v1", "Scale"), core.stored(write.resource, write.namespace, write.name))
    else {
        return Err(Status::not_found(&write.resource.target(), write.name));
    };
    set(core, write, &|scale| {
        let mut out = sent.applied(node, scale)?;
        let shown = out.clone();
        let refuse = |error: decode::Unreadable| match sent.strategic() {
            Some(patch) => error.of_strategic_patch(&patch),
            None => error.of_builtin_patch(node, scale, &shown),
        };
        let mut warnings = Vec::new();
        decode::admit_type(node, &mut out, &sent.odd, write.options.validation, &mut warnings).map_err(refuse)?;
        named(write, &out)?;
        Ok((out, warnings))
    })
    .await
}

/// Checks that a scale is that of the object of the path.
fn named(write: &Write<'_>, scale: &Value) -> Result<()> {
    update::check_place(write, &mut scale.clone())
}

async fn apply(core: &Core, write: &Write<'_>, bytes: &[u8]) -> Result<Outcome> {
    let applied =
        json::parse_yaml(bytes).map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?.value;
    let resource = write.resource;
    let live = serve::served(resource, &*core.stored(resource, write.namespace, write.name)?);
    let path: Vec<&str> = vec!["spec", "replicas"];
    let owned = FieldSet::of_paths(&[&path]);
    let other = managed::read(&live)
        .into_iter()
        .find(|entry| entry.manager.name != write.options.manager && !entry.set.intersection(&owned).is_empty());
    if resource.is_custom() {
        if let Some(entry) = other.filter(|_| !write.options.force) {
            let who = format!("conflict with \"{}\" using autoscaling/v1", entry.manager.name);
            return Err(Status::new(409, "Conflict", format!("Apply failed with 1 conflict: {who}: .spec.replicas"))
                .with_cause(crate::status::Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: who,
                    field: ".spec.replicas".to_owned(),
                }));
        }
        if json::at(&seen_by_patches(resource, &live), &["metadata", "managedFields"]).is_none() {
            return Err(Status::unforeseen(
                "failed to create manager for existing fields: failed to convert live object (/; autoscaling/v1, \
                 Kind=Scale) to proper version: request to convert CR to an invalid group/version: autoscaling/v1",
            ));
        }
        return Err(Status::unforeseen(format!(
            "failed to convert new object ({}/{}; autoscaling/v1, Kind=Scale) to proper version: request to convert \
             CR to an invalid group/version: autoscaling/v1",
            write.namespace, write.name
        )));
    }
    take_over(core, write, &applied).await
}

/// Applies the replicas of a built-in kind: who else says another number is in the way, unless forced aside.
async fn take_over(core: &Core, write: &Write<'_>, applied: &Value) -> Result<Outcome> {
    let resource = write.resource;
    let asked = json::at(applied, &["spec", "replicas"]).cloned();
    let taken = FieldSet::of_paths(&[&["spec", "replicas"]]);
    let me = Manager {
        name: write.options.manager.clone(),
        applies: true,
        api_version: resource.api_version(),
        subresource: "scale".to_owned(),
    };
    let outcome = update::change(core, write, &mut |live| {
        let mut entries = managed::read(live);
        let owns = |entry: &Entry| !entry.set.intersection(&taken).is_empty();
        let mine = entries.iter().any(|entry| entry.manager.is(&me) && owns(entry));
        entries.retain(|entry| !entry.manager.is(&me));
        let now = json::at(live, &["spec", "replicas"]).cloned().unwrap_or(Value::from(0));
        let mut object = live.clone();
        match &asked {
            Some(replicas) => {
                check(write, resource, &["spec".to_owned(), "replicas".to_owned()], replicas)?;
                let differs = *replicas != now;
                if let Some(entry) = entries.iter().find(|entry| differs && owns(entry)) {
                    if !write.options.force {
                        return Err(in_the_way(&entry.manager));
                    }
                    for entry in &mut entries {
                        entry.set = entry.set.difference(&taken);
                    }
                }
                json::set(&mut object, &["spec", "replicas"], replicas.clone());
                entries.push(Entry { manager: me.clone(), time: None, set: taken.clone() });
            }
            // What only this manager wanted is not wanted any more.
            None if mine && !entries.iter().any(owns) => json::set(&mut object, &["spec", "replicas"], 0.into()),
            None => {}
        }
        managed::write(&mut object, entries);
        Ok(Proposal { object, warnings: Vec::new(), owned: true, patched: true })
    })
    .await?;
    Ok(Outcome { object: of(resource, &outcome.object), ..outcome })
}

fn in_the_way(manager: &Manager) -> Status {
    let using = if manager.applies { "" } else { " using autoscaling/v1" };
    let who = format!("conflict with \"{}\"{using}", manager.name);
    let field = ".spec.replicas".to_owned();
    Status::new(409, "Conflict", format!("Apply failed with 1 conflict: {who}: {field}"))
        .with_cause(crate::status::Cause { reason: "FieldManagerConflict".to_owned(), message: who, field })
}

/// What a request makes of a scale, and what it is warned of.
type Scaled = (Value, Vec<String>);

async fn set(
    core: &Core,
    write: &Write<'_>,
    scaled: &(dyn Fn(&Value) -> Result<Scaled> + Send + Sync),
) -> Result<Outcome> {
    let resource = write.resource;
    let paths = paths(resource);
    let outcome = update::change(core, write, &mut |live| {
        let (scale, warnings) = scaled(&seen_by_patches(resource, live))?;
        let replicas = json::at(&scale, &["spec", "replicas"]).cloned().unwrap_or(Value::from(0));
        check(write, resource, &paths.spec, &replicas).map_err(|status| status.with_warnings(warnings.clone()))?;
        let mut object = live.clone();
        let steps: Vec<&str> = paths.spec.iter().map(String::as_str).collect();
        let changed = at(live, &paths.spec) != Some(&replicas);
        json::set(&mut object, &steps, replicas);
        let version = json::at(&scale, &["metadata", "resourceVersion"]).cloned().unwrap_or_default();
        json::set(&mut object, &["metadata", "resourceVersion"], version);
        if changed {
            own(write, &steps, &mut object);
        } else {
            part(&steps, &mut object);
        }
        Ok(Proposal { object, warnings, owned: true, patched: true })
    })
    .await?;
    Ok(Outcome { object: of(resource, &outcome.object), ..outcome })
}

/// Makes the scale of an object as patches see it: with the owners of its replicas.
fn seen_by_patches(resource: &Resource, object: &Value) -> Value {
    let mut out = of(resource, object);
    let path = paths(resource).spec;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let replicas = FieldSet::of_paths(&[&path]);
    let mut entries: Vec<Entry> = managed::read(object);
    entries.retain(|entry| !entry.set.intersection(&replicas).is_empty());
    for entry in &mut entries {
        "autoscaling/v1".clone_into(&mut entry.manager.api_version);
        entry.set = FieldSet::of_paths(&[&["spec", "replicas"]]);
    }
    managed::write(&mut out, entries);
    out
}

fn check(write: &Write<'_>, resource: &Resource, path: &[String], replicas: &Value) -> Result<()> {
    if replicas.as_i64().is_none_or(|count| count >= 0) {
        return Ok(());
    }
    if !resource.is_custom() {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(&Target::new("autoscaling", "Scale"), write.name, &[error]));
    }
    let field = path.join(".");
    let schema = crate::schema::crd::find(resource.node(), &path.iter().map(String::as_str).collect::<Vec<_>>());
    let mut errors = schema.map(|node| crate::schema::validate::object(node, replicas, &field)).unwrap_or_default();
    errors.push(FieldError::invalid(format!(".{field}"), replicas, "should be a non-negative integer"));
    Err(Status::invalid(&resource.kind_target(), write.name, &errors))
}

/// Parts the replicas from what else an updater owns, as the real server does when a scale comes back unchanged.
fn part(path: &[&str], object: &mut Value) {
    let taken = FieldSet::of_paths(&[path]);
    let mut entries = managed::read(object);
    let mut parted = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.manager.applies) {
        if !entry.set.intersection(&taken).is_empty() {
            entry.set = entry.set.difference(&taken);
            parted.push(Entry { manager: entry.manager.clone(), time: None, set: taken.clone() });
        }
    }
    entries.extend(parted);
    managed::write(object, entries);
}

/// Gives the replicas to the writer of the scale.
fn own(write: &Write<'_>, path: &[&str], object: &mut Value) {
    let taken = FieldSet::of_paths(&[path]);
    let mut entries = managed::read(object);
    if entries.iter().all(|entry| entry.set.intersection(&taken).is_empty()) {
        // Whose owner nobody tracked belongs to nobody.
        return;
    }
    for entry in &mut entries {
        entry.set = entry.set.difference(&taken);
    }
    let manager = Manager {
        name: write.options.manager.clone(),
        applies: false,
        api_version: write.resource.api_version(),
        subresource: "scale".to_owned(),
    };
    entries.retain(|entry| !entry.manager.is(&manager));
    // A count of none is left out of a scale, so nobody owns it.
    if json::at(object, path).is_some_and(|count| count.as_i64() != Some(0)) {
        entries.push(Entry { manager, time: None, set: taken });
    }
    managed::write(object, entries);
}
