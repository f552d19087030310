//! Words of expressions that the engine does not know, in others: macros over keys and values, and types of values.

use std::sync::OnceLock;

use regex::{Captures, NoExpand, Regex};

/// A macro over the keys and values of a map.
const MACRO: &str = r"([A-Za-z_][\w.]*)\.(all|exists|exists_one|existsOne)\(\s*([A-Za-z_]\w*)\s*,\s*([A-Za-z_]\w*)\s*,";
/// A question for the type of a number or a text.
const TYPE: &str = r"\btype\(\s*([A-Za-z_][\w.]*)\s*\)\s*(==|!=)\s*(string|int)\b";

/// Rewrites macros over keys and values.
pub(super) fn plain(rule: &str) -> String {
    static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
    let Some(pattern) = PATTERN.get_or_init(|| Regex::new(MACRO).ok()) else { return rule.to_owned() };
    let mut out = rule.to_owned();
    while let Some(new) = pattern.captures(&out).and_then(|found| one_name(&out, &found)) {
        out = new;
    }
    out
}

/// Rewrites questions for types.
pub(super) fn types(rule: &str) -> String {
    static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| Regex::new(TYPE).ok());
    let out = pattern.as_ref().map_or_else(|| rule.to_owned(), |pattern| pattern.replace_all(rule, typed).into_owned());
    // Values have no types but their own, so nothing has to be said of them.
    if out.contains("dyn(") { out.replace("dyn(", "(") } else { out }
}

/// Reads values by their keys: `m.all(k, v, v > 1)` is `m.all(k, (m[k]) > 1)`.
fn one_name(text: &str, found: &Captures<'_>) -> Option<String> {
    let whole = found.get(0)?;
    let mut depth = 1;
    let end = text[whole.end()..].find(|c: char| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    let body = &text[whole.end()..whole.end() + end];
    let (map, name, key, value) = (&found[1], &found[2], &found[3], &found[4]);
    let read = format!("{map}[{key}]");
    let body = Regex::new(&format!(r"\b{value}\b")).ok()?.replace_all(body, NoExpand(&read)).into_owned();
    Some(format!("{}{map}.{name}({key},{body}{}", &text[..whole.start()], &text[whole.end() + end..]))
}

/// What is a text stays what it is when it is made one.
fn typed(found: &Captures<'_>) -> String {
    let (path, text) = (&found[1], (&found[2] == "==") == (&found[3] == "string"));
    format!("(string({path}) {} {path})", if text { "==" } else { "!=" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_their_keys() {
        assert_eq!(plain("self.all(k, v, v > 5 && (k != 'v'))"), "self.all(k, self[k] > 5 && (k != 'self[k]'))");
        assert_eq!(plain("self.m.exists(k, v, true) || true"), "self.m.exists(k, true) || true");
        assert_eq!(plain("self.all(k, k > 5)"), "self.all(k, k > 5)");
    }

    #[test]
    fn numbers_and_texts_are_told_apart() {
        assert_eq!(types("type(self.p) == int ? 1 : 2"), "(string(self.p) != self.p) ? 1 : 2");
        assert_eq!(types("type(self) != int"), "(string(self) == self)");
    }
}
