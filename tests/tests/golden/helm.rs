//! `charts/lattice-manager`, rendered as Helm does it, for the few expressions that it has.
//!
//! Each file `tests/golden/charts/<name>.values.yaml` holds values that a person gives; what the chart makes of them is
//! beside it. An expression or a value that is not known here fails, so a typo in the chart does as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Parser as _;
use regex::Regex;
use serde_json::{Value, json};

use crate::chart::documents;
use crate::files::{self, Golden};

const SCENARIOS: [&str; 2] = ["manager-least", "manager-full"];

/// A piece of a template.
enum Node {
    Text(String),
    Print(String),
    /// `if`, `with` or `range`, what is inside, and what comes after `else`.
    Block(String, Vec<Node>, Vec<Node>),
}

/// How a list of pieces ended.
#[derive(PartialEq)]
enum Ended {
    WithTheText,
    AtElse,
    AtEnd,
}

/// Cuts a template into text and actions; `{{-` and `-}}` take the space beside them.
fn pieces(template: &str) -> Vec<Result<String, String>> {
    let mut pieces = Vec::new();
    let mut parts = template.split("{{");
    pieces.push(Ok(parts.next().unwrap_or_default().to_owned()));
    for part in parts {
        let (action, mut text) = part.split_once("}}").expect("every {{ has its }}");
        let before = action.strip_prefix("- ");
        if before.is_some() {
            let Some(Ok(last)) = pieces.last_mut() else { panic!("text comes before {action}") };
            last.truncate(last.trim_end().len());
        }
        let action = before.unwrap_or(action);
        let after = action.strip_suffix(" -");
        if after.is_some() {
            text = text.trim_start();
        }
        pieces.push(Err(after.unwrap_or(action).trim().to_owned()));
        pieces.push(Ok(text.to_owned()));
    }
    pieces
}

fn nodes(pieces: &mut impl Iterator<Item = Result<String, String>>) -> (Vec<Node>, Ended) {
    let mut found = Vec::new();
    while let Some(piece) = pieces.next() {
        match piece {
            Ok(text) => found.push(Node::Text(text)),
            Err(action) if action == "end" => return (found, Ended::AtEnd),
            Err(action) if action == "else" => return (found, Ended::AtElse),
            Err(action) if ["if ", "with ", "range "].iter().any(|word| action.starts_with(word)) => {
                let (body, end) = nodes(pieces);
                let otherwise = if end == Ended::AtElse { nodes(pieces).0 } else { Vec::new() };
                found.push(Node::Block(action, body, otherwise));
            }
            Err(action) => found.push(Node::Print(action)),
        }
    }
    (found, Ended::WithTheText)
}

/// What names mean at one place of a template.
#[derive(Clone)]
struct Scope {
    dot: Value,
    variables: BTreeMap<String, Value>,
}

fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && ![json!(0), json!(""), json!([]), json!({})].contains(value)
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Scope {
    fn operand(&self, word: &str) -> Value {
        if word.starts_with('"') {
            return serde_json::from_str(word).unwrap_or_else(|error| panic!("{word}: {error}"));
        }
        let (root, path) = match word.split_once('.') {
            Some(("", path)) => (&self.dot, path),
            Some((name, path)) => (&self.variables[name], path),
            None => (&self.variables[word], ""),
        };
        path.split('.').filter(|key| !key.is_empty()).fold(root.clone(), |value, key| {
            value.get(key).unwrap_or_else(|| panic!("{word}: nobody has named {key}")).clone()
        })
    }

    /// An expression: calls that are piped into each other.
    fn value(&self, expression: &str) -> Value {
        let words = Regex::new(r#""(?:[^"\\]|\\.)*"|[^\s|]+|\|"#).expect("a pattern");
        let words: Vec<&str> = words.find_iter(expression).map(|found| found.as_str()).collect();
        let mut piped = None;
        for call in words.split(|word| *word == "|") {
            let is_operand = call.len() == 1 && ['.', '$', '"'].iter().any(|first| call[0].starts_with(*first));
            piped = Some(if is_operand { self.operand(call[0]) } else { self.call(call, piped) });
        }
        piped.unwrap_or(Value::Null)
    }

    fn call(&self, call: &[&str], piped: Option<Value>) -> Value {
        let arguments: Vec<Value> = call[1..].iter().map(|word| self.operand(word)).chain(piped).collect();
        match (call[0], arguments.as_slice()) {
            ("quote", [value]) => Value::String(Value::String(shown(value)).to_string()),
            ("toJson", [value]) => value.to_string().into(),
            ("dir", [path]) => shown(path).rsplit_once('/').expect("a folder").0.into(),
            ("ne", [one, other]) => (one != other).into(),
            ("required", [words, value]) => {
                assert!(is_true(value), "{}", shown(words));
                value.clone()
            }
            ("fail", [words]) => panic!("{}", shown(words)),
            (name, _) => panic!("{name} of {arguments:?} is not known here"),
        }
    }

    fn render(&self, nodes: &[Node], made: &mut String) {
        for node in nodes {
            match node {
                Node::Text(text) => made.push_str(text),
                Node::Print(action) => made.push_str(&shown(&self.value(action))),
                Node::Block(action, body, otherwise) => {
                    let (word, expression) = action.split_once(' ').expect("a block has an expression");
                    let (names, expression) = expression.split_once(" := ").unwrap_or(("", expression));
                    let value = self.value(expression);
                    match word {
                        _ if !is_true(&value) => self.render(otherwise, made),
                        "if" => self.render(body, made),
                        "with" => Self { dot: value, ..self.clone() }.render(body, made),
                        _ => self.each(names, &value).iter().for_each(|scope| scope.render(body, made)),
                    }
                }
            }
        }
    }

    /// The scopes of a `range`.
    fn each(&self, names: &str, value: &Value) -> Vec<Self> {
        let items: Vec<(Value, &Value)> = match value {
            Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.into(), item)).collect(),
            Value::Object(items) => items.iter().map(|(key, item)| (key.clone().into(), item)).collect(),
            other => panic!("nothing to range over: {other}"),
        };
        let scope = |(key, item): (Value, &Value)| {
            let mut scope = Self { dot: item.clone(), ..self.clone() };
            if let Some((first, second)) = names.split_once(", ") {
                scope.variables.extend([(first.to_owned(), key), (second.to_owned(), item.clone())]);
            }
            scope
        };
        items.into_iter().map(scope).collect()
    }
}

