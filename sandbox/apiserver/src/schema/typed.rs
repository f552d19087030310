//! Built-in objects: read as the real server's types read them, and written with what these always write.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::{Field, Node, Place, Shape, Wire, times};
use crate::json;
use crate::quantity;

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const MICRO_FORMAT: &str = "2006-01-02T15:04:05.000000Z07:00";
const TIME_FORMAT: &str = "2006-01-02T15:04:05Z07:00";

/// Reads an object: fields that the type does not have are dropped and named, nulls are dropped.
pub(crate) fn read(node: &Node, value: &mut Value, unknown: &mut Vec<String>) -> Result<(), String> {
    let mut reader = Reader { path: Vec::new(), fields: Vec::new(), owner: node.name, levels: 0, unknown };
    reader.value(Place::of(node), value)
}

struct Reader<'a> {
    /// The path with list indices, as warnings name it.
    path: Vec<String>,
    /// The path of struct fields alone, as type errors name it.
    fields: Vec<(&'static str, String)>,
    owner: &'static str,
    /// Lists and maps between the last struct field and what is read.
    levels: usize,
    unknown: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn mismatch(&self, value: &Value, node: &Node) -> String {
        let got = match value {
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if matches!(node.shape, Shape::Integer | Shape::IntOrString) => {
                format!("number {number}")
            }
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            _ => "object".to_owned(),
        };
        let place = if self.fields.is_empty() {
            "Go value".to_owned()
        } else {
            let path: Vec<String> = self.fields.iter().map(|(owner, key)| within(owner, key)).collect();
            format!("Go struct field {}.{}", go_name(self.owner), path.join("."))
        };
        let field = self.fields.last().map_or("", |(_, key)| key);
        let kind = named(self.owner, field, self.levels).map_or_else(|| go_type(node), String::from);
        format!("json: cannot unmarshal {got} into {place} of type {kind}")
    }

    fn value(&mut self, place: Place<'_>, value: &mut Value) -> Result<(), String> {
        let node = place.node;
        match (node.shape, &*value) {
            (Shape::Any, _) | (Shape::Number, Value::Number(_)) => {
                json::whole(value);
                Ok(())
            }
            (_, Value::Null) | (Shape::Boolean, Value::Bool(_)) | (Shape::IntOrString, Value::String(_)) => Ok(()),
            (Shape::Object, Value::Object(_)) => self.object(place, value),
            (Shape::Array, Value::Array(_)) => self.array(place, value),
            (Shape::String, Value::String(_)) => text(node, value),
            (Shape::String, Value::Number(number)) if node.format == "quantity" => {
                *value = Value::String(number.to_string());
                text(node, value)
            }
            (Shape::String, _) if node.format == "quantity" => Err(not_a_quantity()),
            (Shape::Integer, Value::Number(number)) => match number.as_i64() {
                Some(whole) if node.format != "int32" || i32::try_from(whole).is_ok() => Ok(()),
                _ => Err(self.mismatch(value, node)),
            },
            (Shape::IntOrString, Value::Number(number))
                if number.as_i64().is_some_and(|whole| i32::try_from(whole).is_ok()) =>
            {
                Ok(())
            }
            _ => Err(self.mismatch(value, node)),
        }
    }

    fn array(&mut self, place: Place<'_>, value: &mut Value) -> Result<(), String> {
        let items = place.items();
        self.levels += 1;
        for (index, item) in value.as_array_mut().into_iter().flatten().enumerate() {
            self.path.push(format!("[{index}]"));
            self.value(items, item)?;
            self.path.pop();
        }
        self.levels -= 1;
        Ok(())
    }

    fn object(&mut self, place: Place<'_>, value: &mut Value) -> Result<(), String> {
        let node = place.node;
        let Value::Object(map) = value else { return Ok(()) };
        let typed = node.is_struct();
        let closed = typed && node.values.is_none();
        let owner = typed.then(|| std::mem::replace(&mut self.owner, node.name));
        let levels = self.levels;
        self.levels = if typed { 0 } else { levels + 1 };
        for (key, item) in map.iter_mut() {
            if closed && !node.fields.contains_key(key) {
                self.unknown.push(join(&self.path, key));
                *item = Value::Null;
                continue;
            }
            let Some(inner) = place.field(key) else { continue };
            self.path.push(segment(&self.path, key));
            if typed {
                self.fields.push((node.name, key.clone()));
            }
            self.value(inner, item)?;
            if typed {
                self.fields.pop();
            }
            self.path.pop();
        }
        if let Some(owner) = owner {
            self.owner = owner;
        }
        self.levels = levels;
        if typed {
            map.retain(|_, item| !item.is_null());
        } else if node.values.as_ref().is_some_and(|values| is_text(values.node())) {
            map.values_mut().filter(|item| item.is_null()).for_each(|item| *item = Value::from(""));
        }
        Ok(())
    }
}

