//! Jobs, and the templates of jobs in CronJobs.

use serde_json::Value;

use super::not_negative;
use crate::field::{FieldError, internal};
use crate::json;
use crate::kinds::Resource;

const COUNTS: &[&str] = &["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit"];
/// Characters of a CronJob's name: its jobs' names are longer.
const CRON_NAME_MAX: usize = 52;

pub(super) fn check(resource: &Resource, object: &Value, template: &str, out: &mut Vec<FieldError>) {
    let cron = resource.plural == "cronjobs";
    let path: &[&str] = if cron { &["spec", "jobTemplate", "spec"] } else { &["spec"] };
    let at = path.join(".");
    let spec = json::at(object, path).unwrap_or(&Value::Null);
    not_negative(object, path, COUNTS, out);
    not_negative(object, path, &["ttlSecondsAfterFinished"], out);
    let mode = json::text(spec, &["completionMode"]);
    if !matches!(mode, "" | "NonIndexed" | "Indexed") {
        let known = ["NonIndexed", "Indexed"];
        out.push(FieldError::not_supported(format!("{at}.completionMode"), &Value::from(mode), &known));
    }
    if mode == "Indexed" && spec.get("completions").is_none_or(Value::is_null) {
        out.push(FieldError::required(format!("{at}.completions"), "when completion mode is Indexed"));
    }
    if mode != "Indexed"
        && let Some(limit) = spec.get("backoffLimitPerIndex").filter(|limit| !limit.is_null())
    {
        let detail = "requires indexed completion mode";
        out.push(FieldError::invalid(format!("{at}.backoffLimitPerIndex"), limit, detail));
    }
    if !cron && spec.get("manualSelector").is_some_and(|manual| *manual == true) && spec.get("selector").is_none() {
        out.push(FieldError::required("spec.selector", ""));
        let labels = json::at(spec, &["template", "metadata", "labels"]).unwrap_or(&Value::Null);
        let detail = "`selector` does not match template `labels`";
        out.push(FieldError::invalid("spec.template.metadata.labels", labels, detail));
    }
    if !cron {
        own_selector(object, spec, out);
    }
    if mode != "Indexed"
        && let Some(policy) = spec.get("successPolicy").filter(|policy| policy.is_object())
    {
        let shown = internal::of("SuccessPolicy", policy);
        out.push(FieldError::invalid(format!("{at}.successPolicy"), &shown, "requires indexed completion mode"));
    }
    if let Some(most) = spec.get("maxFailedIndexes").filter(|most| !most.is_null()) {
        if spec.get("backoffLimitPerIndex").is_none_or(Value::is_null) {
            let detail = "when maxFailedIndexes is specified";
            out.push(FieldError::required(format!("{at}.backoffLimitPerIndex"), detail));
        }
        if mode != "Indexed" {
            let detail = "requires indexed completion mode";
            out.push(FieldError::invalid(format!("{at}.maxFailedIndexes"), most, detail));
        }
    }
    let replaced = json::text(spec, &["podReplacementPolicy"]);
    let known = ["Failed", "TerminatingOrFailed"];
    if !replaced.is_empty() && !known.contains(&replaced) {
        out.push(FieldError::not_supported(format!("{at}.podReplacementPolicy"), &Value::from(replaced), &known));
    }
    failures(spec, &format!("{at}.podFailurePolicy.rules"), out);
    let by = json::text(spec, &["managedBy"]);
    if !by.is_empty() && !by.contains('/') {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        out.push(FieldError::invalid_text(format!("{at}.managedBy"), by, detail));
    }
    restarts(json::text(spec, &["template", "spec", "restartPolicy"]), template, out);
    if cron {
        schedule(object, out);
    }
}

/// Checks what a job does about pods that fail.
fn failures(spec: &Value, at: &str, out: &mut Vec<FieldError>) {
    let known = ["Count", "FailIndex", "FailJob", "Ignore"];
    for (index, rule) in json::list(spec, &["podFailurePolicy", "rules"]).iter().enumerate() {
        let at = format!("{at}[{index}]");
        let action = json::text(rule, &["action"]);
        if action.is_empty() {
            let detail = r#"valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#;
            out.push(FieldError::required(format!("{at}.action"), detail));
        } else if !known.contains(&action) {
            out.push(FieldError::not_supported(format!("{at}.action"), &Value::from(action), &known));
        }
        let codes = rule.get("onExitCodes").filter(|codes| codes.is_object());
        let conditions = json::list(rule, &["onPodConditions"]);
        match (codes, conditions.is_empty()) {
            (Some(_), false) => {
                let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
                out.push(FieldError::invalid_bare(at.clone(), detail));
            }
            (None, true) => {
                let detail = "specifying one of OnExitCodes and OnPodConditions is required";
                out.push(FieldError::invalid_bare(at.clone(), detail));
            }
            _ => {}
        }
        if let Some(codes) = codes {
            exit_codes(codes, &format!("{at}.onExitCodes"), out);
        }
        for (place, condition) in conditions.iter().enumerate() {
            let status = json::text(condition, &["status"]);
            let known = ["False", "True", "Unknown"];
            if !known.contains(&status) {
                let at = format!("{at}.onPodConditions[{place}].status");
                out.push(FieldError::not_supported(at, &Value::from(status), &known));
            }
        }
    }
}

