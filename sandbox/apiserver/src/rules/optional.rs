//! The syntax of optional fields (`a.?b.orValue(c)`), which the engine does not read, in words that it does.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::{Captures, Regex};
use serde_json::Value;

/// A path with optional steps: `self.a.?b.?c`, or plain steps after an optional one that are no calls.
const PATTERN: &str = r"\b([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)((?:\.\?[A-Za-z_]\w*)+)";

/// Rewrites optional steps: each asks whether the field is there.
pub(crate) fn plain(rule: &str) -> String {
    static OPTIONAL: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = OPTIONAL.get_or_init(|| Regex::new(PATTERN).ok());
    let Some(pattern) = pattern.as_ref().filter(|_| rule.contains(".?")) else { return rule.to_owned() };
    pattern.replace_all(rule, |found: &Captures<'_>| asked(&found[1], &found[2])).into_owned()
}

fn asked(base: &str, steps: &str) -> String {
    let mut path = base.to_owned();
    let mut there = Vec::new();
    for step in steps.split(".?").filter(|step| !step.is_empty()) {
        path = format!("{path}.{step}");
        there.push(format!("has({path})"));
    }
    format!("({} ? optional.of({path}) : optional.none())", there.join(" && "))
}

/// Rewrites all rules of a schema and notes how they were written.
pub(super) fn rewrite(schema: &mut Value, written: &mut BTreeMap<String, String>) {
    match schema {
        Value::Object(map) => {
            for key in ["rule", "messageExpression"] {
                if let Some(Value::String(rule)) = map.get_mut(key) {
                    let new = super::plain(rule);
                    if new != *rule {
                        written.insert(new.clone(), std::mem::replace(rule, new));
                    }
                }
            }
            map.values_mut().for_each(|inner| rewrite(inner, written));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| rewrite(inner, written)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_steps_ask_first() {
        assert_eq!(
            plain("self.?a.?b.orValue('z') == 'z'"),
            "(has(self.a) && has(self.a.b) ? optional.of(self.a.b) : optional.none()).orValue('z') == 'z'"
        );
        assert_eq!(plain("self.a ? 1 : 2"), "self.a ? 1 : 2");
    }
}
