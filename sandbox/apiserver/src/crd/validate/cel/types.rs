//! The types of CEL expressions over a schema: enough to refuse what names fields that are not there or compares what
//! cannot be compared, in the words of the real checker.

use std::sync::OnceLock;

use kube_cel::cel::Program;
use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use serde_json::{Value, json};

use crate::json;

/// Names that are types or hold functions.
const NAMESPACES: &str = " int uint double bool string bytes list map null_type type optional format ip cidr math sets \
                          strings base64 url quantity semver timestamp duration optional_type google kubernetes net ";
/// Functions that the real server's environment has.
const FUNCTIONS: &str = " size contains startsWith endsWith matches find findAll charAt indexOf lastIndexOf lowerAscii \
                         upperAscii replace split substring trim join reverse format quote isSorted sum min max \
                         url isURL getScheme getHost getHostname getPort getEscapedPath getQuery ip isIP isCanonical \
                         family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast cidr \
                         isCIDR containsIP containsCIDR prefixLength masked quantity isQuantity isInteger asInteger \
                         asApproximateFloat sign add sub isGreaterThan isLessThan compareTo validate dns1123Label named \
                         semver isSemver major minor patch int uint double bool string bytes timestamp duration type dyn \
                         getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear getHours getMilliseconds getMinutes \
                         getMonth getSeconds of none ofNonZeroValue hasValue value orValue or optMap optFlatMap has all \
                         exists exists_one map filter transformList transformMap transformMapEntry existsOne equivalent \
                         intersects greatest least abs ceil floor round trunc sign isNaN isInf isFinite bitAnd bitOr \
                         bitXor bitNot bitShiftLeft bitShiftRight sqrt encode decode path group serviceAccount resource \
                         subresource namespace name check allowed reason errored error authorizer \
                         requestResource fieldSelector labelSelector first last slice flatten distinct sort sortBy \
                         range lists includes jsonpatch apply cel ";

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
}

/// Compiles an expression over `self`, and tells its type.
///
/// # Errors
/// What is wrong with it, as the real compiler writes it.
pub(super) fn compile<'a>(text: &str, schema: &'a Value, root: bool) -> Result<(Program, Type<'a>), String> {
    let program = Program::compile(text).map_err(|error| error.to_string().replace("\n| ", "\n | "))?;
    let own = of_schema(schema, root);
    let mut checker = Checker { text, names: vec![("self".to_owned(), own.clone()), ("oldSelf".to_owned(), own)] };
    let kind = checker.infer(program.expression())?;
    Ok((program, kind))
}

/// Compiles an expression over values of unknown types; answers its type where that is a scalar one.
pub(super) fn compile_over(
    text: &str,
    known: &[&str],
    variables: Option<&Value>,
) -> Result<Option<&'static str>, String> {
    let program = Program::compile(text).map_err(|error| error.to_string().replace("\n| ", "\n | "))?;
    let mut names: Vec<(String, Type<'_>)> = known.iter().map(|name| ((*name).to_owned(), Type::Dyn)).collect();
    names.extend(variables.map(|schema| ("variables".to_owned(), Type::Object(schema, false))));
    let kind = Checker { text, names }.infer(program.expression())?;
    Ok(match kind {
        Type::Null => Some("null_type"),
        Type::List(_) => Some("list"),
        Type::Map(_) => Some("map"),
        other => other.scalar(),
    })
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
    fn scalar(&self) -> Option<&'static str> {
        Some(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            _ => return None,
        })
    }
}

struct Checker<'t, 'a> {
    text: &'t str,
    names: Vec<(String, Type<'a>)>,
}

impl<'a> Checker<'_, 'a> {
    /// Writes an error with the place where it is.
    fn error(&self, at: usize, what: &str) -> String {
        let before = &self.text[..at];
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
        let shown = self.text.lines().nth(line).unwrap_or_default();
        format!("ERROR: <input>:{}:{}: {what}\n | {shown}\n | {}^", line + 1, column + 1, ".".repeat(column))
    }

