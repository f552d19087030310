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
    let columns = if scale { columns::of_scale() } else { columns::of(resource) };
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells = if scale { columns::scale_cells(&object, now) } else { columns::cells(resource, &object, now) };
            let mut row = json!({"cells": cells});
            match include {
                Include::Metadata => row["object"] = partial(&object),
                Include::Object => row["object"] = object,
                Include::None => row["object"] = Value::Null,
            }
            row
        })
        .collect();
    let columns = if with_columns { columns } else { Value::Null };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": columns, "rows": rows,
    })
}
