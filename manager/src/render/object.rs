//! Rendered text to checked objects.

use serde_json::{Map, Value};

use super::Error;

/// Largest object, bytes of its text: etcd takes 1.5 MiB. The largest real ones are CRDs of 360 KiB; ours stay under 20.
const OBJECT_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting of an object. Real ones need about twelve.
const DEPTH_MAX: usize = 32;

/// API groups whose kinds a provider folder may make. Never core: a template could else write Secrets or RBAC.
const GROUPS: [&str; 4] = [
    "cluster.x-k8s.io",
    "bootstrap.cluster.x-k8s.io",
    "controlplane.cluster.x-k8s.io",
    "infrastructure.cluster.x-k8s.io",
];

/// Placeholders of later engines (Go templates, cloud-init's Jinja) that a rendered object may hold.
const PLACEHOLDERS: [&str; 1] = ["{{ ds.meta_data.instance_id }}"];

/// Label of everything that belongs to a cluster, by Cluster API's contract.
pub const CLUSTER_NAME_LABEL: &str = "cluster.x-k8s.io/cluster-name";

/// Label with the `metadata.uid` of the LatticeCluster, on everything made for it.
pub const CLUSTER_UID_LABEL: &str = "lattice.dev/cluster-uid";

/// When an object may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
pub enum Stage {
    /// At once: the Cluster, its infrastructure, control plane and workers.
    Cluster,
    /// Only after `ControlPlaneInitialized`: a health check that is there earlier deletes a healthy first machine
    /// whose agent is late.
    HealthChecks,
}

/// An object that passed every check that needs no API server.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedObject {
    pub(super) stage: Stage,
    pub(super) named_by_content: bool,
    pub(super) template: String,
    pub(super) object: Value,
}

impl RenderedObject {
    /// When it may be applied.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether its name is made from its content: create it if absent, never patch it, collect it when unused.
    pub fn named_by_content(&self) -> bool {
        self.named_by_content
    }

    /// Path of its template below `templates/`.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// The object, taken.
    pub fn into_object(self) -> Value {
        self.object
    }

    /// `apiVersion`.
    pub fn api_version(&self) -> &str {
        text(&self.object, "/apiVersion")
    }

    /// `kind`.
    pub fn kind(&self) -> &str {
        text(&self.object, "/kind")
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        text(&self.object, "/metadata/name")
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        text(&self.object, "/metadata/namespace")
    }
}

/// What an object must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) cluster: &'a str,
    pub(super) uid: &'a str,
}

/// Parses the text of one object of a cluster and checks it.
pub(super) fn cluster_object(template: &str, rendered: &str, expected: &Expected<'_>) -> Result<Value, Error> {
    let object = one(template, rendered)?;
    let refuse = |problem: String| Err(refused(template, &object, problem));
    let group = text(&object, "/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    if !GROUPS.contains(&group) {
        return refuse(format!("API group {group:?} is not one of Cluster API's"));
    }
    for (pointer, want) in [
        ("/kind", expected.kind),
        ("/metadata/name", expected.name),
        ("/metadata/namespace", expected.namespace),
        ("/metadata/labels/cluster.x-k8s.io~1cluster-name", expected.cluster),
        ("/metadata/labels/lattice.dev~1cluster-uid", expected.uid),
    ] {
        let found = text(&object, pointer);
        if found != want {
            return refuse(format!("{} is {found:?} and must be {want:?}", pointer.replace("~1", "/")));
        }
    }
    if let Some(at) = foreign_placeholder(&object, &mut String::new()) {
        return refuse(format!(
            "{at} holds \"{{{{\", \"{{%\" or \"{{#\", which a later template engine would evaluate"
        ));
    }
    Ok(object)
}

/// Parses exactly one object and makes the checks that hold for every object.
pub(crate) fn one(template: &str, rendered: &str) -> Result<Value, Error> {
    let mut objects = all(template, rendered)?;
    match objects.len() {
        1 => Ok(objects.remove(0)),
        0 => Err(refused(template, &Value::Null, "is empty".to_owned())),
        count => Err(refused(template, &objects[0], format!("is {count} objects, and one file makes one"))),
    }
}