/// Puts what a person gives over what the chart has.
fn over(base: &mut Value, given: &Value) {
    match (base, given) {
        (Value::Object(base), Value::Object(given)) => {
            for (key, value) in given {
                over(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, given) => *base = given.clone(),
    }
}

fn read(path: &str) -> String {
    let path = files::root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn values(given: &Value) -> Value {
    let mut values = yaml("charts/lattice-manager/values.yaml");
    over(&mut values, given);
    values
}

/// All that the chart makes.
fn made(given: &Value) -> String {
    let dot = json!({"Values": values(given), "Release": {"Name": "lattice-manager", "Namespace": "lattice-system"}});
    let folder = files::root().join("charts/lattice-manager/templates");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("templates")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "yaml"))
        .collect();
    names.sort();
    let scope = Scope { variables: [("$".to_owned(), dot.clone())].into(), dot };
    let mut text = String::new();
    for name in names {
        text.push_str("---\n");
        scope.render(
            &nodes(&mut pieces(&read(&format!("charts/lattice-manager/templates/{name}"))).into_iter()).0,
            &mut text,
        );
    }
    text
}

/// What is wrong with values by the chart's schema, for the words that it uses.
fn wrong(place: &str, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let is = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "integer",
        _ => "other",
    };
    let mut check = |fine: bool, what: &str| {
        if !fine {
            found.push(format!("{place}: {what}"));
        }
    };
    check(schema["type"].is_null() || schema["type"] == is, "of another type");
    check(schema["enum"].as_array().is_none_or(|all| all.contains(value)), "none of those");
    if let Some(text) = value.as_str() {
        let fits = |pattern: &str| Regex::new(pattern).expect("a pattern").is_match(text);
        check(schema["pattern"].as_str().is_none_or(fits), "does not fit the pattern");
        check(schema["maxLength"].as_u64().is_none_or(|most| text.len() as u64 <= most), "too long");
    }
    let empty = serde_json::Map::new();
    let known = schema["properties"].as_object().unwrap_or(&empty);
    for (key, value) in value.as_object().unwrap_or(&empty) {
        match known.get(key) {
            Some(schema) => found.extend(wrong(&format!("{place}.{key}"), schema, value)),
            None if schema["additionalProperties"] == false => found.push(format!("{place}.{key}: unknown")),
            None => {}
        }
    }
    found
}

#[test]
fn chart_of_the_manager_renders_as_written_down() {
    let keep = SCENARIOS.map(|name| format!("{name}.values.yaml"));
    let mut golden = Golden::new("charts", &keep.each_ref().map(String::as_str));
    for name in SCENARIOS {
        golden.check(&format!("{name}.yaml"), &made(&yaml(&format!("tests/golden/charts/{name}.values.yaml"))));
    }
    golden.finish();
}

#[test]
fn the_manager_takes_the_command_line_of_its_chart() {
    for name in SCENARIOS {
        let text = made(&yaml(&format!("tests/golden/charts/{name}.values.yaml")));
        let all = documents(&text);
        let deployment = all.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let words = ["command", "args"].into_iter().flat_map(|key| container[key].as_array().expect("words"));
        let words: Vec<&str> = words.map(|word| word.as_str().expect("a word")).collect();
        let cli = lattice_manager::app::Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lattice_manager::app::Command::Run(run) = cli.command else { panic!("{words:?}") };
        assert_eq!(run.ca_signer.is_some(), name == "manager-full", "{words:?}");
    }
}

#[test]
fn the_managers_chart_knows_its_own_values_and_no_others() {
    let schema: Value = serde_json::from_str(&read("charts/lattice-manager/values.schema.json")).expect("JSON");
    let own = yaml("charts/lattice-manager/values.yaml");
    let keys = |object: &Value| object.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
    let mut named = keys(&schema["properties"]);
    named.remove("global");
    assert_eq!(named, keys(&own), "every value is in the schema and in values.yaml");
    for name in SCENARIOS {
        let problems = wrong("values", &schema, &values(&yaml(&format!("tests/golden/charts/{name}.values.yaml"))));
        assert!(problems.is_empty(), "{name}: {problems:?}");
    }
    let bad = json!({"caSigner": {"socket": "signer.sock", "volumes": {}}, "externalAddress": ["192.0.2.1"]});
    let problems = wrong("values", &schema, &values(&bad)).join("\n");
    for words in ["caSigner.socket: does not fit", "caSigner.volumes: unknown", "externalAddress: unknown"] {
        assert!(problems.contains(words), "{problems}");
    }
}
