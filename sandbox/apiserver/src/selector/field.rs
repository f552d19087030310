//! Field selectors: which fields each kind can be selected by.

use serde_json::Value;

use crate::json;
use crate::kinds::Resource;
use crate::status::{Result, Status};

/// Fields by which built-in kinds can be selected beside name and namespace.
const FIELDS: &[(&str, &str, &[&str])] = &[
    (
        "",
        "pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "spec.host",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
    ),
    ("", "nodes", &["spec.unschedulable"]),
    ("", "namespaces", &["status.phase"]),
    ("", "secrets", &["type"]),
    ("", "services", &["spec.clusterIP", "spec.type"]),
    ("", "replicationcontrollers", &["status.replicas"]),
    (
        "",
        "events",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
    (
        "events.k8s.io",
        "events",
        &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
    ),
    ("batch", "jobs", &["status.successful"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["spec.signerName"]),
];

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    path: Vec<String>,
    value: String,
    equal: bool,
}

/// A field selector: all its terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<Term>);

impl FieldSelector {
    /// Reads a field selector for a kind.
    pub(crate) fn parse(resource: &Resource, text: &str) -> Result<Self> {
        let mut terms = Vec::new();
        for part in split(text) {
            let malformed = || Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"));
            let operator = |(at, _): &(usize, char)| part[*at..].starts_with('=') || part[*at..].starts_with("!=");
            let (at, _) = part.char_indices().find(operator).ok_or_else(malformed)?;
            let (field, rest) = part.split_at(at);
            let (equal, value) = match rest.strip_prefix("!=") {
                Some(value) => (false, value),
                None => (true, rest.strip_prefix("==").or(rest.strip_prefix('=')).ok_or_else(malformed)?),
            };
            let value = unescape(value).map_err(|why| Status::bad_request(format!("invalid field selector: {why}")))?;
            terms.push((field.to_owned(), value, equal));
        }
        let read = |(field, value, equal): (String, String, bool)| {
            check(resource, &field)?;
            // What clients of the first versions send.
            let field = if field == "spec.host" { "spec.nodeName" } else { field.as_str() };
            Ok(Term { path: field.split('.').map(String::from).collect(), value, equal })
        };
        terms.into_iter().map(read).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether an object matches.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| (shown(object, &term.path) == term.value) == term.equal)
    }
}

/// Undoes the escapes of a value.
fn unescape(text: &str) -> std::result::Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => return Err(format!("invalid escape sequence: \\{next}")),
                None => return Err("invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => return Err(format!("unescaped character in value: {}", u32::from(c))),
            other => out.push(other),
        }
    }
    Ok(out)
}

fn split(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            out.push(std::mem::take(&mut current));
        } else {
            current.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    out.push(current);
    out.retain(|part| !part.is_empty());
    out
}

fn check(resource: &Resource, field: &str) -> Result<()> {
    let own = FIELDS.iter().find(|(group, plural, _)| *group == resource.group && *plural == resource.plural);
    // Kinds with fields of their own and cluster-scoped custom resources know no namespace where they have none.
    let anywhere = resource.namespaced || (own.is_none() && !resource.is_custom());
    let meta = field == "metadata.name" || (field == "metadata.namespace" && anywhere);
    let known = match (resource.custom(), own) {
        (Some(custom), _) => custom.selectable.iter().any(|known| known == field),
        (None, Some((_, _, fields))) => fields.contains(&field),
        (None, None) => false,
    };
    if meta || known {
        return Ok(());
    }
    Err(Status::bad_request(if resource.is("batch", "Job") {
        format!("field label {field:?} not supported for Job")
    } else if resource.is_custom() || own.is_some() {
        format!("field label not supported: {field}")
    } else {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }))
}

fn shown(object: &Value, path: &[String]) -> String {
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    match json::at(object, &steps) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(source)) if steps == ["source"] => {
            source.get("component").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        Some(Value::Null) | None if steps.last().is_some_and(|last| BOOLS.contains(last)) => "false".to_owned(),
        None if steps == ["status", "successful"] => {
            json::at(object, &["status", "succeeded"]).and_then(Value::as_i64).unwrap_or(0).to_string()
        }
        None if steps == ["status", "replicas"] => "0".to_owned(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Fields that read as `false` where they are absent.
const BOOLS: [&str; 2] = ["unschedulable", "hostNetwork"];