fn exit_codes(codes: &Value, at: &str, out: &mut Vec<FieldError>) {
    let operator = json::text(codes, &["operator"]);
    let known = ["In", "NotIn"];
    if !known.contains(&operator) {
        out.push(FieldError::not_supported(format!("{at}.operator"), &Value::from(operator), &known));
    }
    let values = json::list(codes, &["values"]);
    if values.is_empty() {
        let detail = "at least one value is required";
        out.push(FieldError::invalid(format!("{at}.values"), &Value::Array(Vec::new()), detail));
    }
    for (index, value) in values.iter().enumerate() {
        let at = format!("{at}.values[{index}]");
        if operator == "In" && *value == 0 {
            out.push(FieldError::invalid(at.clone(), value, "must not be 0 for the In operator"));
        }
        if values[..index].contains(value) {
            out.push(FieldError::duplicate(at, value));
        }
    }
}

/// A job finds its pods by its own identity, unless it says that it has a selector of its own.
fn own_selector(object: &Value, spec: &Value, out: &mut Vec<FieldError>) {
    if spec.get("manualSelector").is_some_and(|manual| *manual == true) {
        return;
    }
    let Some(selector) = spec.get("selector").filter(|selector| selector.is_object()) else { return };
    let label = serde_json::json!({"batch.kubernetes.io/controller-uid": crate::meta::uid(object)});
    if *selector != serde_json::json!({"matchLabels": label}) {
        out.push(FieldError::invalid("spec.selector", selector, "`selector` not auto-generated"));
        let labels = json::at(spec, &["template", "metadata", "labels"]).unwrap_or(&Value::Null);
        let labels = &json::sorted(labels);
        let wanted = json::at(selector, &["matchLabels"]).and_then(Value::as_object);
        if wanted.into_iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
            let detail = "`selector` does not match template `labels`";
            out.push(FieldError::invalid("spec.template.metadata.labels", labels, detail));
        }
    }
}

/// Checks that a job stays what it is.
pub(super) fn changed(object: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let spec = |object: &Value| object.get("spec").cloned().unwrap_or_default();
    let (was, is) = (spec(old), spec(object));
    let indexed = json::text(&was, &["completionMode"]) == "Indexed";
    // An indexed job may be scaled: as many run as there are to end.
    let scaled = indexed && json::same(&is["completions"], &is["parallelism"]);
    if !json::same(&was["completions"], &is["completions"]) && !scaled {
        let detail =
            if indexed { "can only be modified in tandem with spec.parallelism" } else { "field is immutable" };
        out.push(FieldError::invalid("spec.completions", &is["completions"], detail));
    }
    let mut refuse = |key: &str, shown: &Value| {
        out.push(FieldError::invalid(format!("spec.{key}"), shown, "field is immutable"));
    };
    if !json::same(&was["selector"], &is["selector"]) {
        refuse("selector", &is["selector"]);
    }
    let mut template = was["template"].clone();
    if was["suspend"] == true {
        let movable: [&[&str]; 5] = [
            &["metadata", "annotations"],
            &["metadata", "labels"],
            &["spec", "nodeSelector"],
            &["spec", "tolerations"],
            &["spec", "schedulingGates"],
        ];
        for path in movable {
            json::carry(&is["template"], &mut template, path);
        }
    }
    if !json::same(&template, &is["template"]) {
        refuse("template", &internal::of("PodTemplateSpec", &is["template"]));
    }
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        if !json::same(&was[key], &is[key]) {
            refuse(key, &is[key]);
        }
    }
}

/// What ends is not always restarted.
fn restarts(policy: &str, template: &str, out: &mut Vec<FieldError>) {
    let field = format!("{template}.spec.restartPolicy");
    let detail = r#"valid values: "OnFailure", "Never""#;
    match policy {
        "OnFailure" | "Never" => {}
        "" | "Always" => out.push(FieldError::required(field, detail)),
        // What is no policy at all is told with the pod too.
        other => out.push(FieldError::not_supported(field, &Value::from(other), &["OnFailure", "Never"])),
    }
}

