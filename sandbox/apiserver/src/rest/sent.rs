//! Patches as requests send them.

use serde_json::{Map, Value};

use super::decode;
use crate::json::{self, Parsed};
use crate::patch::{self, Kind, Refusal};
use crate::schema::Node;
use crate::status::{Result, Status};

/// Operations that one JSON patch may have.
const OPERATIONS_MAX: usize = 10_000;

/// A patch that was read.
pub(crate) struct Sent {
    patch: Patch,
    /// What it says twice or in vain.
    pub(crate) odd: Vec<String>,
}

enum Patch {
    Json(Vec<Value>),
    Merge(Value),
    Strategic(Map<String, Value>),
}

impl Sent {
    /// Reads the body of a patch that is no apply.
    pub(crate) fn read(kind: Kind, bytes: &[u8]) -> Result<Self> {
        if kind == Kind::Json {
            let operations = operations(decoded(bytes)?.value)?;
            return Ok(Self { odd: beyond(&operations), patch: Patch::Json(operations) });
        }
        let strategic = kind == Kind::Strategic;
        let parsed = if strategic { json::parse(bytes).map_err(Status::bad_request) } else { decoded(bytes) };
        let Parsed { value, duplicates, .. } = parsed?;
        let patch = match (value, strategic) {
            (Value::Object(map), true) => Patch::Strategic(map),
            (value @ Value::Object(_), false) => Patch::Merge(value),
            (Value::Null, true) => Patch::Strategic(Map::new()),
            (Value::Null, false) => return Err(Status::bad_request("Invalid JSON Patch")),
            (value, _) => {
                let got = json::type_name(&value).replace("integer", "number");
                let why = format!("json: cannot unmarshal {got} into Go value of type map[string]interface {{}}");
                return Err(if strategic { Status::bad_request(why) } else { not_decoded(&why) });
            }
        };
        Ok(Self { patch, odd: duplicates })
    }

    /// Returns what the patch makes of an object.
    pub(crate) fn applied(&self, node: &Node, target: &Value) -> Result<Value> {
        if let Patch::Strategic(map) = &self.patch {
            return patch::apply_strategic(node, target, map).map_err(|refusal| match refusal {
                Refusal::Format(why) => Status::bad_request(why),
                Refusal::Content(_) => unfit(),
                Refusal::Other(why) => Status::unforeseen(why),
            });
        }
        let mut out = target.clone();
        match &self.patch {
            Patch::Json(operations) => patch::apply_json(&mut out, operations).map_err(|_| unfit())?,
            Patch::Merge(value) => patch::apply_merge(&mut out, value),
            Patch::Strategic(_) => {}
        }
        Ok(out)
    }

    /// Returns a strategic merge patch, which errors quote alone.
    pub(crate) fn strategic(&self) -> Option<Value> {
        match &self.patch {
            Patch::Strategic(map) => Some(Value::Object(map.clone())),
            _ => None,
        }
    }
}

/// Refuses a patch that does not fit its object; the real server does not say why.
fn unfit() -> Status {
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request").with_empty_details()
}

fn not_decoded(why: &str) -> Status {
    Status::bad_request(format!("error decoding patch: {why}"))
}

fn decoded(bytes: &[u8]) -> Result<Parsed> {
    json::parse(bytes).map_err(|error| not_decoded(&error))
}

/// Reads the operations of a JSON patch; null stands for none.
fn operations(value: Value) -> Result<Vec<Value>> {
    let wrong = |value: &Value, wanted: &str| {
        let got = json::type_name(value).replace("integer", "number");
        not_decoded(&format!("json: cannot unmarshal {got} into Go {wanted}"))
    };
    let list = match value {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        other => return Err(wrong(&other, "value of type []handlers.jsonPatchOp")),
    };
    if list.len() > OPERATIONS_MAX {
        let text = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            list.len()
        );
        return Err(Status::new(413, "RequestEntityTooLarge", text));
    }
    for operation in &list {
        match operation {
            Value::Object(map) => {
                for key in ["op", "path", "from"] {
                    if let Some(other) = map.get(key).filter(|value| !value.is_string() && !value.is_null()) {
                        return Err(wrong(other, &format!("struct field jsonPatchOp.{key} of type string")));
                    }
                }
            }
            Value::Null => {}
            other => return Err(wrong(other, "value of type handlers.jsonPatchOp")),
        }
    }
    Ok(list)
}

/// Names what operations have that means nothing.
fn beyond(operations: &[Value]) -> Vec<String> {
    let mut out = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let keys = operation.as_object().into_iter().flat_map(serde_json::Map::keys);
        let unknown = keys.filter(|key| !matches!(key.as_str(), "op" | "path" | "from" | "value"));
        out.extend(unknown.map(|key| format!("{}\"[{index}].{key}\"", decode::JSON_PATCH)));
    }
    out
}
