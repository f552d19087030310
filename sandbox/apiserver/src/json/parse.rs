//! A JSON reader that notes duplicate keys and words its errors as the API's clients know them.

use serde_json::{Map, Number, Value};

/// How deep a document may nest. Deeper ones could exhaust the stack.
const DEPTH_MAX: usize = 512;

/// A document with the paths of keys that came twice.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
    /// A number that no float holds.
    pub(crate) too_large: Option<String>,
}

impl Parsed {
    /// A document in which no key came twice.
    pub(crate) fn plain(value: Value) -> Self {
        Self { value, duplicates: Vec::new(), too_large: None }
    }
}

/// Reads one JSON document.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    parse_with_lines(bytes).map(|(parsed, _)| parsed)
}

/// Reads one JSON document; duplicate keys are also told by their lines, as a reader of YAML tells them.
pub(crate) fn parse_with_lines(bytes: &[u8]) -> Result<(Parsed, Vec<String>), String> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader {
        bytes: text.as_bytes(),
        at: 0,
        path: Vec::new(),
        duplicates: Vec::new(),
        lines: Vec::new(),
        too_large: None,
    };
    let value = reader.value(0)?;
    reader.space();
    match reader.peek() {
        None => Ok((Parsed { value, duplicates: reader.duplicates, too_large: reader.too_large }, reader.lines)),
        Some(_) => Err(format!("invalid character {} after top-level value", reader.quoted())),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    path: Vec<String>,
    duplicates: Vec<String>,
    too_large: Option<String>,
    lines: Vec<String>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Shows the byte at hand as clients know it: quoted, one byte at a time.
    fn quoted(&self) -> String {
        match self.peek().map(char::from) {
            Some('\'') => r"'\''".to_owned(),
            Some('"') => "'\"'".to_owned(),
            Some(c @ ('\n' | '\r' | '\t' | '\\')) => format!("'{}'", c.escape_default()),
            Some(c) if c.is_control() => format!("'\\x{:02x}'", u32::from(c)),
            Some(c) => format!("'{c}'"),
            None => "''".to_owned(),
        }
    }

    fn fail<T>(&self, context: &str) -> Result<T, String> {
        if self.at >= self.bytes.len() {
            return Err("unexpected end of JSON input".to_owned());
        }
        Err(format!("invalid character {} {context}", self.quoted()))
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err("exceeded max depth".to_owned());
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.fail("looking for beginning of value"),
        }
    }

    fn literal(&mut self, word: &'static str, value: Value) -> Result<Value, String> {
        for (index, byte) in word.bytes().enumerate() {
            if self.peek() != Some(byte) {
                let expected = &word[index..=index];
                return self.fail(&format!("in literal {word} (expecting '{expected}')"));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.fail(context);
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // Nothing follows a leading zero but a point or an exponent.
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        Ok(number(text).unwrap_or_else(|| {
            self.too_large.get_or_insert_with(|| text.to_owned());
            Value::Null
        }))
    }

    fn string(&mut self) -> Result<String, String> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                None | Some(0..=0x1f) => return self.fail("in string literal"),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        let raw = self.bytes.get(start..self.at).unwrap_or_default();
        let inner = &raw[1..raw.len() - 1];
        if !inner.contains(&b'\\') {
            return Ok(String::from_utf8_lossy(inner).into_owned());
        }
        serde_json::from_slice(raw).or_else(|_| Ok(lossy_unescape(inner)))
    }

    /// Steps over an escape within a text.
    fn escape(&mut self) -> Result<(), String> {
        let hex = |at: usize| self.bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if (2..6).all(|step| hex(self.at + step)) => 6,
            None => return Err("unexpected end of JSON input".to_owned()),
            Some(b'u') => {
                self.at += (2..6).find(|step| !hex(self.at + step)).unwrap_or(2);
                return self.fail(r"in \u hexadecimal character escape");
            }
            Some(_) => {
                self.at += 1;
                return self.fail("in string escape code");
            }
        };
        self.at += length;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            self.path.push(format!("[{}]", items.len()));
            items.push(self.value(depth + 1)?);
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break self.at += 1,
                _ => return self.fail("after array element"),
            }
        }
        Ok(Value::Array(items))
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut map = Map::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(map));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail("looking for beginning of object key string");
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return self.fail("after object key");
            }
            self.at += 1;
            self.path.push(if self.path.is_empty() { key.clone() } else { format!(".{key}") });
            self.space();
            let start = self.at;
            let value = self.value(depth + 1)?;
            if map.contains_key(&key) {
                let line = self.bytes.iter().take(start).filter(|byte| **byte == b'\n').count() + 1;
                self.lines.push(format!("line {line}: key {key:?} already set in map"));
            }
            if map.insert(key, value).is_some() {
                let path = self.path.concat();
                if !self.duplicates.contains(&path) {
                    self.duplicates.push(path);
                }
            }
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break self.at += 1,
                _ => return self.fail("after object key:value pair"),
            }
        }
        Ok(Value::Object(map))
    }
}

