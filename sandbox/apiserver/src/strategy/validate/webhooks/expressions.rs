//! The CEL expressions of webhooks and policies.

use serde_json::{Value, json};

use crate::crd::validate::expressions as cel;
use crate::field::FieldError;
use crate::json;
use crate::names;

/// Conditions that one webhook or policy may have.
const CONDITIONS_MAX: usize = 64;

/// What expressions may name beside the request and its objects.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) params: bool,
    /// The variables before an expression, as the properties of a schema.
    pub(super) variables: Option<Value>,
}

impl Scope {
    /// Begins with no variables yet, where a policy may have some.
    pub(super) fn of_policy(params: bool) -> Self {
        Self { params, variables: Some(json!({"properties": {}})) }
    }

    /// Adds a variable.
    pub(super) fn add(&mut self, name: &str) {
        if let Some(variables) = &mut self.variables {
            json::set(variables, &["properties", name], json!({}));
        }
    }

    /// Checks an expression that may come to anything.
    pub(super) fn check_any(&self, text: &str, at: &str, out: &mut Vec<FieldError>) {
        self.check(text, &[], at, out);
    }

    /// Checks an expression that has to come to one of some types (any, where none is named).
    pub(super) fn check(&self, text: &str, kinds: &[&str], at: &str, out: &mut Vec<FieldError>) {
        let mut known = vec!["object", "oldObject", "request", "namespaceObject", "authorizer"];
        if self.params {
            known.push("params");
        }
        match cel::compile_request(&crate::rules::written(text), &known, self.variables.as_ref()) {
            Err(why) => out.push(FieldError::invalid_text(at, text, format!("compilation failed: {why}"))),
            Ok(None) => {}
            Ok(Some(kind)) if kinds.is_empty() || kinds.contains(&kind) => {}
            Ok(Some(kind)) => {
                let wanted = match kinds {
                    [one] => (*one).to_owned(),
                    many => format!("one of [{}]", many.join(" ")),
                };
                out.push(FieldError::invalid_text(at, text, format!("must evaluate to {wanted} but got {kind}")));
            }
        }
    }
}

/// Checks the conditions under which a webhook or a policy is asked at all.
pub(super) fn conditions(holder: &Value, at: &str, scope: &Scope, out: &mut Vec<FieldError>) {
    let at = format!("{at}.matchConditions");
    let conditions = json::list(holder, &["matchConditions"]);
    if conditions.len() > CONDITIONS_MAX {
        out.push(FieldError::too_many(at.clone(), conditions.len(), CONDITIONS_MAX as u64));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let text = json::text(condition, &["expression"]);
        if text.trim().is_empty() {
            out.push(FieldError::required(format!("{at}.expression"), ""));
        } else {
            scope.check(text, &["bool"], &format!("{at}.expression"), out);
        }
        let name = json::text(condition, &["name"]);
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
            continue;
        }
        let errors = names::qualified(name).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
        if seen.contains(&name) {
            out.push(FieldError::duplicate(format!("{at}.name"), &Value::from(name)));
        }
        seen.push(name);
    }
}
