//! CEL rules of custom resources.

use std::collections::{BTreeMap, BTreeSet};

use kube_cel::{CompiledSchema, ErrorKind, RootContext, compile_schema};
use serde_json::Value;

use crate::field::{FieldError, Problem, quote};
use crate::json;

mod align;
mod macros;
mod optional;

/// Brings an expression into the words that the engine reads.
pub(crate) fn plain(rule: &str) -> String {
    macros::types(&written(rule))
}

/// Brings an expression into the words that the engine's parser reads.
pub(crate) fn written(rule: &str) -> String {
    macros::plain(&optional::plain(rule))
}

/// The rules of a schema, compiled.
pub(crate) struct Rules {
    schema: Option<CompiledSchema>,
    /// The schema itself: it tells maps from objects and which lists have keys.
    source: Value,
    /// Rules as they were written, by the form that the engine takes.
    written: BTreeMap<String, String>,
    /// The messages of rules that have one.
    messages: BTreeMap<String, String>,
    /// Rules that speak of a field below the object that they are about.
    pointing: BTreeSet<String>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("any", &self.schema.is_some()).finish_non_exhaustive()
    }
}

impl Rules {
    /// Compiles the rules of a schema; one without rules costs nothing.
    pub(crate) fn compile(schema: &Value) -> Self {
        if !has_rules(schema) {
            return Self {
                schema: None,
                source: Value::Null,
                written: BTreeMap::new(),
                messages: BTreeMap::new(),
                pointing: BTreeSet::new(),
            };
        }
        let mut schema = schema.clone();
        let mut written = BTreeMap::new();
        optional::rewrite(&mut schema, &mut written);
        make_optional(&mut schema);
        let mut messages = BTreeMap::new();
        let mut pointing = BTreeSet::new();
        collect_messages(&schema, &mut messages, &mut pointing);
        Self { schema: Some(compile_schema(&schema)), source: schema, written, messages, pointing }
    }

    /// Tells whether there are rules at all.
    pub(crate) fn any(&self) -> bool {
        self.schema.is_some()
    }

    /// Evaluates the rules on an object, and on the one before where there is one.
    pub(crate) fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let Some(schema) = &self.schema else { return Vec::new() };
        // The engine takes items at the same place for the same item: items of lists with keys are brought there.
        let aligned = old.and_then(|old| align::align(&self.source, object, old));
        let given = object;
        let (object, old) = match &aligned {
            Some(aligned) => (&aligned.new, Some(&aligned.old)),
            None => (object, old),
        };
        let Err(errors) = kube_cel::Validator::new().validate_compiled_with_context(
            schema,
            object,
            old,
            Some(&RootContext::default()),
        ) else {
            return Vec::new();
        };
        let worded = |mut error: kube_cel::ValidationError| {
            let pointing = self.pointing.contains(&error.rule);
            if let Some(rule) = self.written.get(&error.rule) {
                error.rule.clone_from(rule);
            }
            if let Some(aligned) = &aligned {
                error.field_path = aligned.given(&error.field_path);
            }
            let mut out = worded(given, error, &self.messages);
            if pointing {
                // It is the object around that is quoted, and objects are not.
                out.value.clear();
                out.field = out.field.replace("['", "[").replace("']", "]");
            }
            out.field = align::shown(&self.source, &out.field);
            out
        };
        errors.into_vec().into_iter().map(worded).collect()
    }
}

/// What stands for `oldSelf` in rules that take it as an optional value: where there is none the engine binds null.
const OPTIONAL: &str = "(oldSelf == null ? optional.none() : optional.of(oldSelf))";

/// Rewrites rules with `optionalOldSelf` so that they see an optional value.
fn make_optional(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("optionalOldSelf").is_some_and(|set| *set == true)
                && let Some(Value::String(rule)) = map.get_mut("rule")
                && let Ok(word) = regex::Regex::new(r"\boldSelf\b")
            {
                *rule = word.replace_all(rule, regex::NoExpand(OPTIONAL)).into_owned();
            }
            map.values_mut().for_each(make_optional);
        }
        Value::Array(items) => items.iter_mut().for_each(make_optional),
        _ => {}
    }
}

fn collect_messages(schema: &Value, out: &mut BTreeMap<String, String>, pointing: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let (Some(Value::String(rule)), Some(Value::String(_))) = (map.get("rule"), map.get("fieldPath")) {
                pointing.insert(rule.clone());
            }
            if let (Some(Value::String(rule)), Some(Value::String(message))) = (map.get("rule"), map.get("message")) {
                out.insert(rule.clone(), message.clone());
            }
            map.values().for_each(|inner| collect_messages(inner, out, pointing));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_messages(inner, out, pointing)),
        _ => {}
    }
}

