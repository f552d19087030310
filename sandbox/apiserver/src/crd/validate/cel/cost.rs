//! What evaluating a rule may cost at most: sizes follow from the limits of the schema, and where it has none from what
//! fits into a request.

use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue};
use serde_json::Value;

use super::types;
use crate::json;

/// Bytes of a request.
const REQUEST_BYTES_MAX: f64 = 3_145_728.0;
/// What a text or a list may have at most, its quotes or brackets aside.
const UNBOUNDED: f64 = REQUEST_BYTES_MAX - 2.0;
/// What reading a text costs for each of its bytes.
const TEXT: f64 = 0.1;
/// What each byte of a pattern multiplies the cost of a match by.
const PATTERN: f64 = 0.25;
/// What a named format multiplies the cost of reading a text by.
const FORMAT: f64 = 32.0;
/// Bytes that one character may have.
const CHARACTER_BYTES_MAX: f64 = 4.0;

/// Tells how often data of a schema may occur in one request where nothing limits it.
pub(super) fn cardinality(schema: &Value) -> f64 {
    (REQUEST_BYTES_MAX / (smallest(schema) + 1.0)).floor()
}

/// Returns how many bytes data of a schema has at least.
fn smallest(schema: &Value) -> f64 {
    match json::text(schema, &["type"]) {
        "boolean" => 4.0,
        "string" => match json::text(schema, &["format"]) {
            "date" => 12.0,
            "date-time" => 22.0,
            "duration" => 4.0,
            _ => 2.0,
        },
        "array" => 2.0,
        "object" => {
            let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            let required = json::list(schema, &["required"]);
            let needed = fields.filter(|(name, inner)| {
                required.iter().any(|key| key == name.as_str()) && inner.get("default").is_none()
            });
            needed.map(|(name, inner)| to_float(name.len()) + smallest(inner) + 4.0).sum::<f64>() + 2.0
        }
        _ => 1.0,
    }
}

/// Returns how many items, entries or bytes data of a schema has at most; what is counted as one piece has one.
fn largest(schema: &Value) -> f64 {
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    if schema.get("x-kubernetes-int-or-string").is_some_and(|set| *set == true) {
        return UNBOUNDED;
    }
    match json::text(schema, &["type"]) {
        "string" => text_size(schema),
        "array" => {
            let inner = schema.get("items").map_or(1.0, smallest);
            number("maxItems").unwrap_or_else(|| (UNBOUNDED / (inner + 1.0)).floor())
        }
        "object" => match schema.get("additionalProperties").filter(|values| values.is_object()) {
            Some(values) => number("maxProperties").unwrap_or_else(|| (UNBOUNDED / (smallest(values) + 6.0)).floor()),
            // Whole objects are compared as one piece.
            None => 1.0,
        },
        "boolean" | "integer" | "number" => 1.0,
        _ => UNBOUNDED,
    }
}

fn text_size(schema: &Value) -> f64 {
    let length = schema.get("maxLength").and_then(Value::as_f64);
    let values = json::list(schema, &["enum"]).iter().filter_map(Value::as_str);
    match json::text(schema, &["format"]) {
        "date" | "date-time" | "duration" => 1.0,
        "byte" => length.unwrap_or(UNBOUNDED),
        _ => match (length, values.map(str::len).max()) {
            (Some(length), _) => length * CHARACTER_BYTES_MAX,
            (None, Some(longest)) => to_float(longest),
            (None, None) => UNBOUNDED,
        },
    }
}

#[expect(clippy::cast_precision_loss, reason = "lengths are far below what a float holds exactly")]
fn to_float(length: usize) -> f64 {
    length as f64
}

/// Estimates an expression over data of a schema.
pub(super) fn of(expression: &IdedExpr, schema: &Value) -> f64 {
    let own = Known { schema: Some(schema), size: largest(schema) };
    let mut walk = Walk { names: vec![("self".to_owned(), own), ("oldSelf".to_owned(), own)] };
    walk.cost(expression).0
}

/// What is known about a value.
#[derive(Clone, Copy)]
struct Known<'a> {
    schema: Option<&'a Value>,
    size: f64,
}

impl<'a> Known<'a> {
    const ONE: Known<'static> = Known { schema: None, size: 1.0 };
    const ANY: Known<'static> = Known { schema: None, size: UNBOUNDED };
    /// The name of an entry: counted as if it had no length, since no schema can limit it.
    const KEY: Known<'static> = Known { schema: None, size: 0.0 };

    fn sized(size: f64) -> Self {
        Self { schema: None, size }
    }

    fn of(schema: &'a Value) -> Self {
        Self { schema: Some(schema), size: largest(schema) }
    }

    fn is_list(&self) -> bool {
        self.schema.is_none_or(|schema| json::text(schema, &["type"]) == "array")
    }

    fn items(&self) -> Known<'a> {
        self.schema.and_then(|schema| schema.get("items")).map_or(Known::ANY, Known::of)
    }

    fn values(&self) -> Known<'a> {
        self.schema.and_then(|schema| schema.get("additionalProperties")).map_or(Known::ANY, Known::of)
    }

    fn field(&self, name: &str) -> Known<'a> {
        let field = self.schema.and_then(|schema| {
            types::property(schema, name).or_else(|| schema.get("additionalProperties").filter(|v| v.is_object()))
        });
        field.map_or(Known::ANY, Known::of)
    }
}

struct Walk<'a> {
    names: Vec<(String, Known<'a>)>,
}

fn scaled(size: f64, factor: f64) -> f64 {
    (size * factor).ceil()
}

