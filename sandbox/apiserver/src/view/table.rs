//! Tables, as `kubectl get` prints them.

use serde_json::{Value, json};

use super::{Include, columns, partial};
use crate::core::Core;
use crate::kinds::Resource;

/// Makes a table of objects.
pub(crate) fn table(
    core: &Core,
    resource: &Resource,
    objects: Vec<Value>,
    meta: Value,
    include: Include,
    with_columns: bool,
) -> Value {
    let now = core.config.clock.now();
    let scale = objects.first().is_some_and(|object| object["kind"] == "Scale" && resource.kind != "Scale");
    let columns = if scale { columns::of_scale(resource.is_custom()) } else { columns::of(resource) };
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells = if scale { columns::scale_cells(&object, now) } else { columns::cells(resource, &object, now) };
            let mut row = json!({"cells": cells});
            if let Some(condition) = ended(resource, &object) {
                row["conditions"] = json!([condition]);
            }
            match include {
                Include::Metadata => row["object"] = partial(&object),
                Include::Object => row["object"] = object,
                Include::None => row["object"] = Value::Null,
            }
            row
        })
        .collect();
    // Kinds without columns of their own are shown by other means, which know no empty list.
    let none = rows.is_empty() && columns::are_plain(resource);
    let rows = if none { Value::Null } else { Value::Array(rows) };
    let columns = if with_columns { columns } else { Value::Null };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": columns, "rows": rows,
    })
}

/// Marks the row of a pod that has ended.
fn ended(resource: &Resource, object: &Value) -> Option<Value> {
    let phase = crate::json::text(object, &["status", "phase"]);
    let text = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    resource.is("", "Pod").then(|| json!({"type": "Completed", "status": "True", "reason": phase, "message": text}))
}
