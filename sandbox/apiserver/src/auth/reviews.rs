//! Reviews: questions about access that are answered and not kept.

use serde_json::{Value, json};

use super::User;
use super::rbac::{self, Attributes};
use super::tokens::{Claims, EXPIRATION_SECONDS, Tokens};
use crate::core::Core;
use crate::field::FieldError;
use crate::json;
use crate::meta;
use crate::rest::{Outcome, Write, decode, ownership};
use crate::status::{Result, Status, Target};
use crate::strategy::validate;
use crate::time;

/// Answers a review.
pub(crate) fn answer(core: &Core, write: &Write<'_>, bytes: &[u8], content_type: &str) -> Result<Outcome> {
    let resource = write.resource;
    let parsed = decode::body(bytes, content_type, &resource.kind)?;
    let mut object = parsed.value;
    decode::check_kind(resource, &mut object, bytes, write.options.validation)?;
    let mut warnings = Vec::new();
    decode::admit(resource, &mut object, &parsed.duplicates, write.options.validation, &mut warnings)
        .map_err(|error| error.of_body(&resource.kind, &resource.version))?;
    let status = match resource.kind.as_str() {
        "SelfSubjectReview" => {
            object["metadata"] = json!({"creationTimestamp": core.now()});
            json!({"userInfo": write.user.to_value()})
        }
        "TokenReview" if json::text(&object, &["spec", "token"]).is_empty() => {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        "TokenReview" => token_review(core, &object),
        "SelfSubjectRulesReview" if json::text(&object, &["spec", "namespace"]).is_empty() => {
            return Err(Status::bad_request("no namespace on request"));
        }
        "SelfSubjectRulesReview" => rules_review(core, write.user, &object),
        _ => access_review(core, write, &object)?,
    };
    if resource.kind == "SelfSubjectRulesReview" {
        // Its answer tells nothing of what was asked.
        json::remove(&mut object, &["status"]);
        object["spec"] = json!({});
    } else if resource.kind != "SelfSubjectReview" {
        json::remove(&mut object, &["status"]);
        ownership::on_update(write, None, &mut object, &core.now());
    }
    if resource.namespaced {
        json::set(&mut object, &["metadata", "namespace"], write.namespace.into());
    }
    object["status"] = status;
    Ok(Outcome { object, created: true, warnings })
}

/// How short and how long a token may hold.
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

fn refuse(error: FieldError) -> Status {
    Status::invalid(&Target::new("authorization.k8s.io", ""), "", &[error])
}

fn access_review(core: &Core, write: &Write<'_>, object: &Value) -> Result<Value> {
    let spec = &object["spec"];
    let resource = spec.get("resourceAttributes");
    let path = spec.get("nonResourceAttributes");
    if write.resource.kind != "SelfSubjectAccessReview"
        && json::text(spec, &["user"]).is_empty()
        && json::list(spec, &["groups"]).is_empty()
    {
        return Err(refuse(FieldError::invalid_text(
            "spec.user",
            "",
            "at least one of user or group must be specified",
        )));
    }
    place(write, object)?;
    if let (Some(_), Some(path)) = (resource, path) {
        let shown = json!({"Path": json::text(path, &["path"]), "Verb": json::text(path, &["verb"])});
        let detail = "cannot be specified in combination with resourceAttributes";
        return Err(refuse(FieldError::invalid("spec.nonResourceAttributes", &shown, detail)));
    }
    if resource.is_none() && path.is_none() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        return Err(refuse(FieldError::invalid("spec.resourceAttributes", &Value::Null, detail)));
    }
    let mut errors = Vec::new();
    for key in ["fieldSelector", "labelSelector"] {
        if let Some(selector) = resource.and_then(|own| own.get(key)).filter(|selector| selector.is_object()) {
            selection(selector, &format!("spec.resourceAttributes.{key}"), &mut errors);
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&Target::new("authorization.k8s.io", ""), "", &errors));
    }
    let user = if write.resource.kind == "SelfSubjectAccessReview" {
        write.user.clone()
    } else {
        let groups = json::list(spec, &["groups"]).iter().filter_map(Value::as_str).map(String::from).collect();
        User { name: json::text(spec, &["user"]).to_owned(), groups, ..User::default() }
    };
    let decision = rbac::decide(core, &user, &attributes(resource, path));
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    Ok(status)
}

