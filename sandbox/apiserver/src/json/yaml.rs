//! YAML bodies, read into JSON as the API's servers read them: by the rules of YAML 1.1.

mod scalar;
mod words;

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use super::parse::{Parsed, parse_with_lines};

/// How the list of keys that came twice begins.
pub(crate) const ERRORS: &str = "yaml: unmarshal errors:\n  ";
/// How deep a document may nest. Deeper ones could exhaust the stack.
const DEPTH_MAX: usize = 512;
/// Values that aliases may repeat. Lower: real documents are refused; higher: small ones grow without end.
const ALIASED_MAX: usize = 100_000;

/// Reads one YAML document, the first of several; JSON is YAML too.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    if let Ok((parsed, lines)) = parse_with_lines(bytes) {
        return Ok(Parsed { duplicates: listed(&lines), ..parsed });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("yaml: {error}"))?;
    if text.chars().any(words::is_forbidden) {
        return Err("yaml: control characters are not allowed".to_owned());
    }
    let begins = text.trim_start_matches(['\n', '\r', ' ']);
    if begins.starts_with('\t') {
        let line = text[..text.len() - begins.len()].matches('\n').count() + 1;
        return Err(words::text_of(line, "found character that cannot start any token"));
    }
    let mut reader = Reader {
        text,
        events: Parser::new_from_str(text),
        open: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        lines: Vec::new(),
    };
    let value = reader.document()?;
    Ok(Parsed { duplicates: listed(&reader.lines), ..Parsed::plain(value) })
}

/// Tells keys that came twice as one error.
fn listed(found: &[String]) -> Vec<String> {
    if found.is_empty() { Vec::new() } else { vec![format!("{ERRORS}{}", found.join("\n  "))] }
}

/// A value, and where in the text it begins.
struct Node {
    value: Value,
    line: usize,
    /// A plain text that stands for keys of another map.
    merges: bool,
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, granit_parser::StrInput<'a>>,
    /// Lines at which the lists and maps begin that are open.
    open: Vec<usize>,
    anchors: HashMap<usize, Value>,
    aliased: usize,
    /// Keys that came twice, by their lines.
    lines: Vec<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        loop {
            match self.events.next() {
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => return Err(words::of(self.text, &error, self.open.last().copied())),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn document(&mut self) -> Result<Value, String> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(Value::Null),
                (event, span) => {
                    let node = self.node(event, span, 0)?;
                    // What follows the value is looked at as far as the end of its document.
                    self.next()?;
                    return Ok(node.value);
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err("yaml: exceeded max depth".to_owned());
        }
        let line = span.start.line();
        let (value, anchor, merges) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let tag = tag.as_ref().map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
                let merges = plain && tag.is_none() && text == "<<";
                (scalar::read(&text, plain, tag.as_deref())?, anchor, merges)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(line);
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd | Event::StreamEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?.value),
                    }
                }
                self.open.pop();
                (Value::Array(items), anchor, false)
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(line);
                let map = self.map(depth)?;
                self.open.pop();
                (Value::Object(map), anchor, false)
            }
            Event::Alias(id) => {
                let value = self.anchors.get(&id).cloned().unwrap_or_default();
                self.aliased += count(&value);
                if self.aliased > ALIASED_MAX {
                    return Err("yaml: document contains excessive aliasing".to_owned());
                }
                (value, 0, false)
            }
            _ => (Value::Null, 0, false),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(Node { value, line, merges })
    }

    fn map(&mut self, depth: usize) -> Result<Map<String, Value>, String> {
        let (mut out, mut merged) = (Map::new(), Map::new());
        loop {
            let key = match self.next()? {
                (Event::MappingEnd | Event::StreamEnd, _) => break,
                (Event::Scalar(text, ScalarStyle::Plain, 0, None), span) if text.is_empty() => {
                    return Err(words::form_of(span.start.line(), "did not find expected key"));
                }
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.next()?;
            let empty = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text.is_empty());
            let value = self.node(event, span, depth + 1)?;
            if key.merges {
                merge(value.value, &mut merged)?;
                continue;
            }
            let name = scalar::key(&key.value, &value.value)?;
            if out.contains_key(&name) {
                // What is left out counts as standing where the next thing does.
                let line = if empty { words::next_line(self.text, key.line) } else { value.line };
                self.lines.push(format!("line {line}: key {} already set in map", scalar::shown(&key.value)));
            }
            out.insert(name, value.value);
        }
        for (name, value) in merged {
            out.entry(name).or_insert(value);
        }
        Ok(out)
    }
}

/// Takes over the keys of other maps; the first that has one counts.
fn merge(value: Value, out: &mut Map<String, Value>) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                out.entry(name).or_insert(value);
            }
            Ok(())
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            items.into_iter().try_for_each(|item| merge(item, out))
        }
        _ => Err("yaml: map merge requires map or sequence of maps as the value".to_owned()),
    }
}

/// Counts the values in a value.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_and_numbers_are_those_of_the_older_rules() {
        let text = "a: yes\nb: 0x10\nc: 010\nd: '010'\ne: 1e3\nf: ~\ng: !!str 5\nh: 2026-01-01\ny: 1_000\n5: .5\n";
        let expected = json!({
            "a": true, "b": 16, "c": 8, "d": "010", "e": 1000, "f": null, "g": "5", "h": "2026-01-01", "true": 1000,
            "5": 0.5,
        });
        assert_eq!(parse(text.as_bytes()).unwrap().value, expected);
    }

    #[test]
    fn the_first_document_counts_with_its_anchors_merges_and_blocks() {
        let text = "---\na: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: |\n    f\n    g\n---\n]\n";
        let expected = json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": "f\ng\n"}});
        assert_eq!(parse(text.as_bytes()).unwrap().value, expected);
    }

    #[test]
    fn keys_that_came_twice_are_told_by_the_lines_of_their_values() {
        let found = parse(b"a:\n  b: 1\n  b: 2\nc: {d: 1, d: 2}\n").unwrap().duplicates;
        assert_eq!(
            found,
            [format!("{ERRORS}line 3: key \"b\" already set in map\n  line 4: key \"d\" already set in map")]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_line_that_clients_know() {
        let cases = [
            ("a: 'x\n", "line 2: found unexpected end of stream"),
            ("a: b: c\n", "mapping values are not allowed in this context"),
            ("a:\n  b: c\n d: e\n", "line 2: did not find expected key"),
            ("a: [b\n", "line 1: did not find expected ',' or ']'"),
            ("{\"a\": 1", "line 1: did not find expected ',' or '}'"),
            ("a: @b\n", "found character that cannot start any token"),
            ("a:\n  - b\n  c: d\n", "line 2: did not find expected '-' indicator"),
            ("a: b\nc\n", "line 3: could not find expected ':'"),
            ("a: *b\n", "unknown anchor 'b' referenced"),
            ("a: \"b\" c\n", "did not find expected key"),
            ("a: b\nc: ]\n", "line 1: did not find expected node content"),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), format!("yaml: {error}"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c:\\[\\]{}&*!|>'\"%@`#,? \n\t-]{0,40}") {
            let _ = parse(text.as_bytes());
        }
    }
}
