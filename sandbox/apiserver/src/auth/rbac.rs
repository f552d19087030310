//! Role based access control, and how the server says no.

use std::sync::Arc;

use serde_json::{Value, json};

use super::bound::Snapshot;
use super::{MASTERS, User};
use crate::core::Core;
use crate::json;
use crate::status::{Status, Target};

/// What somebody wants to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The path, where it is no resource.
    pub(crate) path: String,
    /// The node whose pods are selected.
    pub(crate) node: String,
}

/// Whether somebody may, and by which binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

const ROLES: &str = "rbac.authorization.k8s.io/roles";
const BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";

/// A binding that binds a user, with the rules of its role.
struct Grant {
    reason: String,
    rules: Arc<[Value]>,
}

/// Decides whether a user may do something.
pub(crate) fn decide(core: &Core, user: &User, wanted: &Attributes) -> Decision {
    if user.groups.iter().any(|group| group == MASTERS) {
        return Decision { allowed: true, reason: String::new() };
    }
    let node = super::nodes::decide(core, user, wanted);
    if let Some(decision) = node.as_ref().filter(|decision| decision.allowed) {
        return decision.clone();
    }
    let (grants, missing) = grants(core, user, &wanted.namespace);
    let found = grants.into_iter().find(|grant| grant.rules.iter().any(|rule| covers(rule, wanted)));
    match found {
        Some(grant) => Decision { allowed: true, reason: grant.reason },
        None => {
            let said = [node.map(|decision| decision.reason).unwrap_or_default(), not_resolved(&missing)];
            let said: Vec<String> = said.into_iter().filter(|reason| !reason.is_empty()).collect();
            Decision { allowed: false, reason: said.join("\n") }
        }
    }
}

