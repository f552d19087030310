//! Whether a definition's CEL rules can be evaluated, and at what cost.

mod check;
mod cost;
pub(crate) mod expressions;
mod overloads;
mod types;

use serde_json::{Value, json};
use types::{Type, compile};

use crate::field::FieldError;
use crate::json;

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
/// What one rule may cost, by the real server's measure.
const RULE_BUDGET: f64 = 1e7;
/// What all rules of a schema may cost.
const TOTAL_BUDGET: f64 = 1e8;
/// How many of the costliest rules are named where all together cost too much.
const NAMED_MAX: usize = 4;
const CURE: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and \
                    strings are declared)";

/// Where in a schema a rule stands.
#[derive(Clone)]
struct Place {
    path: String,
    /// The path of a list whose items cannot be told apart between two states.
    uncorrelated: Option<String>,
    /// How often the rule is evaluated on one object; nothing where a list or map around it has no limit.
    times: Option<f64>,
    /// The schema is that of whole objects.
    root: bool,
    /// The schema is good enough for its rules to be looked at.
    sound: bool,
}

/// Checks all rules of a schema.
pub(super) fn check(schema: &Value, path: &str, sound: bool, out: &mut Vec<FieldError>) {
    let mut total = 0.0;
    let mut costly: Vec<(f64, String)> = Vec::new();
    let place = Place { path: path.to_owned(), uncorrelated: None, times: Some(1.0), root: true, sound };
    walk(schema, &place, &mut total, &mut costly, out);
    if total > TOTAL_BUDGET {
        costly.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        for (_, rule) in costly.into_iter().take(NAMED_MAX) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            out.push(FieldError::forbidden(rule, detail));
        }
        let detail = format!(
            "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of \
             {} {CURE}",
            factor(total / TOTAL_BUDGET)
        );
        out.push(FieldError::forbidden(path, detail));
    }
}

fn factor(by: f64) -> String {
    match by {
        _ if by > 100.0 => "more than 100x".to_owned(),
        _ if by < 1.5 => format!("{by:.6}x"),
        _ => format!("{by:.1}x"),
    }
}

fn walk(schema: &Value, place: &Place, total: &mut f64, costly: &mut Vec<(f64, String)>, out: &mut Vec<FieldError>) {
    for (index, rule) in json::list(schema, &["x-kubernetes-validations"]).iter().enumerate() {
        let at = format!("{}.x-kubernetes-validations[{index}]", place.path);
        for (key, cost) in one(schema, rule, &at, place, out) {
            *total += cost;
            costly.push((cost, format!("{at}.{key}")));
        }
    }
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let whole = inner.get("x-kubernetes-embedded-resource").is_some_and(|set| *set == true);
        let atomic = json::text(schema, &["x-kubernetes-map-type"]) == "atomic";
        let place = Place {
            path: format!("{}.properties[{key}]", place.path),
            root: whole,
            uncorrelated: place.uncorrelated.clone().or_else(|| atomic.then(|| place.path.clone())),
            ..place.clone()
        };
        walk(inner, &place, total, costly, out);
    }
    let times = |key: &str| Some(place.times? * schema.get(key).and_then(Value::as_f64)?);
    if let Some(inner) = schema.get("items").filter(|items| items.is_object()) {
        let map = json::text(schema, &["x-kubernetes-list-type"]) == "map";
        let place = Place {
            path: format!("{}.items", place.path),
            uncorrelated: place.uncorrelated.clone().or_else(|| (!map).then(|| place.path.clone())),
            times: times("maxItems"),
            root: false,
            sound: place.sound,
        };
        walk(inner, &place, total, costly, out);
    }
    if let Some(inner) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let place = Place {
            path: format!("{}.additionalProperties", place.path),
            times: times("maxProperties"),
            root: false,
            ..place.clone()
        };
        walk(inner, &place, total, costly, out);
    }
}

