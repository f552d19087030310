//! Pruning: fields that the schema does not have are dropped and named.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Node, builtin, typed};

/// What every object has, whatever its schema says.
const IDENTITY: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops fields of a custom resource that its schema does not have.
///
/// # Errors
/// When metadata (the object's own, or an embedded one's) has a field of the wrong type.
pub(crate) fn object(node: &Node, value: &mut Value, unknown: &mut Vec<String>) -> Result<(), String> {
    metadata(value, "metadata", unknown)?;
    walk(node, value, &mut String::new(), unknown, true)
}

fn metadata(value: &mut Value, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    let Some(meta) = value.get_mut("metadata") else { return Ok(()) };
    let mut inner = Vec::new();
    let node = builtin::node(builtin::OBJECT_META);
    typed::read(node, meta, &mut inner)?;
    typed::normalise(node, meta);
    unknown.extend(inner.into_iter().map(|field| format!("{path}.{field}")));
    Ok(())
}

fn walk(
    node: &Node,
    value: &mut Value,
    path: &mut String,
    unknown: &mut Vec<String>,
    root: bool,
) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            if node.values.is_none() && !node.preserve {
                let drop: Vec<String> = map
                    .keys()
                    .filter(|key| !(node.fields.contains_key(*key) || root && IDENTITY.contains(&key.as_str())))
                    .cloned()
                    .collect();
                for key in drop {
                    map.shift_remove(&key);
                    unknown.push(join(path, &key));
                }
            }
            if node.embedded && !root {
                metadata(value, &join(path, "metadata"), unknown)?;
            }
            let Value::Object(map) = value else { return Ok(()) };
            for (key, item) in map.iter_mut() {
                if key == "metadata" && (root || node.embedded) {
                    continue;
                }
                let inner = match node.fields.get(key) {
                    Some(field) => field.link.node(),
                    None => match &node.values {
                        Some(values) => values.node(),
                        None => continue,
                    },
                };
                let length = path.len();
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(key);
                walk(inner, item, path, unknown, false)?;
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            let Some(inner) = &node.items else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                let length = path.len();
                let _ = write!(path, "[{index}]");
                walk(inner.node(), item, path, unknown, false)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
