//! OpenAPI documents.

use serde_json::{Value, json};

use crate::http::respond::Answer;
use crate::kinds::{Kinds, join};
use crate::options::Query;
use crate::status::{Result, Status};

/// Answers a path below `/openapi`.
pub(crate) fn answer(kinds: &Kinds, segments: &[&str], _query: &Query) -> Result<Answer> {
    match segments {
        ["openapi", "v2"] => Ok(Answer::ok(
            json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.36.2"}, "paths": {}, "definitions": {}}),
        )),
        ["openapi", "v3"] => Ok(Answer::raw_json(index(kinds).to_string(), "text/plain; charset=utf-8")),
        _ => Err(Status::page_not_found()),
    }
}

fn index(kinds: &Kinds) -> Value {
    let mut paths = json!({});
    for group in kinds.groups() {
        for (version, _) in kinds.group(&group) {
            let path =
                if group.is_empty() { format!("api/{version}") } else { format!("apis/{}", join(&group, &version)) };
            paths[&path] = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash=0")});
        }
    }
    json!({"paths": paths})
}
