//! Whether an expression fits the types of what it names, in the words of the real checker.

use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use regex::Regex;

use super::overloads::{self, Found};
use super::types::{Type, field};

/// Names that are types or hold functions.
const NAMESPACES: &str = " int uint double bool string bytes list map null_type type optional format ip cidr sets \
                          strings lists url quantity semver timestamp duration optional_type google kubernetes net ";
/// Functions that the real server's environment has.
const FUNCTIONS: &str = " size contains startsWith endsWith matches find findAll charAt indexOf lastIndexOf \
                         lowerAscii upperAscii replace split substring trim join reverse format isSorted \
                         sum min max url isURL getScheme getHost getHostname getPort getEscapedPath getQuery ip \
                         isIP isCanonical family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast \
                         isGlobalUnicast cidr isCIDR containsIP containsCIDR prefixLength masked quantity \
                         isQuantity isInteger asInteger asApproximateFloat add sub isGreaterThan isLessThan \
                         compareTo validate dns1123Label named semver isSemver major minor patch int uint double \
                         bool string bytes timestamp duration type dyn getDate getDayOfMonth getDayOfWeek \
                         getDayOfYear getFullYear getHours getMilliseconds getMinutes getMonth getSeconds of none \
                         ofNonZeroValue hasValue value orValue or optMap optFlatMap has all exists exists_one map \
                         filter transformList transformMap transformMapEntry existsOne equivalent intersects path \
                         group serviceAccount resource subresource namespace name check allowed reason errored \
                         error authorizer requestResource fieldSelector labelSelector first last slice \
                         distinct sort sortBy range lists includes sign escapeKey ";
/// Words that are kept for the language.
const RESERVED: &str =
    " as break const continue else for function if import let loop package namespace return var void while ";
/// What only holds functions.
const HOLDERS: [&str; 6] = ["format", "ip", "lists", "optional", "sets", "strings"];

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

/// Infers the type of an expression.
///
/// # Errors
/// What does not fit, all of it.
pub(super) fn check<'a>(text: &str, names: Vec<(String, Type<'a>)>, expression: &IdedExpr) -> Result<Type<'a>, String> {
    let mut checker = Checker { text, names, cursor: 0, wrong: Vec::new(), late: Vec::new() };
    let (kind, _) = checker.infer(expression);
    if checker.wrong.is_empty() {
        checker.wrong = std::mem::take(&mut checker.late);
    }
    if checker.wrong.is_empty() {
        return Ok(kind);
    }
    checker.wrong.sort();
    checker.wrong.dedup();
    let lines: Vec<String> = checker.wrong.iter().map(|(at, what)| checker.error(*at, what)).collect();
    Err(lines.join("\n"))
}

/// A type, and where the text says so.
type Placed<'a> = (Type<'a>, usize);

/// Walks an expression beside its text: parts come in the order in which they are written.
struct Checker<'t, 'a> {
    text: &'t str,
    names: Vec<(String, Type<'a>)>,
    /// Up to where the text was read.
    cursor: usize,
    wrong: Vec<(usize, String)>,
    /// What is only looked at where all types fit.
    late: Vec<(usize, String)>,
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

    fn say(&mut self, at: usize, what: String) -> Type<'a> {
        self.wrong.push((at, what));
        Type::Dyn
    }