/// Checks one rule; answers what its expressions cost.
fn one(schema: &Value, rule: &Value, at: &str, place: &Place, out: &mut Vec<FieldError>) -> Vec<(&'static str, f64)> {
    let mut costs = Vec::new();
    let known = out.len();
    words(rule, at, out);
    field_path(schema, rule, at, out);
    if out.len() > known || !place.sound {
        return costs;
    }
    let text = json::text(rule, &["rule"]);
    let optional = rule.get("optionalOldSelf").is_some_and(|set| *set == true);
    let wrong = |key: &str, detail: String| FieldError::invalid(format!("{at}.{key}"), &shown(rule), detail);
    let program = match compile(&crate::rules::written(text), schema, (place.root, optional)) {
        Ok((program, kind)) => {
            if !matches!(kind, Type::Bool | Type::Dyn) {
                out.push(wrong("rule", "cel expression must evaluate to a bool".to_owned()));
                return costs;
            }
            program
        }
        Err(why) => {
            out.push(wrong("rule", format!("compilation failed: {why}")));
            return costs;
        }
    };
    let own = json::text(rule, &["messageExpression"]);
    if !own.is_empty() {
        match compile(&crate::rules::written(own), schema, (place.root, optional)) {
            Ok((program, Type::String | Type::Dyn)) => {
                costs.push(("messageExpression", spend(&program, schema, place)));
            }
            Ok(_) => {
                out.push(wrong("messageExpression", "messageExpression must evaluate to a string".to_owned()));
            }
            Err(why) => out.push(wrong("messageExpression", format!("messageExpression compilation failed: {why}"))),
        }
    }
    let old = program.references().variables().contains(&"oldSelf");
    if let (true, Some(within)) = (old, &place.uncorrelated) {
        let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
        out.push(FieldError::invalid_text(format!("{at}.rule"), text, detail));
    }
    if let (false, Some(optional)) = (old, rule.get("optionalOldSelf").filter(|set| !set.is_null())) {
        let detail = "may not be set if oldSelf is not used in rule";
        out.push(FieldError::invalid(format!("{at}.optionalOldSelf"), optional, detail));
    }
    costs.push(("rule", spend(&program, schema, place)));
    for (key, cost) in costs.iter().filter(|(_, cost)| *cost > RULE_BUDGET) {
        let detail = format!("estimated {key} cost exceeds budget by factor of {} {CURE}", factor(cost / RULE_BUDGET));
        out.push(FieldError::forbidden(format!("{at}.{key}"), detail));
    }
    costs
}

/// Returns what an expression costs on one object, as often as its place may occur there.
fn spend(program: &kube_cel::cel::Program, schema: &Value, place: &Place) -> f64 {
    let alone = cost::of(program.expression(), schema);
    alone * place.times.unwrap_or_else(|| cost::cardinality(schema))
}

/// Checks what a rule says beside its expressions.
fn words(rule: &Value, at: &str, out: &mut Vec<FieldError>) {
    let text = |key: &str| json::text(rule, &[key]);
    let (expression, message) = (text("rule").trim(), text("message"));
    let lines = |text: &str| text.contains(['\n', '\r']);
    if expression.is_empty() {
        out.push(FieldError::required(format!("{at}.rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        out.push(FieldError::invalid_text(format!("{at}.message"), message, "must be non-empty if specified"));
    } else if lines(message.trim()) {
        out.push(FieldError::invalid_text(format!("{at}.message"), message, "must not contain line breaks"));
    } else if lines(expression) && message.is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        out.push(FieldError::required(format!("{at}.message"), detail));
    }
    let own = text("messageExpression");
    if !own.is_empty() && own.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        out.push(FieldError::required(format!("{at}.messageExpression"), detail));
    }
    let reason = text("reason");
    if rule.get("reason").is_some_and(Value::is_string) && !REASONS.contains(&reason) {
        out.push(FieldError::not_supported(format!("{at}.reason"), &Value::from(reason), &REASONS));
    }
    let path = text("fieldPath");
    if !path.is_empty() && path.trim().is_empty() {
        out.push(FieldError::invalid_text(format!("{at}.fieldPath"), path, "must be non-empty if specified"));
    }
    if lines(path) {
        out.push(FieldError::invalid_text(format!("{at}.fieldPath"), path, "must not contain line breaks"));
    }
}

/// Writes a rule as error texts quote it.
fn shown(rule: &Value) -> Value {
    let text = |key: &str| json::text(rule, &[key]).to_owned();
    json!({
        "Rule": text("rule"), "Message": text("message"), "MessageExpression": text("messageExpression"),
        "Reason": rule["reason"], "FieldPath": text("fieldPath"), "OptionalOldSelf": rule["optionalOldSelf"],
    })
}

fn field_path(schema: &Value, rule: &Value, at: &str, out: &mut Vec<FieldError>) {
    let path = json::text(rule, &["fieldPath"]);
    if path.is_empty() {
        return;
    }
    let found = steps(path).and_then(|steps| {
        steps.iter().try_fold(schema, |schema, step| {
            schema.get("properties").and_then(|fields| fields.get(step)).or_else(|| schema.get("additionalProperties"))
        })
    });
    if found.is_none() {
        out.push(FieldError::invalid_text(format!("{at}.fieldPath"), path, "must be a valid path"));
    }
}

/// Splits a path of `.name` and `['name']`; other forms are none.
fn steps(path: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix("['") {
            Some(quoted) => quoted.split_once("']")?,
            None => {
                let plain = rest.strip_prefix('.')?;
                plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()))
            }
        };
        if step.is_empty() {
            return None;
        }
        out.push(step.to_owned());
        rest = after;
    }
    Some(out)
}
