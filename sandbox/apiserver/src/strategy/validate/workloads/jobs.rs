//! Jobs, and the templates of jobs in CronJobs.

use serde_json::Value;

use super::not_negative;
use crate::field::FieldError;
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

/// What ends is not always restarted.
fn restarts(policy: &str, template: &str, out: &mut Vec<FieldError>) {
    let field = format!("{template}.spec.restartPolicy");
    let detail = r#"valid values: "OnFailure", "Never""#;
    match policy {
        "OnFailure" | "Never" => {}
        "" | "Always" => out.push(FieldError::required(field, detail)),
        other => out.push(FieldError::invalid_text(field, other, detail)),
    }
}

fn schedule(object: &Value, out: &mut Vec<FieldError>) {
    let counts = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    not_negative(object, &["spec"], &counts, out);
    if crate::meta::name(object).len() > CRON_NAME_MAX {
        let detail = format!("must be no more than {CRON_NAME_MAX} characters");
        out.push(FieldError::invalid_text("metadata.name", crate::meta::name(object), detail));
    }
    let policy = json::text(object, &["spec", "concurrencyPolicy"]);
    if !matches!(policy, "" | "Allow" | "Forbid" | "Replace") {
        let known = ["Allow", "Forbid", "Replace"];
        out.push(FieldError::not_supported("spec.concurrencyPolicy", &Value::from(policy), &known));
    }
    let text = json::text(object, &["spec", "schedule"]);
    let fields: Vec<&str> = text.split_whitespace().collect();
    if text.is_empty() {
        out.push(FieldError::required("spec.schedule", ""));
    } else if text.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        out.push(FieldError::invalid_text("spec.schedule", text, detail));
    } else if !text.starts_with('@') && fields.len() != 5 {
        let detail = format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "));
        out.push(FieldError::invalid_text("spec.schedule", text, detail));
    }
}
