//! Schemas: one model for built-in types and for custom resources, compiled when first used.

pub(crate) mod builtin;
pub(crate) mod crd;
pub(crate) mod defaults;
pub(crate) mod embedded;
pub(crate) mod formats;
pub(crate) mod prune;
mod times;
pub(crate) mod typed;
pub(crate) mod validate;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

/// How server-side apply merges a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    /// As a whole.
    #[default]
    Atomic,
    /// By value.
    Set,
    /// By the values of these fields.
    Map(Vec<String>),
}

/// What a value may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
}

/// How a built-in type's field goes over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Its zero value is left out.
    #[default]
    OmitZero,
    /// Its zero value is kept when it was sent.
    Pointer,
    /// It is written even when it is zero.
    Always,
    /// A struct that is always there.
    Struct,
    /// A time that is null when it is unset.
    NullTime,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strategic {
    pub(crate) merge: bool,
    pub(crate) retain_keys: bool,
    pub(crate) replace: bool,
    pub(crate) key: Option<String>,
}

/// A schema that is named elsewhere, or one of its own.
#[derive(Debug)]
pub(crate) enum Link {
    Own(Arc<Node>),
    Named(&'static str, OnceLock<&'static Node>),
}

impl Link {
    pub(crate) fn node(&self) -> &Node {
        match self {
            Self::Own(node) => node,
            Self::Named(name, cell) => cell.get_or_init(|| builtin::node(name)),
        }
    }
}

impl From<Node> for Link {
    fn from(node: Node) -> Self {
        Self::Own(Arc::new(node))
    }
}

/// A field of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) link: Link,
    pub(crate) wire: Wire,
    pub(crate) list: Option<ListType>,
    /// Whether it is one value, where it is not as its type says.
    pub(crate) atomic: Option<bool>,
    pub(crate) strategic: Strategic,
}

impl Field {
    /// Returns what a key of a list's item is where the item leaves it out: what its type always writes has a zero.
    pub(crate) fn key_left_out(&self) -> Option<Value> {
        let node = self.link.node();
        let zero = || match node.shape {
            Shape::String => Some(Value::from("")),
            Shape::Integer | Shape::Number => Some(Value::from(0)),
            _ => None,
        };
        node.default.clone().or_else(|| (self.wire == Wire::Always).then(zero).flatten())
    }
}

impl From<Node> for Field {
    fn from(node: Node) -> Self {
        Self { link: node.into(), wire: Wire::default(), list: None, atomic: None, strategic: Strategic::default() }
    }
}

/// The schema of one value.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The built-in type's full name, or empty.
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) nullable: bool,
    pub(crate) preserve: bool,
    pub(crate) embedded: bool,
    pub(crate) fields: BTreeMap<String, Field>,
    pub(crate) required: Vec<String>,
    /// The schema of values under keys that are no fields.
    pub(crate) values: Option<Link>,
    pub(crate) items: Option<Link>,
    pub(crate) list: ListType,
    /// An object that server-side apply treats as one value.
    pub(crate) atomic: bool,
    pub(crate) default: Option<Value>,
    pub(crate) format: String,
    pub(crate) checks: Option<Box<Checks>>,
}

/// Value validations, as OpenAPI has them.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) one_of: Vec<Checks>,
    pub(crate) all_of: Vec<Checks>,
    pub(crate) any_of: Vec<Checks>,
    pub(crate) not: Option<Box<Checks>>,
    pub(crate) shape: Option<Shape>,
    pub(crate) required: Vec<String>,
    pub(crate) fields: BTreeMap<String, Checks>,
    pub(crate) items: Option<Box<Checks>>,
    pub(crate) values: Option<Box<Checks>>,
    pub(crate) allowed: Vec<Value>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) length_min: Option<u64>,
    pub(crate) length_max: Option<u64>,
    pub(crate) items_min: Option<u64>,
    pub(crate) items_max: Option<u64>,
    pub(crate) properties_min: Option<u64>,
    pub(crate) properties_max: Option<u64>,
    pub(crate) unique: bool,
    pub(crate) pattern: Option<(String, Option<regex::Regex>)>,
    pub(crate) format: String,
}

impl Node {
    /// Tells whether server-side apply looks into an object of this schema.
    pub(crate) fn is_struct(&self) -> bool {
        !self.fields.is_empty()
    }
}

/// A schema in the place where it is used: a field may override what its type says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) node: &'a Node,
    list: Option<&'a ListType>,
    atomic: Option<bool>,
}

impl<'a> Place<'a> {
    pub(crate) fn of(node: &'a Node) -> Self {
        Self { node, list: None, atomic: None }
    }

    /// Returns the place of a field, whether the schema names it or allows any key.
    pub(crate) fn field(&self, key: &str) -> Option<Self> {
        if let Some(field) = self.node.fields.get(key) {
            return Some(Self { node: field.link.node(), list: field.list.as_ref(), atomic: field.atomic });
        }
        match &self.node.values {
            Some(link) => Some(Self::of(link.node())),
            None if self.node.preserve || self.node.shape == Shape::Any => Some(Self::of(any())),
            None => None,
        }
    }

    /// Returns the place of a list's items.
    pub(crate) fn items(&self) -> Self {
        self.node.items.as_ref().map_or_else(|| Self::of(any()), |link| Self::of(link.node()))
    }

    pub(crate) fn list(&self) -> &'a ListType {
        self.list.unwrap_or(&self.node.list)
    }

    pub(crate) fn atomic(&self) -> bool {
        self.atomic.unwrap_or(self.node.atomic)
    }
}

/// Returns the schema that allows anything: objects are looked into, lists are values.
pub(crate) fn any() -> &'static Node {
    static ANY: OnceLock<Node> = OnceLock::new();
    ANY.get_or_init(|| Node { preserve: true, nullable: true, ..Node::default() })
}
