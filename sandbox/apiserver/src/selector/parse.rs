//! Reading label selectors, with the errors that clients know.

use std::collections::BTreeSet;

use super::{LabelSelector, Operator, Requirement};
use crate::names;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) => text,
            Self::Symbol(text) => text,
            Self::End => "",
        }
    }
}

/// Reads a label selector.
pub(crate) fn parse(text: &str) -> Result<LabelSelector, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut out = Vec::new();
    loop {
        match parser.peek() {
            Token::Word(_) | Token::Symbol("!") => {
                out.push(parser.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?);
                match parser.next() {
                    Token::End => return Ok(LabelSelector(out)),
                    Token::Symbol(",") => match parser.peek() {
                        Token::Word(_) | Token::Symbol("!") => {}
                        other => return Err(format!("found '{}', expected: identifier after ','", other.text())),
                    },
                    other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
                }
            }
            Token::End => return Ok(LabelSelector(out)),
            Token::Symbol(symbol) => {
                return Err(format!("found '{symbol}', expected: !, identifier, or 'end of string'"));
            }
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            out.push(Token::Symbol(symbol));
            rest = rest[symbol.len()..].trim_start();
            continue;
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=!(),><".contains(c)).unwrap_or(rest.len());
        out.push(Token::Word(rest[..end].to_owned()));
        rest = rest[end..].trim_start();
    }
    out.push(Token::End);
    out
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.at += 1;
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        let wrong = names::qualified(&key);
        if !wrong.is_empty() {
            let wrong = wrong.join("; ");
            return Err(format!("<nil>: Invalid value: {key:?}: {wrong}"));
        }
        let done = |operator, values: Vec<String>| {
            let mut wrong = Vec::new();
            if matches!(operator, Operator::Greater | Operator::Less) {
                wrong.extend(values.iter().filter(|value| value.parse::<i64>().is_err()).map(|value| {
                    format!(
                        "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    )
                }));
            }
            for (at, value) in values.iter().enumerate() {
                let why = names::label_value(value);
                if !why.is_empty() {
                    wrong.push(format!("values[{at}][{key}]: Invalid value: {value:?}: {}", why.join("; ")));
                }
            }
            match wrong.len() {
                0 => Ok(Requirement { key: key.clone(), operator, values }),
                1 => Err(wrong.concat()),
                _ => Err(format!("[{}]", wrong.join(", "))),
            }
        };
        if absent {
            return done(Operator::Absent, Vec::new());
        }
        match self.peek() {
            Token::End | Token::Symbol(",") => done(Operator::Exists, Vec::new()),
            Token::Symbol("=" | "==") => {
                self.at += 1;
                let value = self.value()?;
                done(Operator::In, vec![value])
            }
            Token::Symbol("!=") => {
                self.at += 1;
                let value = self.value()?;
                done(Operator::NotIn, vec![value])
            }
            Token::Symbol(symbol @ (">" | "<")) => {
                self.at += 1;
                let value = self.value()?;
                done(if symbol == ">" { Operator::Greater } else { Operator::Less }, vec![value])
            }
            Token::Word(word) if word == "in" || word == "notin" => {
                self.at += 1;
                let values = self.values()?;
                done(if word == "in" { Operator::In } else { Operator::NotIn }, values)
            }
            other => Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.text())),
        }
    }

    /// Reads one value; none at all is the empty one.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::Word(value) => {
                self.at += 1;
                Ok(value)
            }
            Token::End | Token::Symbol(",") => Ok(String::new()),
            other @ Token::Symbol(_) => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    /// Reads values in parentheses, each once and in order.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut out = BTreeSet::new();
        match self.peek() {
            Token::Word(_) | Token::Symbol(",") => {}
            Token::Symbol(")") => {
                self.at += 1;
                return Ok(vec![String::new()]);
            }
            other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
        }
        loop {
            match (self.next(), self.peek()) {
                (Token::Word(value), Token::Symbol(",")) => {
                    out.insert(value);
                }
                (Token::Word(value), Token::Symbol(")")) => {
                    out.insert(value);
                    break;
                }
                (Token::Word(_), other) => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                // Nothing before, between or after commas is the empty value.
                (Token::Symbol(","), next) => {
                    if out.is_empty() || matches!(next, Token::Symbol("," | ")")) {
                        out.insert(String::new());
                    }
                    match next {
                        Token::Symbol(")") => break,
                        Token::Symbol(",") => self.at += 1,
                        _ => {}
                    }
                }
                (other, _) => return Err(format!("found '{}', expected: ',', or identifier", other.text())),
            }
        }
        // The parenthesis that closes them.
        self.at += 1;
        Ok(out.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn picks(selector: &str, labels: serde_json::Value, expected: bool) {
        assert_eq!(parse(selector).unwrap().matches_labels(&labels), expected, "{selector} on {labels}");
    }

    #[test]
    fn terms_hold_together() {
        picks("app=x,env in (prod, dev)", json!({"app": "x", "env": "dev"}), true);
        picks("app=x,!env", json!({"app": "x", "env": "dev"}), false);
        picks("env!=prod", json!({}), true);
        picks("n>9", json!({"n": "50"}), true);
        picks("m=", json!({"m": ""}), true);
        picks("m=", json!({}), false);
        picks("", json!({"a": "b"}), true);
        picks("a notin (b),c", json!({"c": ""}), true);
    }

    #[test]
    fn errors_say_what_was_found() {
        let cases = [
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("=x", "found '=', expected: !, identifier, or 'end of string'"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("!!a", "unable to parse requirement: found '!', expected: identifier"),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text).unwrap_err(), error);
        }
    }
}