    /// Finds where a pattern stands; the start where it is nowhere.
    fn place(&self, pattern: &str) -> usize {
        let found = regex::Regex::new(pattern).ok().and_then(|regex| regex.find(self.text).map(|found| found.start()));
        found.unwrap_or(0)
    }

    fn undeclared(&self, name: &str, at: usize) -> String {
        self.error(at, &format!("undeclared reference to '{name}' (in container '')"))
    }

    fn infer(&mut self, expression: &IdedExpr) -> Result<Type<'a>, String> {
        match &expression.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Bytes(_) => Type::Bytes,
                LiteralValue::Double(_) => Type::Double,
                LiteralValue::Int(_) => Type::Int,
                LiteralValue::String(_) => Type::String,
                LiteralValue::Null => Type::Null,
                LiteralValue::UInt(_) => Type::Dyn,
            }),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let mut inner = Type::Dyn;
                for (index, element) in list.elements.iter().enumerate() {
                    let kind = self.infer(element)?;
                    if index == 0 {
                        inner = kind;
                    }
                }
                Ok(Type::List(Box::new(inner)))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Map(_) => Ok(Type::Map(Box::new(Type::Dyn))),
            Expr::Struct(_) | Expr::Unspecified => Ok(Type::Dyn),
        }
    }

    fn name(&self, name: &str) -> Result<Type<'a>, String> {
        if let Some((_, kind)) = self.names.iter().rev().find(|(known, _)| known == name) {
            return Ok(kind.clone());
        }
        if name.starts_with(['@', '_']) || NAMESPACES.contains(&format!(" {name} ")) {
            return Ok(Type::Dyn);
        }
        let at = self.place(&format!(r"\b{}\b", regex::escape(name)));
        Err(self.undeclared(name, at))
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Type<'a>, String> {
        let operand = self.infer(&select.operand)?;
        let found = match operand {
            Type::Object(schema, root) => field(schema, root, &select.field).ok_or_else(|| {
                let at = self.place(&format!(r"\.\s*{}\b", regex::escape(&select.field)));
                self.error(at, &format!("undefined field '{}'", select.field))
            })?,
            Type::Map(values) => *values,
            Type::Dyn => Type::Dyn,
            other => match other.scalar() {
                Some(kind) => {
                    let at = self.place(&format!(r"\.\s*{}\b", regex::escape(&select.field)));
                    return Err(self.error(at, &format!("type '{kind}' does not support field selection")));
                }
                None => Type::Dyn,
            },
        };
        Ok(if select.test { Type::Bool } else { found })
    }

    fn call(&mut self, call: &CallExpr) -> Result<Type<'a>, String> {
        let name = call.func_name.as_str();
        let target = call.target.as_ref().map(|target| self.infer(target)).transpose()?;
        let mut kinds = Vec::new();
        for argument in &call.args {
            kinds.push(self.infer(argument)?);
        }
        if let Some((operator, _)) = OPERATORS.iter().find(|(_, known)| *known == name) {
            return self.operator(operator, name, &kinds);
        }
        if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && !FUNCTIONS.contains(&format!(" {name} "))
        {
            let at = self.place(&format!(r"\b{name}\s*\("));
            let at = at + self.text[at..].find('(').unwrap_or(0);
            return Err(self.undeclared(name, at));
        }
        Ok(match (name, kinds.as_slice()) {
            ("_?_:_", [_, then, _]) => then.clone(),
            ("_[_]", [Type::List(inner) | Type::Map(inner), _]) => (**inner).clone(),
            ("-_", [kind]) => kind.clone(),
            ("size" | "int" | "indexOf" | "lastIndexOf" | "compareTo", _) => Type::Int,
            ("string" | "lowerAscii" | "upperAscii" | "trim" | "join" | "substring" | "charAt" | "quote", _) => {
                Type::String
            }
            ("replace" | "format", _) => target.filter(|kind| matches!(kind, Type::String)).unwrap_or(Type::Dyn),
            ("double", _) => Type::Double,
            ("bytes", _) => Type::Bytes,
            ("timestamp", _) => Type::Timestamp,
            ("duration", _) => Type::Duration,
            ("split" | "findAll", _) => Type::List(Box::new(Type::String)),
            (
                "!_"
                | "@in"
                | "@not_strictly_false"
                | "contains"
                | "startsWith"
                | "endsWith"
                | "matches"
                | "isSorted"
                | "bool",
                _,
            ) => Type::Bool,
            _ => Type::Dyn,
        })
    }

    /// Checks that an operator takes its operands.
    fn operator(&self, operator: &str, name: &str, kinds: &[Type<'a>]) -> Result<Type<'a>, String> {
        let [left, right] = kinds else { return Ok(Type::Dyn) };
        let compares = matches!(operator, "==" | "!=" | "<" | "<=" | ">" | ">=");
        let result = match operator {
            _ if compares || matches!(operator, "&&" | "||") => Type::Bool,
            _ => match (left, right) {
                (Type::Timestamp, Type::Timestamp) => Type::Duration,
                (Type::Timestamp, _) | (_, Type::Timestamp) => Type::Timestamp,
                _ => left.clone(),
            },
        };
        let (Some(a), Some(b)) = (left.scalar(), right.scalar()) else { return Ok(result) };
        let numbers = |kind: &str| matches!(kind, "int" | "double");
        let times = |kind: &str| matches!(kind, "timestamp" | "duration");
        let fits = match operator {
            "==" | "!=" => a == b,
            "<" | "<=" | ">" | ">=" => a == b || (numbers(a) && numbers(b)),
            "&&" | "||" => a == "bool" && b == "bool",
            "+" => (a == b && !matches!(a, "bool" | "timestamp")) || (a != b && times(a) && times(b)),
            "-" => (a == b && (numbers(a) || times(a))) || (a == "timestamp" && b == "duration"),
            "%" => a == "int" && b == "int",
            _ => a == b && numbers(a),
        };
        if fits {
            return Ok(result);
        }
        let at = self.place(&regex::escape(operator));
        Err(self.error(at, &format!("found no matching overload for '{name}' applied to '({a}, {b})'")))
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Result<Type<'a>, String> {
        let inner = match self.infer(&comprehension.iter_range)? {
            Type::List(inner) => *inner,
            Type::Map(_) => Type::String,
            _ => Type::Dyn,
        };
        let depth = self.names.len();
        let second = comprehension.iter_var2.as_ref().map(|name| (name.clone(), Type::Dyn));
        let first = if second.is_some() { Type::Dyn } else { inner };
        self.names.push((comprehension.iter_var.clone(), first));
        self.names.extend(second);
        let start = self.infer(&comprehension.accu_init)?;
        self.names.push((comprehension.accu_var.clone(), Type::Dyn));
        self.infer(&comprehension.loop_step)?;
        let result = self.infer(&comprehension.result);
        self.names.truncate(depth);
        Ok(match (result?, start) {
            (Type::Dyn, Type::Bool) => Type::Bool,
            (Type::Dyn, Type::List(_)) => Type::List(Box::new(Type::Dyn)),
            (kind, _) => kind,
        })
    }
}

/// Operators with the names of their functions.
const OPERATORS: [(&str, &str); 13] = [
    ("==", "_==_"),
    ("!=", "_!=_"),
    ("<=", "_<=_"),
    (">=", "_>=_"),
    ("<", "_<_"),
    (">", "_>_"),
    ("&&", "_&&_"),
    ("||", "_||_"),
    ("+", "_+_"),
    ("-", "_-_"),
    ("*", "_*_"),
    ("/", "_/_"),
    ("%", "_%_"),
];

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
    fields.into_iter().flatten().find(|(key, _)| escaped(key) == name).map(|(_, inner)| inner)
}

/// Finds the type of a field of an object.
fn field<'a>(schema: &'a Value, root: bool, name: &str) -> Option<Type<'a>> {
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
