//! What is done to pods through paths of their own: binding to a node, eviction.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::core::Core;
use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;
use crate::meta;
use crate::options::DeleteOptions;
use crate::rest::update::{self, Proposal};
use crate::rest::{Outcome, Write, decode, delete, serve};
use crate::selector::LabelSelector;
use crate::status::{self, Cause, Result, Status, Target};
use crate::store::Key;

const BUDGETS: &str = "policy/poddisruptionbudgets";

fn done() -> Outcome {
    Outcome { object: status::created(), created: true, warnings: Vec::new() }
}

/// Binds a pod to a node, once.
pub(crate) async fn bind(core: &Core, write: &Write<'_>, bytes: &[u8], content_type: &str) -> Result<Outcome> {
    let mut parsed = decode::body(bytes, content_type, "Binding")?;
    decode::expect_kind(&mut parsed.value, "Binding", "", "v1")?;
    let (binding, warnings) = decode::admit_as(("v1", "Binding"), parsed, write.options.validation)?;
    let bound = bound(core, write, &binding).await;
    bound.map_err(|status| status.with_warnings(warnings.clone()))?;
    Ok(Outcome { warnings, ..done() })
}

async fn bound(core: &Core, write: &Write<'_>, binding: &Value) -> Result<()> {
    if meta::name(binding) != write.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let mut errors = Vec::new();
    let kind = json::text(binding, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", &Value::from(kind), &["Node", "<empty>"]));
    }
    let node = json::text(binding, &["target", "name"]).to_owned();
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => {}
        [one] => return Err(Status::unforeseen(one)),
        many => return Err(Status::unforeseen(format!("[{}]", many.join(", ")))),
    }
    let now = core.now();
    update::change(core, write, &mut |live| {
        let bound = json::text(live, &["spec", "nodeName"]);
        if !bound.is_empty() {
            let why = format!("pod {} is already assigned to node {bound:?}", write.name);
            return Err(Status::conflict(&Target::new("", "pods/binding"), write.name, &why));
        }
        let mut object = live.clone();
        json::set(&mut object, &["spec", "nodeName"], node.as_str().into());
        let mut conditions = json::list(live, &["status", "conditions"]).to_vec();
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        conditions
            .push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}));
        json::set(&mut object, &["status", "conditions"], Value::Array(conditions));
        for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
            json::set(&mut object, &["metadata", "annotations", key], value.clone());
        }
        Ok(Proposal { object, warnings: Vec::new(), owned: true, patched: false })
    })
    .await?;
    Ok(())
}

/// Binds the pod that a binding itself names: the path of before pods had one of their own.
pub(crate) async fn bind_named(
    core: &Core,
    write: &Write<'_>,
    pods: &Arc<Resource>,
    bytes: &[u8],
    content_type: &str,
) -> Result<Outcome> {
    let binding = decode::body(bytes, content_type, "Binding")?.value;
    let name = meta::name(&binding).to_owned();
    let write = Write { resource: pods, name: &name, subresource: "binding", options: write.options.clone(), ..*write };
    bind(core, &write, bytes, content_type).await
}

/// Deletes a pod where its disruption budgets allow it.
pub(crate) async fn evict(core: &Core, write: &Write<'_>, bytes: &[u8], content_type: &str) -> Result<Outcome> {
    let mut eviction = decode::body(bytes, content_type, "Eviction")?.value;
    // Both versions of an eviction are the same.
    if eviction["apiVersion"] == "policy/v1beta1" {
        json::set(&mut eviction, &["apiVersion"], "policy/v1".into());
    }
    decode::expect_kind(&mut eviction, "Eviction", "policy", "v1")?;
    if meta::name(&eviction) != write.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let pod = serve::served(write.resource, &*core.stored(write.resource, write.namespace, write.name)?);
    let options = DeleteOptions::parse(&crate::options::Query::default(), eviction.get("deleteOptions"))?;
    let mut written = write.options.clone();
    written.dry_run |= options.dry_run;
    if guarded(&pod) {
        spend(core, &pod, written.dry_run)?;
    }
    let write = Write { subresource: "", options: written, ..*write };
    delete::one(core, &write, &options).await?;
    Ok(done())
}

/// Only running and ready pods count against a budget.
fn guarded(pod: &Value) -> bool {
    json::text(pod, &["status", "phase"]) == "Running" && !meta::is_deleting(pod)
}

fn refuse(cause: String, retry: Option<u32>) -> Status {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = Cause { reason: "DisruptionBudget".to_owned(), message: cause, field: String::new() };
    let status = Status::new(429, "TooManyRequests", text).with_cause(cause);
    match retry {
        Some(seconds) => status.with_retry(seconds),
        None => status,
    }
}

