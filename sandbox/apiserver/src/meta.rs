//! Metadata: how it is set on create and kept on update, and what may stand in it.

use serde_json::{Map, Value, json};

use crate::field::FieldError;
use crate::json;
use crate::kinds::Resource;
use crate::names;

/// Bytes that all annotations of an object may have.
pub(crate) const ANNOTATIONS_MAX: usize = 256 << 10;
/// How much of `generateName` goes into a name.
const GENERATE_PREFIX_MAX: usize = 58;
/// Letters of generated names: none that could spell a word or be misread.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Finalizers without a domain that are known.
pub(crate) const FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// Returns the object's name.
pub(crate) fn name(object: &Value) -> &str {
    json::text(object, &["metadata", "name"])
}

/// Returns the object's namespace.
pub(crate) fn namespace(object: &Value) -> &str {
    json::text(object, &["metadata", "namespace"])
}

pub(crate) fn uid(object: &Value) -> &str {
    json::text(object, &["metadata", "uid"])
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    json::list(object, &["metadata", "finalizers"]).iter().filter_map(Value::as_str).collect()
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    json::at(object, &["metadata", "deletionTimestamp"]).is_some_and(|at| !at.is_null())
}

pub(crate) fn generation(object: &Value) -> i64 {
    json::at(object, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0)
}

/// Makes five characters that tell generated names apart.
pub(crate) fn suffix() -> String {
    uuid::Uuid::new_v4().as_bytes()[..5].iter().map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()])).collect()
}

/// Makes a name of a prefix.
pub(crate) fn generate(prefix: &str) -> String {
    let cut: String = prefix.chars().take(GENERATE_PREFIX_MAX).collect();
    cut + &suffix()
}

/// Sets what the server decides about a new object.
pub(crate) fn on_create(object: &mut Value, now: &str) {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        meta.shift_remove(key);
    }
    if meta.get("name").and_then(Value::as_str).unwrap_or_default().is_empty()
        && let Some(prefix) = meta.get("generateName").and_then(Value::as_str).filter(|p| !p.is_empty())
    {
        let name = generate(prefix);
        meta.insert("name".to_owned(), name.into());
    }
    meta.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    meta.insert("creationTimestamp".to_owned(), now.into());
}

/// Keeps on update what only the server decides.
pub(crate) fn on_update(old: &Value, new: &mut Value) {
    for key in ["creationTimestamp", "selfLink", "generation"] {
        json::carry(old, new, &["metadata", key]);
    }
    for key in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let sent = json::at(new, &["metadata", key]).is_some_and(|value| !value.is_null());
        if !sent {
            json::carry(old, new, &["metadata", key]);
        }
    }
}

/// Drops owner references that are there twice and words the warning about them; `late` says when that was seen.
pub(crate) fn dedup_owners(object: &mut Value, late: &str) -> Option<String> {
    let owners = json::at(object, &["metadata", "ownerReferences"])?.as_array()?.clone();
    let mut kept: Vec<Value> = Vec::new();
    let mut uids: Vec<String> = Vec::new();
    for owner in owners {
        if kept.contains(&owner) {
            uids.push(json::text(&owner, &["uid"]).to_owned());
        } else {
            kept.push(owner);
        }
    }
    if uids.is_empty() {
        return None;
    }
    json::set(object, &["metadata", "ownerReferences"], Value::Array(kept));
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries{late}; API server dedups owner references in 1.20+, and may \
         reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        uids.join(", ")
    ))
}

/// Words warnings about finalizers that have no domain.
pub(crate) fn finalizer_warnings(old: Option<&Value>, object: &Value) -> Vec<String> {
    let known = old.map(finalizers).unwrap_or_default();
    finalizers(object)
        .into_iter()
        .filter(|name| !name.contains('/') && !FINALIZERS.contains(name) && !known.contains(name))
        .map(|name| {
            format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name to avoid accidental \
                 conflicts with other finalizer writers"
            )
        })
        .collect()
}

type NameRule = fn(&str) -> Vec<String>;

/// Returns what the names of a kind may look like.
fn name_rule(resource: &Resource) -> NameRule {
    match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.is_custom() => names::subdomain,
        ("", "namespaces" | "services") | ("apps", "statefulsets") => names::label,
        ("rbac.authorization.k8s.io", _) | ("" | "events.k8s.io", "events") => names::path_segment,
        _ => names::subdomain,
    }
}

/// Checks the metadata of an object.
pub(crate) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    let meta = object.get("metadata").unwrap_or(&Value::Null);
    let generate_name = json::text(meta, &["generateName"]);
    let name = json::text(meta, &["name"]);
    let rule = name_rule(resource);
    if !generate_name.is_empty() {
        let trimmed = generate_name.trim_end_matches(['-', '.']);
        for error in rule(trimmed).into_iter().filter(|error| !error.starts_with("must be no more than")) {
            out.push(FieldError::invalid_text("metadata.generateName", generate_name, error));
        }
    }
    if name.is_empty() {
        out.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        out.extend(rule(name).into_iter().map(|error| FieldError::invalid_text("metadata.name", name, error)));
    }
    out.extend(maps_at("metadata", meta));
    owners(meta, &mut out);
    finalizers_of(resource, meta, &mut out);
    out
}

