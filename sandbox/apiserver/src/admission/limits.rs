//! LimitRanges and ResourceQuotas: what one object, and all of a namespace, may take.

use serde_json::Value;

use super::Operation;
use super::policies::Request;
use crate::controllers::quotas;
use crate::core::Core;
use crate::json;
use crate::meta;
use crate::quantity;
use crate::rest::Write;
use crate::status::{Result, Status};
use crate::store::Key;

const QUOTAS: &str = "resourcequotas";
/// How often a count is tried again when others count at the same time.
const ATTEMPTS_MAX: usize = 16;
/// Core kinds that quotas count by their plain names too.
const PLAIN: [&str; 7] =
    ["configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"];

/// Gives a pod the defaults of its namespace's limits, and refuses what is beyond them.
pub(super) fn limit(core: &Core, write: &Write<'_>, pod: &mut Value) -> Result<()> {
    let ranges = core.builtin_list("limitranges", write.namespace);
    let limits: Vec<&Value> = ranges.iter().flat_map(|range| json::list(range, &["spec", "limits"])).collect();
    let mut told = Vec::new();
    for item in limits.iter().filter(|item| item["type"] == "Container") {
        for (key, what) in [("containers", "container"), ("initContainers", "init container")] {
            let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{key}")) else { continue };
            for container in containers {
                let name = format!("{what} {}", json::text(container, &["name"]));
                for (from, to) in [("defaultRequest", "requests"), ("default", "limits")] {
                    let set = fill(container, to, item.get(from));
                    if !set.is_empty() {
                        told.push(format!("{} {} for {name}", set.join(", "), to.trim_end_matches('s')));
                    }
                }
            }
        }
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        json::set(pod, &["metadata", "annotations", "kubernetes.io/limit-ranger"], text.into());
    }
    let wrong: Vec<String> = limits.iter().flat_map(|item| beyond(item, pod)).collect();
    let why = match wrong.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(Status::forbidden(&write.resource.target(), meta::name(pod), &why))
}

/// Refuses a claim that is beyond the limits of its namespace.
pub(super) fn claim(core: &Core, write: &Write<'_>, claim: &Value) -> Result<()> {
    let size = json::at(claim, &["spec", "resources", "requests", "storage"]).and_then(Value::as_str);
    let Some(size) = size else { return Ok(()) };
    let nanos = |text: &str| quantity::nanos(text).unwrap_or(0);
    let mut wrong = Vec::new();
    for range in core.builtin_list("limitranges", write.namespace) {
        let items = json::list(&range, &["spec", "limits"]).iter();
        for item in items.filter(|item| item["type"] == "PersistentVolumeClaim") {
            for (bound, word, beyond) in [("min", "minimum", -1), ("max", "maximum", 1)] {
                let Some(limit) = json::at(item, &[bound, "storage"]).and_then(Value::as_str) else { continue };
                if (nanos(size) - nanos(limit)).signum() == beyond {
                    let usage = "storage usage per PersistentVolumeClaim is";
                    wrong.push(format!("{word} {usage} {limit}, but request is {size}"));
                }
            }
        }
    }
    let why = match wrong.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(Status::forbidden(&write.resource.target(), meta::name(claim), &why))
}

