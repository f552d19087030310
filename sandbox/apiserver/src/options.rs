//! Options of requests, from their query (and a delete's body).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::status::{Result, Status};

/// Bytes that a field manager's name may have.
const MANAGER_MAX: usize = 128;

/// The query of a request; of parameters given twice the first counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// Reads the text after the `?`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut out = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            // What is not encoded as it should be counts as not sent.
            if !well_encoded(pair) || pair.contains(';') {
                continue;
            }
            out.entry(decode(key, true)).or_insert_with(Vec::new).push(decode(value, true));
        }
        Self(out)
    }

    /// Returns a parameter; absent reads as empty.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).and_then(|values| values.first()).map_or("", String::as_str)
    }

    pub(crate) fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Reads a switch as the real server does: anything but `0` and `false` is on, where it is given.
    pub(crate) fn is_on(&self, key: &str) -> bool {
        self.has(key) && !matches!(self.get(key).to_lowercase().as_str(), "0" | "false")
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>> {
        match self.get(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        }
    }
}

/// Reads a whole number without a sign; the error says what a client of the real server is told.
pub(crate) fn unsigned(text: &str) -> std::result::Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    text.parse().ok().filter(|_| digits).ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

/// Tells whether two hexadecimal digits follow each percent sign.
fn well_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()))
}

/// Undoes percent encoding.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if plus_is_space => out.push(b' '),
            b'%' => {
                let mut rest = bytes.clone();
                let digits: Option<u8> = rest
                    .next()
                    .zip(rest.next())
                    .and_then(|(a, b)| u8::from_str_radix(std::str::from_utf8(&[a, b]).ok()?, 16).ok());
                match digits {
                    Some(value) => {
                        out.push(value);
                        bytes = rest;
                    }
                    None => out.push(b'%'),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What to do about fields that the schema does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of a create, update or patch.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) manager: String,
    pub(crate) validation: FieldValidation,
    pub(crate) force: bool,
    /// The object is one of many that a request is about.
    pub(crate) of_many: bool,
}

impl WriteOptions {
    /// Reads them; `kind` is the type that errors name, `apply` tells a server-side apply, `None` no patch at all.
    pub(crate) fn parse(query: &Query, user_agent: &str, kind: &str, apply: Option<bool>) -> Result<Self> {
        let mut errors = Vec::new();
        let manager = query.get("fieldManager");
        if manager.len() > MANAGER_MAX {
            errors.push(FieldError::too_long("fieldManager", MANAGER_MAX));
        } else if let Some((at, bad)) = manager.chars().enumerate().find(|(_, c)| c.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", bad as u32);
            errors.push(FieldError::invalid_text("fieldManager", manager, detail));
        }
        if apply == Some(true) && manager.is_empty() {
            errors.push(FieldError::required("fieldManager", "is required for apply patch"));
        }
        if apply == Some(false) && query.has("force") {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let validation = match query.get("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", &Value::from(other), &supported));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(Status::invalid_options(kind, &errors));
        }
        let manager = if manager.is_empty() { agent_name(user_agent) } else { manager.to_owned() };
        Ok(Self { dry_run, manager, validation, force: query.is_on("force"), of_many: false })
    }
}

fn dry_run(values: &[String], errors: &mut Vec<FieldError>) -> bool {
    if values.iter().any(|value| value != "All") {
        let shown = json::compact(&Value::from(values.iter().map(|v| Value::from(v.as_str())).collect::<Vec<_>>()));
        errors.push(FieldError::not_supported_quoted("dryRun", shown, "supported values: \"All\""));
    }
    !values.is_empty()
}

/// Makes a field manager of a user agent: its first part, cut to what a name may have.
fn agent_name(user_agent: &str) -> String {
    let first = user_agent.split('/').next().unwrap_or_default();
    let name: String = first.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// How the dependents of a deleted object are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Options of a delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) grace_seconds: Option<i64>,
    /// Who said the old way that dependents go too is told when the object is not gone yet.
    pub(crate) told_pending: bool,
}

