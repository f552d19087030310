//! Disruption budgets: how many of the selected pods may be evicted.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::notes::{self, Note};
use super::{News, concerns, store};
use crate::core::Core;
use crate::json;
use crate::meta;
use crate::selector::LabelSelector;

const STORAGE: &str = "policy/poddisruptionbudgets";
const COMPONENT: &str = "controllermanager";
/// Kinds whose changes change what a budget allows.
const CONCERNED: [&str; 5] = ["poddisruptionbudgets", "pods", "replicasets", "deployments", "statefulsets"];
/// How long an evicted pod counts as disrupted before it is seen to go.
const EVICTION: SignedDuration = SignedDuration::from_mins(2);

/// Brings budgets up to date.
pub(crate) fn look(core: &Core, news: &[News]) {
    if !concerns(news, &CONCERNED) {
        return;
    }
    let kinds = core.registry.now();
    let Some(resource) = kinds.find("policy", "v1", "poddisruptionbudgets") else { return };
    for stored in core.store.list(STORAGE, "").1 {
        let budget = stored.value();
        if meta::is_deleting(&budget) {
            continue;
        }
        let status = status(core, &budget);
        if budget.get("status") == Some(&status) {
            continue;
        }
        let mut new = budget;
        new["status"] = status;
        store(core, &resource, &stored, new);
    }
}

fn status(core: &Core, budget: &Value) -> Value {
    let namespace = meta::namespace(budget);
    let selector = &budget["spec"]["selector"];
    let pods: Vec<Value> = if selector.is_object() {
        let selector = LabelSelector::of_object(selector);
        core.builtin_list("pods", namespace).into_iter().filter(|pod| selector.matches(pod)).collect()
    } else {
        Vec::new()
    };
    let generation = meta::generation(budget);
    if pods.is_empty()
        && json::at(budget, &["status", "observedGeneration"]).and_then(Value::as_i64) != Some(generation)
    {
        let note = Note { warning: false, reason: "NoPods", message: "No matching pods found", component: COMPONENT };
        notes::tell(core, budget, note);
    }
    let (expected, desired) = match expected(core, budget, &pods) {
        Ok(counts) => counts,
        Err(why) => return failed(core, budget, &why),
    };
    let disrupted = disrupted(core, budget, &pods);
    let healthy = |pod: &&Value| {
        let ready = json::list(pod, &["status", "conditions"])
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        ready && !meta::is_deleting(pod) && !disrupted.contains_key(meta::name(pod))
    };
    let healthy = count(pods.iter().filter(healthy).count());
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut status = json!({
        "conditions": conditions(core, budget, allowed > 0, if allowed > 0 { "SufficientPods" } else { "InsufficientPods" }, ""),
        "currentHealthy": healthy, "desiredHealthy": desired, "disruptionsAllowed": allowed, "expectedPods": expected,
        "observedGeneration": generation,
    });
    if !disrupted.is_empty() {
        status["disruptedPods"] = Value::Object(disrupted);
    }
    status
}

/// Nothing may be evicted while it is not known what would be left.
fn failed(core: &Core, budget: &Value, why: &str) -> Value {
    let message = format!("Failed to calculate the number of expected pods: {why}");
    let note =
        Note { warning: true, reason: "CalculateExpectedPodCountFailed", message: &message, component: COMPONENT };
    let known = json::at(budget, &["status", "conditions"]).is_some();
    if !known {
        notes::tell(core, budget, note);
    }
    let mut status = budget.get("status").filter(|status| status.is_object()).cloned().unwrap_or(json!({}));
    for key in ["currentHealthy", "desiredHealthy", "expectedPods"] {
        if status.get(key).is_none() {
            status[key] = 0.into();
        }
    }
    status["disruptionsAllowed"] = 0.into();
    status["conditions"] = conditions(core, budget, false, "SyncFailed", why);
    status
}

