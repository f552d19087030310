//! Webhooks: HTTPS servers that are asked whether a request may pass, or how its object is to be changed.

mod call;
mod response;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Operation;
use super::policies::{self, Request};
use super::rules;
use crate::core::Core;
use crate::json;
use crate::kinds::Resource;
use crate::meta;
use crate::options::FieldValidation;
use crate::patch;
use crate::rest::{Write, decode, serve};
use crate::status::{Result, Status};
use response::Response;

const VALIDATING: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations";
const MUTATING: &str = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
/// How long a webhook may take that does not say so itself.
const TIMEOUT_SECONDS: u64 = 10;

/// A webhook that is about a request, and the version of the kind in which it wants the object.
struct Chosen {
    hook: Value,
    form: Arc<Resource>,
}

/// Asks all validating webhooks that are about a request. Answers warnings, or the refusal.
pub(super) async fn validate(request: &Request<'_>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for configuration in request.core.builtin_list(VALIDATING, "") {
        for hook in json::list(&configuration, &["webhooks"]) {
            if let Some(chosen) = choose(request, hook)? {
                let answer = ask(request, &chosen, false).await?;
                warnings.extend(answer.map(|answer| answer.warnings).unwrap_or_default());
            }
        }
    }
    Ok(warnings)
}

/// Lets all mutating webhooks that are about a request change its object. Answers warnings, or the refusal.
pub(crate) async fn mutate(
    core: &Core,
    write: &Write<'_>,
    operation: Operation,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if write.resource.group == "admissionregistration.k8s.io" {
        return Ok(warnings);
    }
    // What another webhook changed after it, a webhook may ask to see once more.
    let mut asked: Vec<(Chosen, Value)> = Vec::new();
    for configuration in core.builtin_list(MUTATING, "") {
        for hook in json::list(&configuration, &["webhooks"]) {
            let request = Request { core, write, operation, old, new: Some(object) };
            let Some(chosen) = choose(&request, hook)? else { continue };
            warnings.extend(change(core, write, operation, old, &chosen, object).await?);
            asked.push((chosen, object.clone()));
        }
    }
    for (chosen, seen) in asked {
        if json::text(&chosen.hook, &["reinvocationPolicy"]) == "IfNeeded" && !json::same(&seen, object) {
            warnings.extend(change(core, write, operation, old, &chosen, object).await?);
        }
    }
    Ok(warnings)
}

/// Lets one webhook change the object.
async fn change(
    core: &Core,
    write: &Write<'_>,
    operation: Operation,
    old: Option<&Value>,
    chosen: &Chosen,
    object: &mut Value,
) -> Result<Vec<String>> {
    let request = Request { core, write, operation, old, new: Some(object) };
    let Some(Response { warnings, patch }) = ask(&request, chosen, true).await? else { return Ok(Vec::new()) };
    if patch.is_empty() {
        return Ok(warnings);
    }
    let mut changed = in_form(write.resource, &chosen.form, object);
    patch::apply_json(&mut changed, &patch).map_err(|_| Status::internal("jsonpatch apply operation failed"))?;
    let mut changed = in_form(&chosen.form, write.resource, &changed);
    decode::admit(write.resource, &mut changed, &[], FieldValidation::Ignore, &mut Vec::new())
        .map_err(|error| error.of_body(&write.resource.kind, &write.resource.version))?;
    *object = changed;
    Ok(warnings)
}

/// Tells whether a webhook is about a request.
fn choose(request: &Request<'_>, hook: &Value) -> Result<Option<Chosen>> {
    let Some(form) = rules::form(request, json::list(hook, &["rules"]), hook) else { return Ok(None) };
    if !rules::selects(request.core, hook, request.write, request.old, request.new) {
        return Ok(None);
    }
    let conditions = json::list(hook, &["matchConditions"]);
    let holds = conditions.is_empty() || {
        let (old, new) = forms(request, &form);
        let request = Request { old: old.as_ref(), new: new.as_ref(), ..*request };
        match policies::conditions(&request, conditions) {
            Ok(holds) => holds,
            Err(_) if ignores(hook) => false,
            Err(why) => {
                let name = named(&request).map(meta::name).unwrap_or_default();
                return Err(Status::forbidden(&request.write.resource.target(), name, &why));
            }
        }
    };
    Ok(holds.then(|| Chosen { hook: hook.clone(), form }))
}