/// Tells a plain text, which is empty where null was sent.
fn is_text(node: &Node) -> bool {
    node.shape == Shape::String && node.format.is_empty()
}

fn segment(path: &[String], key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!(".{key}") }
}

fn join(path: &[String], key: &str) -> String {
    format!("{}{}", path.concat(), segment(path, key))
}

/// Reads a text whose format the type checks itself.
fn text(node: &Node, value: &mut Value) -> Result<(), String> {
    let Value::String(text) = value else { return Ok(()) };
    if node.format == "quantity" {
        *text = quantity::canonical(text).ok_or_else(not_a_quantity)?;
    } else if node.name == TIME {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| times::wrong(text, TIME_FORMAT))?;
        *text = crate::time::seconds(parsed);
    } else if node.name == MICRO_TIME {
        *text = micro_time(text)?;
    } else if node.format == "byte" {
        let cleaned: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        if let Err(error) = base64::engine::general_purpose::STANDARD.decode(&cleaned) {
            return Err(format!("illegal base64 data at input byte {}", bad_byte(&cleaned, &error)));
        }
    }
    Ok(())
}

fn not_a_quantity() -> String {
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()
}

fn bad_byte(text: &str, error: &base64::DecodeError) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
    }
}

/// Reads a time with exactly six digits of fraction.
fn micro_time(text: &str) -> Result<String, String> {
    let parsed: jiff::Timestamp = text.parse().map_err(|_| times::wrong(text, MICRO_FORMAT))?;
    let rest = text.get(19..).unwrap_or_default();
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.chars().take_while(char::is_ascii_digit).count());
    if digits == 6 {
        return Ok(crate::time::micros(parsed));
    }
    let (left, wanted) = match digits {
        0..6 => (rest.to_owned(), ".000000"),
        _ => (rest.get(7..).unwrap_or_default().to_owned(), "Z07:00"),
    };
    Err(format!("parsing time {text:?} as {MICRO_FORMAT:?}: cannot parse {left:?} as {wanted:?}"))
}

fn go_name(name: &str) -> String {
    name.rsplit('.').next().unwrap_or_default().to_owned()
}

fn go_type(node: &Node) -> String {
    match node.shape {
        Shape::String if node.format == "byte" => "[]uint8".to_owned(),
        Shape::String => "string".to_owned(),
        Shape::Integer if node.format == "int32" => "int32".to_owned(),
        Shape::Integer => "int64".to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::Array => {
            format!("[]{}", node.items.as_ref().map_or_else(String::new, |link| go_type(link.node())))
        }
        Shape::Object if node.name.is_empty() => {
            format!("map[string]{}", node.values.as_ref().map_or_else(String::new, |link| go_type(link.node())))
        }
        Shape::IntOrString => "int32".to_owned(),
        _ => {
            let package = node.name.rsplit('.').nth(1).unwrap_or("v1");
            format!("{package}.{}", go_name(node.name))
        }
    }
}

/// Names a field, and the struct within its owner that has it.
fn within(owner: &str, key: &str) -> String {
    let row = |name: &str| {
        let lines = include_str!("builtin/numbers.txt").lines();
        let mut rows = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        rows.next().unwrap_or_default()
    };
    let package = owner.rsplit_once('.').map_or("", |(package, _)| package);
    let inlined = row(owner).split(' ').filter_map(|word| word.strip_prefix('+')?.split(':').next());
    let has =
        |name: &&str| row(&format!("{package}.{name}")).split(' ').any(|word| word.split(':').next() == Some(key));
    let mut having = inlined.filter(has);
    having.next().map_or_else(|| key.to_owned(), |name| format!("{name}.{key}"))
}

/// Finds the name of a field's type, or of what is so many lists and maps deep in it.
fn named(owner: &str, field: &str, levels: usize) -> Option<&'static str> {
    let row = include_str!("builtin/gotypes.txt")
        .lines()
        .find_map(|line| line.strip_prefix(owner)?.strip_prefix(' '))
        .filter(|_| !owner.is_empty())?;
    let kind = row.split(' ').find_map(|word| word.strip_prefix(field)?.strip_prefix('='))?;
    (0..levels).try_fold(kind, |kind, _| {
        kind.strip_prefix("[]").or_else(|| kind.strip_prefix("map[")?.split_once(']').map(|(_, inner)| inner))
    })
}

/// Says why a patched object cannot be converted to its type, as a strategic merge patch tells it.
pub(crate) fn unconvertible(node: &Node, value: &Value) -> Option<String> {
    misfit(("", "", 0), node, value)
}

