//! What is wrong with a template before it is ever rendered.

use super::Error;

/// Tags and filters that would print a value unescaped.
const FORBIDDEN_FILTERS: [(&str, &str); 4] = [
    ("|safe", "values are never printed unescaped"),
    ("|escape", "values are escaped already"),
    ("|e", "values are escaped already"),
    ("|tojson", "its result, and what is joined to it, is printed unescaped: use the filter json"),
];

/// Blocks whose result is printed as it is wherever it is used.
const FORBIDDEN_BLOCKS: [(&str, &str); 4] = [
    ("autoescape", "escaping cannot be changed"),
    ("macro", "what a macro gives is printed unescaped"),
    ("call", "what a call block gives is printed unescaped"),
    ("filter", "what a filter block gives is printed unescaped"),
];

/// Refuses a template in which a value could become more than a value.
///
/// A placeholder must be a whole YAML scalar, sequence or mapping: it follows `: `, `- `, `[`, `{`, `,` or nothing, and
/// nothing but `,`, `]`, `}`, `:` or the end of the line follows it. `name: {{ a }}-b` would end the quoted value early;
/// `name: {{ a ~ "-b" }}` says the same and is safe.
pub(super) fn template(path: &str, text: &str) -> Result<(), Error> {
    let refuse = |line: usize, problem: &str| {
        Err(Error::Template { template: path.to_owned(), line, problem: problem.to_owned() })
    };
    let yaml = path.ends_with(".yaml.j2");
    if !yaml && !path.ends_with(".sh.j2") {
        return refuse(0, "a template's name ends in .yaml.j2 or .sh.j2: the ending decides how values are escaped");
    }
    for tag in tags(text) {
        if let Some(why) = forbidden(&tag) {
            return refuse(tag.line, why);
        }
        if yaml && tag.kind == Kind::Value && !(follows_a_break(tag.before) && ends_at_a_break(tag.after)) {
            return refuse(
                tag.line,
                "a placeholder must be a whole value: put the other text inside the braces with ~",
            );
        }
    }
    Ok(())
}

/// Why a tag would print a value unescaped.
fn forbidden(tag: &Tag<'_>) -> Option<&'static str> {
    if tag.kind == Kind::Comment {
        return None;
    }
    let squeezed: String = tag.body.chars().filter(|c| !c.is_whitespace()).collect();
    let whole = |at: usize| !squeezed[at..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let filter = FORBIDDEN_FILTERS
        .iter()
        .find(|(word, _)| squeezed.match_indices(word).any(|(at, found)| whole(at + found.len())));
    let mut words = tag.body.trim_matches(['-', '+']).split_whitespace();
    let first = if tag.kind == Kind::Block { words.next().unwrap_or_default() } else { "" };
    let block = FORBIDDEN_BLOCKS.iter().find(|(word, _)| *word == first);
    // `{% set x %}…{% endset %}`: like a macro; `{% set x = … %}` is a plain value.
    let capture =
        (first == "set" && !squeezed.contains('=')).then_some(&("set", "what a set block gives is printed unescaped"));
    filter.or(block).or(capture).map(|(_, why)| *why)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value,
    Block,
    Comment,
}

/// One `{{ }}`, `{% %}` or `{# #}`.
struct Tag<'a> {
    kind: Kind,
    line: usize,
    body: &'a str,
    /// The rest of its line on the left and on the right.
    before: &'a str,
    after: &'a str,
}

fn tags(text: &str) -> Vec<Tag<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|offset| at + offset) {
        let (kind, close) = match text[start + 1..].bytes().next() {
            Some(b'{') => (Kind::Value, "}}"),
            Some(b'%') => (Kind::Block, "%}"),
            Some(b'#') => (Kind::Comment, "#}"),
            _ => {
                at = start + 1;
                continue;
            }
        };
        let body = &text[start + 2..];
        let length = if kind == Kind::Comment { body.find(close) } else { end_outside_strings(body, close) };
        // An unclosed tag is the compiler's to report.
        let Some(length) = length else { break };
        let end = start + 2 + length + close.len();
        found.push(Tag {
            kind,
            line: 1 + text[..start].matches('\n').count(),
            body: &body[..length],
            before: text[..start].rsplit('\n').next().unwrap_or_default(),
            after: text[end..].split('\n').next().unwrap_or_default(),
        });
        at = end;
    }
    found
}

fn end_outside_strings(body: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match quote {
            None if body[at..].starts_with(close) => return Some(at),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// Whether a YAML value may begin after this text.
fn follows_a_break(before: &str) -> bool {
    let trimmed = before.trim_end_matches(' ');
    let spaced = trimmed.len() < before.len();
    match trimmed.chars().next_back() {
        // After a tag: what the tag's own line began with counts, and a value beside a value is no YAML anyway.
        None | Some('[' | '{' | ',') => true,
        Some(':' | '-') => spaced,
        Some('}') => trimmed.ends_with("%}"),
        Some(_) => false,
    }
}

/// Whether a YAML value may end before this text.
fn ends_at_a_break(after: &str) -> bool {
    let trimmed = after.trim_start_matches(' ');
    match trimmed.chars().next() {
        None | Some(',' | ']' | '}' | ':' | '\r') => true,
        Some('{') => trimmed.starts_with("{%") || trimmed.starts_with("{#"),
        Some('#') => trimmed.len() < after.len(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, words: &str) {
        let error = template("a/b.yaml.j2", text).expect_err("should be refused").to_string();
        assert!(error.contains(words) && error.contains("a/b.yaml.j2, line 2"), "{error}");
    }

    #[test]
    fn placeholders_that_are_whole_values_pass() {
        for good in [
            "a: {{ x }}",
            "- {{ x ~ \"-cp}}\" }}",
            "a: [{{ x }}, {{ y }}]",
            "a: { b: {{ x }} }",
            "{{ key }}: {{ value }}",
            "a: {{ x }}  # why",
            "{% if x %}a: {{ x }}{% endif %}",
            "{# \"{{ x }}\" #}",
        ] {
            assert!(template("a/b.yaml.j2", good).is_ok(), "{good} should pass");
        }
    }

    #[test]
    fn placeholders_beside_other_text_are_refused() {
        for bad in [
            "a: {{ x }}-b",
            "a: b-{{ x }}",
            "a: \"{{ x }}\"",
            "a: '{{ x }}'",
            "a: b {{ x }}",
            "a:{{ x }}",
            "a: |{{ x }}",
        ] {
            refused(&format!("# one\n{bad}"), "whole value");
        }
    }

    #[test]
    fn escaping_cannot_be_lifted() {
        refused("# one\na: {{ x | safe }}", "unescaped");
        refused("# one\na: {{ x|e }}", "escaped already");
        refused("# one\na: {{ \"x\" ~ x|tojson }}", "use the filter json");
        refused("# one\n{%- autoescape false %}", "escaping");
        refused("# one\n{% macro a() %}", "macro");
        refused("# one\n{% set a %}x{% endset %}", "set block");
        assert!(template("a/b.yaml.j2", "a: {{ x | selectattr(\"safety\") }}").is_ok());
        assert!(template("a/b.yaml", "").is_err());
    }
}
