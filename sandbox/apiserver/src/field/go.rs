//! Values as the real server's language writes them: some of its texts quote them so.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::go_quote;

/// Names the type that the real server reads a value as.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn in_order(map: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    map.iter().collect()
}

/// Writes a value as it would stand in a program.
pub(crate) fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => go_quote(text),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let fields = in_order(map).into_iter().map(|(key, item)| format!("{}:{}", go_quote(key), syntax(item)));
            format!("map[string]interface {{}}{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Writes a value as it is printed.
pub(crate) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields = in_order(map).into_iter().map(|(key, item)| format!("{key}:{}", print(item)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// Writes a number with a fraction as it is printed: with an exponent from a million on.
pub(crate) fn float(number: f64) -> String {
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !number.is_finite() || (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_an_exponent_from_a_million_on() {
        let cases = [(1.5, "1.5"), (123_456.5, "123456.5"), (1e6, "1e+06"), (1.25e20, "1.25e+20"), (0.00001, "1e-05")];
        for (number, text) in cases {
            assert_eq!(float(number), text);
        }
    }
}
