//! Objects as clients see them: whole, their metadata alone, or as rows of a table.

pub(crate) mod columns;
pub(crate) mod jsonpath;
pub(crate) mod table;

use serde_json::{Value, json};

use crate::core::Core;
use crate::kinds::Resource;
use crate::rest::list::Listed;
use crate::status::{Result, Status};

/// What a table's rows carry beside their cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    #[default]
    Metadata,
    Object,
    None,
}

impl Include {
    /// Reads the parameter `includeObject`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::None),
            other => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
                 'Object', 'None', or empty"
            ))),
        }
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Json,
    Yaml,
    /// What clients written in Go ask for first.
    Protobuf,
}

/// How objects are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shown {
    #[default]
    Object,
    Table(Include),
    /// A table of the version that nobody asks for any more.
    OldTable(Include),
    /// Metadata alone; `old` asks for the version v1beta1.
    Partial {
        old: bool,
    },
    PartialList {
        old: bool,
    },
}

impl Shown {
    pub(crate) fn is_table(self) -> bool {
        matches!(self, Self::Table(_) | Self::OldTable(_))
    }

    pub(crate) fn is_partial(self) -> bool {
        matches!(self, Self::Partial { .. } | Self::PartialList { .. })
    }

    /// Shows one object.
    pub(crate) fn one(self, core: &Core, resource: &Resource, object: Value) -> Result<Value> {
        match self {
            Self::Object => Ok(object),
            Self::Partial { old } => Ok(versioned(partial(&object), old)),
            Self::PartialList { .. } if resource.is_custom() => Err(Status::unforeseen("content is not a list")),
            Self::PartialList { .. } => {
                let group = resource.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
                let text = format!(
                    "you requested PartialObjectMetadataList, but the requested object is not a list (*{group}.{})",
                    resource.kind
                );
                Err(Status::new(406, "NotAcceptable", text))
            }
            Self::OldTable(include) => {
                Self::Table(include).one(core, resource, object).map(|table| versioned(table, true))
            }
            Self::Table(include) => {
                let version = object["metadata"]["resourceVersion"].clone();
                let meta = if version.is_null() { json!({}) } else { json!({"resourceVersion": version}) };
                Ok(table::table(core, resource, vec![object], meta, include, true))
            }
        }
    }

    /// Shows a list.
    pub(crate) fn list(self, core: &Core, resource: &Resource, listed: Listed) -> Result<Value> {
        let mut meta = json!({"resourceVersion": listed.revision.to_string()});
        if !listed.continue_at.is_empty() {
            meta["continue"] = listed.continue_at.as_str().into();
        }
        if let Some(remaining) = listed.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        match self {
            Self::Object => Ok(crate::rest::list::to_value(resource, listed)),
            Self::PartialList { old } => {
                let items: Vec<Value> = listed.items.iter().map(|item| versioned(partial(item), old)).collect();
                let items = if items.is_empty() { Value::Null } else { items.into() };
                let list = json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items,
                });
                Ok(versioned(list, old))
            }
            Self::Partial { .. } => Err(Status::new(
                406,
                "NotAcceptable",
                format!(
                    "you requested PartialObjectMetadata, but the requested object is a list ({})",
                    match (resource.is_custom(), resource.group.split('.').next().unwrap_or_default()) {
                        (true, _) => "*unstructured.UnstructuredList".to_owned(),
                        (false, "") => format!("*core.{}List", resource.kind),
                        (false, group) => format!("*{group}.{}List", resource.kind),
                    }
                ),
            )),
            Self::OldTable(include) => {
                Self::Table(include).list(core, resource, listed).map(|table| versioned(table, true))
            }
            Self::Table(include) => Ok(table::table(core, resource, listed.items, meta, include, true)),
        }
    }

    /// Shows an object of a watch; only the first table tells its columns.
    pub(crate) fn watched(self, core: &Core, resource: &Resource, object: Value, first: bool) -> Value {
        match self {
            Self::Object => object,
            Self::Partial { old } | Self::PartialList { old } => versioned(partial(&object), old),
            Self::OldTable(include) => versioned(Self::Table(include).watched(core, resource, object, first), true),
            Self::Table(include) => {
                let meta = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table::table(core, resource, vec![object], meta, include, first)
            }
        }
    }
}

/// Gives a table or metadata their old version, where that is asked for.
fn versioned(mut shown: Value, old: bool) -> Value {
    if old {
        shown["apiVersion"] = "meta.k8s.io/v1beta1".into();
        for row in shown.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
            if row["object"]["kind"] == "PartialObjectMetadata" {
                row["object"]["apiVersion"] = "meta.k8s.io/v1beta1".into();
            }
        }
    }
    shown
}

/// Shows the metadata of an object alone.
pub(crate) fn partial(object: &Value) -> Value {
    let mut object = std::borrow::Cow::Borrowed(object);
    // A DaemonSet tells the generation of its template only where it is shown as a whole.
    let path = ["metadata", "annotations"];
    if object["kind"] == "DaemonSet" && crate::json::at(&object, &path).is_some() {
        let object = object.to_mut();
        crate::json::remove(object, &[path[0], path[1], "deprecated.daemonset.template.generation"]);
        if crate::json::at(object, &path).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            crate::json::remove(object, &path);
        }
    }
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
