//! The types of CEL expressions over a schema: enough to refuse what names fields that are not there or compares what
//! cannot be compared, in the words of the real checker.

use std::sync::OnceLock;

use kube_cel::cel::Program;
use kube_cel::cel::common::ast::{Expr, IdedExpr};
use serde_json::{Value, json};

use super::check::check;

use crate::json;

/// What an expression comes to.
#[derive(Clone, Debug)]
pub(super) enum Type<'a> {
    /// Only evaluation tells.
    Dyn,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    Null,
    List(Box<Type<'a>>),
    Map(Box<Type<'a>>),
    /// An object with the fields of a schema; the flag tells a whole resource.
    Object(&'a Value, bool),
    Optional(Box<Type<'a>>),
    /// The type of something.
    Kind(Box<Type<'a>>),
    /// A type of one of the libraries.
    Named(&'static str),
    UInt,
}

/// Compiles an expression over `self`, and tells its type.
///
/// # Errors
/// What is wrong with it, as the real compiler writes it.
pub(super) fn compile<'a>(
    text: &str,
    schema: &'a Value,
    (root, optional): (bool, bool),
) -> Result<(Program, Type<'a>), String> {
    let program = Program::compile(text).map_err(|error| said(&error.to_string()))?;
    let own = of_schema(schema, root);
    let old = if optional { Type::Optional(Box::new(own.clone())) } else { own.clone() };
    let names = vec![("self".to_owned(), own), ("oldSelf".to_owned(), old)];
    let kind = check(text, names, program.expression())?;
    Ok((program, kind))
}

/// Compiles an expression over values of unknown types; answers its type where that is a scalar one.
pub(super) fn compile_over(
    text: &str,
    known: &[&str],
    variables: Option<&Value>,
) -> Result<Option<&'static str>, String> {
    let program = Program::compile(text).map_err(|error| said(&error.to_string()))?;
    let mut names: Vec<(String, Type<'_>)> = known.iter().map(|name| ((*name).to_owned(), Type::Dyn)).collect();
    names.extend(variables.map(|schema| ("variables".to_owned(), Type::Object(schema, false))));
    let kind = check(text, names, program.expression())?;
    Ok(match kind {
        Type::Null => Some("null_type"),
        Type::List(_) => Some("list"),
        Type::Map(_) => Some("map"),
        Type::Dyn if read(program.expression()) => Some("dyn"),
        other => other.scalar(),
    })
}

/// Brings what the parser says into the words of the real one, which names only what may end a part that is whole.
fn said(error: &str) -> String {
    let mut out = Vec::new();
    for one in error.replace("\n| ", "\n | ").split("ERROR: ").filter(|one| !one.contains(": Incomplete `")) {
        let (before, set) = one.split_once(" expecting {").unwrap_or((one, ""));
        let (set, after) = set.split_once('}').unwrap_or(("", ""));
        let end = ["<EOF>", "':'"].into_iter().find(|end| set.contains("'=='") && set.contains(end));
        out.push(end.map_or_else(|| one.to_owned(), |end| format!("{before} expecting {end}{after}")));
    }
    out.join("ERROR: ")
}

/// Tells what is only read from an object of unknown form.
fn read(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Ident(name) => matches!(name.as_str(), "object" | "oldObject" | "params"),
        Expr::Select(select) => !select.test && read(&select.operand),
        Expr::Call(call) if call.func_name == "_[_]" => call.args.first().is_some_and(read),
        _ => false,
    }
}

fn of_schema(schema: &Value, root: bool) -> Type<'_> {
    if schema.get("x-kubernetes-int-or-string").is_some_and(|set| *set == true) {
        return Type::Dyn;
    }
    match (json::text(schema, &["type"]), json::text(schema, &["format"])) {
        ("boolean", _) => Type::Bool,
        ("integer", _) => Type::Int,
        ("number", _) => Type::Double,
        ("string", "byte") => Type::Bytes,
        ("string", "date" | "date-time") => Type::Timestamp,
        ("string", "duration") => Type::Duration,
        ("string", _) => Type::String,
        ("array", _) => {
            let items = schema.get("items").filter(|items| items.is_object());
            Type::List(Box::new(items.map_or(Type::Dyn, |items| of_schema(items, embedded(items)))))
        }
        ("object", _) => match schema.get("additionalProperties").filter(|values| values.is_object()) {
            Some(values) => Type::Map(Box::new(of_schema(values, embedded(values)))),
            None => Type::Object(schema, root),
        },
        _ => Type::Dyn,
    }
}

fn embedded(schema: &Value) -> bool {
    schema.get("x-kubernetes-embedded-resource").is_some_and(|set| *set == true)
}

/// Writes a field's name as expressions do.
fn escaped(name: &str) -> String {
    const RESERVED: [&str; 20] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

impl Type<'_> {
    /// Names a scalar; nothing where overloads are not told apart here.
    pub(super) fn scalar(&self) -> Option<&'static str> {
        Some(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::UInt => "uint",
            _ => return None,
        })
    }

    /// Tells what only evaluation tells.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    /// Names a type as error texts do.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Dyn => "dyn".to_owned(),
            Self::Null => "null".to_owned(),
            Self::List(inner) => format!("list({})", inner.shown()),
            Self::Map(inner) if inner.is_unknown() => "map(dyn, dyn)".to_owned(),
            Self::Map(inner) => format!("map(string, {})", inner.shown()),
            Self::Object(..) => "selfType".to_owned(),
            Self::Optional(inner) => format!("optional_type({})", inner.shown()),
            Self::Kind(inner) => format!("type({})", inner.shown()),
            Self::Named(name) => (*name).to_owned(),
            other => other.scalar().unwrap_or("dyn").to_owned(),
        }
    }

    /// Tells whether values of two types may be the same.
    pub(super) fn same(&self, other: &Type<'_>) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Type::Dyn) | (Self::Null, Type::Null) | (Self::Kind(_), Type::Kind(_)) => true,
            (Self::Null, kind) | (kind, Type::Null) => kind.may_be_null(),
            (Self::List(a), Type::List(b)) | (Self::Map(a), Type::Map(b)) | (Self::Optional(a), Type::Optional(b)) => {
                a.same(b)
            }
            (Self::Object(a, _), Type::Object(b, _)) => a == b,
            (Self::Named(a), Type::Named(b)) => a == b,
            (a, b) => a.scalar().is_some() && a.scalar() == b.scalar(),
        }
    }

    fn may_be_null(&self) -> bool {
        matches!(
            self,
            Self::Object(..) | Self::Timestamp | Self::Duration | Self::Optional(_) | Self::Named(_) | Self::Kind(_)
        )
    }
}

/// Returns what rules may read of an object's metadata.
fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(
        || json!({"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}),
    )
}

/// Finds the schema of a field by the name that expressions give it.
pub(super) fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = schema.get("properties").and_then(Value::as_object);
    let known = |key: &str| escaped(key) == name || (key == "namespace" && name == key);
    fields.into_iter().flatten().find(|(key, _)| known(key)).map(|(_, inner)| inner)
}

/// Finds the type of a field of an object.
pub(super) fn field<'a>(schema: &'a Value, root: bool, name: &str) -> Option<Type<'a>> {
    let own = property(schema, name);
    if root {
        match name {
            "apiVersion" | "kind" => return Some(Type::String),
            "metadata" => return Some(Type::Object(metadata(), false)),
            _ => {}
        }
    }
    own.map(|inner| of_schema(inner, embedded(inner)))
}