/// Checks that a job that has ended tells when, and why it may say so.
pub(super) fn status(object: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let status = &object["status"];
    let held = |object: &Value, kind: &str| {
        let conditions = json::list(object, &["status", "conditions"]);
        conditions.iter().any(|known| known["type"] == kind && known["status"] == "True")
    };
    for (kind, word) in [
        ("Failed", "terminal Failed"),
        ("Complete", "terminal Complete"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ] {
        if held(old, kind) && !held(object, kind) {
            out.push(FieldError::invalid_bare(
                "status.conditions",
                format!("cannot disable the {word}=True condition"),
            ));
        }
    }
    let holds = |kind: &str| {
        json::list(status, &["conditions"]).iter().any(|known| known["type"] == kind && known["status"] == "True")
    };
    let set = |key: &str| status.get(key).is_some_and(|value| !value.is_null());
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        if let Some(count) = status.get(key).filter(|count| count.as_i64().is_some_and(|count| count < 0)) {
            out.push(FieldError::invalid(format!("status.{key}"), count, "must be greater than or equal to 0"));
        }
    }
    let (complete, failed) = (holds("Complete"), holds("Failed"));
    if complete && !set("completionTime") {
        out.push(FieldError::required("status.completionTime", "completionTime is required for Complete jobs"));
    }
    if !complete && set("completionTime") {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        out.push(FieldError::invalid("status.completionTime", &status["completionTime"], detail));
    }
    for (ended, kind, first) in [(complete, "Complete", "SuccessCriteriaMet"), (failed, "Failed", "FailureTarget")] {
        if ended && !holds(first) {
            let detail = format!("cannot set {kind}=True condition without the {first}=true condition");
            out.push(FieldError::invalid_bare("status.conditions", detail));
        }
    }
    if (complete || failed) && !set("startTime") {
        out.push(FieldError::required("status.startTime", "startTime is required for finished job"));
    }
}

/// What fields of a schedule may say, from the least to the greatest.
const FIELDS: [(i64, i64); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];

/// Words that stand for schedules.
const DESCRIPTORS: [&str; 7] = ["@annually", "@daily", "@hourly", "@midnight", "@monthly", "@weekly", "@yearly"];

/// Says what is wrong with the numbers of a schedule.
fn ranges(fields: &[&str]) -> Option<String> {
    for (field, (least, most)) in fields.iter().zip(FIELDS) {
        for part in field.split(',') {
            let range = part.split('/').next().unwrap_or_default();
            let (start, end) = range.split_once('-').unwrap_or((range, range));
            let (Ok(start), Ok(end)) = (start.parse::<i64>(), end.parse::<i64>()) else { continue };
            if start < least {
                return Some(format!("beginning of range ({start}) below minimum ({least}): {part}"));
            }
            if end > most {
                return Some(format!("end of range ({end}) above maximum ({most}): {part}"));
            }
            if start > end {
                return Some(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
            }
        }
    }
    None
}

fn schedule(object: &Value, out: &mut Vec<FieldError>) {
    let counts = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    not_negative(object, &["spec"], &counts, out);
    if crate::meta::name(object).len() > CRON_NAME_MAX {
        let detail = format!("must be no more than {CRON_NAME_MAX} characters");
        out.push(FieldError::invalid_text("metadata.name", crate::meta::name(object), detail));
    }
    let text = json::text(object, &["spec", "schedule"]);
    let fields: Vec<&str> = text.split_whitespace().collect();
    if text.is_empty() {
        out.push(FieldError::required("spec.schedule", ""));
    } else if text.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        out.push(FieldError::invalid_text("spec.schedule", text, detail));
    } else if text.starts_with('@') && !text.starts_with("@every ") && !DESCRIPTORS.contains(&text) {
        out.push(FieldError::invalid_text("spec.schedule", text, format!("unrecognized descriptor: {text}")));
    } else if !text.starts_with('@') && fields.len() != 5 {
        let detail = format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "));
        out.push(FieldError::invalid_text("spec.schedule", text, detail));
    } else if let Some(why) = ranges(&fields) {
        out.push(FieldError::invalid_text("spec.schedule", text, why));
    }
    let zone = json::text(object, &["spec", "timeZone"]);
    if json::at(object, &["spec", "timeZone"]).is_some_and(|zone| *zone == "") {
        out.push(FieldError::invalid_text("spec.timeZone", "", "timeZone must be nil or non-empty string"));
    }
    // A system without a list of zones knows none of them, so it refuses none.
    let known = |zone: &str| jiff::tz::TimeZone::get(zone).is_ok();
    if !zone.is_empty() && !known(zone) && known("Etc/GMT") {
        out.push(FieldError::invalid_text("spec.timeZone", zone, format!("unknown time zone {zone}")));
    }
    let policy = json::text(object, &["spec", "concurrencyPolicy"]);
    if !matches!(policy, "" | "Allow" | "Forbid" | "Replace") {
        let known = ["Allow", "Forbid", "Replace"];
        out.push(FieldError::not_supported("spec.concurrencyPolicy", &Value::from(policy), &known));
    }
}
