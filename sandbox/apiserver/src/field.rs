//! Errors of single fields, worded as the API words them.

mod difference;
pub(crate) mod go;
pub(crate) mod internal;

use std::fmt::{self, Write as _};

use serde_json::Value;

use crate::json;
use crate::status::Cause;

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Required,
    Invalid,
    TypeInvalid,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
}

impl Problem {
    fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }
}

/// One field with what is wrong about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldError {
    pub(crate) problem: Problem,
    pub(crate) field: String,
    /// The value as the text quotes it.
    pub(crate) value: String,
    pub(crate) detail: String,
}

/// Quotes a value as error texts do.
pub(crate) fn quote(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        Value::Null => "null".to_owned(),
        Value::Number(number) if number.is_f64() => go::float(number.as_f64().unwrap_or_default()),
        other => json::escaped(other),
    }
}

/// Quotes a text with the escapes that Go uses.
pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl FieldError {
    fn new(problem: Problem, field: impl Into<String>, value: String, detail: impl Into<String>) -> Self {
        Self { problem, field: field.into(), value, detail: detail.into() }
    }

    pub(crate) fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Problem::Required, field, String::new(), detail)
    }

    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: impl Into<String>) -> Self {
        Self::new(Problem::Invalid, field, quote(value), detail)
    }

    pub(crate) fn invalid_text(field: impl Into<String>, value: &str, detail: impl Into<String>) -> Self {
        Self::new(Problem::Invalid, field, go_quote(value), detail)
    }

    /// Says that something is invalid without quoting it.
    pub(crate) fn invalid_bare(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Problem::Invalid, field, String::new(), detail)
    }

    pub(crate) fn type_invalid(field: impl Into<String>, value: String, detail: impl Into<String>) -> Self {
        Self::new(Problem::TypeInvalid, field, value, detail)
    }

    pub(crate) fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let listed: Vec<String> = supported.iter().map(|text| go_quote(text)).collect();
        let detail = format!("supported values: {}", listed.join(", "));
        Self::new(Problem::NotSupported, field, quote(value), detail)
    }

    pub(crate) fn not_supported_quoted(field: impl Into<String>, value: String, detail: impl Into<String>) -> Self {
        Self::new(Problem::NotSupported, field, value, detail)
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new(Problem::Duplicate, field, quote(value), "")
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Problem::Forbidden, field, String::new(), detail)
    }

    pub(crate) fn too_long(field: impl Into<String>, bytes_max: usize) -> Self {
        Self::new(Problem::TooLong, field, String::new(), format!("may not be more than {bytes_max} bytes"))
    }

    pub(crate) fn too_many(field: impl Into<String>, actual: usize, max: u64) -> Self {
        Self::new(
            Problem::TooMany,
            field,
            actual.to_string(),
            format!("must have at most {max} item{}", if max == 1 { "" } else { "s" }),
        )
    }

    pub(crate) fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::new(Problem::NotFound, field, quote(value), "")
    }

    /// Says the error without its field.
    pub(crate) fn body(&self) -> String {
        let mut out = self.problem.words().to_owned();
        if !self.value.is_empty() {
            out.push_str(": ");
            out.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }

    pub(crate) fn cause(&self) -> Cause {
        Cause { reason: self.problem.reason().to_owned(), message: self.body(), field: self.field.clone() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}