impl DeleteOptions {
    /// Reads them from the query and the body, where there is one.
    pub(crate) fn parse(query: &Query, body: Option<&Value>) -> Result<Self> {
        let (empty, none) = (Value::Null, Query::default());
        // Where there is a body, nobody looks at the query.
        let (query, body) = body.map_or((query, &empty), |body| (&none, body));
        let mut errors = Vec::new();
        let mut dry: Vec<String> = query.all("dryRun").to_vec();
        dry.extend(json::list(body, &["dryRun"]).iter().filter_map(Value::as_str).map(String::from));
        let dry_run = dry_run(&dry, &mut errors);
        let sent = Some(json::text(body, &["propagationPolicy"])).filter(|text| !text.is_empty());
        let policy = sent.unwrap_or_else(|| query.get("propagationPolicy"));
        let orphan = body
            .get("orphanDependents")
            .and_then(Value::as_bool)
            .or_else(|| query.has("orphanDependents").then(|| query.is_on("orphanDependents")));
        let mut propagation = match policy {
            "" if body.get("propagationPolicy").is_none_or(Value::is_null) && !query.has("propagationPolicy") => None,
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            other => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", &Value::from(other), &known));
                None
            }
        };
        if orphan.is_some() && !policy.is_empty() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid_text("propagationPolicy", policy, detail));
        }
        if let Some(orphan) = orphan {
            propagation = Some(if orphan { Propagation::Orphan } else { Propagation::Background });
        }
        if !errors.is_empty() {
            return Err(Status::invalid_options("DeleteOptions", &errors));
        }
        let precondition =
            |key: &str| json::at(body, &["preconditions", key]).and_then(Value::as_str).map(String::from);
        Ok(Self {
            dry_run,
            propagation,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            told_pending: orphan == Some(false),
            grace_seconds: match body.get("gracePeriodSeconds").and_then(Value::as_i64) {
                Some(seconds) => Some(seconds),
                None if query.has("gracePeriodSeconds") && query.get("gracePeriodSeconds").is_empty() => {
                    return Err(Status::bad_request("strconv.ParseInt: parsing \"\": invalid syntax"));
                }
                None => query.number("gracePeriodSeconds")?,
            },
        })
    }
}

/// Options of a list or watch.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) limit: usize,
    pub(crate) continue_at: String,
    pub(crate) resource_version: String,
    pub(crate) exact: bool,
    pub(crate) not_older: bool,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout_seconds: Option<u64>,
}

impl ListOptions {
    /// Reads them for a list, or for a watch.
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self> {
        let limit = query.number("limit")?.unwrap_or(0);
        let timeout = query.number("timeoutSeconds")?;
        let mut errors = Vec::new();
        let matching = query.get("resourceVersionMatch");
        let version = query.get("resourceVersion");
        let initial = query.has("sendInitialEvents").then(|| query.is_on("sendInitialEvents"));
        let field = "resourceVersionMatch";
        if watch {
            match initial {
                Some(_) if matching != "NotOlderThan" => {
                    let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                    errors.push(FieldError::forbidden(field, detail));
                    if !matching.is_empty() {
                        errors.push(FieldError::not_supported(field, &Value::from(matching), &["NotOlderThan"]));
                    }
                }
                None if !matching.is_empty() => {
                    let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                    errors.push(FieldError::forbidden(field, detail));
                    if matching != "NotOlderThan" {
                        errors.push(FieldError::not_supported(field, &Value::from(matching), &["NotOlderThan"]));
                    }
                }
                _ => {}
            }
            // A watch from nothing in particular counts as one that asks for what is there first.
            let from_now = initial.is_none() && matching.is_empty() && matches!(version, "" | "0");
            if !query.get("continue").is_empty() && (from_now || !matching.is_empty()) {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(FieldError::forbidden(field, detail));
            }
        } else {
            list_errors(query, matching, version, &mut errors);
            if initial.is_some() {
                let detail = "sendInitialEvents is forbidden for list";
                errors.push(FieldError::forbidden("sendInitialEvents", detail));
            }
        }
        if !errors.is_empty() {
            return Err(Status::invalid_options("ListOptions", &errors));
        }
        Ok(Self {
            limit: usize::try_from(limit).unwrap_or(0),
            continue_at: query.get("continue").to_owned(),
            resource_version: version.to_owned(),
            exact: matching == "Exact",
            not_older: matching == "NotOlderThan",
            bookmarks: query.is_on("allowWatchBookmarks"),
            initial_events: initial,
            timeout_seconds: timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0),
        })
    }
}

fn list_errors(query: &Query, matching: &str, version: &str, errors: &mut Vec<FieldError>) {
    let field = "resourceVersionMatch";
    if matching.is_empty() {
        return;
    }
    if version.is_empty() {
        let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        errors.push(FieldError::forbidden(field, detail));
    }
    if !query.get("continue").is_empty() {
        let detail = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(field, detail));
    }
    if !matches!(matching, "Exact" | "NotOlderThan") {
        let known = ["Exact", "NotOlderThan", ""];
        errors.push(FieldError::not_supported(field, &Value::from(matching), &known));
    }
    if matching == "Exact" && version == "0" {
        let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        errors.push(FieldError::forbidden(field, detail));
    }
}