/// Checks what narrows the objects that a review is about.
fn selection(selector: &Value, at: &str, out: &mut Vec<FieldError>) {
    let raw = json::text(selector, &["rawSelector"]);
    let requirements = json::list(selector, &["requirements"]);
    if !raw.is_empty() && !requirements.is_empty() {
        let detail = "may not specified at the same time as requirements";
        out.push(FieldError::invalid_text(format!("{at}.rawSelector"), raw, detail));
    }
    if raw.is_empty() && requirements.is_empty() {
        out.push(FieldError::required(format!("{at}.requirements"), "when rawSelector is not specified"));
    }
    for (index, requirement) in requirements.iter().enumerate() {
        let at = format!("{at}.requirements[{index}]");
        let labels = at.contains("labelSelector");
        if labels {
            validate::requirement(requirement, &at, out);
            continue;
        }
        if json::text(requirement, &["key"]).is_empty() {
            out.push(FieldError::required(format!("{at}.key"), "must be specified"));
        }
        validate::requirement_values(requirement, &at, out);
    }
}

/// Checks that a review is about the namespace that it is asked in, and names nothing else.
fn place(write: &Write<'_>, object: &Value) -> Result<()> {
    let mut meta = object.get("metadata").cloned().unwrap_or(json!({}));
    for key in ["managedFields", "namespace"] {
        json::remove(&mut meta, &[key]);
    }
    let named = meta.as_object().is_some_and(|meta| !meta.is_empty());
    if write.resource.kind != "LocalSubjectAccessReview" {
        if named {
            return Err(refuse(FieldError::invalid("metadata", &meta, "must be empty")));
        }
        return Ok(());
    }
    let mut errors = Vec::new();
    if named {
        errors.push(FieldError::invalid("metadata", &meta, "must be empty except for namespace"));
    }
    let spec = &object["spec"];
    if let Some(resource) = spec.get("resourceAttributes") {
        let namespace = json::text(resource, &["namespace"]);
        if namespace != write.namespace {
            let detail = "must match metadata.namespace";
            errors.push(FieldError::invalid_text("spec.resourceAttributes.namespace", namespace, detail));
        }
    }
    if let Some(path) = spec.get("nonResourceAttributes") {
        let shown = json!({"Path": json::text(path, &["path"]), "Verb": json::text(path, &["verb"])});
        let detail = "disallowed on this kind of request";
        errors.push(FieldError::invalid("spec.nonResourceAttributes", &shown, detail));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&Target::new("authorization.k8s.io", ""), "", &errors))
}