/// Brings what an evaluation failed with into the words of the real engine.
pub(crate) fn cel_error(text: &str) -> String {
    let text = text.strip_prefix("rule evaluation error: ").unwrap_or(text);
    if let Some(key) = text.strip_prefix("No such key: ") {
        return format!("no such key: {key}");
    }
    if let Some(index) = text.strip_prefix("Index out of bounds: Int(").and_then(|rest| rest.strip_suffix(')')) {
        return format!("index out of bounds: {index}");
    }
    if text.starts_with("Division by zero") {
        return "division by zero".to_owned();
    }
    if text.starts_with("Remainder by zero") {
        return "modulus by zero".to_owned();
    }
    if text == "No such overload" {
        return "no such overload".to_owned();
    }
    if text.contains("function 'quantity'") {
        let pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$";
        return format!("quantities must match the regular expression '{pattern}'");
    }
    if let Some((_, why)) = text.split_once("index ")
        && ["substring", "charAt"].iter().any(|name| text.starts_with(&format!("Error executing function '{name}'")))
        && let Some((index, _)) = why.split_once(" out of range")
    {
        return format!("index out of range: {index}");
    }
    unread(text).unwrap_or_else(|| text.to_owned())
}

/// Says which text could not be read as what, where the engine tells.
fn unread(text: &str) -> Option<String> {
    let (function, why) = text.strip_prefix("Error executing function '")?.split_once("': ")?;
    let converted = |to: &str| Some(format!("type conversion error from 'string' to '{to}'"));
    match function {
        "duration" => converted("google.protobuf.Duration"),
        "timestamp" => converted("google.protobuf.Timestamp"),
        "int" | "uint" | "double" | "bool" => converted(function),
        "semver" => Some("No Major.Minor.Patch elements found".to_owned()),
        "matches" => {
            let pattern = why.strip_prefix('\'')?.split("' not a valid regex").next()?;
            let missing = if why.contains("unclosed group") {
                ")"
            } else if why.contains("unclosed character class") {
                "]"
            } else {
                return None;
            };
            Some(format!("error parsing regexp: missing closing {missing}: `{pattern}`"))
        }
        _ => None,
    }
}

/// Says that a text is no address, where it is known which text was read.
fn no_address(error: &str, value: Option<&Value>) -> Option<String> {
    let function = error.split("function '").nth(1)?.split('\'').next()?;
    let text = crate::field::go_quote(value?.as_str()?);
    let from = "parse error during conversion from string:";
    match function {
        "ip" => Some(format!("IP Address {text} {from} ParseAddr({text}): unable to parse IP")),
        "cidr" if !text.contains('/') => {
            let network = format!("network address {from}");
            Some(format!("{network} {network} netip.ParsePrefix({text}): no '/'"))
        }
        "url" => Some(format!("URL {from} parse {text}: invalid URI for request")),
        _ => None,
    }
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("x-kubernetes-validations") || map.values().any(has_rules),
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

/// Brings an error into the API's words: scalars are quoted, objects and lists are not.
fn worded(object: &Value, error: kube_cel::ValidationError, messages: &BTreeMap<String, String>) -> FieldError {
    let known = messages.get(&error.rule).map_or("", String::as_str);
    let problem = match error.reason.as_deref() {
        Some("FieldValueRequired") => Problem::Required,
        Some("FieldValueForbidden") => Problem::Forbidden,
        Some("FieldValueDuplicate") => Problem::Duplicate,
        _ => Problem::Invalid,
    };
    let evaluated = error.kind == ErrorKind::ValidationFailure;
    let value = match lookup(object, &error.field_path) {
        Some(value) if !evaluated => format!("{:?}", json::type_name(value)),
        Some(Value::Object(_) | Value::Array(_)) | None => String::new(),
        Some(value) if matches!(problem, Problem::Invalid | Problem::Duplicate) => quote(value),
        Some(_) => String::new(),
    };
    let message = match error.kind {
        // An expression that says nothing leaves the word to the message.
        ErrorKind::ValidationFailure if error.message.trim().is_empty() && !known.is_empty() => known.to_owned(),
        ErrorKind::ValidationFailure if error.message.is_empty() || error.message.starts_with("failed rule") => {
            format!("failed rule: {}", error.rule.replace(OPTIONAL, "oldSelf").trim())
        }
        // What an expression says in several lines is not taken.
        ErrorKind::ValidationFailure if error.message.contains('\n') && known.is_empty() => {
            format!("failed rule: {}", error.rule.trim())
        }
        ErrorKind::ValidationFailure if error.message.contains('\n') => known.to_owned(),
        ErrorKind::ValidationFailure => error.message,
        _ => {
            let shown = if known.is_empty() { error.rule.trim() } else { known };
            let why = no_address(&error.message, lookup(object, &error.field_path));
            format!("{} evaluating rule: {shown}", why.unwrap_or_else(|| cel_error(&error.message)))
        }
    };
    let field = if error.field_path.is_empty() { "<nil>".to_owned() } else { error.field_path };
    let detail = if problem == Problem::Duplicate { String::new() } else { message };
    FieldError { problem, field, value, detail }
}

/// Finds a value by a path like `spec.items[0].value`.
fn lookup<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut here = object;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let (key, indices) = step.split_once('[').map_or((step, ""), |(key, rest)| (key, rest));
        if !key.is_empty() {
            here = here.get(key)?;
        }
        for index in indices.split('[').filter(|text| !text.is_empty()) {
            let index = index.trim_end_matches(']');
            here = match index.parse::<usize>() {
                Ok(at) if here.is_array() => here.get(at)?,
                _ => here.get(index)?,
            };
        }
    }
    Some(here)
}