/// Fills in amounts that a container leaves out; names them.
fn fill(container: &mut Value, to: &str, defaults: Option<&Value>) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults.and_then(Value::as_object).into_iter().flatten() {
        if json::at(container, &["resources", to, name]).is_none() {
            json::set(container, &["resources", to, name], amount.clone());
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

/// Says which limits of one kind a pod is beyond.
fn beyond(item: &Value, pod: &Value) -> Vec<String> {
    let containers = json::list(pod, &["spec", "containers"]);
    match json::text(item, &["type"]) {
        "Container" => containers.iter().flat_map(|container| outside(item, &[container])).collect(),
        "Pod" => outside(item, &containers.iter().collect::<Vec<_>>()),
        _ => Vec::new(),
    }
}

fn outside(item: &Value, containers: &[&Value]) -> Vec<String> {
    let kind = json::text(item, &["type"]);
    let mut out = Vec::new();
    let mut check = |bound: &str, word: &str, what: &str, exceeds: fn(i128, i128) -> bool| {
        for (name, amount) in item.get(bound).and_then(Value::as_object).into_iter().flatten() {
            let given = |container: &&Value| json::at(container, &["resources", &format!("{what}s"), name]).cloned();
            let amounts: Vec<Value> = containers.iter().filter_map(given).collect();
            let nanos = |amount: &Value| amount.as_str().and_then(quantity::nanos).unwrap_or(0);
            let total: i128 = amounts.iter().map(nanos).sum();
            let shown = amount.as_str().unwrap_or_default();
            if amounts.is_empty() {
                out.push(format!("{word} {name} usage per {kind} is {shown}. No {what} is specified"));
            } else if exceeds(total, nanos(amount)) {
                let given = match amounts.as_slice() {
                    [one] => one.as_str().unwrap_or_default().to_owned(),
                    _ => (total / 1_000_000_000).to_string(),
                };
                out.push(format!("{word} {name} usage per {kind} is {shown}, but {what} is {given}"));
            }
        }
    };
    check("min", "minimum", "request", |total, bound| total < bound);
    check("max", "maximum", "limit", |total, bound| total > bound);
    out
}

/// Counts a new object against the quotas of its namespace, or refuses it.
pub(super) fn count(request: &Request<'_>) -> Result<()> {
    let Request { core, write, operation: Operation::Create, .. } = request else { return Ok(()) };
    let resource = write.resource;
    if !resource.namespaced || !write.subresource.is_empty() {
        return Ok(());
    }
    let counted = format!("count/{}", resource.target().qualified());
    let plain = resource.group.is_empty() && PLAIN.contains(&resource.plural.as_str());
    let names: Vec<&str> = if plain { vec![&counted, &resource.plural] } else { vec![&counted] };
    let mut wanted: Vec<(String, String)> = names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
    let new = request.new.unwrap_or(&Value::Null);
    if resource.is("", "Pod") {
        wanted.extend(amounts(new));
    } else if resource.is("", "PersistentVolumeClaim") {
        let size = json::text(new, &["spec", "resources", "requests", "storage"]);
        wanted.extend((!size.is_empty()).then(|| ("requests.storage".to_owned(), size.to_owned())));
    }
    for quota in core.builtin_list(QUOTAS, write.namespace) {
        for _ in 0..ATTEMPTS_MAX {
            let key = Key::new(write.namespace, meta::name(&quota));
            let Some(stored) = core.store.get(QUOTAS, &key) else { break };
            let mut live = stored.value();
            let name = request.new.map(meta::name).unwrap_or_default();
            if resource.is("", "Pod") && !quotas::covers(&live, new) {
                break;
            }
            let told = if resource.is("", "Pod") { unsaid(&live, new) } else { None };
            if let Some(why) = told {
                return Err(Status::forbidden(&resource.target(), name, &why));
            }
            if !spend(&mut live, &wanted).map_err(|why| Status::forbidden(&resource.target(), name, &why))? {
                break;
            }
            if write.options.dry_run || core.store.replace(QUOTAS, &stored, live).is_ok() {
                break;
            }
        }
    }
    Ok(())
}

/// Amounts of a pod that quotas know, by the names that containers and quotas give them.
const AMOUNTS: [(&str, &str, &[&str]); 4] = [
    ("requests", "cpu", &["cpu", "requests.cpu"]),
    ("requests", "memory", &["memory", "requests.memory"]),
    ("limits", "cpu", &["limits.cpu"]),
    ("limits", "memory", &["limits.memory"]),
];

/// Returns what a pod takes of what quotas know.
fn amounts(pod: &Value) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (part, name, known) in AMOUNTS {
        let total = quotas::asked(pod, part, name);
        out.extend(known.iter().map(|known| ((*known).to_owned(), total.clone())));
    }
    out
}

/// Names what a quota is about and containers of a pod leave out.
fn unsaid(quota: &Value, pod: &Value) -> Option<String> {
    let mut missing = Vec::new();
    for (part, name, known) in AMOUNTS {
        let silent = json::list(pod, &["spec", "containers"])
            .iter()
            .chain(json::list(pod, &["spec", "initContainers"]))
            .filter(|_| json::at(pod, &["spec", "resources", part, name]).is_none())
            .filter(|container| json::at(container, &["resources", part, name]).is_none());
        let silent: Vec<&str> = silent.map(|container| json::text(container, &["name"])).collect();
        let hard = |known: &&&str| json::at(quota, &["status", "hard", known]).is_some();
        missing
            .extend(known.iter().filter(hard).filter(|_| !silent.is_empty()).map(|known| (*known, silent.join(","))));
    }
    missing.sort();
    let words: Vec<String> = missing.iter().map(|(name, silent)| format!("{name} for: {silent}")).collect();
    (!words.is_empty()).then(|| format!("failed quota: {}: must specify {}", meta::name(quota), words.join("; ")))
}

/// Adds what an object takes to what a quota counts; answers whether it counts any of it. What nobody told the use of is
/// not counted.
fn spend(quota: &mut Value, wanted: &[(String, String)]) -> std::result::Result<bool, String> {
    let (mut counts, mut beyond) = (false, Vec::new());
    for (name, amount) in wanted {
        let text = |key: &str| json::at(quota, &["status", key, name]).and_then(Value::as_str).map(str::to_owned);
        let (Some(hard), Some(used)) = (text("hard"), text("used")) else { continue };
        let nanos = |text: &str| quantity::nanos(text).unwrap_or(0);
        if nanos(amount) == 0 {
            continue;
        }
        if nanos(&used) + nanos(amount) > nanos(&hard) {
            beyond.push((name.clone(), amount.clone(), used, hard));
            continue;
        }
        let total = quantity::sum([used.as_str(), amount.as_str()]);
        json::set(quota, &["status", "used", name], total.into());
        counts = true;
    }
    if beyond.is_empty() {
        return Ok(counts);
    }
    beyond.sort();
    let list = |pick: fn(&(String, String, String, String)) -> &String| {
        beyond.iter().map(|one| format!("{}={}", one.0, pick(one))).collect::<Vec<_>>().join(",")
    };
    let quota = meta::name(quota);
    let (requested, used, limited) = (list(|one| &one.1), list(|one| &one.2), list(|one| &one.3));
    Err(format!("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}"))
}