/// Reads a number; one with a fraction or an exponent is a float.
pub(super) fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Value::from(whole));
    }
    let float = text.parse::<f64>().ok().filter(|float| float.is_finite())?;
    // What no 64-bit integer holds is a float, written without an exponent as long as that is usual.
    if text.bytes().all(|digit| digit.is_ascii_digit())
        && let Ok(shown) = float.to_string().parse::<u64>()
    {
        return Some(Value::from(shown));
    }
    Number::from_f64(float).map(Value::Number)
}

/// Makes whole numbers integers however they were written, as whoever reads them without a type takes them.
pub(crate) fn whole(value: &mut Value) {
    /// Above this a float no longer tells neighbouring integers apart.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT_MAX);
            if let Some(float) = float {
                #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
                let integer = float as i64;
                *value = Value::from(integer);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole),
        Value::Object(map) => map.values_mut().for_each(whole),
        _ => {}
    }
}

/// Reads escapes of a text that is no valid Unicode (lone surrogates), as Go does: with replacement characters.
fn lossy_unescape(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let hex: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&hex, 16).unwrap_or(0xfffd);
                out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn notes_duplicate_keys_with_their_path() {
        let parsed = parse(br#"{"spec":{"a":1,"a":2},"l":[{"b":1,"b":1}]}"#).unwrap();
        assert_eq!(parsed.value, json!({"spec": {"a": 2}, "l": [{"b": 1}]}));
        assert_eq!(parsed.duplicates, ["spec.a", "l[0].b"]);
    }

    #[test]
    fn words_errors_as_clients_know_them() {
        let cases = [
            ("{", "unexpected end of JSON input"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("apiVersion: v1", "invalid character 'a' looking for beginning of value"),
            (r#"{"a":"\x"}"#, "invalid character 'x' in string escape code"),
            (r#"{"a":"\u00g0"}"#, r"invalid character 'g' in \u hexadecimal character escape"),
            ("{\"a\":\"\u{1}\"}", r"invalid character '\x01' in string literal"),
            (r#"{"a":01}"#, "invalid character '1' after object key:value pair"),
            (r#"{"a":1.}"#, "invalid character '}' after decimal point in numeric literal"),
            (r#"{"a":1e}"#, "invalid character '}' in exponent of numeric literal"),
            ("ä", "invalid character 'Ã' looking for beginning of value"),
            ("{a}", "invalid character 'a' looking for beginning of object key string"),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), error);
        }
    }

    #[test]
    fn integers_too_large_for_64_bits_are_rounded() {
        assert_eq!(parse(b"12345678901234567890").unwrap().value, json!(12_345_678_901_234_567_000_u64));
    }

    #[test]
    fn whole_numbers_become_integers() {
        let mut value = parse(b"[1e1, 1.0, 1.5, 9223372036854775807]").unwrap().value;
        assert!(value[1].is_f64());
        whole(&mut value);
        assert_eq!(value, json!([10, 1, 1.5, i64::MAX]));
    }
}