/// Names the roles that bindings name and that are not there.
fn not_resolved(missing: &[String]) -> String {
    match missing {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

/// Returns what bindings grant a user, and which roles that they name are not there.
fn grants(core: &Core, user: &User, namespace: &str) -> (Vec<Grant>, Vec<String>) {
    let (mut out, mut missing) = (Vec::new(), Vec::new());
    let mut add = |found: Option<Result<Grant, String>>| match found {
        Some(Ok(grant)) => out.push(grant),
        Some(Err(role)) if !missing.contains(&role) => missing.push(role),
        Some(Err(_)) | None => {}
    };
    let bound = core.bound.now(core);
    for binding in &bound.bindings {
        add(grant(core, &bound, user, binding, "", "ClusterRoleBinding"));
    }
    if !namespace.is_empty() {
        for binding in core.builtin_list(BINDINGS, namespace) {
            add(grant(core, &bound, user, &binding, namespace, "RoleBinding"));
        }
    }
    (out, missing)
}

fn grant(
    core: &Core,
    bound: &Snapshot,
    user: &User,
    binding: &Value,
    namespace: &str,
    kind: &str,
) -> Option<Result<Grant, String>> {
    let subjects = json::list(binding, &["subjects"]);
    let subject = subjects.iter().find(|subject| is_subject(subject, user, namespace))?;
    let role_kind = json::text(binding, &["roleRef", "kind"]);
    let role_name = json::text(binding, &["roleRef", "name"]);
    let rules = match role_kind {
        "ClusterRole" => bound.rules(core, role_name),
        _ => core.builtin(ROLES, namespace, role_name).map(|role| json::list(&role, &["rules"]).into()),
    };
    let Some(rules) = rules else {
        let text = format!("{}.rbac.authorization.k8s.io {role_name:?} not found", role_kind.to_lowercase());
        return Some(Err(text));
    };
    let name = json::text(binding, &["metadata", "name"]);
    let shown = if namespace.is_empty() { name.to_owned() } else { format!("{name}/{namespace}") };
    let subject_kind = json::text(subject, &["kind"]);
    let subject_name = match subject_kind {
        "ServiceAccount" => {
            let own = json::text(subject, &["namespace"]);
            format!("{}/{}", json::text(subject, &["name"]), if own.is_empty() { namespace } else { own })
        }
        _ => json::text(subject, &["name"]).to_owned(),
    };
    Some(Ok(Grant {
        reason: format!(
            "RBAC: allowed by {kind} {shown:?} of {role_kind} {role_name:?} to {subject_kind} {subject_name:?}"
        ),
        rules,
    }))
}

fn is_subject(subject: &Value, user: &User, namespace: &str) -> bool {
    let name = json::text(subject, &["name"]);
    match json::text(subject, &["kind"]) {
        "User" => name == user.name,
        "Group" => user.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let own = json::text(subject, &["namespace"]);
            let namespace = if own.is_empty() { namespace } else { own };
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn lists(rule: &Value, key: &str, wanted: &str) -> bool {
    json::list(rule, &[key]).iter().any(|known| known == "*" || known == wanted)
}

/// Tells whether a rule allows something.
pub(crate) fn covers(rule: &Value, wanted: &Attributes) -> bool {
    if !lists(rule, "verbs", &wanted.verb) {
        return false;
    }
    if !wanted.path.is_empty() {
        return json::list(rule, &["nonResourceURLs"]).iter().filter_map(Value::as_str).any(|url| {
            url == "*"
                || url == wanted.path
                || url.strip_suffix('*').is_some_and(|start| wanted.path.starts_with(start))
        });
    }
    let resource = match wanted.subresource.as_str() {
        "" => wanted.resource.clone(),
        sub => format!("{}/{sub}", wanted.resource),
    };
    let any_sub = format!("*/{}", wanted.subresource);
    let resource_fits = lists(rule, "resources", &resource)
        || (!wanted.subresource.is_empty() && json::list(rule, &["resources"]).iter().any(|known| *known == *any_sub));
    let names = json::list(rule, &["resourceNames"]);
    lists(rule, "apiGroups", &wanted.group)
        && resource_fits
        && (names.is_empty() || names.iter().any(|name| name == wanted.name.as_str()))
}

/// Returns all rules that hold for a user in a namespace.
pub(crate) fn rules(core: &Core, user: &User, namespace: &str) -> Vec<Value> {
    let mut rules = Vec::new();
    if user.groups.iter().any(|group| group == MASTERS) {
        rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for rule in grants(core, user, namespace).0.iter().flat_map(|grant| grant.rules.iter()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

/// Words a refusal.
pub(crate) fn refusal(user: &User, wanted: &Attributes) -> Status {
    refusal_because(user, wanted, "")
}

/// Words a refusal that has a reason.
pub(crate) fn refusal_because(user: &User, wanted: &Attributes, why: &str) -> Status {
    if !wanted.path.is_empty() {
        let mut text = format!("forbidden: User {:?} cannot {} path {:?}", user.name, wanted.verb, wanted.path);
        if !why.is_empty() {
            text = format!("{text}: {why}");
        }
        return Status::new(403, "Forbidden", text).with_empty_details();
    }
    let resource = match wanted.subresource.as_str() {
        "" => wanted.resource.clone(),
        sub => format!("{}/{sub}", wanted.resource),
    };
    let scope = match wanted.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let mut text = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
        user.name, wanted.verb, wanted.group
    );
    if !why.is_empty() {
        text = format!("{text}: {why}");
    }
    let why = text;
    Status::forbidden(&Target::new(&wanted.group, &wanted.resource), &wanted.name, &why)
}

/// Refuses rules that a user would grant without having them.
pub(crate) fn escalation(core: &Core, user: &User, namespace: &str, granted: &[Value]) -> Option<String> {
    if user.groups.iter().any(|group| group == MASTERS) {
        return None;
    }
    let held = rules(core, user, namespace);
    let missing = granted.iter().flat_map(split).filter(|one| !holds(&held, one));
    let mut compact: Vec<Value> = Vec::new();
    for one in missing {
        let verbs = json::list(&one, &["verbs"]).to_vec();
        let plain = |rule: &Value| {
            let mut rule = rule.clone();
            json::remove(&mut rule, &["verbs"]);
            rule
        };
        let same = |other: &&mut Value| plain(other) == plain(&one) && one.get("resources").is_some();
        match compact.iter_mut().find(same) {
            Some(Value::Object(known)) => {
                if let Some(Value::Array(list)) = known.get_mut("verbs") {
                    list.extend(verbs);
                }
            }
            _ => compact.push(one),
        }
    }
    let mut missing: Vec<String> = compact.iter().map(shown).collect();
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        return None;
    }
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    Some(format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        missing.join("\n")
    ))
}

/// Splits a rule into rules of one group, resource, name and verb each.
fn split(rule: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    for verb in json::list(rule, &["verbs"]) {
        let mut one = rule.clone();
        one["verbs"] = json!([verb]);
        out.extend(split_by_target(&one));
    }
    out
}

fn split_by_target(rule: &Value) -> Vec<Value> {
    let texts = |key: &str| -> Vec<Value> { json::list(rule, &[key]).to_vec() };
    let mut out = Vec::new();
    for url in texts("nonResourceURLs") {
        out.push(json!({"nonResourceURLs": [url], "verbs": rule["verbs"]}));
    }
    for group in texts("apiGroups") {
        for resource in texts("resources") {
            let mut one = json!({"apiGroups": [group], "resources": [resource], "verbs": rule["verbs"]});
            if let Some(names) = rule.get("resourceNames") {
                one["resourceNames"] = names.clone();
            }
            out.push(one);
        }
    }
    out
}

fn holds(held: &[Value], one: &Value) -> bool {
    json::list(one, &["verbs"]).iter().filter_map(Value::as_str).all(|verb| {
        let text = |key: &str| json::list(one, &[key]).first().and_then(Value::as_str).unwrap_or_default().to_owned();
        let names = json::list(one, &["resourceNames"]);
        let wanted = |name: &str| {
            let resource = text("resources");
            let (resource, subresource) = resource
                .split_once('/')
                .map_or((resource.clone(), String::new()), |(a, b)| (a.to_owned(), b.to_owned()));
            Attributes {
                verb: verb.to_owned(),
                group: text("apiGroups"),
                resource,
                subresource,
                name: name.to_owned(),
                path: text("nonResourceURLs"),
                ..Attributes::default()
            }
        };
        if names.is_empty() {
            held.iter().any(|rule| covers(rule, &wanted("")))
        } else {
            names.iter().filter_map(Value::as_str).all(|name| held.iter().any(|rule| covers(rule, &wanted(name))))
        }
    })
}

fn shown(rule: &Value) -> String {
    let mut parts = Vec::new();
    for (key, label) in [
        ("nonResourceURLs", "NonResourceURLs"),
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("resourceNames", "ResourceNames"),
        ("verbs", "Verbs"),
    ] {
        let list: Vec<String> =
            json::list(rule, &[key]).iter().filter_map(Value::as_str).map(|text| format!("{text:?}")).collect();
        if !list.is_empty() {
            parts.push(format!("{label}:[{}]", list.join(" ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}
