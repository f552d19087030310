//! Answers that are no object: `Status`, and the errors that become one.

use serde_json::{Value, json};

use crate::field::FieldError;

/// One cause in a `Status`'s details.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cause {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) field: String,
}

/// What an answer is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Details {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) uid: String,
    pub(crate) causes: Vec<Cause>,
    pub(crate) retry_after_seconds: Option<u32>,
}

/// A refusal, as a client reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Box<Details>>,
    /// A text that is answered instead of a `Status`.
    pub(crate) plain: Option<&'static str>,
    /// What was wrong with the request beside, for the headers of the answer.
    pub(crate) warnings: Vec<String>,
}

/// The result of anything that a request may be refused for.
pub(crate) type Result<T> = std::result::Result<T, Status>;

impl Status {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, plain: None, warnings: Vec::new() }
    }

    fn with(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Adds details that name a resource alone.
    pub(crate) fn about(self, target: &Target) -> Self {
        let details = target.details("");
        self.with(details)
    }

    /// Adds details that say nothing, where the real server does.
    pub(crate) fn with_empty_details(self) -> Self {
        self.with(Details::default())
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// An error that the server did not foresee: it has no reason.
    pub(crate) fn unforeseen(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let cause = Cause { message: message.clone(), ..Cause::default() };
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
            .with(Details { causes: vec![cause], ..Details::default() })
    }

    pub(crate) fn not_found(target: &Target, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", target.qualified())).with(target.details(name))
    }

    /// The answer for a path that no resource serves, in a built-in group.
    pub(crate) fn no_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_empty_details()
    }

    /// The answer for a path that nothing serves.
    pub(crate) fn page_not_found() -> Self {
        let mut status = Self::new(404, "NotFound", "404 page not found");
        status.plain = Some("404 page not found\n");
        status
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with_empty_details()
    }

    pub(crate) fn already_exists(target: &Target, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", target.qualified()))
            .with(target.details(name))
    }

    pub(crate) fn conflict(target: &Target, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", target.qualified());
        Self::new(409, "Conflict", message).with(target.details(name))
    }

    pub(crate) fn modified(target: &Target, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(target, name, why)
    }

    pub(crate) fn forbidden(target: &Target, name: &str, why: &str) -> Self {
        let message = match (target.qualified(), name) {
            (kind, "") => format!("{kind} is forbidden: {why}"),
            (kind, name) => format!("{kind} \"{name}\" is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).with(target.details(name))
    }

    /// Refuses an object for its fields. The target's resource is the object's kind here.
    pub(crate) fn invalid(target: &Target, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", unique(many).join(", ")),
        };
        let list = if unique(&texts).len() == 1 { texts[0].clone() } else { list };
        let mut details = target.details(name);
        details.causes = errors.iter().map(FieldError::cause).collect();
        Self::new(422, "Invalid", format!("{} \"{name}\" is invalid: {list}", target.qualified())).with(details)
    }

    /// Refuses the options of a request.
    pub(crate) fn invalid_options(kind: &str, errors: &[FieldError]) -> Self {
        Self::invalid(&Target::new("meta.k8s.io", kind), "", errors)
    }

    pub(crate) fn with_cause(mut self, cause: Cause) -> Self {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// Adds what was to be warned of before the refusal.
    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    pub(crate) fn with_retry(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// Writes the refusal as the object that clients read.
    pub(crate) fn to_value(&self) -> Value {
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
        });
        if !self.reason.is_empty() {
            out["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            out["details"] = details.to_value();
        }
        out["code"] = self.code.into();
        out
    }
}

fn unique(texts: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for text in texts {
        if !out.contains(text) {
            out.push(text.clone());
        }
    }
    out
}

impl Details {
    pub(crate) fn to_value(&self) -> Value {
        let mut out = json!({});
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !value.is_empty() {
                out[key] = value.as_str().into();
            }
        }
        if !self.causes.is_empty() {
            out["causes"] = self.causes.iter().map(Cause::to_value).collect();
        }
        if let Some(seconds) = self.retry_after_seconds {
            out["retryAfterSeconds"] = seconds.into();
        }
        out
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = json!({});
        for (key, value) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !value.is_empty() {
                out[key] = value.as_str().into();
            }
        }
        out
    }
}

/// What a `Status` names: a resource or a kind, with its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) resource: String,
}

impl Target {
    pub(crate) fn new(group: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }

    /// Returns `resource.group`, or the resource alone in the core group.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.clone() } else { format!("{}.{}", self.resource, self.group) }
    }

    fn details(&self, name: &str) -> Details {
        Details { name: name.to_owned(), group: self.group.clone(), kind: self.resource.clone(), ..Details::default() }
    }
}

/// Writes the `Status` of a delete that is done.
pub(crate) fn deleted(target: &Target, name: &str, uid: &str) -> Value {
    let mut details = target.details(name);
    uid.clone_into(&mut details.uid);
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value(),
    })
}

/// Writes the `Status` of a subresource's success.
pub(crate) fn created() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}
