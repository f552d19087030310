//! Autoscalers: what they scale, by what measures, how fast.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::names;
use crate::quantity;

/// Kinds of measures, and the fields that tell about them.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];
const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;

/// Checks an autoscaler.
pub(super) fn check(object: &Value, out: &mut Vec<FieldError>) {
    let number = |key: &str| json::at(object, &["spec", key]).and_then(Value::as_i64);
    let (least, most) = (number("minReplicas"), number("maxReplicas").unwrap_or(0));
    if let Some(least) = least.filter(|least| *least < 1) {
        out.push(FieldError::invalid("spec.minReplicas", &least.into(), "must be greater than or equal to 1"));
    }
    if most == 0 {
        out.push(FieldError::required("spec.maxReplicas", "must be set and greater than 0"));
    } else if most < 1 {
        out.push(FieldError::invalid("spec.maxReplicas", &most.into(), "must be greater than or equal to 1"));
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        out.push(FieldError::invalid("spec.maxReplicas", &most.into(), detail));
    }
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let target = spec.get("scaleTargetRef").unwrap_or(&Value::Null);
    reference(target, "spec.scaleTargetRef", json::text(target, &["kind"]) == "ReplicationController", out);
    let metrics = json::list(spec, &["metrics"]);
    for (index, metric) in metrics.iter().enumerate() {
        self::metric(metric, &format!("spec.metrics[{index}]"), out);
    }
    let outside = metrics.iter().any(|metric| matches!(json::text(metric, &["type"]), "Object" | "External"));
    if least == Some(0) && !outside {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        out.push(FieldError::forbidden("spec.metrics", detail));
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = json::at(spec, &["behavior", direction]).filter(|rules| rules.is_object()) {
            self::rules(rules, &format!("spec.behavior.{direction}"), out);
        }
    }
}

/// Checks what names the object that is scaled or measured.
fn reference(target: &Value, at: &str, core: bool, out: &mut Vec<FieldError>) {
    for key in ["kind", "name"] {
        let text = json::text(target, &[key]);
        let field = format!("{at}.{key}");
        if text.is_empty() {
            out.push(FieldError::required(field.clone(), ""));
        }
        let errors = names::path_segment(text).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(field.clone(), text, error)));
    }
    let version = json::text(target, &["apiVersion"]);
    if !version.contains('/') && (version.is_empty() || !core) {
        let detail = "apiVersion must specify API group";
        out.push(FieldError::invalid_text(format!("{at}.apiVersion"), version, detail));
    }
}

/// Checks one measure.
fn metric(metric: &Value, at: &str, out: &mut Vec<FieldError>) {
    let kind = json::text(metric, &["type"]);
    let own = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, key)| *key);
    if own.is_none() {
        if kind.is_empty() {
            out.push(FieldError::required(format!("{at}.type"), "must specify a metric source type"));
        }
        let known = SOURCES.map(|(name, _)| name);
        out.extend([(); 2].map(|()| FieldError::not_supported(format!("{at}.type"), &Value::from(kind), &known)));
    }
    // The first that is there is looked at, whichever it should be.
    let order = ["object", "external", "pods", "resource", "containerResource"];
    let present: Vec<&str> = order.into_iter().filter(|key| metric.get(*key).is_some_and(Value::is_object)).collect();
    if let Some(first) = present.first() {
        source(first, &metric[*first], &format!("{at}.{first}"), out);
    }
    if let Some(own) = own.filter(|own| !present.contains(own)) {
        let detail = "must populate information for the given metric source";
        out.push(FieldError::required(format!("{at}.{own}"), detail));
    }
    if present.len() != 1 {
        let others = present.iter().filter(|key| own != Some(**key));
        let detail = "must populate the given metric source only";
        out.extend(others.map(|key| FieldError::forbidden(format!("{at}.{key}"), detail)));
    }
}

fn source(kind: &str, source: &Value, at: &str, out: &mut Vec<FieldError>) {
    match kind {
        "object" => {
            let described = &source["describedObject"];
            reference(described, &format!("{at}.describedObject"), true, out);
        }
        "resource" | "containerResource" if json::text(source, &["name"]).is_empty() => {
            out.push(FieldError::required(format!("{at}.name"), "must specify a resource name"));
        }
        _ => {}
    }
    if kind == "containerResource" && json::text(source, &["container"]).is_empty() {
        out.push(FieldError::required(format!("{at}.container"), "must specify a container"));
    }
    if matches!(kind, "object" | "external" | "pods") {
        let name = json::text(source, &["metric", "name"]);
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.metric.name"), "must specify a metric name"));
        }
        let errors = names::path_segment(name).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.metric.name"), name, error)));
    }
    target(kind, &source["target"], &format!("{at}.target"), out);
}

