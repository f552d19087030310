//! YAML bodies, read into JSON.

use serde_json::Value;

use super::parse::{Parsed, parse_with_lines};

/// How the list of keys that came twice begins.
pub(crate) const ERRORS: &str = "yaml: unmarshal errors:\n  ";

/// Reads one YAML document; JSON is YAML too.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    if let Ok((parsed, lines)) = parse_with_lines(bytes) {
        return Ok(Parsed { duplicates: listed(&lines), ..parsed });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("yaml: {error}"))?;
    let text = first_document(text);
    if let Some(line) = text.lines().position(|line| line.starts_with('\t')) {
        return Err(worded(line + 1, true, "found character that cannot start any token"));
    }
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error };
    match serde_saphyr::from_str_with_options::<Value>(text, options) {
        Ok(value) => Ok(Parsed::plain(value)),
        Err(first) => again(text).map_err(|()| message(text, &first.to_string())),
    }
}

/// Reads once more with the last of equal keys winning, and finds the keys that came twice.
fn again(text: &str) -> Result<Parsed, ()> {
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let value = serde_saphyr::from_str_with_options::<Value>(text, options).map_err(|_| ())?;
    Ok(Parsed { duplicates: listed(&duplicates(text)), ..Parsed::plain(value) })
}

/// Tells keys that came twice as one error.
fn listed(found: &[String]) -> Vec<String> {
    if found.is_empty() { Vec::new() } else { vec![format!("{ERRORS}{}", found.join("\n  "))] }
}

/// Finds keys of block mappings that came twice, as `line N: key "x" already set in map`.
fn duplicates(text: &str) -> Vec<String> {
    let mut open: Vec<(usize, Vec<String>)> = Vec::new();
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let mut indent = line.len() - trimmed.len();
        let mut content = trimmed;
        while let Some(rest) = content.strip_prefix("- ") {
            open.retain(|(at, _)| *at <= indent);
            indent += 2;
            content = rest;
            open.retain(|(at, _)| *at < indent);
        }
        let Some((key, rest)) = content.split_once(':') else { continue };
        if key.is_empty() || key.starts_with('#') || !(rest.is_empty() || rest.starts_with(' ')) {
            continue;
        }
        open.retain(|(at, _)| *at <= indent);
        if open.last().is_none_or(|(at, _)| *at < indent) {
            open.push((indent, Vec::new()));
        }
        let Some((_, keys)) = open.last_mut() else { continue };
        if keys.iter().any(|seen| seen == key) {
            // The line is that at which the value begins.
            let below = || text.lines().skip(index + 1).take_while(|line| line.trim().is_empty()).count();
            let line = index + 1 + if rest.trim().is_empty() { 1 + below() } else { 0 };
            found.push(format!("line {line}: key {key:?} already set in map"));
        } else {
            keys.push(key.to_owned());
        }
    }
    found
}

/// Returns the first of several documents.
fn first_document(text: &str) -> &str {
    let text = text.strip_prefix("---\n").unwrap_or(text);
    text.find("\n---\n").map_or(text, |end| &text[..=end])
}

/// Words an error as clients know it; one that stops the reader within its first line names no line.
fn worded(line: usize, within: bool, why: &str) -> String {
    if within && line <= 1 { format!("yaml: {why}") } else { format!("yaml: line {line}: {why}") }
}

/// Returns the innermost bracket or quote that a text opens and does not close.
fn unclosed(text: &str) -> Option<char> {
    let mut open = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (open.last(), c) {
            (Some('"'), '\\') => {
                chars.next();
            }
            (Some('"'), '"') | (Some('{'), '}') | (Some('['), ']') => {
                open.pop();
            }
            (Some('"'), _) => {}
            (_, '{' | '[' | '"') => open.push(c),
            _ => {}
        }
    }
    open.pop()
}

/// Finds the words for an error; the line is the one that the reader stopped at.
fn message(text: &str, error: &str) -> String {
    let line = error
        .split("line ")
        .nth(1)
        .and_then(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().ok());
    let lines = text.lines().count().max(1);
    let line = line.unwrap_or(1).min(lines);
    let bad = text.lines().nth(line - 1).unwrap_or_default();
    if bad.matches(": ").count() > 1 && !bad.contains(['"', '\'', '{']) {
        return worded(line, true, "mapping values are not allowed in this context");
    }
    if bad.starts_with(' ') && bad.contains(':') {
        return worded(line, false, "mapping values are not allowed in this context");
    }
    match unclosed(text) {
        Some('"') => return worded(lines, true, "found unexpected end of stream"),
        Some(_) if text.trim_end().ends_with(['{', '[', ',', ':']) => {
            return worded(lines, false, "did not find expected node content");
        }
        Some(open) => {
            let close = if open == '{' { '}' } else { ']' };
            return worded(lines, false, &format!("did not find expected ',' or '{close}'"));
        }
        None => {}
    }
    worded(line, false, "could not find expected ':'")
}
