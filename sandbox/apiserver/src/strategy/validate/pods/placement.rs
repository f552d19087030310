//! Where a pod may run: selectors of nodes, affinities, spread.

use serde_json::Value;

use super::super::labels;
use crate::field::FieldError;
use crate::json;
use crate::names;

/// Checks what a pod says about where it runs.
pub(super) fn check(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    let selector = spec.get("nodeSelector").and_then(Value::as_object);
    for (key, value) in selector.into_iter().flatten() {
        let at = format!("{path}.nodeSelector");
        let text = value.as_str().unwrap_or_default();
        out.extend(names::qualified(key).into_iter().map(|error| FieldError::invalid_text(at.clone(), key, error)));
        out.extend(names::label_value(text).into_iter().map(|error| FieldError::invalid_text(at.clone(), text, error)));
    }
    let at = format!("{path}.affinity");
    nodes(&spec["affinity"]["nodeAffinity"], &format!("{at}.nodeAffinity"), out);
    for kind in ["podAffinity", "podAntiAffinity"] {
        pods(&spec["affinity"][kind], &format!("{at}.{kind}"), out);
    }
    spread(spec, path, out);
}

fn nodes(affinity: &Value, at: &str, out: &mut Vec<FieldError>) {
    let at_required = format!("{at}.requiredDuringSchedulingIgnoredDuringExecution");
    if let Some(required) = affinity.get("requiredDuringSchedulingIgnoredDuringExecution").filter(|r| r.is_object()) {
        let terms = json::list(required, &["nodeSelectorTerms"]);
        let at = format!("{at_required}.nodeSelectorTerms");
        if terms.is_empty() {
            out.push(FieldError::required(at.clone(), "must have at least one node selector term"));
        }
        for (index, term) in terms.iter().enumerate() {
            self::term(term, &format!("{at}[{index}]"), out);
        }
    }
    let preferred = json::list(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"]);
    for (index, one) in preferred.iter().enumerate() {
        let at = format!("{at}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
        weight(one, &at, out);
        term(&one["preference"], &format!("{at}.preference"), out);
    }
}

fn weight(holder: &Value, at: &str, out: &mut Vec<FieldError>) {
    let weight = holder["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        out.push(FieldError::invalid(format!("{at}.weight"), &weight.into(), "must be in the range 1-100"));
    }
}

fn term(term: &Value, at: &str, out: &mut Vec<FieldError>) {
    for (index, expression) in json::list(term, &["matchExpressions"]).iter().enumerate() {
        labels::requirement(expression, &format!("{at}.matchExpressions[{index}]"), true, out);
    }
}

fn pods(affinity: &Value, at: &str, out: &mut Vec<FieldError>) {
    for (index, term) in json::list(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
        pod_term(term, &format!("{at}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"), out);
    }
    for (index, one) in json::list(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
        let at = format!("{at}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
        weight(one, &at, out);
        pod_term(&one["podAffinityTerm"], &format!("{at}.podAffinityTerm"), out);
    }
}

fn pod_term(term: &Value, at: &str, out: &mut Vec<FieldError>) {
    if let Some(selector) = term.get("labelSelector").filter(|selector| selector.is_object()) {
        out.extend(labels::selector(selector, &format!("{at}.labelSelector")));
    }
    let key = json::text(term, &["topologyKey"]);
    let at = format!("{at}.topologyKey");
    if key.is_empty() {
        out.push(FieldError::required(at.clone(), "can not be empty"));
    }
    out.extend(names::qualified(key).into_iter().map(|error| FieldError::invalid_text(at.clone(), key, error)));
}

fn spread(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    for (index, constraint) in json::list(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{index}]");
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            out.push(FieldError::invalid(format!("{at}.maxSkew"), &skew.into(), "must be greater than zero"));
        }
        if json::text(constraint, &["topologyKey"]).is_empty() {
            out.push(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
        }
        let action = json::text(constraint, &["whenUnsatisfiable"]);
        let same =
            |other: &&Value| ["topologyKey", "whenUnsatisfiable"].iter().all(|key| other[*key] == constraint[*key]);
        if json::list(spec, &["topologySpreadConstraints"])[index + 1..].iter().any(|other| same(&other)) {
            let pair = format!("{{{}, {action}}}", json::text(constraint, &["topologyKey"]));
            out.push(FieldError::duplicate(format!("{at}.{{topologyKey, whenUnsatisfiable}}"), &Value::from(pair)));
        }
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        if !known.contains(&action) {
            let at = format!("{at}.whenUnsatisfiable");
            out.push(FieldError::not_supported(at, &Value::from(action), &known));
        }
    }
}