/// Parses any number of objects and makes the checks that hold for every object.
pub(crate) fn all(template: &str, rendered: &str) -> Result<Vec<Value>, Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(rendered).map_err(|error| {
        // Without its snippet: the text may hold the agent's token.
        refused(template, &Value::Null, format!("is no YAML once rendered: {}", error.without_snippet()))
    })?;
    let objects: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    for object in &objects {
        any(template, object)?;
    }
    Ok(objects)
}

/// The checks that hold for every object, rendered or given.
fn any(template: &str, object: &Value) -> Result<(), Error> {
    let refuse = |problem: String| Err(refused(template, object, problem));
    if !object.is_object() {
        return refuse("is no object".to_owned());
    }
    if let Some(problem) = unsound(object, 0, &mut String::new()) {
        return refuse(problem);
    }
    for pointer in ["/apiVersion", "/kind"] {
        if text(object, pointer).is_empty() {
            return refuse(format!("has no {}", &pointer[1..]));
        }
    }
    let name = text(object, "/metadata/name");
    // RBAC names may hold ':'; everything else that we make is a DNS subdomain.
    let rbac = text(object, "/apiVersion").starts_with("rbac.authorization.k8s.io/");
    if !(is_dns_subdomain(name) || rbac && is_path_segment(name)) {
        return refuse(format!("{name:?} is no name: lower-case letters, digits, '-' and '.', at most 253"));
    }
    let size = object.to_string().len();
    if size > OBJECT_BYTES_MAX {
        return refuse(format!("is {size} bytes, at most {OBJECT_BYTES_MAX} are allowed"));
    }
    Ok(())
}

fn refused(template: &str, object: &Value, problem: String) -> Error {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    let object = match (kind, name) {
        ("", _) => "a document".to_owned(),
        (kind, "") => kind.to_owned(),
        (kind, name) => format!("{kind} {name:?}"),
    };
    Error::Object { template: template.to_owned(), object, problem }
}

/// The text at a JSON pointer; empty where there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The first control character, too deep nesting or status field, with where it is.
fn unsound(value: &Value, depth: usize, path: &mut String) -> Option<String> {
    let control = |text: &str| text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    if depth > DEPTH_MAX {
        return Some(format!("{path} is nested more than {DEPTH_MAX} deep"));
    }
    match value {
        Value::String(text) if control(text) => Some(format!("{path} holds a control character")),
        Value::Object(fields) => {
            if let Some(key) = fields.keys().find(|key| control(key)) {
                return Some(format!("{path} has a field name with a control character: {key:?}"));
            }
            each(fields, path, |field, path| unsound(field, depth + 1, path))
        }
        Value::Array(items) => items.iter().find_map(|item| unsound(item, depth + 1, path)),
        _ => None,
    }
}

/// Where the first placeholder is that we do not know.
fn foreign_placeholder(value: &Value, path: &mut String) -> Option<String> {
    let foreign = |text: &str| {
        let rest = PLACEHOLDERS.iter().fold(text.to_owned(), |rest, known| rest.replace(known, ""));
        ["{{", "{%", "{#"].iter().any(|open| rest.contains(open))
    };
    match value {
        Value::String(text) if foreign(text) => Some(path.clone()),
        Value::Object(fields) => {
            if fields.keys().any(|key| foreign(key)) {
                return Some(path.clone());
            }
            each(fields, path, foreign_placeholder)
        }
        Value::Array(items) => items.iter().find_map(|item| foreign_placeholder(item, path)),
        _ => None,
    }
}

fn each<T>(
    fields: &Map<String, Value>,
    path: &mut String,
    mut look: impl FnMut(&Value, &mut String) -> Option<T>,
) -> Option<T> {
    for (key, value) in fields {
        let length = path.len();
        path.push('/');
        path.push_str(key);
        let found = look(value, path);
        if found.is_some() {
            return found;
        }
        path.truncate(length);
    }
    None
}

fn is_dns_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && !name.contains(['/', '%']) && name.is_ascii()
}
