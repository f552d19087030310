//! YAML bodies, read into JSON.

use serde_json::Value;

use super::parse::Parsed;

/// How the list of keys that came twice begins.
pub(crate) const ERRORS: &str = "yaml: unmarshal errors:\n  ";

/// Reads one YAML document; JSON is YAML too.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    if let Ok(parsed) = super::parse(bytes) {
        return Ok(parsed);
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
    let found = duplicates(text);
    let duplicates = if found.is_empty() { Vec::new() } else { vec![format!("{ERRORS}{}", found.join("\n  "))] };
    Ok(Parsed { duplicates, ..Parsed::plain(value) })
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
            found.push(format!("line {}: key {key:?} already set in map", index + 1));
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
    let open = |from: char, to: char| text.matches(from).count() > text.matches(to).count();
    if open('[', ']') || open('{', '}') {
        return worded(lines, false, "did not find expected node content");
    }
    worded(line, false, "could not find expected ':'")
}