    fn undeclared(&mut self, name: &str, at: usize) -> Type<'a> {
        self.say(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    /// Says that nothing fits the types of a call.
    fn mismatch(&mut self, at: usize, name: &str, receiver: Option<&Type<'a>>, kinds: &[Type<'a>]) -> Type<'a> {
        let shown: Vec<String> = kinds.iter().map(Type::shown).collect();
        let on = receiver.map(|kind| format!("{}.", kind.shown())).unwrap_or_default();
        self.say(at, format!("found no matching overload for '{name}' applied to '{on}({})'", shown.join(", ")))
    }

    /// Reads on to a pattern; answers where it begins and ends.
    fn read(&mut self, pattern: &str) -> Option<(usize, usize)> {
        let found = Regex::new(pattern).ok()?.find(&self.text[self.cursor..])?;
        let (start, end) = (self.cursor + found.start(), self.cursor + found.end());
        self.cursor = end;
        Some((start, end))
    }

    /// Reads on to a plain piece of text.
    fn pass(&mut self, piece: &str) -> usize {
        self.read(&regex::escape(piece)).map_or(self.cursor, |(start, _)| start)
    }

    fn infer(&mut self, expression: &IdedExpr) -> Placed<'a> {
        match &expression.expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let at = self.pass("[");
                (Type::List(Box::new(self.alike(&list.elements))), at)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Map(map) => {
                let at = self.pass("{");
                let (mut keys, mut values): (Type<'a>, Type<'a>) = (Type::Dyn, Type::Dyn);
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    keys = self.like(keys, &entry.key);
                    values = self.like(values, &entry.value);
                }
                (Type::Map(Box::new(values)), at)
            }
            Expr::Struct(_) | Expr::Unspecified => (Type::Dyn, self.cursor),
        }
    }

    /// Infers the type that all of some expressions have.
    fn alike(&mut self, all: &[IdedExpr]) -> Type<'a> {
        all.iter().fold(Type::Dyn, |known, one| self.like(known, one))
    }

    fn like(&mut self, known: Type<'a>, one: &IdedExpr) -> Type<'a> {
        let (kind, at) = self.infer(one);
        if !known.same(&kind) {
            self.say(at, format!("expected type '{}' but found '{}'", known.shown(), kind.shown()));
        }
        if known.is_unknown() { kind } else { known }
    }

    fn literal(&mut self, literal: &LiteralValue) -> Placed<'a> {
        let kind = match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Bytes(_) => Type::Bytes,
            LiteralValue::Double(_) => Type::Double,
            LiteralValue::Int(_) => Type::Int,
            LiteralValue::String(_) => Type::String,
            LiteralValue::Null => Type::Null,
            LiteralValue::UInt(_) => Type::UInt,
        };
        let pattern = match kind {
            Type::String | Type::Bytes => r#"[rRbB]*('([^'\\]|\\.)*'|"([^"\\]|\\.)*")"#,
            Type::Bool | Type::Null => r"\b(true|false|null)\b",
            _ => r"[0-9.][0-9a-zA-Z.]*",
        };
        let found = self.read(pattern);
        (kind, found.map_or(self.cursor, |(start, _)| start))
    }

    fn name(&mut self, name: &str) -> Placed<'a> {
        if name.starts_with('@') {
            let known = self.names.iter().rev().find(|(known, _)| known == name).map(|(_, kind)| kind.clone());
            return (known.unwrap_or(Type::Dyn), self.cursor);
        }
        let at = self.read(&format!(r"\b{}\b", regex::escape(name))).map_or(self.cursor, |(start, _)| start);
        if let Some((_, kind)) = self.names.iter().rev().find(|(known, _)| known == name) {
            return (kind.clone(), at);
        }
        let spaced = format!(" {name} ");
        if RESERVED.contains(&spaced) {
            return (self.say(at, format!("reserved identifier: {name}")), at);
        }
        if name.starts_with('_') || NAMESPACES.contains(&spaced) {
            return (Type::Dyn, at);
        }
        (self.undeclared(name, at), at)
    }

    fn select(&mut self, select: &SelectExpr) -> Placed<'a> {
        let asked = if select.test { self.read(r"\bhas\s*\(").map(|(_, end)| end - 1) } else { None };
        let (operand, _) = self.infer(&select.operand);
        let dot = self.read(&format!(r"\.\s*{}\b", regex::escape(&select.field)));
        let at = asked.or(dot.map(|(start, _)| start)).unwrap_or(self.cursor);
        let found = match operand {
            Type::Object(schema, root) => match field(schema, root, &select.field) {
                Some(kind) => kind,
                None => self.say(at, format!("undefined field '{}'", select.field)),
            },
            Type::Map(values) => *values,
            Type::Dyn | Type::Optional(_) | Type::Null => Type::Dyn,
            other => self.say(at, format!("type '{}' does not support field selection", other.shown())),
        };
        (if select.test { Type::Bool } else { found }, at)
    }

    fn call(&mut self, call: &CallExpr) -> Placed<'a> {
        let name = call.func_name.as_str();
        if let Some((operator, _)) = OPERATORS.iter().find(|(_, known)| *known == name) {
            return self.operator(operator, name, &call.args);
        }
        match (name, call.args.as_slice()) {
            ("@in", [item, holder]) => return self.within(item, holder),
            ("_[_]", [holder, key]) => return self.index(holder, key),
            ("_?_:_", [condition, then, other]) => return self.choice(condition, then, other),
            ("!_" | "-_", [operand]) => {
                let at = self.pass(&name[..1]);
                let (kind, _) = self.infer(operand);
                let fits = match name {
                    "!_" => matches!(kind, Type::Bool | Type::Dyn),
                    _ => matches!(kind, Type::Int | Type::Double | Type::Dyn),
                };
                return (if fits { kind } else { self.mismatch(at, name, None, &[kind]) }, at);
            }
            _ => {}
        }
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let kinds = call.args.iter().map(|argument| self.infer(argument)).last();
            return (Type::Dyn, kinds.map_or(self.cursor, |(_, at)| at));
        }
        self.function(name, call)
    }

    fn function(&mut self, name: &str, call: &CallExpr) -> Placed<'a> {
        let holder = call.target.as_ref().and_then(|target| match &target.expr {
            Expr::Ident(holder) if HOLDERS.contains(&holder.as_str()) => Some(format!("{holder}.{name}")),
            _ => None,
        });
        let receiver = call.target.as_ref().map(|target| self.infer(target).0);
        let at = self.read(&format!(r"\b{name}\s*\(")).map_or(self.cursor, |(_, end)| end - 1);
        let mut kinds = Vec::new();
        let mut places = Vec::new();
        for argument in &call.args {
            // What is put into a text may be of any kind.
            let (kind, place) = match &argument.expr {
                Expr::List(list) if name == "format" => {
                    let place = self.pass("[");
                    list.elements.iter().for_each(|element| {
                        self.infer(element);
                    });
                    (Type::List(Box::new(Type::Dyn)), place)
                }
                _ => self.infer(argument),
            };
            kinds.push(kind);
            places.push(place);
        }
        let known = FUNCTIONS.contains(&format!(" {name} "));
        let (full, receiver) = match holder {
            Some(full) => (full, None),
            None => (name.to_owned(), receiver),
        };
        if let ("type", [kind]) = (name, kinds.as_slice()) {
            return (Type::Kind(Box::new(kind.clone())), at);
        }
        let kind = match (full.as_str(), kinds.as_slice()) {
            ("optional.of" | "optional.ofNonZeroValue", [kind]) => Type::Optional(Box::new(kind.clone())),
            ("optional.none", []) => Type::Optional(Box::new(Type::Dyn)),
            (held, _) if held.starts_with("format.") => Type::Dyn,
            _ => match overloads::find(&full, receiver.as_ref(), &kinds) {
                Found::Some(kind) => kind,
                Found::None => self.mismatch(at, &full, receiver.as_ref(), &kinds),
                Found::Unknown if known => Type::Dyn,
                Found::Unknown => self.undeclared(name, at),
            },
        };
        self.pattern(name, call, &places);
        (kind, at)
    }

    /// A pattern that is written out has to be one.
    fn pattern(&mut self, name: &str, call: &CallExpr, places: &[usize]) {
        let (Some(last), Some(place)) = (call.args.last(), places.last()) else { return };
        let Expr::Literal(LiteralValue::String(text)) = &last.expr else { return };
        if name == "matches" && Regex::new(text.inner()).is_err() {
            self.late.push((*place, "invalid matches argument".to_owned()));
        }
    }

    fn within(&mut self, item: &IdedExpr, holder: &IdedExpr) -> Placed<'a> {
        let (item, _) = self.infer(item);
        let at = self.read(r"\bin\b").map_or(self.cursor, |(start, _)| start);
        let (holder, _) = self.infer(holder);
        let fits = match &holder {
            Type::List(inner) => inner.same(&item),
            Type::Map(_) => item.same(&Type::String),
            other => other.is_unknown(),
        };
        let kinds = [item, holder];
        (if fits { Type::Bool } else { self.mismatch(at, "@in", None, &kinds) }, at)
    }

    fn index(&mut self, holder: &IdedExpr, key: &IdedExpr) -> Placed<'a> {
        let (holder, _) = self.infer(holder);
        let at = self.pass("[");
        let (key, _) = self.infer(key);
        let found = match (&holder, &key) {
            (Type::List(inner), Type::Int | Type::Dyn) | (Type::Map(inner), Type::String | Type::Dyn) => {
                (**inner).clone()
            }
            (Type::Dyn, _) => Type::Dyn,
            _ => return (self.mismatch(at, "_[_]", None, &[holder, key]), at),
        };
        (found, at)
    }

    fn choice(&mut self, condition: &IdedExpr, then: &IdedExpr, other: &IdedExpr) -> Placed<'a> {
        let (condition, _) = self.infer(condition);
        let at = self.pass("?");
        let (then, _) = self.infer(then);
        self.pass(":");
        let (other, _) = self.infer(other);
        let fits = matches!(condition, Type::Bool | Type::Dyn) && then.same(&other);
        if !fits {
            return (self.mismatch(at, "_?_:_", None, &[condition, then, other]), at);
        }
        (if then.is_unknown() { other } else { then }, at)
    }

    /// Checks that an operator takes its operands.
    fn operator(&mut self, operator: &str, name: &str, operands: &[IdedExpr]) -> Placed<'a> {
        let [left, right] = operands else { return (Type::Dyn, self.cursor) };
        let (left, first) = self.infer(left);
        let at = self.pass(operator);
        let (right, second) = self.infer(right);
        if matches!(operator, "&&" | "||") {
            for (kind, at) in [(left, first), (right, second)] {
                if !matches!(kind, Type::Bool | Type::Dyn) {
                    self.say(at, format!("expected type 'bool' but found '{}'", kind.shown()));
                }
            }
            return (Type::Bool, at);
        }
        let kinds = [left, right];
        match joined(operator, &kinds) {
            Some(kind) => (kind, at),
            None => (self.mismatch(at, name, None, &kinds), at),
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Placed<'a> {
        let (range, place) = self.infer(&comprehension.iter_range);
        let item = match &range {
            Type::List(inner) => (**inner).clone(),
            Type::Map(_) => Type::String,
            Type::Dyn => Type::Dyn,
            other => {
                let kind = other.shown();
                let what = format!(
                    "expression of type '{kind}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.say(place, what)
            }
        };
        let at = self
            .read(r"\.\s*(all|exists|exists_one|existsOne|map|filter)\s*\(")
            .map_or(self.cursor, |(_, end)| end - 1);
        self.read(&format!(r"\b{}\s*,", regex::escape(&comprehension.iter_var)));
        let depth = self.names.len();
        self.names.push((comprehension.iter_var.clone(), item.clone()));
        self.names.push((comprehension.accu_var.clone(), Type::Dyn));
        let kind = self.step(comprehension, &item, at);
        self.names.truncate(depth);
        (kind, at)
    }

    /// Infers what a macro comes to by what it does for each item.
    fn step(&mut self, comprehension: &ComprehensionExpr, item: &Type<'a>, at: usize) -> Type<'a> {
        let Expr::Call(step) = &comprehension.loop_step.expr else { return Type::Dyn };
        match (step.func_name.as_str(), step.args.as_slice()) {
            ("_&&_" | "_||_", [_, body]) => {
                let (kind, at) = self.infer(body);
                if !matches!(kind, Type::Bool | Type::Dyn) {
                    self.say(at, format!("expected type 'bool' but found '{}'", kind.shown()));
                }
                Type::Bool
            }
            ("_?_:_", [condition, then, _]) => {
                let (condition, _) = self.infer(condition);
                let counts = matches!(&comprehension.accu_init.expr, Expr::Literal(_));
                let made =
                    if counts { Type::Int } else { Type::List(Box::new(self.made(then).unwrap_or(item.clone()))) };
                if !matches!(condition, Type::Bool | Type::Dyn) {
                    self.mismatch(at, "_?_:_", None, &[condition, made.clone(), made.clone()]);
                }
                if counts { Type::Bool } else { made }
            }
            _ => Type::List(Box::new(self.made(&comprehension.loop_step).unwrap_or(Type::Dyn))),
        }
    }

    /// Infers the type of the item that a step adds to a list.
    fn made(&mut self, step: &IdedExpr) -> Option<Type<'a>> {
        let Expr::Call(add) = &step.expr else { return None };
        let Expr::List(list) = &add.args.last()?.expr else { return None };
        let element = list.elements.first()?;
        Some(self.infer(element).0)
    }
}