fn ignores(hook: &Value) -> bool {
    json::text(hook, &["failurePolicy"]) == "Ignore"
}

fn named<'a>(request: &Request<'a>) -> Option<&'a Value> {
    request.new.or(request.old)
}

/// Returns an object of one version of its kind in the form of another.
fn in_form(from: &Resource, to: &Resource, object: &Value) -> Value {
    if from.group == to.group && from.version == to.version {
        return object.clone();
    }
    serve::serve(to, serve::to_storage(from, object.clone()))
}

fn forms(request: &Request<'_>, form: &Resource) -> (Option<Value>, Option<Value>) {
    let own = request.write.resource;
    (request.old.map(|old| in_form(own, form, old)), request.new.map(|new| in_form(own, form, new)))
}

/// Asks one webhook; answers nothing when it could not be asked and may be passed over.
async fn ask(request: &Request<'_>, chosen: &Chosen, mutating: bool) -> Result<Option<Response>> {
    let hook = &chosen.hook;
    let name = json::text(hook, &["name"]);
    let side_effects = json::text(hook, &["sideEffects"]);
    if request.write.options.dry_run && !matches!(side_effects, "None" | "NoneOnDryRun") {
        let why = format!("admission webhook {name:?} does not support dry run");
        return Err(Status::bad_request(why));
    }
    let seconds = hook.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(TIMEOUT_SECONDS);
    let review = review(request, &chosen.form);
    let called = tokio::time::timeout(Duration::from_secs(seconds), call::post(request.core, hook, &review, seconds));
    let answer = match called.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => return failed(hook, name, &format!("failed to call webhook: {why}")),
        Err(_) => return failed(hook, name, "failed to call webhook: context deadline exceeded"),
    };
    match response::read(&answer, json::text(&review, &["request", "uid"]), name, mutating) {
        Ok(response) => response.map(Some),
        Err(why) => failed(hook, name, &format!("received invalid webhook response: {why}")),
    }
}

fn failed(hook: &Value, name: &str, why: &str) -> Result<Option<Response>> {
    if ignores(hook) {
        tracing::debug!(webhook = name, why, "webhook could not be called");
        return Ok(None);
    }
    Err(Status::internal(format!("failed calling webhook {name:?}: {why}")))
}

fn review(request: &Request<'_>, form: &Resource) -> Value {
    let write = request.write;
    let resource = write.resource;
    let kind = |of: &Resource| json!({"group": of.group, "version": of.version, "kind": of.kind});
    let plural = |of: &Resource| json!({"group": of.group, "version": of.version, "resource": of.plural});
    let (old, new) = forms(request, form);
    let mut asked = json!({
        "uid": uuid::Uuid::new_v4().to_string(),
        "kind": kind(form), "resource": plural(form),
        "requestKind": kind(resource), "requestResource": plural(resource),
    });
    let mut set = |key: &str, text: &str| {
        if !text.is_empty() {
            asked[key] = text.into();
        }
    };
    set("subResource", write.subresource);
    set("requestSubResource", write.subresource);
    let name = named(request).map(meta::name).unwrap_or_default();
    set("name", name);
    set("namespace", if resource.is("", "Namespace") { name } else { write.namespace });
    set("operation", request.operation.name());
    asked["userInfo"] = write.user.to_value();
    asked["object"] = new.unwrap_or_default();
    asked["oldObject"] = old.unwrap_or_default();
    asked["dryRun"] = write.options.dry_run.into();
    asked["options"] = options(request);
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked})
}

/// Writes a request's options as reviews show them.
fn options(request: &Request<'_>) -> Value {
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
    };
    let mut out = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if request.write.options.dry_run {
        out["dryRun"] = json!(["All"]);
    }
    out
}
