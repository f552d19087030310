//! What names, labels and keys may look like, and how the API says that they do not.

use std::fmt::Write as _;
use std::sync::OnceLock;

use regex::Regex;

const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035: &str = r"[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY: &str = r"[-._a-zA-Z0-9]+";

fn whole(cell: &'static OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    cell.get_or_init(|| Regex::new(&format!("^(?:{pattern})$")).ok()).as_ref().is_some_and(|regex| regex.is_match(text))
}

macro_rules! matcher {
    ($name:ident, $pattern:expr) => {
        fn $name(text: &str) -> bool {
            static CELL: OnceLock<Option<Regex>> = OnceLock::new();
            whole(&CELL, $pattern, text)
        }
    };
}

matcher!(matches_subdomain, SUBDOMAIN);
matcher!(matches_label, LABEL);
matcher!(matches_label_1035, LABEL_1035);
matcher!(matches_qualified, QUALIFIED);
matcher!(matches_label_value, LABEL_VALUE);
matcher!(matches_config_key, CONFIG_KEY);

/// Tells whether a text is one label of a DNS name.
pub(crate) fn is_label(text: &str) -> bool {
    label(text).is_empty()
}

/// Tells whether a text is a DNS name.
pub(crate) fn is_subdomain(text: &str) -> bool {
    subdomain(text).is_empty()
}

/// Says what is wrong with a DNS name.
pub(crate) fn subdomain(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push("must be no more than 253 characters".to_owned());
    }
    if !matches_subdomain(text) {
        out.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '{SUBDOMAIN}')"
        ));
    }
    out
}

/// Says what is wrong with one label of a DNS name.
pub(crate) fn label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push("must be no more than 63 characters".to_owned());
    }
    if !matches_label(text) {
        if matches_subdomain(text) {
            out.push("must not contain dots".to_owned());
        } else {
            out.push(format!(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '{LABEL}')"
            ));
        }
    }
    out
}

/// Says what is wrong with a label that starts with a letter.
pub(crate) fn label_1035(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push("must be no more than 63 characters".to_owned());
    }
    if !matches_label_1035(text) {
        out.push(format!(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
             validation is '{LABEL_1035}')"
        ));
    }
    out
}

/// Says what is wrong with a name that becomes one segment of a path.
pub(crate) fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|bad| text.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

/// Says what is wrong with a key of labels or annotations, or with a finalizer.
pub(crate) fn qualified(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                let worded = |error: String| format!("prefix part {}", error.replace("253 characters", "253 bytes"));
                out.extend(subdomain(prefix).into_iter().map(worded));
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                 with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                 validation is '{QUALIFIED}') with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push("name part must be no more than 63 bytes".to_owned());
    }
    if !matches_qualified(name) {
        out.push(format!(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '{QUALIFIED}')"
        ));
    }
    out
}

/// Says what is wrong with the value of a label.
pub(crate) fn label_value(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push("must be no more than 63 bytes".to_owned());
    }
    if !matches_label_value(text) {
        out.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
             for validation is '{LABEL_VALUE}')"
        ));
    }
    out
}

/// Says what is wrong with a key of a ConfigMap or Secret.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push("must be no more than 253 characters".to_owned());
    }
    if !matches_config_key(text) {
        out.push(format!(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '{CONFIG_KEY}')"
        ));
    } else if text == "." || text == ".." {
        out.push(format!("must not be '{text}'"));
    } else if text.starts_with("..") {
        out.push("must not start with '..'".to_owned());
    }
    out
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02X}");
    }
    out
}
