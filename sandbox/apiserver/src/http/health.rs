//! The checks of a server's health, by the names that the real one gives them.

use crate::http::respond::Answer;
use crate::options::Query;
use crate::status::{Result, Status};

/// Checks of all three paths, before those of single parts.
const COMMON: [&str; 3] = ["ping", "log", "etcd"];
/// Checks that only `/readyz` makes.
const READY: [&str; 3] = ["etcd-readiness", "informer-sync", "shutdown"];
/// Parts that have started once the server answers at all.
const HOOKS: [&str; 16] = [
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "bootstrap-controller",
    "start-kube-aggregator-informers",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
];

/// Returns the names of a path's checks, in the order in which they are told.
fn checks(path: &str) -> Vec<String> {
    let hooks = HOOKS.iter().map(|hook| format!("poststarthook/{hook}"));
    let common = COMMON.iter().map(ToString::to_string);
    let mut out: Vec<String> = common.chain(hooks).collect();
    if path == "readyz" {
        out.splice(3..3, READY[..2].iter().map(ToString::to_string));
        out.push(READY[2].to_owned());
    }
    out
}

/// Returns the paths of all checks.
pub(crate) fn paths() -> Vec<String> {
    let below = |path: &'static str| checks(path).into_iter().map(move |check| format!("/{path}/{check}"));
    ["healthz", "livez", "readyz"]
        .into_iter()
        .flat_map(|path| std::iter::once(format!("/{path}")).chain(below(path)))
        .collect()
}

/// Answers `/healthz`, `/livez`, `/readyz` and what is below them.
pub(crate) fn answer(path: &str, below: &[&str], query: &Query) -> Result<Answer> {
    let checks = checks(path);
    if !below.is_empty() {
        let wanted = below.join("/");
        return if checks.contains(&wanted) { Ok(Answer::text("ok")) } else { Err(Status::page_not_found()) };
    }
    if !query.has("verbose") {
        return Ok(Answer::text("ok"));
    }
    let excluded = query.all("exclude");
    let how = |check| if excluded.contains(check) { "excluded: ok" } else { "ok" };
    let mut text: String = checks.iter().map(|check| format!("[+]{check} {}\n", how(check))).collect();
    let unknown: Vec<String> =
        excluded.iter().filter(|name| !checks.contains(name)).map(|name| format!("{name:?}")).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        text.extend(["warn: some health checks cannot be excluded: no matches for ", &unknown, "\n"]);
    }
    Ok(Answer::text(format!("{text}{path} check passed\n")))
}