fn conditions(core: &Core, budget: &Value, allowed: bool, reason: &str, message: &str) -> Value {
    let state = if allowed { "True" } else { "False" };
    let old = json::list(budget, &["status", "conditions"]).iter().find(|one| one["type"] == "DisruptionAllowed");
    let since = old.filter(|old| old["status"] == state).map(|old| old["lastTransitionTime"].clone());
    json!([{
        "type": "DisruptionAllowed", "status": state, "observedGeneration": meta::generation(budget),
        "lastTransitionTime": since.unwrap_or_else(|| core.now().into()), "reason": reason, "message": message,
    }])
}

/// Counts the pods that there should be, and those of them that must stay healthy.
fn expected(core: &Core, budget: &Value, pods: &[Value]) -> Result<(i64, i64), String> {
    let spec = &budget["spec"];
    if let Some(most) = spec.get("maxUnavailable").filter(|most| !most.is_null()) {
        let expected = scale(core, pods)?;
        return Ok((expected, (expected - share(most, expected)).max(0)));
    }
    match spec.get("minAvailable") {
        Some(Value::Number(number)) => Ok((count(pods.len()), number.as_i64().unwrap_or(0))),
        Some(least) => {
            let expected = scale(core, pods)?;
            Ok((expected, share(least, expected)))
        }
        None => Ok((0, 0)),
    }
}

fn share(value: &Value, total: i64) -> i64 {
    match value {
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|number| number.parse().ok()).unwrap_or(0);
            (percent * total + 99) / 100
        }
        number => number.as_i64().unwrap_or(0),
    }
}

/// Adds up what the pods' controllers are to have.
fn scale(core: &Core, pods: &[Value]) -> Result<i64, String> {
    let mut scales: HashMap<String, i64> = HashMap::new();
    for pod in pods {
        let owners = json::list(pod, &["metadata", "ownerReferences"]);
        let Some(owner) = owners.iter().find(|owner| owner["controller"] == true) else { continue };
        let (top, replicas) = controller(core, pod, owner)
            .ok_or_else(|| format!("found no controllers for pod {:?}", meta::name(pod)))?;
        scales.insert(top, replicas);
    }
    Ok(scales.values().sum())
}

fn controller(core: &Core, pod: &Value, owner: &Value) -> Option<(String, i64)> {
    let namespace = meta::namespace(pod);
    let find = |storage: &str, owner: &Value| {
        let found = core.builtin(storage, namespace, json::text(owner, &["name"]))?;
        (meta::uid(&found) == json::text(owner, &["uid"])).then_some(found)
    };
    let replicas = |object: &Value| json::at(object, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1);
    let found = match json::text(owner, &["kind"]) {
        "ReplicaSet" => {
            let set = find("apps/replicasets", owner)?;
            let parents = json::list(&set, &["metadata", "ownerReferences"]);
            let parent = parents.iter().find(|parent| parent["controller"] == true && parent["kind"] == "Deployment");
            match parent {
                Some(parent) => find("apps/deployments", parent)?,
                None => set,
            }
        }
        "StatefulSet" => find("apps/statefulsets", owner)?,
        "ReplicationController" => find("replicationcontrollers", owner)?,
        _ => return None,
    };
    Some((meta::uid(&found).to_owned(), replicas(&found)))
}

/// The pods whose eviction was granted and that are still seen.
fn disrupted(core: &Core, budget: &Value, pods: &[Value]) -> Map<String, Value> {
    let now = core.config.clock.now();
    let fresh = |at: &Value| {
        let at = at.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        at.is_some_and(|at| at + EVICTION > now)
    };
    let stays = |name: &str| pods.iter().any(|pod| meta::name(pod) == name && !meta::is_deleting(pod));
    let known = json::at(budget, &["status", "disruptedPods"]).and_then(Value::as_object);
    let kept = known.into_iter().flatten().filter(|(name, at)| stays(name) && fresh(at));
    kept.map(|(name, at)| (name.clone(), at.clone())).collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