/// Checks labels and annotations.
pub(crate) fn maps_at(path: &str, meta: &Value) -> Vec<FieldError> {
    let empty = Map::new();
    let labels = meta.get("labels").and_then(Value::as_object).unwrap_or(&empty);
    let mut out = labels_at(&format!("{path}.labels"), labels);
    let annotations = meta.get("annotations").and_then(Value::as_object).unwrap_or(&empty);
    let path = format!("{path}.annotations");
    let mut size = 0;
    for (key, value) in annotations {
        for error in names::qualified(&key.to_lowercase()) {
            out.push(FieldError::invalid_text(path.as_str(), key, error));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX {
        out.push(FieldError::too_long(path, ANNOTATIONS_MAX));
    }
    out
}

/// Checks labels.
pub(crate) fn labels_at(path: &str, labels: &Map<String, Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (key, value) in labels {
        out.extend(names::qualified(key).into_iter().map(|error| FieldError::invalid_text(path, key, error)));
        let text = value.as_str().unwrap_or_default();
        out.extend(names::label_value(text).into_iter().map(|error| FieldError::invalid_text(path, text, error)));
    }
    out
}

fn owners(meta: &Value, out: &mut Vec<FieldError>) {
    let path = "metadata.ownerReferences";
    let owners = json::list(meta, &["ownerReferences"]);
    let mut controller: Option<&Value> = None;
    for owner in owners {
        let text = |key: &str| json::text(owner, &[key]);
        if text("apiVersion").matches('/').count() > 1 {
            let detail = "version must not be empty";
            out.push(FieldError::invalid_text(format!("{path}.apiVersion"), text("apiVersion"), detail));
        }
        if text("apiVersion").is_empty() {
            out.push(FieldError::invalid_text(format!("{path}.apiVersion"), "", "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                out.push(FieldError::invalid_text(format!("{path}.{key}"), "", "must not be empty"));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            out.push(FieldError::invalid(path, &ordered(owner), "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner["controller"] == true {
            if let Some(first) = controller {
                let all: Vec<Value> = owners.iter().map(ordered).collect();
                let say = |owner: &Value| format!("{}/{}", json::text(owner, &["kind"]), json::text(owner, &["name"]));
                out.push(FieldError::invalid(
                    path,
                    &Value::Array(all),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
                        say(first),
                        say(owner)
                    ),
                ));
            }
            controller = controller.or(Some(owner));
        }
    }
}

/// Writes an owner reference with its keys in the order of the real type.
fn ordered(owner: &Value) -> Value {
    let mut out = json!({});
    for key in ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"] {
        if let Some(value) = owner.get(key) {
            out[key] = value.clone();
        }
    }
    out
}

fn finalizers_of(resource: &Resource, meta: &Value, out: &mut Vec<FieldError>) {
    let path = "metadata.finalizers";
    let list = json::list(meta, &["finalizers"]);
    for (index, finalizer) in list.iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        let errors = names::qualified(name);
        let plain = !name.contains('/') && !FINALIZERS.contains(&name);
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(path, name, error)));
        if plain && !resource.is_custom() {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            out.push(FieldError::invalid_text(format!("{path}[{index}]"), name, detail));
        }
    }
    let has = |name: &str| list.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        out.push(FieldError::invalid(path, &Value::Array(list.to_vec()), detail));
    }
}

/// Kinds whose own checks look at the whole metadata too.
const LOOKED_AT_TWICE: [(&str, &str); 17] = [
    ("", "configmaps"),
    ("", "endpoints"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "persistentvolumeclaims"),
    ("", "pods"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("batch", "jobs"),
    ("networking.k8s.io", "ingressclasses"),
    ("networking.k8s.io", "ingresses"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("storage.k8s.io", "storageclasses"),
];

/// Returns how often a kind's own checks look at what an update does to metadata, and how often at the whole of them.
fn looks(resource: &Resource) -> (usize, usize) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.is_custom() => (1, 0),
        ("policy", "poddisruptionbudgets") | ("" | "events.k8s.io", "events") => (0, 0),
        ("", "persistentvolumes") => (0, 2),
        ("", "limitranges")
        | ("discovery.k8s.io", "endpointslices")
        | ("admissionregistration.k8s.io" | "flowcontrol.apiserver.k8s.io", _) => (0, 1),
        kind if LOOKED_AT_TWICE.contains(&kind) => (1, 1),
        _ => (1, 0),
    }
}

/// Checks metadata after an update. Several steps of the real server check the same and each adds its errors: clients
/// see them once in the message and as often as they were found among the causes.
pub(crate) fn validate_again(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let (changes, wholes) = looks(resource);
    let times = |error: &FieldError| match error.field.as_str() {
        "metadata.labels" | "metadata.annotations" => 2 + changes + wholes,
        field if field.starts_with("metadata.ownerReferences") => 2 + changes + wholes,
        field if field.starts_with("metadata.finalizers") => 1 + wholes,
        _ => 1,
    };
    let found = validate(resource, object);
    found.iter().flat_map(|error| std::iter::repeat_n(error.clone(), times(error))).collect()
}

/// Checks what an update does to metadata, as often as the real server does.
pub(crate) fn validate_update(resource: &Resource, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    for key in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let at = |object: &Value| json::at(object, &["metadata", key]).cloned().unwrap_or_default();
        let (was, is) = (at(old), at(new));
        if was != is {
            out.push(FieldError::invalid(format!("metadata.{key}"), &is, "field is immutable"));
        }
    }
    if is_deleting(old) {
        let known = finalizers(old);
        let added: Vec<String> =
            finalizers(new).into_iter().filter(|name| !known.contains(name)).map(|name| format!("{name:?}")).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            out.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
    if looks(resource).0 > 0 {
        out.extend(out.clone());
    }
    out
}