/// Takes one disruption from the pod's budget.
fn spend(core: &Core, pod: &Value, dry_run: bool) -> Result<()> {
    let namespace = meta::namespace(pod);
    let about = |budget: &Value| LabelSelector::of_object(&budget["spec"]["selector"]).matches(pod);
    let budgets: Vec<Value> = core.builtin_list(BUDGETS, namespace).into_iter().filter(about).collect();
    if budgets.len() > 1 {
        let text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::unforeseen(text));
    }
    for budget in budgets {
        let name = meta::name(&budget).to_owned();
        let number = |key: &str| json::at(&budget, &["status", key]).and_then(Value::as_i64).unwrap_or(0);
        if number("observedGeneration") < meta::generation(&budget) {
            return Err(refuse(
                format!("The disruption budget {name} is still being processed by the server."),
                Some(10),
            ));
        }
        let allowed = number("disruptionsAllowed");
        if allowed <= 0 {
            return Err(refuse(used_up(&budget), None));
        }
        let mut new = budget.clone();
        let now = core.now();
        json::set(&mut new, &["status", "disruptionsAllowed"], (allowed - 1).into());
        json::set(&mut new, &["status", "disruptedPods", meta::name(pod)], now.as_str().into());
        if allowed == 1 {
            json::set(
                &mut new,
                &["status", "conditions"],
                json!([{
                    "type": "DisruptionAllowed", "status": "False", "observedGeneration": meta::generation(&budget),
                    "lastTransitionTime": now, "reason": "InsufficientPods", "message": "",
                }]),
            );
        }
        if dry_run {
            continue;
        }
        if let Some(stored) = core.store.get(BUDGETS, &Key::new(namespace, &name)) {
            let _ = core.store.replace(BUDGETS, &stored, new);
        }
    }
    Ok(())
}

/// Says why a budget lets no more pods go.
fn used_up(budget: &Value) -> String {
    let name = meta::name(budget);
    let number = |key: &str| json::at(budget, &["status", key]).and_then(Value::as_i64).unwrap_or(0);
    let (now, wanted) = (number("currentHealthy"), number("desiredHealthy"));
    let conditions = json::list(budget, &["status", "conditions"]);
    let told = conditions.iter().find(|condition| condition["type"] == "DisruptionAllowed");
    let told = told.filter(|condition| condition["status"] == "False" && condition["message"] != "");
    let text = |condition: &Value, key: &str| json::text(condition, &[key]).to_owned();
    let stays = format!("The disruption budget {name} does not allow evicting pods currently");
    match told {
        Some(condition) if condition["reason"] == "SyncFailed" => {
            format!("{stays} because it failed sync: {}", text(condition, "message"))
        }
        _ if now <= wanted => {
            format!("The disruption budget {name} needs {wanted} healthy pods and has {now} currently")
        }
        Some(condition) => format!("{stays} ({}): {}", text(condition, "reason"), text(condition, "message")),
        None => stays,
    }
}

/// Checks which container is meant, and options of a log.
pub(crate) fn asked_of_one(pod: &Value, subresource: &str, option: impl Fn(&str) -> String) -> Result<()> {
    let mut wrong = Vec::new();
    let least =
        if subresource == "log" { vec![("limitBytes", 1), ("sinceSeconds", 1), ("tailLines", 0)] } else { vec![] };
    for (key, least) in least {
        let Ok(number) = option(key).parse::<i64>() else { continue };
        if number < least {
            let words = if least == 0 { "greater than or equal to 0" } else { "greater than 0" };
            wrong.push(FieldError::invalid(key, &number.into(), format!("must be {words}")));
        }
    }
    if !wrong.is_empty() {
        return Err(Status::invalid(&Target::new("", "PodLogOptions"), meta::name(pod), &wrong));
    }
    if subresource == "portforward" {
        return Ok(());
    }
    let named = |key: &str| {
        let all = json::list(pod, &["spec", key]).iter();
        all.map(|container| json::text(container, &["name"]).to_owned()).collect::<Vec<_>>()
    };
    let (own, before, beside) = (named("containers"), named("initContainers"), named("ephemeralContainers"));
    let (name, wanted) = (meta::name(pod), option("container"));
    if wanted.is_empty() {
        if own.len() < 2 {
            return Ok(());
        }
        let mut why = format!("a container name must be specified for pod {name}, choose one of: [{}]", own.join(" "));
        for (what, names) in [("init", &before), ("ephemeral", &beside)] {
            if !names.is_empty() {
                let _ = write!(why, " or one of the {what} containers: [{}]", names.join(" "));
            }
        }
        return Err(Status::bad_request(why));
    }
    if [own, before, beside].concat().contains(&wanted) {
        return Ok(());
    }
    Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
}
