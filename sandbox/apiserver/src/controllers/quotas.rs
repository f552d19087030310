//! Quotas: what of them is used.

use serde_json::{Map, Value, json};

use super::{News, store};
use crate::core::Core;
use crate::json;
use crate::meta;
use crate::quantity;

const STORAGE: &str = "resourcequotas";

/// Brings quotas up to date.
pub(crate) fn look(core: &Core, news: &[News]) {
    let moved = news.iter().any(|news| news.resource.namespaced && !matches!(&*news.resource.storage, "events"));
    if !moved {
        return;
    }
    let kinds = core.registry.now();
    let Some(resource) = kinds.find("", "v1", "resourcequotas") else { return };
    for stored in core.store.list(STORAGE, "").1 {
        let quota = stored.value();
        let status = status(core, &quota);
        if quota.get("status") == Some(&status) || meta::is_deleting(&quota) {
            continue;
        }
        let mut new = quota;
        new["status"] = status;
        store(core, &resource, &stored, new);
    }
}

fn status(core: &Core, quota: &Value) -> Value {
    let hard = json::at(quota, &["spec", "hard"]).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut used = Map::new();
    for name in hard.keys() {
        if let Some(amount) = usage(core, quota, name) {
            used.insert(name.clone(), amount.into());
        }
    }
    json!({"hard": hard, "used": used})
}

/// Measures one resource; `None` for one that nobody measures.
fn usage(core: &Core, quota: &Value, name: &str) -> Option<String> {
    let namespace = meta::namespace(quota);
    let count = |storage: &str| core.store.list(storage, namespace).1.len().to_string();
    if let Some(kind) = name.strip_prefix("count/") {
        let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
        let kinds = core.registry.now();
        let resource = kinds.all().find(|resource| resource.group == group && resource.plural == plural)?;
        return Some(count(&resource.storage));
    }
    match name {
        "pods" => Some(pods(core, quota).len().to_string()),
        "services" => Some(count("services")),
        "services.nodeports" | "services.loadbalancers" => Some(services(core, namespace, name)),
        "configmaps" | "secrets" | "resourcequotas" | "replicationcontrollers" | "persistentvolumeclaims" => {
            Some(count(name))
        }
        "requests.storage" => {
            let claims = core.builtin_list("persistentvolumeclaims", namespace);
            let asked = claims.iter().map(|claim| json::text(claim, &["spec", "resources", "requests", "storage"]));
            Some(quantity::sum(asked))
        }
        _ => {
            let (part, resource) = match name.split_once('.') {
                Some((part @ ("requests" | "limits"), resource)) => (part, resource),
                _ => ("requests", name),
            };
            let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage")
                || resource.starts_with("hugepages-")
                || resource.contains('/');
            let pods = known.then(|| pods(core, quota))?;
            let asked: Vec<String> = pods.iter().map(|pod| asked(pod, part, resource)).collect();
            Some(quantity::sum(asked.iter().map(String::as_str)))
        }
    }
}

fn services(core: &Core, namespace: &str, name: &str) -> String {
    let all = core.builtin_list("services", namespace);
    let kind = |service: &Value| json::text(service, &["spec", "type"]).to_owned();
    if name == "services.loadbalancers" {
        return all.iter().filter(|service| kind(service) == "LoadBalancer").count().to_string();
    }
    let ports = |service: &Value| {
        let all = json::list(service, &["spec", "ports"]);
        match kind(service).as_str() {
            "NodePort" => all.len(),
            "LoadBalancer" => all.iter().filter(|port| port.get("nodePort").is_some()).count(),
            _ => 0,
        }
    };
    all.iter().map(ports).sum::<usize>().to_string()
}

/// The pods that count: those that have not ended, within the quota's scopes.
fn pods(core: &Core, quota: &Value) -> Vec<Value> {
    let mut all = core.builtin_list("pods", meta::namespace(quota));
    all.retain(|pod| !matches!(json::text(pod, &["status", "phase"]), "Succeeded" | "Failed"));
    all.retain(|pod| covers(quota, pod));
    all
}

/// Says whether a pod is within the scopes of a quota.
pub(crate) fn covers(quota: &Value, pod: &Value) -> bool {
    let class = json::text(pod, &["spec", "priorityClassName"]);
    let holds = |scope: &str| match scope {
        "Terminating" => json::at(pod, &["spec", "activeDeadlineSeconds"]).is_some(),
        "NotTerminating" => json::at(pod, &["spec", "activeDeadlineSeconds"]).is_none(),
        "BestEffort" => json::text(pod, &["status", "qosClass"]) == "BestEffort",
        "NotBestEffort" => json::text(pod, &["status", "qosClass"]) != "BestEffort",
        "PriorityClass" => !class.is_empty(),
        _ => true,
    };
    let chosen = |rule: &Value| {
        let scope = holds(json::text(rule, &["scopeName"]));
        let listed = json::list(rule, &["values"]).iter().any(|value| value == class);
        match json::text(rule, &["operator"]) {
            "In" => listed,
            "NotIn" => !listed,
            "DoesNotExist" => !scope,
            _ => scope,
        }
    };
    json::list(quota, &["spec", "scopes"]).iter().all(|scope| holds(scope.as_str().unwrap_or_default()))
        && json::list(quota, &["spec", "scopeSelector", "matchExpressions"]).iter().all(chosen)
}

/// Says how much of a resource a pod asks for: all its containers, or the largest of those that run first.
pub(crate) fn asked(pod: &Value, part: &str, resource: &str) -> String {
    let of = |container: &Value| json::text(container, &["resources", part, resource]).to_owned();
    let together: Vec<String> = json::list(pod, &["spec", "containers"]).iter().map(of).collect();
    let together = quantity::sum(together.iter().map(String::as_str));
    let first = json::list(pod, &["spec", "initContainers"]).iter().map(of);
    let largest = first.max_by_key(|amount| quantity::nanos(amount)).unwrap_or_default();
    if quantity::nanos(&largest) > quantity::nanos(&together) { largest } else { together }
}
