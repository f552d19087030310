//! Which requests a webhook or a policy is about.

use serde_json::Value;

use super::super::labels;
use super::one_of;
use crate::field::FieldError;
use crate::json;

pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];

/// Checks the selectors of a webhook, or of the constraints of a policy.
pub(super) fn selectors(holder: &Value, at: &str, out: &mut Vec<FieldError>) {
    for key in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = holder.get(key) {
            out.extend(labels::selector(selector, &format!("{at}.{key}")));
        }
    }
}

/// Checks the constraints of a policy, or those of a binding.
pub(super) fn constraints(holder: &Value, at: &str, out: &mut Vec<FieldError>) {
    one_of(holder, "matchPolicy", &MATCH_POLICIES, at, out);
    selectors(holder, at, out);
    for key in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in json::list(holder, &[key]).iter().enumerate() {
            let at = format!("{at}.{key}[{index}]");
            named(rule, &at, out);
            self::rule(rule, &at, out);
        }
    }
}

/// Checks the names to which a rule of a policy is limited.
fn named(rule: &Value, at: &str, out: &mut Vec<FieldError>) {
    let names = json::list(rule, &["resourceNames"]);
    for (index, name) in names.iter().enumerate() {
        let at = format!("{at}.resourceNames[{index}]");
        let text = name.as_str().unwrap_or_default();
        let errors = crate::names::path_segment(text).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(at.clone(), text, error)));
        if names[..index].contains(name) {
            out.push(FieldError::duplicate(at, name));
        }
    }
}

/// Checks one rule.
pub(super) fn rule(rule: &Value, at: &str, out: &mut Vec<FieldError>) {
    list(rule, "operations", "operations", at, out);
    for (index, operation) in texts(rule, "operations").iter().enumerate() {
        if !OPERATIONS.contains(operation) {
            let at = format!("{at}.operations[{index}]");
            out.push(FieldError::not_supported(at, &Value::from(*operation), &OPERATIONS));
        }
    }
    list(rule, "apiGroups", "API groups", at, out);
    list(rule, "apiVersions", "API versions", at, out);
    let versions = texts(rule, "apiVersions");
    for (index, _) in versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        out.push(FieldError::required(format!("{at}.apiVersions[{index}]"), ""));
    }
    resources(rule, at, out);
    one_of(rule, "scope", &SCOPES, at, out);
}

fn texts<'a>(rule: &'a Value, key: &str) -> Vec<&'a str> {
    json::list(rule, &[key]).iter().filter_map(Value::as_str).collect()
}

/// Checks a list that has to be there, and in which `*` stands alone.
fn list(rule: &Value, key: &str, what: &str, at: &str, out: &mut Vec<FieldError>) {
    let values = texts(rule, key);
    if values.is_empty() {
        out.push(FieldError::required(format!("{at}.{key}"), ""));
    } else if values.len() > 1 && values.contains(&"*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        out.push(FieldError::invalid(format!("{at}.{key}"), &Value::from(values), detail));
    }
}

/// Checks resources: what a wildcard covers may not be named beside it.
fn resources(rule: &Value, at: &str, out: &mut Vec<FieldError>) {
    let at = format!("{at}.resources");
    let values = texts(rule, "resources");
    if values.is_empty() {
        out.push(FieldError::required(at, ""));
        return;
    }
    let (mut all_subs_of, mut sub_of_all): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let everything = values.contains(&"*/*");
    for (index, value) in values.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let mut say = |detail: String| out.push(FieldError::invalid_text(at.clone(), value, detail));
        let Some((name, sub)) = value.split_once('/') else {
            if value.is_empty() {
                out.push(FieldError::required(at, ""));
            }
            continue;
        };
        if everything && *value != "*/*" {
            say(format!("if '*/*' is present, must not specify {value}"));
        } else if *value != "*/*" && all_subs_of.contains(&name) {
            say(format!("if '{name}/*' is present, must not specify {value}"));
        } else if *value != "*/*" && sub_of_all.contains(&sub) {
            say(format!("if '*/{sub}' is present, must not specify {value}"));
        }
        if sub == "*" {
            all_subs_of.push(name);
        }
        if name == "*" {
            sub_of_all.push(sub);
        }
    }
    if everything && values.len() > 1 {
        let detail = "if '*/*' is present, must not specify other resources";
        out.push(FieldError::invalid(at.clone(), &Value::from(values.clone()), detail));
    }
    let plain = values.iter().filter(|value| !value.contains('/')).count();
    if values.contains(&"*") && plain > 1 {
        let detail = "if '*' is present, must not specify other resources without subresources";
        out.push(FieldError::invalid(at, &Value::from(values), detail));
    }
}