fn target(kind: &str, target: &Value, at: &str, out: &mut Vec<FieldError>) {
    let set = |key: &str| target.get(key).filter(|value| !value.is_null());
    let form = json::text(target, &["type"]);
    if form.is_empty() {
        out.push(FieldError::required(format!("{at}.type"), "must specify a metric target type"));
    }
    if !matches!(form, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        out.push(FieldError::invalid_text(format!("{at}.type"), form, detail));
    }
    for key in ["value", "averageValue"] {
        let amount = set(key).and_then(Value::as_str);
        if let Some(amount) = amount.filter(|amount| quantity::nanos(amount).is_some_and(|nanos| nanos <= 0)) {
            out.push(FieldError::invalid_text(format!("{at}.{key}"), amount, "must be positive"));
        }
    }
    if let Some(share) = set("averageUtilization").filter(|share| share.as_i64() < Some(1)) {
        out.push(FieldError::invalid(format!("{at}.averageUtilization"), share, "must be greater than 0"));
    }
    let (value, average, share) =
        (set("value").is_some(), set("averageValue").is_some(), set("averageUtilization").is_some());
    match kind {
        "object" if !value && !average => {
            let detail = "must set either a target value or averageValue";
            out.push(FieldError::required(format!("{at}.averageValue"), detail));
        }
        "external" if !value && !average => {
            let detail = "must set either a target value for metric or a per-pod target";
            out.push(FieldError::required(format!("{at}.averageValue"), detail));
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            out.push(FieldError::forbidden(format!("{at}.value"), detail));
        }
        "pods" if !average => {
            let detail = "must specify a positive target averageValue";
            out.push(FieldError::required(format!("{at}.averageValue"), detail));
        }
        "resource" | "containerResource" if !share && !average => {
            let detail = "must set either a target raw value or a target utilization";
            out.push(FieldError::required(format!("{at}.averageUtilization"), detail));
        }
        "resource" | "containerResource" if share && average => {
            let detail = "may not set both a target raw value and a target utilization";
            out.push(FieldError::forbidden(format!("{at}.averageValue"), detail));
        }
        _ => {}
    }
}

/// Checks how fast something is scaled.
fn rules(rules: &Value, at: &str, out: &mut Vec<FieldError>) {
    if let Some(window) = rules.get("stabilizationWindowSeconds").filter(|window| !window.is_null()) {
        let field = format!("{at}.stabilizationWindowSeconds");
        let seconds = window.as_i64().unwrap_or(0);
        if seconds < 0 {
            out.push(FieldError::invalid(field, window, "must be greater than or equal to zero"));
        } else if seconds > WINDOW_SECONDS_MAX {
            let detail = format!("must be less than or equal to {WINDOW_SECONDS_MAX}");
            out.push(FieldError::invalid(field, window, detail));
        }
    }
    let select = json::text(rules, &["selectPolicy"]);
    let known = ["Disabled", "Max", "Min"];
    if !select.is_empty() && !known.contains(&select) {
        out.push(FieldError::not_supported(format!("{at}.selectPolicy"), &Value::from(select), &known));
    }
    let policies = json::list(rules, &["policies"]);
    if policies.is_empty() {
        out.push(FieldError::required(format!("{at}.policies"), "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = format!("{at}.policies[{index}]");
        let kind = json::text(policy, &["type"]);
        let known = ["Percent", "Pods"];
        if !known.contains(&kind) {
            out.push(FieldError::not_supported(format!("{at}.type"), &Value::from(kind), &known));
        }
        for key in ["value", "periodSeconds"] {
            let number = policy[key].as_i64().unwrap_or(0);
            if number <= 0 {
                let detail = "must be greater than zero";
                out.push(FieldError::invalid(format!("{at}.{key}"), &number.into(), detail));
            }
        }
        let period = policy["periodSeconds"].as_i64().unwrap_or(0);
        if period > PERIOD_SECONDS_MAX {
            let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            out.push(FieldError::invalid(format!("{at}.periodSeconds"), &period.into(), detail));
        }
    }
}
