//! Kinds of CustomResourceDefinitions.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Resource, Source, Subresource, custom_verbs, join, scale};
use crate::json;
use crate::rules::Rules;
use crate::schema::{Node, crd};

/// A column of tables.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: String,
}

/// Where a `scale` finds its numbers.
#[derive(Clone, Debug)]
pub(crate) struct ScalePaths {
    pub(crate) spec: Vec<String>,
    pub(crate) status: Vec<String>,
    pub(crate) selector: Option<Vec<String>>,
}

/// What a CustomResourceDefinition says about one version of its kind.
#[derive(Debug)]
pub(crate) struct Custom {
    pub(crate) storage_version: String,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) selectable: Vec<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) warning: Option<String>,
    pub(crate) terminating: bool,
    /// The schema as it is stored: a part of the definition's own bytes.
    pub(crate) schema: Bytes,
    node: OnceLock<Node>,
    rules: OnceLock<Rules>,
}

impl Custom {
    /// Returns the schema, compiled when it is first asked for.
    pub(crate) fn node(&self) -> &Node {
        self.node.get_or_init(|| crd::compile(&self.schema()))
    }

    /// Returns the CEL rules, compiled when they are first asked for.
    pub(crate) fn rules(&self) -> &Rules {
        self.rules.get_or_init(|| Rules::compile(&self.schema()))
    }

    /// Reads the schema; as a tree it takes many times the memory of its bytes, so nobody keeps it.
    pub(crate) fn schema(&self) -> Value {
        serde_json::from_slice(&self.schema).unwrap_or_default()
    }
}

/// Makes the resources that an established definition serves; `bytes` are the definition as it is stored.
pub(crate) fn resources(definition: &Value, bytes: &Bytes) -> Vec<Arc<Resource>> {
    let spec = &definition["spec"];
    let versions = json::list(spec, &["versions"]);
    let schemas = schemas(bytes);
    let served = versions.iter().enumerate().filter(|(_, version)| version["served"] == true);
    let schema = |index: usize| schemas.get(index).cloned().unwrap_or_default();
    served.map(|(index, version)| Arc::new(resource(definition, spec, versions, version, schema(index)))).collect()
}

/// Finds the versions' schemas in a stored definition.
fn schemas(bytes: &Bytes) -> Vec<Bytes> {
    #[derive(Deserialize)]
    struct Definition<'a> {
        #[serde(borrow)]
        spec: Spec<'a>,
    }
    #[derive(Deserialize)]
    struct Spec<'a> {
        #[serde(borrow)]
        versions: Vec<Version<'a>>,
    }
    #[derive(Deserialize)]
    struct Version<'a> {
        #[serde(borrow, default)]
        schema: Option<Schema<'a>>,
    }
    #[derive(Deserialize)]
    struct Schema<'a> {
        #[serde(borrow, default, rename = "openAPIV3Schema")]
        text: Option<&'a RawValue>,
    }
    impl<'a> Version<'a> {
        fn text(&self) -> &'a str {
            self.schema.as_ref().and_then(|schema| schema.text).map(RawValue::get).unwrap_or_default()
        }
    }
    let versions = serde_json::from_slice::<Definition<'_>>(bytes).map(|all| all.spec.versions).unwrap_or_default();
    versions.iter().map(|version| bytes.slice_ref(version.text().as_bytes())).collect()
}

fn resource(definition: &Value, spec: &Value, versions: &[Value], version: &Value, schema: Bytes) -> Resource {
    let group = json::text(spec, &["group"]);
    let names = &definition["status"]["acceptedNames"];
    let plural = json::text(names, &["plural"]);
    let kind = json::text(names, &["kind"]);
    let name = json::text(version, &["name"]);
    let scale_paths = scale_paths(version);
    let mut subresources = Vec::new();
    if version.pointer("/subresources/status").is_some() {
        subresources.push(Subresource {
            name: "status".to_owned(),
            kind: kind.to_owned(),
            group_version: None,
            verbs: ["get", "patch", "update"].map(String::from).into(),
        });
    }
    if scale_paths.is_some() {
        subresources.push(scale());
    }
    let storage_version = versions.iter().find(|version| version["storage"] == true).unwrap_or(version);
    Resource {
        group: group.to_owned(),
        version: name.to_owned(),
        kind: kind.to_owned(),
        list_kind: json::text(names, &["listKind"]).to_owned(),
        plural: plural.to_owned(),
        singular: json::text(names, &["singular"]).to_owned(),
        namespaced: json::text(spec, &["scope"]) == "Namespaced",
        short_names: texts(names, "shortNames"),
        categories: texts(names, "categories"),
        verbs: custom_verbs(),
        subresources,
        storage: join(group, plural).into(),
        source: Source::Custom(Box::new(Custom {
            storage_version: json::text(storage_version, &["name"]).to_owned(),
            scale: scale_paths,
            selectable: json::list(version, &["selectableFields"])
                .iter()
                .map(|field| json::text(field, &["jsonPath"]).trim_start_matches('.').to_owned())
                .collect(),
            columns: columns(version),
            warning: (version["deprecated"] == true).then(|| match version["deprecationWarning"].as_str() {
                Some(own) => own.to_owned(),
                None => format!("{} {kind} is deprecated", join(group, name)),
            }),
            terminating: json::at(definition, &["metadata", "deletionTimestamp"]).is_some(),
            schema,
            node: OnceLock::new(),
            rules: OnceLock::new(),
        })),
    }
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    json::list(value, &[key]).iter().filter_map(Value::as_str).map(String::from).collect()
}

fn path(text: &str) -> Vec<String> {
    text.split('.').filter(|step| !step.is_empty()).map(String::from).collect()
}

fn scale_paths(version: &Value) -> Option<ScalePaths> {
    let scale = version.pointer("/subresources/scale")?;
    Some(ScalePaths {
        spec: path(json::text(scale, &["specReplicasPath"])),
        status: path(json::text(scale, &["statusReplicasPath"])),
        selector: scale.get("labelSelectorPath").and_then(Value::as_str).filter(|text| !text.is_empty()).map(path),
    })
}

fn columns(version: &Value) -> Vec<Column> {
    let own = json::list(version, &["additionalPrinterColumns"]);
    if own.is_empty() {
        return vec![Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: "How long ago the object was created.".to_owned(),
            priority: 0,
            path: ".metadata.creationTimestamp".to_owned(),
        }];
    }
    let column = |column: &Value| {
        let text = |key: &str| json::text(column, &[key]).to_owned();
        let described = format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath"));
        Column {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: Some(text("description")).filter(|text| !text.is_empty()).unwrap_or(described),
            priority: column["priority"].as_i64().unwrap_or(0),
            path: text("jsonPath"),
        }
    };
    own.iter().map(column).collect()
}

/// Orders versions: stable before beta before alpha, higher before lower, all else last by name.
pub(crate) fn by_stability(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

fn rank(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    match &rest[digits..] {
        "" => Some((2, major, 0)),
        rest => {
            let (level, minor) =
                rest.strip_prefix("beta").map(|minor| (1, minor)).or(rest.strip_prefix("alpha").map(|m| (0, m)))?;
            Some((level, major, minor.parse().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1beta1", "v1", "foo", "v2alpha1", "v10", "v2"];
        versions.sort_by(|a, b| by_stability(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta1", "v2alpha1", "foo"]);
    }
}