fn attributes(resource: Option<&Value>, path: Option<&Value>) -> Attributes {
    let empty = Value::Null;
    let source = resource.or(path).unwrap_or(&empty);
    let text = |key: &str| json::text(source, &[key]).to_owned();
    Attributes {
        verb: text("verb"),
        group: text("group"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        path: if resource.is_none() { text("path") } else { String::new() },
        node: String::new(),
    }
}

fn rules_review(core: &Core, user: &User, object: &Value) -> Value {
    let namespace = json::text(object, &["spec", "namespace"]);
    let (paths, resources): (Vec<Value>, Vec<Value>) = rbac::rules(core, user, namespace)
        .into_iter()
        .partition(|rule| !json::list(rule, &["nonResourceURLs"]).is_empty());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

fn token_review(core: &Core, object: &Value) -> Value {
    let asked: Vec<String> =
        json::list(object, &["spec", "audiences"]).iter().filter_map(Value::as_str).map(String::from).collect();
    let token = json::text(object, &["spec", "token"]);
    if let Some(user) = core.tokens.authenticate(core, token, &asked) {
        let own = Tokens::audiences(token);
        let shared: Vec<String> = if asked.is_empty() {
            vec![Tokens::issuer().to_owned()]
        } else {
            asked.into_iter().filter(|audience| own.contains(audience)).collect()
        };
        return json!({"authenticated": true, "user": user.to_value(), "audiences": shared});
    }
    let mut error = "invalid bearer token".to_owned();
    let own = Tokens::audiences(token);
    let asked = if asked.is_empty() { vec![Tokens::issuer().to_owned()] } else { asked };
    if core.tokens.authenticate(core, token, &own).is_some() {
        let shown = |list: &[String]| list.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" ");
        error = format!(
            "[{error}, token audiences [{}] is invalid for the target audiences [{}]]",
            shown(&own),
            shown(&asked)
        );
    }
    json!({"user": {}, "error": error})
}

/// Issues a token for an account: the `token` below a ServiceAccount.
pub(crate) fn token(core: &Core, write: &Write<'_>, bytes: &[u8], content_type: &str) -> Result<Outcome> {
    let mut parsed = decode::body(bytes, content_type, "TokenRequest")?;
    decode::expect_kind(&mut parsed.value, "TokenRequest", "authentication.k8s.io", "v1").map_err(|mut status| {
        status.message = status.message.replace("(authentication.k8s.io.", "(authentication.");
        status
    })?;
    let own = ("authentication.k8s.io/v1", "TokenRequest");
    let (mut object, warnings) = decode::admit_as(own, parsed, write.options.validation)?;
    core.stored(write.resource, write.namespace, write.name)?;
    let owned = owned(core, write, &object);
    named(write, &object)?;
    let asked = json::at(&object, &["spec", "expirationSeconds"]).and_then(Value::as_i64);
    let wrong = match asked {
        Some(..SECONDS_MIN) => Some("may not specify a duration less than 10 minutes"),
        Some(seconds) if seconds > SECONDS_MAX => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    if let (Some(seconds), Some(why)) = (asked, wrong) {
        let error = FieldError::invalid("spec.expirationSeconds", &seconds.into(), why);
        return Err(Status::invalid(&Target::new("authentication.k8s.io", "TokenRequest"), "", &[error]));
    }
    let audiences: Vec<String> =
        json::list(&object, &["spec", "audiences"]).iter().filter_map(Value::as_str).map(String::from).collect();
    let seconds =
        json::at(&object, &["spec", "expirationSeconds"]).and_then(Value::as_i64).unwrap_or(EXPIRATION_SECONDS);
    let bound = bound(core, write, &object)?;
    let claims = Claims {
        namespace: write.namespace.to_owned(),
        account: write.name.to_owned(),
        audiences: audiences.clone(),
        seconds,
        bound,
    };
    let token =
        core.tokens.issue(core, &claims).ok_or_else(|| Status::not_found(&write.resource.target(), write.name))?;
    let until = core.config.clock.now() + jiff::SignedDuration::from_secs(seconds);
    object["metadata"] = json!({
        "name": write.name, "namespace": write.namespace, "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": core.now(), "managedFields": [owned],
    });
    let audiences = if audiences.is_empty() { vec![Tokens::issuer().to_owned()] } else { audiences };
    json::set(&mut object, &["spec", "audiences"], audiences.into());
    json::set(&mut object, &["spec", "expirationSeconds"], seconds.into());
    if json::at(&object, &["spec", "boundObjectRef"]).is_none() {
        json::set(&mut object, &["spec", "boundObjectRef"], Value::Null);
    }
    object["status"] = json!({"token": token, "expirationTimestamp": time::seconds(until)});
    Ok(Outcome { object, created: true, warnings })
}

/// Checks that a request for a token names the account, where it names anything.
fn named(write: &Write<'_>, object: &Value) -> Result<()> {
    let (name, namespace) = (crate::meta::name(object), crate::meta::namespace(object));
    if !namespace.is_empty() && namespace != write.namespace {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(text));
    }
    if !name.is_empty() && name != write.name {
        let detail = "must match the service account name if specified";
        let error = FieldError::invalid_text("metadata.name", name, detail);
        return Err(Status::invalid(&Target::new("authentication.k8s.io", "TokenRequest"), write.name, &[error]));
    }
    Ok(())
}

/// Tells who owns the fields of a request for a token.
fn owned(core: &Core, write: &Write<'_>, object: &Value) -> Value {
    let mut spec = json!({"f:expirationSeconds": {}});
    if !json::list(object, &["spec", "audiences"]).is_empty() {
        spec["f:audiences"] = json!({});
    }
    for (key, _) in json::at(object, &["spec", "boundObjectRef"]).and_then(Value::as_object).into_iter().flatten() {
        json::set(&mut spec, &["f:boundObjectRef", &format!("f:{key}")], json!({}));
    }
    json!({
        "manager": write.options.manager, "operation": "Update", "apiVersion": "authentication.k8s.io/v1",
        "time": core.now(), "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": spec}, "subresource": "token",
    })
}

fn bound(core: &Core, write: &Write<'_>, object: &Value) -> Result<Option<(String, String, String)>> {
    let Some(reference) = json::at(object, &["spec", "boundObjectRef"]).filter(|r| !r.is_null()) else {
        return Ok(None);
    };
    let kind = json::text(reference, &["kind"]).to_owned();
    let name = json::text(reference, &["name"]).to_owned();
    let (storage, namespace) = match kind.as_str() {
        "Pod" => ("pods", write.namespace),
        "Secret" => ("secrets", write.namespace),
        "Node" => ("nodes", ""),
        other => {
            let version = json::text(reference, &["apiVersion"]);
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let text = format!("cannot bind token to object of type {group}/{version}, Kind={other}");
            return Err(Status::bad_request(text));
        }
    };
    let found =
        core.builtin(storage, namespace, &name).ok_or_else(|| Status::not_found(&Target::new("", storage), &name))?;
    let uid = meta::uid(&found).to_owned();
    if kind == "Pod" && json::text(&found, &["spec", "serviceAccountName"]) != write.name {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            write.name
        )));
    }
    let asked = json::text(reference, &["uid"]);
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the bound object reference ({asked}) does not match the UID in record. The object \
                           might have been deleted and then recreated"
        );
        return Err(Status::conflict(&Target::new("", &kind), &name, &why));
    }
    Ok(Some((kind, name, uid)))
}
