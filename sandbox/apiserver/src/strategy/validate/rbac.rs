//! Roles and bindings.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;

pub(super) fn check(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match resource.plural.as_str() {
        "roles" | "clusterroles" => rules(resource, object),
        _ => bindings(resource, object, old),
    }
}

fn rules(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    if object.get("aggregationRule").is_some_and(Value::is_object)
        && json::list(object, &["aggregationRule", "clusterRoleSelectors"]).is_empty()
    {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        out.push(FieldError::required("aggregationRule.clusterRoleSelectors", detail));
    }
    for (index, selector) in json::list(object, &["aggregationRule", "clusterRoleSelectors"]).iter().enumerate() {
        let at = format!("aggregationRule.clusterRoleSelectors[{index}]");
        let wrong = super::labels::selector(selector, &at);
        if !wrong.is_empty() {
            out.extend(wrong);
            out.push(FieldError::invalid(at, &Value::Null, "invalid label selector."));
        }
    }
    for (index, rule) in json::list(object, &["rules"]).iter().enumerate() {
        let at = format!("rules[{index}]");
        if json::list(rule, &["verbs"]).is_empty() {
            out.push(FieldError::required(format!("{at}.verbs"), "verbs must contain at least one value"));
        }
        if !json::list(rule, &["nonResourceURLs"]).is_empty() {
            if resource.namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                out.push(FieldError::invalid(format!("{at}.nonResourceURLs"), &rule["nonResourceURLs"], detail));
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|key| !json::list(rule, &[key]).is_empty()) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                out.push(FieldError::invalid(format!("{at}.nonResourceURLs"), &rule["nonResourceURLs"], detail));
            }
            continue;
        }
        if json::list(rule, &["apiGroups"]).is_empty() {
            let detail = "resource rules must supply at least one api group";
            out.push(FieldError::required(format!("{at}.apiGroups"), detail));
        }
        if json::list(rule, &["resources"]).is_empty() {
            let detail = "resource rules must supply at least one resource";
            out.push(FieldError::required(format!("{at}.resources"), detail));
        }
    }
    out
}

fn bindings(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    let role = |key: &str| json::text(object, &["roleRef", key]);
    if role("apiGroup") != "rbac.authorization.k8s.io" {
        let known = ["rbac.authorization.k8s.io"];
        out.push(FieldError::not_supported("roleRef.apiGroup", &Value::from(role("apiGroup")), &known));
    }
    let kinds: &[&str] = if resource.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role("kind")) {
        out.push(FieldError::not_supported("roleRef.kind", &Value::from(role("kind")), kinds));
    }
    if role("name").is_empty() {
        out.push(FieldError::required("roleRef.name", ""));
    }
    for (index, subject) in json::list(object, &["subjects"]).iter().enumerate() {
        let at = format!("subjects[{index}]");
        if json::text(subject, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        }
        let kind = json::text(subject, &["kind"]);
        if kind == "ServiceAccount" && !resource.namespaced && json::text(subject, &["namespace"]).is_empty() {
            out.push(FieldError::required(format!("{at}.namespace"), ""));
        }
        let group = json::text(subject, &["apiGroup"]);
        let home = if kind == "ServiceAccount" { "" } else { "rbac.authorization.k8s.io" };
        if matches!(kind, "Group" | "ServiceAccount" | "User") && group != home {
            out.push(FieldError::not_supported(format!("{at}.apiGroup"), &Value::from(group), &[home]));
        }
        let name = json::text(subject, &["name"]);
        if kind == "ServiceAccount" && !name.is_empty() {
            let errors = crate::names::subdomain(name).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
        }
        let known = ["ServiceAccount", "User", "Group"];
        if !known.contains(&kind) {
            out.push(FieldError::not_supported(format!("{at}.kind"), &Value::from(kind), &known));
        }
    }
    if old.is_some_and(|old| old["roleRef"] != object["roleRef"]) {
        let shown = json!({"APIGroup": role("apiGroup"), "Kind": role("kind"), "Name": role("name")});
        out.push(FieldError::invalid("roleRef", &shown, "cannot change roleRef"));
    }
    out
}
