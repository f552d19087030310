//! `/faults`: what goes wrong on purpose, set while the server runs.

use serde::Deserialize;
use serde_json::json;

use super::respond::Answer;
use crate::core::Core;
use crate::faults::Fault;
use crate::status::{Result, Status};

/// What `PUT /faults/seed` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    seed: u64,
}

/// Lists, adds and takes away faults, and makes chance repeatable.
pub(super) fn answer(core: &Core, method: &str, path: &str, bytes: &[u8]) -> Result<Answer> {
    let unreadable = |error: serde_json::Error| Status::bad_request(error.to_string());
    let faults = &core.faults;
    let rest = path.trim_start_matches("/faults").trim_matches('/');
    let value = match (method, rest) {
        ("GET", "") => {
            let list = faults.list().into_iter().map(|(number, fault)| {
                let mut fault = serde_json::to_value(fault).unwrap_or_default();
                fault["number"] = number.into();
                fault
            });
            list.collect()
        }
        ("POST", "") => {
            let fault: Fault = serde_json::from_slice(bytes).map_err(unreadable)?;
            fault.check().map_err(Status::bad_request)?;
            json!({"number": faults.add(fault)})
        }
        ("PUT", "seed") => {
            let Seed { seed } = serde_json::from_slice(bytes).map_err(unreadable)?;
            faults.seed(seed);
            json!({"seed": seed})
        }
        ("DELETE", "") => {
            faults.clear();
            json!({})
        }
        ("DELETE", number) => {
            faults.remove(number.parse().map_err(|_| Status::page_not_found())?);
            json!({})
        }
        _ => return Err(Status::page_not_found()),
    };
    Ok(Answer::ok(value))
}