/// Tells what two operands come to; nothing where they do not go together.
fn joined<'a>(operator: &str, kinds: &[Type<'a>; 2]) -> Option<Type<'a>> {
    let [left, right] = kinds;
    let compares = matches!(operator, "<" | "<=" | ">" | ">=");
    if matches!(operator, "==" | "!=") {
        return left.same(right).then_some(Type::Bool);
    }
    if let (Type::List(a), Type::List(b), "+") = (left, right, operator) {
        return a.same(b).then(|| if a.is_unknown() { right.clone() } else { left.clone() });
    }
    if left.is_unknown() || right.is_unknown() {
        return Some(if compares { Type::Bool } else { Type::Dyn });
    }
    let (a, b) = (left.scalar()?, right.scalar()?);
    let numbers = |kind: &str| matches!(kind, "int" | "double" | "uint");
    let fits = match operator {
        _ if compares => a == b || (numbers(a) && numbers(b)),
        "+" => match (a, b) {
            ("timestamp", "duration") | ("duration", "timestamp") => return Some(Type::Timestamp),
            _ => a == b && !matches!(a, "bool" | "timestamp"),
        },
        "-" => match (a, b) {
            ("timestamp", "timestamp") => return Some(Type::Duration),
            ("timestamp", "duration") => return Some(Type::Timestamp),
            _ => a == b && (numbers(a) || a == "duration"),
        },
        "%" => a == b && matches!(a, "int" | "uint"),
        _ => a == b && numbers(a),
    };
    fits.then(|| if compares { Type::Bool } else { left.clone() })
}
