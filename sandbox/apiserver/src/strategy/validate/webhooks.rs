//! Webhooks and admission policies.

mod expressions;
mod matching;
mod mutations;
mod policies;

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;
use crate::names;
use expressions::Scope;

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
/// How long a webhook may take at most.
const TIMEOUT_SECONDS_MAX: i64 = 30;

pub(super) fn check(resource: &Resource, object: &Value) -> Vec<FieldError> {
    match resource.plural.as_str() {
        "validatingwebhookconfigurations" => webhooks(object, false),
        "mutatingwebhookconfigurations" => webhooks(object, true),
        "validatingadmissionpolicies" => policies::policy(object),
        "validatingadmissionpolicybindings" => policies::binding(object, true),
        "mutatingadmissionpolicies" => mutations::policy(object),
        "mutatingadmissionpolicybindings" => policies::binding(object, false),
        _ => Vec::new(),
    }
}

/// Refuses a word that is not one of those known; a missing one is let pass.
fn one_of(object: &Value, key: &str, known: &[&str], at: &str, out: &mut Vec<FieldError>) {
    match object.get(key) {
        Some(Value::String(word)) if !word.is_empty() && !known.contains(&word.as_str()) => {
            out.push(FieldError::not_supported(format!("{at}.{key}"), &Value::from(word.as_str()), known));
        }
        _ => {}
    }
}

fn webhooks(object: &Value, mutating: bool) -> Vec<FieldError> {
    let mut out = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, hook) in json::list(object, &["webhooks"]).iter().enumerate() {
        let at = format!("webhooks[{index}]");
        let name = json::text(hook, &["name"]);
        name_of(name, &at, &mut out);
        if seen.contains(&name) {
            out.push(FieldError::duplicate(format!("{at}.name"), &Value::from(name)));
        }
        seen.push(name);
        webhook(hook, &at, mutating, &mut out);
    }
    out
}

fn name_of(name: &str, at: &str, out: &mut Vec<FieldError>) {
    if name.is_empty() {
        out.push(FieldError::required(format!("{at}.name"), ""));
        return;
    }
    let mut errors = names::subdomain(name);
    if errors.is_empty() && name.split('.').count() < 3 {
        errors.push("should be a domain with at least three segments separated by dots".to_owned());
    }
    out.extend(errors.into_iter().map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
}

fn webhook(hook: &Value, at: &str, mutating: bool, out: &mut Vec<FieldError>) {
    crate::crd::validate::client::check(&hook["clientConfig"], &format!("{at}.clientConfig"), out);
    for (index, rule) in json::list(hook, &["rules"]).iter().enumerate() {
        matching::rule(rule, &format!("{at}.rules[{index}]"), out);
    }
    one_of(hook, "failurePolicy", &FAILURE_POLICIES, at, out);
    one_of(hook, "matchPolicy", &matching::MATCH_POLICIES, at, out);
    if mutating {
        one_of(hook, "reinvocationPolicy", &["IfNeeded", "Never"], at, out);
    }
    if json::text(hook, &["sideEffects"]).is_empty() {
        let detail = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
        out.push(FieldError::required(format!("{at}.sideEffects"), detail));
    } else {
        one_of(hook, "sideEffects", &SIDE_EFFECTS, at, out);
    }
    if let Some(timeout) = hook.get("timeoutSeconds")
        && !timeout.as_i64().is_some_and(|seconds| (1..=TIMEOUT_SECONDS_MAX).contains(&seconds))
    {
        let detail = format!("the timeout value must be between 1 and {TIMEOUT_SECONDS_MAX} seconds");
        out.push(FieldError::invalid(format!("{at}.timeoutSeconds"), timeout, detail));
    }
    versions(hook, at, out);
    matching::selectors(hook, at, out);
    expressions::conditions(hook, at, &Scope::default(), out);
}

/// Checks the versions of reviews that a webhook takes: one of those that the server sends has to be there.
fn versions(hook: &Value, at: &str, out: &mut Vec<FieldError>) {
    let at = format!("{at}.admissionReviewVersions");
    let versions: Vec<&str> = json::list(hook, &["admissionReviewVersions"]).iter().filter_map(Value::as_str).collect();
    if versions.is_empty() {
        out.push(FieldError::required(at, "must specify one of v1, v1beta1"));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let here = format!("{at}[{index}]");
        if versions[..index].contains(version) {
            out.push(FieldError::invalid_text(here, version, "duplicate version"));
            continue;
        }
        let errors = names::label_1035(version).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(here.clone(), version, error)));
    }
    if !versions.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        let detail = "must include at least one of v1, v1beta1";
        out.push(FieldError::invalid(at, &Value::from(versions), detail));
    }
}
