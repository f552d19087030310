//! The hash of a pod template, by which real controllers name ReplicaSets and revisions.
//!
//! They hash what Go prints of a template by reflection: the name of every type and field in the order of its declaration,
//! and the fields that are absent too. `fields.txt` holds these declarations, those of Kubernetes 1.36. Absent and empty
//! lists are the same here, as they are once a template has been stored.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::OnceLock;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use crate::pace::Fnv32;

mod quantity;

const DECLARATIONS: &str = include_str!("template/fields.txt");
/// Letters and digits that spell no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A field of a Go type.
struct Field {
    name: &'static str,
    /// In JSON; `None` where its own fields are those of the outer object.
    key: Option<&'static str>,
    kind: &'static str,
}

#[derive(Default)]
struct Types {
    structs: HashMap<&'static str, Vec<Field>>,
    others: HashMap<&'static str, &'static str>,
}

fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| {
        let mut types = Types::default();
        let mut open = "";
        for line in DECLARATIONS.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [name, "=", other] => {
                    types.others.insert(name, other);
                }
                [name, key, kind] => {
                    let field = Field { name, key: Some(key).filter(|key| *key != "-"), kind };
                    types.structs.entry(open).or_default().push(field);
                }
                [name] => open = name,
                _ => {}
            }
        }
        types
    })
}

/// The hash of a template, after so many collisions with names that were taken.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let value = serde_json::to_value(template).unwrap_or_default();
    let mut hash = Fnv32::new();
    // Hashing does not fail.
    let _ = print(&mut hash, "PodTemplateSpec", Some(&value), true);
    if let Some(count) = collisions {
        hash.add(&count.to_le_bytes());
        hash.add(&[0; 4]);
    }
    safe(hash.value())
}

/// Writes a number as it goes into names.
pub(crate) fn safe(number: u32) -> String {
    number.to_string().bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// Prints a value of a Go type; items of lists and what pointers point to are not `named` again.
fn print(out: &mut impl Write, kind: &str, value: Option<&Value>, named: bool) -> std::fmt::Result {
    let value = value.filter(|value| !value.is_null());
    if named {
        write!(out, "({})", shown(kind))?;
    }
    if let Some(inner) = kind.strip_prefix('*') {
        return match value {
            Some(value) => print(out, inner, Some(value), false),
            None => out.write_str("<nil>"),
        };
    }
    if let Some(inner) = kind.strip_prefix("[]") {
        let items = value.and_then(Value::as_array).filter(|items| !items.is_empty());
        let Some(items) = items else { return out.write_str("<nil>") };
        return between(out, "[", items.iter(), |out, item| print(out, inner, Some(item), false));
    }
    let real = types().others.get(kind).copied().unwrap_or(kind);
    if let Some((_, inner)) = real.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        let entries = value.and_then(Value::as_object).filter(|entries| !entries.is_empty());
        let Some(entries) = entries else { return out.write_str("<nil>") };
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_key(|(key, _)| key.as_str());
        return between(out, "map[", entries.into_iter(), |out, (key, item)| {
            write!(out, "{key}:")?;
            print(out, inner, Some(item), false)
        });
    }
    match (real, value) {
        ("resource.Quantity", value) => quantity::print(out, value.and_then(Value::as_str)),
        ("intstr.IntOrString", Some(Value::String(text))) => {
            write!(out, "{{Type:(intstr.Type)1 IntVal:(int32)0 StrVal:(string){text}}}")
        }
        ("intstr.IntOrString", value) => {
            let number = value.and_then(Value::as_i64).unwrap_or(0);
            write!(out, "{{Type:(intstr.Type)0 IntVal:(int32){number} StrVal:(string)}}")
        }
        ("Time", _) => out.write_str("{Time:(time.Time){wall:(uint64)0 ext:(int64)0 loc:(*time.Location)<nil>}}"),
        ("int32" | "int64", value) => write!(out, "{}", value.and_then(Value::as_i64).unwrap_or(0)),
        ("bool", value) => write!(out, "{}", value.and_then(Value::as_bool).unwrap_or(false)),
        (real, value) => match types().structs.get(real) {
            Some(fields) => {
                for (index, field) in fields.iter().enumerate() {
                    write!(out, "{}{}:", if index == 0 { '{' } else { ' ' }, field.name)?;
                    let inner = field.key.map_or(value, |key| value.and_then(|value| value.get(key)));
                    print(out, field.kind, inner, true)?;
                }
                out.write_char('}')
            }
            None => out.write_str(value.and_then(Value::as_str).unwrap_or_default()),
        },
    }
}

fn between<W: Write, T>(
    out: &mut W,
    open: &str,
    items: impl Iterator<Item = T>,
    one: impl Fn(&mut W, T) -> std::fmt::Result,
) -> std::fmt::Result {
    out.write_str(open)?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.write_char(' ')?;
        }
        one(out, item)?;
    }
    out.write_char(']')
}

/// The name of a type as Go prints it, with its package.
fn shown(kind: &str) -> String {
    if let Some(inner) = kind.strip_prefix('*') {
        return format!("*{}", shown(inner));
    }
    if let Some(inner) = kind.strip_prefix("[]") {
        return format!("[]{}", shown(inner));
    }
    if let Some((key, inner)) = kind.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return format!("map[{}]{}", shown(key), shown(inner));
    }
    let plain = kind.contains('.') || matches!(kind, "string" | "int32" | "int64" | "bool");
    if plain { kind.to_owned() } else { format!("v1.{kind}") }
}

#[cfg(test)]
mod tests;
