//! What a text in a document stands for.

use serde_json::Value;

use crate::json::parse::number;

/// The tag of texts that are nothing else.
const TEXT: &str = "tag:yaml.org,2002:str";
const BINARY: &str = "tag:yaml.org,2002:binary";
/// The tags whose texts are read as what they look like.
const READ: [&str; 5] = ["int", "float", "bool", "null", "timestamp"];

/// Reads a text; one that is plain may be a number, a switch or nothing.
pub(super) fn read(text: &str, plain: bool, tag: Option<&str>) -> Result<Value, String> {
    let wanted = tag.and_then(|tag| tag.strip_prefix("tag:yaml.org,2002:")).filter(|tag| READ.contains(tag));
    match tag {
        Some(BINARY) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            let bytes = bytes.map_err(|_| "yaml: !!binary value contains invalid base64 data".to_owned())?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned().into());
        }
        Some(TEXT) => return Ok(text.into()),
        Some(_) if wanted.is_none() => return Ok(text.into()),
        None if !plain => return Ok(text.into()),
        _ => {}
    }
    let value = plainly(text)?;
    let kind = match &value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        _ => "str",
    };
    match wanted {
        Some(wanted) if wanted != kind && !(wanted == "float" && kind == "int") && wanted != "timestamp" => {
            Err(format!("yaml: cannot decode !!{kind} `{text}` as a !!{wanted}"))
        }
        _ => Ok(value),
    }
}

fn plainly(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true.into(),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false.into(),
        ".nan" | ".NaN" | ".NAN" => return Err("json: unsupported value: NaN".to_owned()),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Err("json: unsupported value: +Inf".to_owned());
        }
        "-.inf" | "-.Inf" | "-.INF" => return Err("json: unsupported value: -Inf".to_owned()),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            numeric(text).unwrap_or_else(|| text.into())
        }
        _ => text.into(),
    })
}

fn numeric(text: &str) -> Option<Value> {
    let plain = if text.starts_with('.') { text.to_owned() } else { text.replace('_', "") };
    if let Some(whole) = integer(&plain) {
        return Some(whole);
    }
    let digits = plain.trim_start_matches(['+', '-']);
    let signs = plain.len() - digits.len();
    let (mantissa, exponent) = digits.split_once(['e', 'E']).map_or((digits, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let only_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let bare = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !bare.is_empty() && only_digits(bare)
    });
    let fits = signs <= 1 && only_digits(whole) && only_digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let float: f64 = plain.parse().ok().filter(|_| fits && exponent_fits)?;
    // Whole floats come out without a fraction.
    if float.fract() == 0.0 && float.abs() < 1e21 { number(&format!("{float:.0}")) } else { number(&float.to_string()) }
}

/// Reads a whole number with the prefix of its base: `0x`, `0o` or `0` alone, `0b`.
fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(two) if two.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| char::from(byte).is_digit(base)) {
        return None;
    }
    match i64::from_str_radix(&format!("{sign}{digits}"), base) {
        Ok(whole) => Some(whole.into()),
        Err(_) if sign.is_empty() => {
            // What no signed integer holds is read again as JSON reads it.
            u64::from_str_radix(digits, base).ok().and_then(|whole| number(&whole.to_string()))
        }
        Err(_) => None,
    }
}

/// Makes a key of a map of a value.
pub(super) fn key(value: &Value, under: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(on) => Ok(on.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err(format!("unsupported map key of type: %!s(<nil>), key: <nil>, value: {}", shown(under))),
        other => Err(format!("yaml: invalid map key: {}", shown(other))),
    }
}

/// Writes a value as a program in Go shows it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key:?}:{}", shown(value))).collect();
            format!("map[interface {{}}]interface {{}}{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}
