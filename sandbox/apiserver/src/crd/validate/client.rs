//! How the server reaches a webhook.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::names;

/// Checks the address of a webhook.
pub(crate) fn check(config: &Value, at: &str, out: &mut Vec<FieldError>) {
    let service = config.get("service").filter(|service| service.is_object());
    match (config.get("url").and_then(Value::as_str), service) {
        (None, None) | (Some(_), Some(_)) => {
            out.push(FieldError::required(at, "exactly one of url or service is required"));
        }
        (Some(text), None) if !text.contains("://") => {
            let why = format!("url must be a valid URL: parse {text:?}: missing protocol scheme");
            let detail = format!("{why}; desired format: https://host[/path]");
            out.push(FieldError::required(format!("{at}.url"), detail));
        }
        (Some(text), None) => url(text, &format!("{at}.url"), out),
        (None, Some(service)) => self::service(service, &format!("{at}.service"), out),
    }
}

fn url(text: &str, at: &str, out: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let mut say = |value: &str, detail: String| out.push(FieldError::invalid_text(at, value, detail));
    if scheme != "https" {
        say(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let authority = if scheme.is_empty() { "" } else { rest.split(['/', '?', '#']).next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if host.is_empty() {
        say("", format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        say(user, "user information is not permitted in the URL".to_owned());
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        say(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if let Some((_, query)) = rest.split('#').next().unwrap_or_default().split_once('?') {
        say(query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn service(service: &Value, at: &str, out: &mut Vec<FieldError>) {
    for key in ["name", "namespace"] {
        if json::text(service, &[key]).is_empty() {
            out.push(FieldError::required(format!("{at}.{key}"), ""));
        }
    }
    if let Some(port) = service.get("port").filter(|port| !(1..=65535).contains(&port.as_i64().unwrap_or(443))) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        out.push(FieldError::invalid(format!("{at}.port"), port, detail));
    }
    let path = json::text(service, &["path"]);
    if matches!(path, "" | "/") {
        return;
    }
    let mut say = |detail: String| out.push(FieldError::invalid_text(format!("{at}.path"), path, detail));
    if path == "//" {
        return say("segment[0] may not be empty".to_owned());
    }
    if !path.starts_with('/') {
        say("must start with a '/'".to_owned());
    }
    let rest = path.get(1..).unwrap_or_default();
    for (index, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            say(format!("segment[{index}] may not be empty"));
            continue;
        }
        for failure in names::subdomain(step) {
            say(format!("segment[{index}]: {failure}"));
        }
    }
}
