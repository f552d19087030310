//! Names by content: a template that Cluster API treats as immutable gets a new name whenever it changes.

use lattice_protocol::tls::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Hex digits in a name. 32 bits: among a thousand contents of one machine group the chance that two collide is 1 to
/// 8,600. More digits crowd names that are cut at 63 characters.
const HASH_CHARS: usize = 8;

/// The first eight hex digits of the hash of what makes two objects different: API version, kind and spec.
///
/// The order of fields does not count, nor do labels and annotations: they can be changed in place.
pub(super) fn of(object: &Value) -> String {
    let mut hash = Sha256::new();
    for part in ["apiVersion", "kind", "spec"] {
        hash.update(part.as_bytes());
        feed(object.get(part).unwrap_or(&Value::Null), &mut hash);
    }
    let mut hex = hex(&hash.finalize());
    hex.truncate(HASH_CHARS);
    hex
}

/// Feeds a value so that no two different ones feed the same bytes.
fn feed(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| key.as_str());
            hash.update(b"{");
            for (key, value) in sorted {
                hash.update(Value::String(key.clone()).to_string());
                hash.update(b":");
                feed(value, hash);
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                feed(item, hash);
                hash.update(b",");
            }
            hash.update(b"]");
        }
        scalar => hash.update(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_of_fields_and_labels_do_not_count_and_values_do() {
        let one = json!({"kind": "K", "apiVersion": "v", "spec": {"a": 1, "b": {"c": "x", "d": [1, 2]}}});
        let same = json!({"spec": {"b": {"d": [1, 2], "c": "x"}, "a": 1}, "apiVersion": "v", "metadata": {"labels": {"l": "m"}}, "kind": "K"});
        assert_eq!(of(&one), of(&same));
        assert_eq!(of(&one).len(), HASH_CHARS);
        for other in [
            json!({"kind": "K", "apiVersion": "v", "spec": {"a": 1, "b": {"c": "x", "d": [2, 1]}}}),
            json!({"kind": "K", "apiVersion": "v", "spec": {"a": "1", "b": {"c": "x", "d": [1, 2]}}}),
            json!({"kind": "L", "apiVersion": "v", "spec": {"a": 1, "b": {"c": "x", "d": [1, 2]}}}),
        ] {
            assert_ne!(of(&one), of(&other), "{other}");
        }
    }
}