impl<'a> Walk<'a> {
    fn cost(&mut self, expression: &IdedExpr) -> (f64, Known<'a>) {
        match &expression.expr {
            Expr::Literal(literal) => (0.0, literal_size(literal)),
            Expr::Ident(name) => {
                let known = self.names.iter().rev().find(|(known, _)| known == name).map(|(_, known)| *known);
                (1.0, known.unwrap_or(Known::ANY))
            }
            Expr::Select(select) => {
                let (cost, operand) = self.cost(&select.operand);
                if select.test { (cost, Known::ONE) } else { (cost + 1.0, operand.field(&select.field)) }
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let cost: f64 = list.elements.iter().map(|element| self.cost(element).0).sum();
                (10.0 + cost, Known::sized(to_float(list.elements.len())))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Map(map) => (30.0, Known::sized(to_float(map.entries.len()))),
            Expr::Struct(_) | Expr::Unspecified => (40.0, Known::ANY),
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> (f64, Known<'a>) {
        let (range_cost, range) = self.cost(&comprehension.iter_range);
        let (start_cost, start) = self.cost(&comprehension.accu_init);
        let depth = self.names.len();
        let first = if range.is_list() { range.items() } else { Known::KEY };
        let (first, second) = match &comprehension.iter_var2 {
            Some(_) if range.is_list() => (Known::ONE, range.items()),
            Some(_) => (Known::KEY, range.values()),
            None => (first, Known::ANY),
        };
        self.names.push((comprehension.iter_var.clone(), first));
        self.names.extend(comprehension.iter_var2.clone().map(|name| (name, second)));
        let builds = matches!(comprehension.accu_init.expr, Expr::List(_) | Expr::Map(_));
        let gathered = if builds { Known::sized(range.size) } else { start };
        self.names.push((comprehension.accu_var.clone(), gathered));
        let turn = self.cost(&comprehension.loop_cond).0 + self.cost(&comprehension.loop_step).0;
        let (result, _) = self.cost(&comprehension.result);
        self.names.truncate(depth);
        (range_cost + start_cost + result + range.size * turn, gathered)
    }

    fn call(&mut self, call: &CallExpr) -> (f64, Known<'a>) {
        let target = call.target.as_ref().map(|target| self.cost(target));
        let arguments: Vec<(f64, Known<'a>)> = call.args.iter().map(|argument| self.cost(argument)).collect();
        let before: f64 = target.iter().chain(&arguments).map(|(cost, _)| cost).sum();
        let (own, known) = own_cost(&call.func_name, target.map(|(_, known)| known), &arguments);
        match (call.func_name.as_str(), arguments.as_slice()) {
            // Only one of two branches is evaluated.
            ("_?_:_", [(condition, _), (yes, a), (no, b)]) => {
                (condition + yes.max(*no), Known::sized(a.size.max(b.size)))
            }
            _ => (before + own, known),
        }
    }
}

fn literal_size(literal: &LiteralValue) -> Known<'static> {
    match literal {
        LiteralValue::String(text) => Known::sized(to_float(text.inner().len())),
        LiteralValue::Bytes(bytes) => Known::sized(to_float(bytes.inner().len())),
        _ => Known::ONE,
    }
}

/// Returns what a function costs beside its arguments, and what it yields.
fn own_cost<'a>(name: &str, target: Option<Known<'a>>, arguments: &[(f64, Known<'a>)]) -> (f64, Known<'a>) {
    let size = |index: usize| arguments.get(index).map_or(1.0, |(_, known)| known.size);
    let of_target = target.map_or_else(|| size(0), |known| known.size);
    match name {
        "_&&_" | "_||_" => (0.0, Known::ONE),
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => (scaled(size(0).min(size(1)), TEXT), Known::ONE),
        "@in" if arguments.get(1).is_some_and(|(_, known)| known.is_list()) => (size(1), Known::ONE),
        "_+_" => {
            let both = size(0) + size(1);
            let texts = arguments.iter().any(|(_, known)| known.size > 1.0);
            (if texts { scaled(both, TEXT) } else { 1.0 }, Known::sized(if texts { both } else { 1.0 }))
        }
        "_[_]" => {
            let inner =
                arguments.first().map(|(_, known)| if known.is_list() { known.items() } else { known.values() });
            (1.0, inner.unwrap_or(Known::ANY))
        }
        "matches" | "find" | "findAll" => {
            let pattern = if target.is_some() { size(0) } else { size(1) };
            (scaled(of_target + 1.0, TEXT) * scaled(pattern, PATTERN), Known::sized(of_target))
        }
        "contains" => (scaled(of_target, TEXT) * scaled(size(0), TEXT), Known::ONE),
        "startsWith" | "endsWith" => (scaled(size(0), TEXT), Known::ONE),
        "lowerAscii" | "upperAscii" | "trim" | "reverse" | "quote" | "split" | "replace" | "substring" | "join" => {
            (scaled(of_target, TEXT), Known::sized(of_target))
        }
        "isSorted" | "sum" | "min" | "max" | "indexOf" | "lastIndexOf" => {
            // Each item is compared, by its length where it is a text.
            let item = target.filter(Known::is_list).map_or(1.0, |list| scaled(list.items().size, TEXT));
            (of_target * item, Known::ONE)
        }
        // A named format is a long pattern.
        "validate" => (scaled(size(0), TEXT) * FORMAT, Known::ONE),
        "url" | "isURL" | "ip" | "isIP" | "cidr" | "isCIDR" => (scaled(size(0), TEXT), Known::sized(size(0))),
        "equivalent" | "intersects" => (size(0) * size(1), Known::ONE),
        // How long a text of something else becomes nobody knows.
        "string" => (1.0, Known::sized(f64::MAX)),
        _ => (1.0, Known::ONE),
    }
}
