//! Schemas of custom resources: from `openAPIV3Schema` to ours.

use serde_json::Value;

use super::{Checks, Field, Link, ListType, Node, Shape, any, builtin};

/// Reads a text of a schema; absent reads as empty.
pub(crate) fn text(schema: &Value, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Compiles the schema of a version; its objects have the metadata of every kind.
pub(crate) fn compile(schema: &Value) -> Node {
    let mut root = node(schema);
    root.shape = Shape::Object;
    as_object(&mut root);
    root
}

/// Compiles a schema that is not an object's root.
pub(crate) fn compile_plain(schema: &Value) -> Node {
    node(schema)
}

/// Gives an object its `apiVersion`, `kind` and `metadata`.
fn as_object(node: &mut Node) {
    for key in ["apiVersion", "kind"] {
        node.fields.entry(key.to_owned()).or_insert_with(|| Node { shape: Shape::String, ..Node::default() }.into());
    }
    let meta = Link::Named(builtin::OBJECT_META, std::sync::OnceLock::new());
    let field = Field { link: meta, ..Node::default().into() };
    let own = node.fields.insert("metadata".to_owned(), field);
    if let Some(Field { link: Link::Own(own), .. }) = own {
        let limits = own.fields.iter().filter_map(|(key, field)| match &field.link {
            Link::Own(inner) => Some((key.clone(), copy_checks(inner)?)),
            Link::Named(..) => None,
        });
        let checks = Checks { fields: limits.collect(), ..Checks::default() };
        if !checks.fields.is_empty() {
            node.checks.get_or_insert_default().fields.insert("metadata".to_owned(), checks);
        }
    }
}

/// Copies what a schema says about a name.
fn copy_checks(node: &Node) -> Option<Checks> {
    let checks = node.checks.as_ref()?;
    Some(Checks {
        allowed: checks.allowed.clone(),
        length_min: checks.length_min,
        length_max: checks.length_max,
        pattern: checks.pattern.clone(),
        ..Checks::default()
    })
}

fn node(schema: &Value) -> Node {
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let mut out = Node {
        shape: if flag("x-kubernetes-int-or-string") { Shape::IntOrString } else { shape(schema) },
        nullable: flag("nullable"),
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        atomic: text(schema, "x-kubernetes-map-type") == "atomic",
        list: list_type(schema),
        default: schema.get("default").cloned(),
        format: text(schema, "format"),
        ..Node::default()
    };
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        out.fields.insert(key.clone(), node(inner).into());
    }
    out.required = names(schema, "required");
    out.values = match schema.get("additionalProperties") {
        Some(inner @ Value::Object(_)) => Some(node(inner).into()),
        // What is in such values is not described: objects in them lose their fields.
        Some(Value::Bool(true)) => Some(Node { nullable: true, ..Node::default() }.into()),
        _ => None,
    };
    out.items = schema.get("items").filter(|items| items.is_object()).map(|items| node(items).into());
    let checks = checks(schema, false);
    out.checks = has_checks(&checks).then(|| Box::new(checks));
    if out.embedded {
        as_object(&mut out);
    }
    out
}

fn shape(schema: &Value) -> Shape {
    match text(schema, "type").as_str() {
        "object" => Shape::Object,
        "array" => Shape::Array,
        "string" => Shape::String,
        "integer" => Shape::Integer,
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        _ => Shape::Any,
    }
}

fn list_type(schema: &Value) -> ListType {
    match text(schema, "x-kubernetes-list-type").as_str() {
        "set" => ListType::Set,
        "map" => ListType::Map(names(schema, "x-kubernetes-list-map-keys")),
        _ => ListType::Atomic,
    }
}

fn names(schema: &Value, key: &str) -> Vec<String> {
    let names = schema.get(key).and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(String::from).collect()
}

/// Reads value validations. Inside `allOf` and its like they repeat the structure (`nested`).
fn checks(schema: &Value, nested: bool) -> Checks {
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let several = |key: &str| {
        let parts = schema.get(key).and_then(Value::as_array).into_iter().flatten();
        parts.map(|part| checks(part, true)).collect::<Vec<_>>()
    };
    let mut out = Checks {
        one_of: several("oneOf"),
        all_of: several("allOf"),
        any_of: if flag("x-kubernetes-int-or-string") { Vec::new() } else { several("anyOf") },
        not: schema.get("not").map(|inner| Box::new(checks(inner, true))),
        allowed: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        length_min: count("minLength"),
        length_max: count("maxLength"),
        items_min: count("minItems"),
        items_max: count("maxItems"),
        properties_min: count("minProperties"),
        properties_max: count("maxProperties"),
        unique: flag("uniqueItems"),
        format: text(schema, "format"),
        ..Checks::default()
    };
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        out.pattern = Some((pattern.to_owned(), regex::Regex::new(pattern).ok()));
    }
    if nested {
        out.shape = Some(shape(schema)).filter(|shape| *shape != Shape::Any);
        out.required = names(schema, "required");
        for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            out.fields.insert(key.clone(), checks(inner, true));
        }
        out.items = schema.get("items").filter(|items| items.is_object()).map(|items| Box::new(checks(items, true)));
        out.values = schema.get("additionalProperties").filter(|v| v.is_object()).map(|v| Box::new(checks(v, true)));
    }
    out
}

fn has_checks(checks: &Checks) -> bool {
    let Checks { one_of, all_of, any_of, not, allowed, pattern, format, unique, .. } = checks;
    !(one_of.is_empty() && all_of.is_empty() && any_of.is_empty() && allowed.is_empty() && format.is_empty())
        || not.is_some()
        || pattern.is_some()
        || *unique
        || [checks.minimum, checks.maximum, checks.multiple_of].iter().any(Option::is_some)
        || [
            checks.length_min,
            checks.length_max,
            checks.items_min,
            checks.items_max,
            checks.properties_min,
            checks.properties_max,
        ]
        .iter()
        .any(Option::is_some)
}

/// Finds the schema at a path of field names.
pub(crate) fn find<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter().try_fold(node, |node, key| {
        if let Some(field) = node.fields.get(*key) {
            return Some(field.link.node());
        }
        match &node.values {
            Some(values) => Some(values.node()),
            None => node.preserve.then(any),
        }
    })
}
