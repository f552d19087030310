//! Whether a definition's CEL rules can be evaluated, and at what cost.

mod types;

use kube_cel::cel::common::ast::{Expr, IdedExpr};
use serde_json::{Value, json};
use types::{Type, compile};

use crate::field::FieldError;
use crate::json;

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
/// What one rule may cost, by the real server's measure.
const RULE_BUDGET: f64 = 1e7;
/// Our estimate is rougher than the real one: only what is this far beyond a budget is refused, or good definitions are.
const MARGIN: f64 = 100.0;
/// What all rules of a schema may cost.
const TOTAL_BUDGET: f64 = 1e8;
/// How many items a list may have that does not limit itself: what fits into a request.
const ITEMS_UNBOUNDED: f64 = 157_286.0;
const CURE: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and \
                    strings are declared)";

/// Where in a schema a rule stands.
#[derive(Clone)]
struct Place {
    path: String,
    /// The path of a list whose items cannot be told apart between two states.
    uncorrelated: Option<String>,
    /// How often the rule is evaluated on one object.
    times: f64,
    /// The schema is that of whole objects.
    root: bool,
    /// The schema is good enough for its rules to be looked at.
    sound: bool,
}

/// Checks all rules of a schema.
pub(super) fn check(schema: &Value, path: &str, sound: bool, out: &mut Vec<FieldError>) {
    let mut total = 0.0;
    let mut costly = Vec::new();
    let place = Place { path: path.to_owned(), uncorrelated: None, times: 1.0, root: true, sound };
    walk(schema, &place, &mut total, &mut costly, out);
    if total > TOTAL_BUDGET * MARGIN {
        for rule in costly {
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
    if by > 100.0 { "more than 100x".to_owned() } else { format!("{by:.1}x") }
}

fn walk(schema: &Value, place: &Place, total: &mut f64, costly: &mut Vec<String>, out: &mut Vec<FieldError>) {
    for (index, rule) in json::list(schema, &["x-kubernetes-validations"]).iter().enumerate() {
        let at = format!("{}.x-kubernetes-validations[{index}]", place.path);
        let cost = one(schema, rule, &at, place, out);
        *total += cost;
        if cost > RULE_BUDGET * MARGIN {
            costly.push(format!("{at}.rule"));
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
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64).unwrap_or(ITEMS_UNBOUNDED);
    if let Some(inner) = schema.get("items").filter(|items| items.is_object()) {
        let map = json::text(schema, &["x-kubernetes-list-type"]) == "map";
        let place = Place {
            path: format!("{}.items", place.path),
            uncorrelated: place.uncorrelated.clone().or_else(|| (!map).then(|| place.path.clone())),
            times: place.times * limit("maxItems"),
            root: false,
            sound: place.sound,
        };
        walk(inner, &place, total, costly, out);
    }
    if let Some(inner) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let place = Place {
            path: format!("{}.additionalProperties", place.path),
            times: place.times * limit("maxProperties"),
            root: false,
            ..place.clone()
        };
        walk(inner, &place, total, costly, out);
    }
}

/// Checks one rule; answers what it costs.
fn one(schema: &Value, rule: &Value, at: &str, place: &Place, out: &mut Vec<FieldError>) -> f64 {
    let known = out.len();
    words(rule, at, out);
    field_path(schema, rule, at, out);
    if out.len() > known || !place.sound {
        return 0.0;
    }
    let text = json::text(rule, &["rule"]);
    let wrong = |key: &str, detail: String| FieldError::invalid(format!("{at}.{key}"), &shown(rule), detail);
    let program = match compile(text, schema, place.root) {
        Ok((program, kind)) => {
            if !matches!(kind, Type::Bool | Type::Dyn) {
                out.push(wrong("rule", "cel expression must evaluate to a bool".to_owned()));
                return 0.0;
            }
            program
        }
        Err(why) => {
            out.push(wrong("rule", format!("compilation failed: {why}")));
            return 0.0;
        }
    };
    let own = json::text(rule, &["messageExpression"]);
    if !own.is_empty() {
        match compile(own, schema, place.root) {
            Ok((_, Type::String | Type::Dyn)) => {}
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
    let alone = nested(program.expression(), schema);
    // A rule without an unbounded loop of its own is never too dear by this rough estimate, wherever it stands.
    let cost = if alone < ITEMS_UNBOUNDED { alone } else { place.times * alone };
    if cost > RULE_BUDGET * MARGIN {
        let detail = format!("estimated rule cost exceeds budget by factor of {} {CURE}", factor(cost / RULE_BUDGET));
        out.push(FieldError::forbidden(format!("{at}.rule"), detail));
    }
    cost
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
    if !reason.is_empty() && !REASONS.contains(&reason) {
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
    let mut steps = path.trim_start_matches('.').split('.');
    let found = steps.try_fold(schema, |schema, step| {
        let step = step.split('[').next().unwrap_or_default();
        schema.get("properties").and_then(|fields| fields.get(step)).or_else(|| schema.get("additionalProperties"))
    });
    if found.is_none() || !path.starts_with(['.', '[']) {
        out.push(FieldError::invalid_text(format!("{at}.fieldPath"), path, "must be a valid path"));
    }
}

/// Estimates the cost of an expression: what is inside loops counts as often as they turn.
fn nested(expression: &IdedExpr, schema: &Value) -> f64 {
    let all = |list: &[IdedExpr]| list.iter().map(|inner| nested(inner, schema)).sum::<f64>();
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            let turns = bound(&comprehension.iter_range.expr, schema);
            let body = nested(&comprehension.loop_step, schema) + 3.0;
            nested(&comprehension.iter_range, schema) + turns * body
        }
        Expr::Call(call) => 1.0 + all(&call.args) + call.target.as_ref().map_or(0.0, |target| nested(target, schema)),
        Expr::Select(select) => 1.0 + nested(&select.operand, schema),
        Expr::List(list) => 10.0 + all(&list.elements),
        _ => 1.0,
    }
}

/// Finds how many items what a loop runs over may have.
fn bound(range: &Expr, schema: &Value) -> f64 {
    fn find<'a>(range: &Expr, schema: &'a Value) -> Option<&'a Value> {
        match range {
            Expr::Ident(name) if name == "self" => Some(schema),
            Expr::Select(select) => {
                let inner = find(&select.operand.expr, schema)?;
                inner.get("properties")?.get(&select.field)
            }
            _ => None,
        }
    }
    // What another loop yields, or a function of it, has at most as many items as that loop turns.
    match range {
        Expr::Comprehension(inner) => return bound(&inner.iter_range.expr, schema),
        Expr::Call(call) => {
            if let Some(target) = &call.target {
                return bound(&target.expr, schema);
            }
        }
        _ => {}
    }
    let limit = find(range, schema).and_then(|schema| schema.get("maxItems").or(schema.get("maxProperties")));
    limit.and_then(Value::as_f64).unwrap_or(ITEMS_UNBOUNDED)
}