/// Says it of a field: the owner's type, the key, and how many lists and maps deep it is.
fn misfit((owner, field, levels): (&str, &str, usize), node: &Node, value: &Value) -> Option<String> {
    let shown = || named(owner, field, levels).map_or_else(|| go_type(node), String::from);
    let kind = match value {
        Value::Null => return None,
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    match (node.shape, value) {
        (Shape::Object, Value::Object(map)) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            keys.into_iter().find_map(|key| {
                let place = if node.is_struct() { (node.name, key.as_str(), 0) } else { (owner, field, levels + 1) };
                misfit(place, Place::of(node).field(key)?.node, &map[key])
            })
        }
        (Shape::Object, _) if node.is_struct() => Some(format!("cannot restore struct from: {kind}")),
        (Shape::Object, _) => Some(format!("cannot restore map from {kind}")),
        (Shape::Array, Value::Array(items)) => {
            let inner = Place::of(node).items();
            items.iter().find_map(|item| misfit((owner, field, levels + 1), inner.node, item))
        }
        (Shape::Array, _) => Some(format!("cannot restore slice from {kind}")),
        (Shape::String, Value::String(text)) if node.format == "byte" => {
            let read = self::text(node, &mut Value::String(text.clone()));
            read.err().map(|why| format!("error decoding from json: {why}"))
        }
        (Shape::String, _) if node.format == "byte" => Some(format!("cannot restore slice from {kind}")),
        (Shape::IntOrString, Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            let got = json::type_name(value).replace("boolean", "bool");
            Some(format!("json: cannot unmarshal {got} into Go value of type int32"))
        }
        (Shape::Integer, Value::Number(number)) if number.as_f64().is_some_and(|number| number.fract() != 0.0) => {
            Some(format!("cannot convert {kind} to {}", shown()))
        }
        (Shape::String, Value::String(_))
        | (Shape::Integer | Shape::Number, Value::Number(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::IntOrString | Shape::Any, _) => None,
        (Shape::String, _) if !node.format.is_empty() || !node.name.is_empty() => None,
        // A whole number could be a letter.
        (Shape::String, Value::Number(number)) if !number.is_f64() => {
            Some(format!("cannot convert {kind} to {}", shown()))
        }
        _ => Some(format!("unrecognized type: {}", go_type(node))),
    }
}

/// Brings an object into the form in which the real server writes it: zero values that its types leave out are left
/// out, structs and fields that they always write are there.
pub(crate) fn normalise(node: &Node, value: &mut Value) {
    let Value::Object(map) = value else { return };
    for (key, field) in &node.fields {
        let inner = field.link.node();
        match map.get_mut(key) {
            Some(item) => {
                deep(inner, item);
                if item.is_null() || is_zero(field, inner, item) {
                    map.shift_remove(key);
                    missing(map, key, field, inner);
                }
            }
            None => missing(map, key, field, inner),
        }
    }
}

/// Makes empty lists null where they are always written: storage does not tell the two apart.
pub(crate) fn as_stored(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                let Some(field) = node.fields.get(key) else {
                    if let Some(values) = &node.values {
                        as_stored(values.node(), item);
                    }
                    continue;
                };
                if field.wire == Wire::Always && item.as_array().is_some_and(Vec::is_empty) {
                    *item = Value::Null;
                } else {
                    as_stored(field.link.node(), item);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = &node.items {
                for item in items.iter_mut() {
                    as_stored(inner.node(), item);
                }
            }
        }
        _ => {}
    }
}

fn deep(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) if node.is_struct() => {
            let _ = map;
            normalise(node, value);
        }
        Value::Object(map) => {
            if let Some(values) = &node.values {
                map.values_mut().for_each(|item| deep(values.node(), item));
            }
        }
        Value::Array(items) => {
            if let Some(inner) = &node.items {
                for item in items.iter_mut() {
                    deep(inner.node(), item);
                }
            }
        }
        _ => {}
    }
}

fn is_zero(field: &Field, node: &Node, value: &Value) -> bool {
    if matches!(field.wire, Wire::Pointer | Wire::Always) {
        return false;
    }
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(set) => !set,
        Value::Number(number) => node.shape != Shape::IntOrString && number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() && !node.is_struct() && node.name.is_empty() && !node.preserve,
        Value::Null => true,
    }
}

fn missing(map: &mut Map<String, Value>, key: &str, field: &Field, node: &Node) {
    let zero = match field.wire {
        Wire::Struct => {
            let mut value = Value::Object(Map::new());
            normalise(node, &mut value);
            value
        }
        Wire::NullTime => Value::Null,
        Wire::Always => match node.shape {
            Shape::String => Value::String(String::new()),
            Shape::Integer | Shape::Number => Value::from(0),
            Shape::Boolean => Value::Bool(false),
            _ => Value::Null,
        },
        Wire::OmitZero | Wire::Pointer => return,
    };
    map.insert(key.to_owned(), zero);
}
