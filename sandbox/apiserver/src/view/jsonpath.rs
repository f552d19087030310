//! The JSON paths of printer columns.

use serde_json::Value;

use crate::json;

/// Finds the first value at a path; nothing where there is none.
pub(crate) fn first(object: &Value, path: &str) -> Option<Value> {
    let path = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    find(object, path).into_iter().next()
}

fn find(object: &Value, path: &str) -> Vec<Value> {
    let mut here = vec![object.clone()];
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            // Recursive descent: every value below.
            here = here.iter().flat_map(descend).collect();
            rest = after;
            if !rest.starts_with('[') && !rest.is_empty() {
                let (key, after) = key(rest);
                here = here.iter().filter_map(|value| value.get(&key).cloned()).collect();
                rest = after;
            }
            continue;
        }
        if let Some(after) = rest.strip_prefix('[') {
            let Some((inside, after)) = split_at(after, ']') else { return Vec::new() };
            here = here.iter().flat_map(|value| pick(value, inside)).collect();
            rest = after;
            continue;
        }
        let (key, after) = key(rest.strip_prefix('.').unwrap_or(rest));
        here = here
            .iter()
            .flat_map(|value| match (key.as_str(), value) {
                ("*", Value::Object(map)) => map.values().cloned().collect(),
                ("*", Value::Array(items)) => items.clone(),
                ("", value) => vec![value.clone()],
                (key, value) => value.get(key).cloned().into_iter().collect(),
            })
            .collect();
        rest = after;
    }
    here
}

fn descend(value: &Value) -> Vec<Value> {
    let mut out = vec![value.clone()];
    match value {
        Value::Object(map) => out.extend(map.values().flat_map(descend)),
        Value::Array(items) => out.extend(items.iter().flat_map(descend)),
        _ => {}
    }
    out
}

/// Reads a key up to the next `.` or `[`; `\.` stands for a dot in it.
fn key(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                if let Some((_, next)) = chars.next() {
                    out.push(next);
                }
            }
            '.' | '[' => return (out, &text[at..]),
            c => out.push(c),
        }
    }
    (out, "")
}

/// Splits a text at the first `wanted` that no quotes enclose.
fn split_at(text: &str, wanted: char) -> Option<(&str, &str)> {
    let mut quote: Option<char> = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, c) if c == wanted => return Some((&text[..at], &text[at + 1..])),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

fn pick(value: &Value, inside: &str) -> Vec<Value> {
    let inside = inside.trim();
    if let Some(filter) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let items = value.as_array().cloned().unwrap_or_default();
        return items.into_iter().filter(|item| holds(item, filter)).collect();
    }
    // Several choices: `0,2` or `'a','b'`.
    if let Some((one, others)) = split_at(inside, ',') {
        return pick(value, one).into_iter().chain(pick(value, others)).collect();
    }
    // A quoted key is read like one behind a dot: `\.` stands for a dot in it.
    if let Some(key) = ['\'', '"'].into_iter().find_map(|q| inside.strip_prefix(q)?.strip_suffix(q)) {
        return find(value, &format!(".{key}"));
    }
    match (value, inside) {
        (Value::Array(items), "*") => items.clone(),
        (Value::Object(map), "*") => map.values().cloned().collect(),
        (Value::Array(items), range) => slice(items, range).unwrap_or_default(),
        (value, key) => value.get(key).cloned().into_iter().collect(),
    }
}

/// Takes the items of an index `1`, `-1` or of a range `from:to:step`, either end of which may be left out.
fn slice(items: &[Value], range: &str) -> Option<Vec<Value>> {
    let length = i64::try_from(items.len()).ok()?;
    let parts: Vec<&str> = range.split(':').map(str::trim).collect();
    let end = |text: &str, otherwise: i64| match text {
        "" => Some(otherwise),
        text => text.parse::<i64>().ok().map(|at| if at < 0 { at + length } else { at }),
    };
    let (from, to, step) = match parts[..] {
        [at] => {
            let at = end(at, 0)?;
            (at, at + 1, 1)
        }
        [from, to] => (end(from, 0)?, end(to, length)?, 1),
        [from, to, step] => (end(from, 0)?, end(to, length)?, if step.is_empty() { 1 } else { step.parse().ok()? }),
        _ => return None,
    };
    let step = usize::try_from(step).ok().filter(|step| *step > 0)?;
    let bound = |at: i64| usize::try_from(at.clamp(0, length)).unwrap_or_default();
    if from >= length && parts.len() == 1 {
        return None;
    }
    Some(items.get(bound(from)..bound(to))?.iter().step_by(step).cloned().collect())
}

/// Tells whether a filter like `@.type=="Ready"` holds for an item.
fn holds(item: &Value, filter: &str) -> bool {
    for operator in ["==", "!=", ">=", "<=", ">", "<"] {
        let Some((left, right)) = filter.split_once(operator) else { continue };
        let found = find(item, left.trim().trim_start_matches('@')).into_iter().next();
        let wanted = literal(right.trim());
        let number = |value: &Value| value.as_f64();
        let pair = found.as_ref().and_then(number).zip(number(&wanted));
        return match operator {
            "==" => found.is_some_and(|found| json::same(&found, &wanted)),
            "!=" => found.is_none_or(|found| !json::same(&found, &wanted)),
            ">=" => pair.is_some_and(|(a, b)| a >= b),
            "<=" => pair.is_some_and(|(a, b)| a <= b),
            ">" => pair.is_some_and(|(a, b)| a > b),
            _ => pair.is_some_and(|(a, b)| a < b),
        };
    }
    !find(item, filter.trim().trim_start_matches('@')).is_empty()
}

fn literal(text: &str) -> Value {
    if let Some(inner) = text.strip_prefix(['"', '\'']).and_then(|rest| rest.strip_suffix(['"', '\''])) {
        return inner.into();
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_take_filters_indices_and_stars() {
        let object = json!({"spec": {"l": [{"n": "a", "v": 1}, {"n": "b", "v": 2}]}, "a.b": {"c": 3}});
        let cases = [
            (".spec.l[?(@.n==\"b\")].v", Some(json!(2))),
            (".spec.l[*].v", Some(json!(1))),
            (".spec.l[-1].n", Some(json!("b"))),
            (".spec.none", None),
            (".a\\.b.c", Some(json!(3))),
            // As Cluster API's own columns name a label.
            ("['a\\.b'].c", Some(json!(3))),
            (".spec.l[1:].n", Some(json!("b"))),
            (".spec.l[0:1].n", Some(json!("a"))),
            (".spec.l[5].n", None),
            (".spec.l[1,0].n", Some(json!("b"))),
        ];
        for (path, expected) in cases {
            assert_eq!(first(&object, path), expected, "{path}");
        }
    }
}
