//! Schemas of built-in types: their fields come from the crate `k8s-openapi`, what it leaves out from two tables.

mod compile;
mod types;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) use types::{OBJECT_META, intern};

use super::{ListType, Node, Strategic, Wire};

/// What the tables say about one field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note {
    pub(crate) wire: Wire,
    pub(crate) list: Option<ListType>,
    pub(crate) atomic: bool,
    /// A field that is no single value though its type is one elsewhere.
    pub(crate) granular: bool,
    pub(crate) strategic: Strategic,
}

type Notes = HashMap<(&'static str, &'static str), Note>;

/// Returns the schema of a built-in type; types that nobody knows allow anything.
pub(crate) fn node(name: &'static str) -> &'static Node {
    if let Some(node) = cache().get(name) {
        return node;
    }
    let made = compile::with_everything_it_uses(name);
    let mut cache = cache();
    for (name, node) in made {
        cache.entry(name).or_insert_with(|| Box::leak(Box::new(node)));
    }
    cache.get(name).copied().unwrap_or_else(super::any)
}

/// Compiled schemas live as long as the process: all servers in it share them.
fn cache() -> MutexGuard<'static, HashMap<&'static str, &'static Node>> {
    static CACHE: OnceLock<Mutex<HashMap<&'static str, &'static Node>>> = OnceLock::new();
    CACHE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the type's JSON schema with all definitions that it uses, as the crate describes it.
pub(crate) fn described(name: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    types::definitions(name)
}

/// Returns what the tables say about fields.
pub(crate) fn notes() -> &'static Notes {
    static NOTES: OnceLock<Notes> = OnceLock::new();
    NOTES.get_or_init(|| {
        let mut notes = Notes::new();
        read_wire(&mut notes);
        read_lists(&mut notes);
        notes
    })
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn read_wire(notes: &mut Notes) {
    for line in lines(include_str!("builtin/wire.txt")) {
        let mut words = line.split(' ');
        let Some(name) = words.next() else { continue };
        for word in words {
            let (field, mark) = word.split_at(word.len() - 1);
            let wire = match mark {
                "=" => Wire::Struct,
                "*" => Wire::Pointer,
                "!" => Wire::Always,
                _ => Wire::NullTime,
            };
            notes.entry((name, field)).or_default().wire = wire;
        }
    }
}

fn read_lists(notes: &mut Notes) {
    for line in lines(include_str!("builtin/lists.txt")) {
        let mut words = line.split(' ');
        let (Some(name), Some(field)) = (words.next(), words.next()) else { continue };
        let note = notes.entry((name, field)).or_default();
        for word in words {
            match word.split_once('=') {
                Some(("map", keys)) => note.list = Some(ListType::Map(keys.split(',').map(String::from).collect())),
                Some(("patch", rest)) => note.strategic = strategic(rest),
                None if word == "set" => note.list = Some(ListType::Set),
                None if word == "atomic" => note.atomic = true,
                None if word == "granular" => note.granular = true,
                _ => {}
            }
        }
    }
}

fn strategic(text: &str) -> Strategic {
    let (strategies, key) = text.split_once(':').map_or((text, None), |(left, key)| (left, Some(key.to_owned())));
    let mut out = Strategic { key, ..Strategic::default() };
    for strategy in strategies.split(',') {
        match strategy {
            "merge" => out.merge = true,
            "retainKeys" => out.retain_keys = true,
            _ => out.replace = true,
        }
    }
    out
}
