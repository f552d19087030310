//! How workloads replace their pods.

use serde_json::Value;

use crate::field::{FieldError, internal};
use crate::json;
use crate::strategy::validate::numbers;

pub(super) fn deployment(object: &Value, out: &mut Vec<FieldError>) {
    let strategy = json::at(object, &["spec", "strategy"]).unwrap_or(&Value::Null);
    let rolling = strategy.get("rollingUpdate").filter(|rolling| rolling.is_object());
    let number = |key: &str| json::at(object, &["spec", key]).and_then(Value::as_i64);
    match (json::text(strategy, &["type"]), rolling) {
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            out.push(FieldError::forbidden("spec.strategy.rollingUpdate", detail));
        }
        ("Recreate" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            let at = "spec.strategy.rollingUpdate";
            for key in ["maxUnavailable", "maxSurge"] {
                numbers::count_or_percent(rolling.get(key), &format!("{at}.{key}"), out);
            }
            let zero = |key: &str| rolling.get(key).is_some_and(|value| *value == 0 || *value == "0%");
            if zero("maxSurge") && zero("maxUnavailable") {
                let detail = "may not be 0 when `maxSurge` is 0";
                out.push(FieldError::invalid(format!("{at}.maxUnavailable"), &rolling["maxUnavailable"], detail));
            }
            numbers::at_most_all(rolling.get("maxUnavailable"), &format!("{at}.maxUnavailable"), out);
        }
        _ => {
            let known = ["Recreate", "RollingUpdate"];
            let shown = internal::of("DeploymentStrategy", strategy);
            out.push(FieldError::not_supported("spec.strategy", &shown, &known));
        }
    }
    if let (Some(deadline), ready) = (number("progressDeadlineSeconds"), number("minReadySeconds").unwrap_or(0))
        && deadline <= ready
    {
        let detail = "must be greater than minReadySeconds";
        out.push(FieldError::invalid("spec.progressDeadlineSeconds", &deadline.into(), detail));
    }
}

pub(super) fn daemon_set(object: &Value, out: &mut Vec<FieldError>) {
    let strategy = json::at(object, &["spec", "updateStrategy"]).unwrap_or(&Value::Null);
    match json::text(strategy, &["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let at = "spec.updateStrategy.rollingUpdate";
            let Some(rolling) = strategy.get("rollingUpdate") else { return };
            let some = |key: &str| rolling.get(key).is_some_and(|value| *value != 0 && *value != "0%");
            for key in ["maxUnavailable", "maxSurge"] {
                numbers::count_or_percent(rolling.get(key), &format!("{at}.{key}"), out);
                numbers::at_most_all(rolling.get(key), &format!("{at}.{key}"), out);
            }
            match (some("maxUnavailable"), some("maxSurge")) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    out.push(FieldError::invalid(format!("{at}.maxSurge"), &rolling["maxSurge"], detail));
                }
                (false, false) => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    out.push(FieldError::required(format!("{at}.maxUnavailable"), detail));
                }
                _ => {}
            }
        }
        _ => {
            let known = ["RollingUpdate", "OnDelete"];
            let shown = internal::of("DaemonSetUpdateStrategy", strategy);
            out.push(FieldError::not_supported("spec.updateStrategy", &shown, &known));
        }
    }
}

pub(super) fn stateful_set(object: &Value, out: &mut Vec<FieldError>) {
    if let Some(start) = json::at(object, &["spec", "ordinals", "start"]).filter(|start| start.as_i64() < Some(0)) {
        out.push(FieldError::invalid("spec.ordinals.start", start, "must be greater than or equal to 0"));
    }
    let policy = json::text(object, &["spec", "podManagementPolicy"]);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        out.push(FieldError::invalid_text("spec.podManagementPolicy", policy, detail));
    }
    for key in ["whenDeleted", "whenScaled"] {
        let policy = json::text(object, &["spec", "persistentVolumeClaimRetentionPolicy", key]);
        let known = ["Retain", "Delete"];
        if !policy.is_empty() && !known.contains(&policy) {
            let at = format!("spec.persistentVolumeClaimRetentionPolicy.{key}");
            out.push(FieldError::not_supported(at, &Value::from(policy), &known));
        }
    }
    let at = "spec.updateStrategy";
    let strategy = json::at(object, &["spec", "updateStrategy"]).unwrap_or(&Value::Null);
    let rolling = strategy.get("rollingUpdate").filter(|rolling| rolling.is_object());
    match (json::text(strategy, &["type"]), rolling) {
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let rolling = &internal::of("RollingUpdateStatefulSetStrategy", rolling);
            out.push(FieldError::invalid(format!("{at}.rollingUpdate"), rolling, detail));
        }
        ("RollingUpdate", Some(rolling)) => {
            if let Some(partition) = rolling.get("partition").filter(|value| value.as_i64() < Some(0)) {
                let detail = "must be greater than or equal to 0";
                out.push(FieldError::invalid(format!("{at}.rollingUpdate.partition"), partition, detail));
            }
            numbers::count_or_percent(
                rolling.get("maxUnavailable"),
                &format!("{at}.rollingUpdate.maxUnavailable"),
                out,
            );
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let shown = internal::of("StatefulSetUpdateStrategy", strategy);
            out.push(FieldError::invalid(at, &shown, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}
