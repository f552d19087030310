//! Whether a definition may be stored.

mod cel;
pub(crate) use cel::expressions;
pub(crate) mod client;
mod structural;

use serde_json::{Value, json};

use crate::core::Core;
use crate::field::FieldError;
use crate::json;
use crate::names;
use crate::schema::{Node, Shape, crd};

const SCOPES: [&str; 2] = ["Cluster", "Namespaced"];
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// How many fields a version may let clients select by.
const SELECTABLE_MAX: usize = 8;
const APPROVAL: &str = "api-approved.kubernetes.io";

/// Checks a definition.
pub(crate) fn check(_core: &Core, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = &object["spec"];
    match old {
        None => name(object, &mut out),
        Some(old) => {
            immutable(old, object, &mut out);
            if !out.is_empty() {
                return out;
            }
        }
    }
    group(object, old, &mut out);
    let scope = json::text(spec, &["scope"]);
    if scope.is_empty() {
        out.push(FieldError::required("spec.scope", ""));
    } else if !SCOPES.contains(&scope) {
        out.push(FieldError::not_supported("spec.scope", &Value::from(scope), &SCOPES));
    }
    names_of(spec, &mut out);
    versions(object, &mut out);
    conversion(spec, &mut out);
    if spec["preserveUnknownFields"] == true {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        out.push(FieldError::invalid("spec.preserveUnknownFields", &Value::Bool(true), detail));
    }
    out
}

fn name(object: &Value, out: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let wanted = format!("{}.{}", json::text(spec, &["names", "plural"]), json::text(spec, &["group"]));
    let name = crate::meta::name(object);
    if name != wanted {
        out.push(FieldError::invalid_text("metadata.name", name, "must be spec.names.plural+\".\"+spec.group"));
    }
}

fn group(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let group = json::text(object, &["spec", "group"]);
    if group.is_empty() {
        out.push(FieldError::required("spec.group", ""));
        return;
    }
    let errors = names::subdomain(group);
    if errors.is_empty() && !group.contains('.') {
        out.push(FieldError::invalid_text("spec.group", group, "should be a domain with at least one dot"));
    }
    out.extend(errors.into_iter().map(|error| FieldError::invalid_text("spec.group", group, error)));
    let protected =
        ["k8s.io", "kubernetes.io"].iter().any(|known| group == *known || group.ends_with(&format!(".{known}")));
    let approval = json::text(object, &["metadata", "annotations", APPROVAL]);
    if protected && old.is_none() && approval.is_empty() {
        let detail = format!(
            "protected groups must have approval annotation {APPROVAL:?}, see \
             https://github.com/kubernetes/enhancements/pull/1111"
        );
        out.push(FieldError::required(format!("metadata.annotations[{APPROVAL}]"), detail));
    } else if protected
        && old.is_none()
        && !approval.starts_with("unapproved")
        && !(approval.contains("://") && approval.parse::<http::Uri>().is_ok())
    {
        let detail = format!(
            "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \
             \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
        );
        out.push(FieldError::invalid_text(format!("metadata.annotations[{APPROVAL}]"), approval, detail));
    }
}

fn names_of(spec: &Value, out: &mut Vec<FieldError>) {
    for key in ["plural", "singular", "kind", "listKind"] {
        let text = json::text(spec, &["names", key]);
        let field = format!("spec.names.{key}");
        if text.is_empty() {
            out.push(FieldError::required(field, ""));
            continue;
        }
        let lower = text.to_lowercase();
        let mixed = key.to_lowercase().contains("kind");
        let checked = if mixed { lower.as_str() } else { text };
        out.extend(names::label_1035(checked).into_iter().map(|error| {
            let error = if mixed { format!("may have mixed case, but should otherwise match: {error}") } else { error };
            FieldError::invalid_text(field.clone(), text, error)
        }));
    }
    for (index, category) in json::list(spec, &["names", "categories"]).iter().enumerate() {
        let category = category.as_str().unwrap_or_default();
        for error in names::label_1035(category) {
            out.push(FieldError::invalid_text(format!("spec.names.categories[{index}]"), category, error));
        }
    }
    let text = |key: &str| json::text(spec, &["names", key]).to_owned();
    if !text("kind").is_empty() && text("kind") == text("listKind") {
        let detail = "kind and listKind may not be the same";
        out.push(FieldError::invalid_text("spec.names.listKind", &text("listKind"), detail));
    }
    for (index, short) in json::list(spec, &["names", "shortNames"]).iter().enumerate() {
        let short = short.as_str().unwrap_or_default();
        for error in names::label_1035(short) {
            out.push(FieldError::invalid_text(format!("spec.names.shortNames[{index}]"), short, error));
        }
    }
}

/// Writes versions as error texts quote them.
fn shown(versions: &[Value]) -> Value {
    let one = |version: &Value| {
        json!({
            "Name": version["name"], "Served": version["served"] == true, "Storage": version["storage"] == true,
            "Deprecated": version["deprecated"] == true, "DeprecationWarning": version["deprecationWarning"],
            "Schema": null, "Subresources": null, "AdditionalPrinterColumns": null, "SelectableFields": null,
        })
    };
    versions.iter().map(one).collect()
}

fn versions(object: &Value, out: &mut Vec<FieldError>) {
    let versions = json::list(object, &["spec", "versions"]);
    let mut seen: Vec<&str> = Vec::new();
    let mut unique = true;
    for (index, version) in versions.iter().enumerate() {
        let name = json::text(version, &["name"]);
        unique &= !seen.contains(&name);
        seen.push(name);
        for error in names::label_1035(name) {
            out.push(FieldError::invalid_text(format!("spec.versions[{index}].name"), name, error.clone()));
            if index == 0 && !name.is_empty() {
                out.push(FieldError::invalid_text("spec.version", name, error));
            }
        }
        deprecation(version, &format!("spec.versions[{index}].deprecationWarning"), out);
    }
    if !unique {
        out.push(FieldError::invalid("spec.versions", &shown(versions), "must contain unique version names"));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        let said = json::at(object, &["spec", "versions"]).is_some_and(Value::is_array);
        let shown = if said { shown(versions) } else { Value::Null };
        out.push(FieldError::invalid("spec.versions", &shown, detail));
    }
    stored(object, &seen, out);
    for (index, version) in versions.iter().enumerate() {
        let at = |hoisted: bool, shared: &str, own: &str| {
            if hoisted { format!("spec.{shared}") } else { format!("spec.versions[{index}].{own}") }
        };
        let same = |key: &str| versions.iter().all(|other| other.get(key) == version.get(key));
        if index > 0
            && same("schema")
            && same("subresources")
            && same("additionalPrinterColumns")
            && same("selectableFields")
        {
            continue;
        }
        match version.pointer("/schema/openAPIV3Schema") {
            None => out.push(FieldError::required(format!("spec.versions[{index}].schema.openAPIV3Schema"), "")),
            Some(schema) => {
                let path = at(same("schema"), "validation.openAPIV3Schema", "schema.openAPIV3Schema");
                let sound = structural::check(schema, &path, out);
                cel::check(schema, &path, sound, out);
                let path = at(same("selectableFields"), "selectableFields", "selectableFields");
                selectable(schema, version, &path, out);
            }
        }
        columns(
            version,
            &at(same("additionalPrinterColumns"), "additionalPrinterColumns", "additionalPrinterColumns"),
            out,
        );
        scale(version, &at(same("subresources"), "subresources.scale", "subresources.scale"), out);
    }
}

fn deprecation(version: &Value, field: &str, out: &mut Vec<FieldError>) {
    let Some(text) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let mut say = |detail: &str| out.push(FieldError::invalid_text(field, text, detail));
    if version["deprecated"] != true {
        say("can only be set for deprecated versions");
        return;
    }
    if text.len() > 256 {
        say("must be <= 256 characters long");
    }
    if text.is_empty() {
        say("must not be an empty string");
    }
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        say(&format!("must only contain printable UTF-8 characters; non-printable character found at index {at}"));
    }
}

fn stored(object: &Value, names: &[&str], out: &mut Vec<FieldError>) {
    let stored = json::list(object, &["status", "storedVersions"]);
    if stored.is_empty() {
        out.push(FieldError::invalid("status.storedVersions", &Value::Null, "must have at least one stored version"));
    }
    let storage = json::list(object, &["spec", "versions"]).iter().rev().find(|version| version["storage"] == true);
    if let Some(name) = storage.map(|version| json::text(version, &["name"]))
        && !stored.is_empty()
        && !stored.iter().any(|known| known == name)
    {
        let detail = format!("must have the storage version {name}");
        out.push(FieldError::invalid("status.storedVersions", &Value::Array(stored.to_vec()), detail));
    }
    for (index, version) in stored.iter().enumerate() {
        let name = version.as_str().unwrap_or_default();
        if !names.contains(&name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            out.push(FieldError::invalid_text(format!("status.storedVersions[{index}]"), name, detail));
        }
    }
}

fn conversion(spec: &Value, out: &mut Vec<FieldError>) {
    let strategy = json::text(spec, &["conversion", "strategy"]);
    let webhook = json::at(spec, &["conversion", "webhook"]);
    match strategy {
        "None" => {
            let detail = "should not be set when strategy is not set to Webhook";
            if webhook.is_some_and(|webhook| webhook.get("clientConfig").is_some_and(Value::is_object)) {
                out.push(FieldError::forbidden("spec.conversion.webhookClientConfig", detail));
            }
            if webhook.is_some_and(|webhook| !json::list(webhook, &["conversionReviewVersions"]).is_empty()) {
                out.push(FieldError::forbidden("spec.conversion.conversionReviewVersions", detail));
            }
        }
        "Webhook" => {
            let at = "spec.conversion.webhookClientConfig";
            match webhook.and_then(|webhook| webhook.get("clientConfig")) {
                None => out.push(FieldError::required(at, "required when strategy is set to Webhook")),
                Some(config) => client::check(config, at, out),
            }
            let versions =
                webhook.map(|webhook| json::list(webhook, &["conversionReviewVersions"])).unwrap_or_default();
            review_versions(versions, out);
        }
        other => {
            out.push(FieldError::not_supported("spec.conversion.strategy", &Value::from(other), &["None", "Webhook"]));
        }
    }
}

fn review_versions(versions: &[Value], out: &mut Vec<FieldError>) {
    let at = "spec.conversion.conversionReviewVersions";
    if versions.is_empty() {
        out.push(FieldError::required(at, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        let field = format!("{at}[{index}]");
        if versions[..index].contains(version) {
            out.push(FieldError::invalid_text(field, text, "duplicate version"));
            continue;
        }
        let errors = names::label_1035(text).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(field.clone(), text, error)));
    }
    if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        out.push(FieldError::invalid(at, &Value::from(versions), "must include at least one of v1, v1beta1"));
    }
}

fn columns(version: &Value, path: &str, out: &mut Vec<FieldError>) {
    for (index, column) in json::list(version, &["additionalPrinterColumns"]).iter().enumerate() {
        let at = format!("{path}[{index}]");
        if json::text(column, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        }
        let kind = json::text(column, &["type"]);
        if kind.is_empty() {
            let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
            out.push(FieldError::required(format!("{at}.type"), detail));
        } else if !COLUMN_TYPES.contains(&kind) {
            let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
            out.push(FieldError::invalid_text(format!("{at}.type"), kind, detail));
        }
        let format = json::text(column, &["format"]);
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
            out.push(FieldError::invalid_text(format!("{at}.format"), format, detail));
        }
        let json_path = json::text(column, &["jsonPath"]);
        if json_path.is_empty() {
            out.push(FieldError::required(format!("{at}.JSONPath"), ""));
        } else if !json_path.starts_with('.') {
            let detail = "must be a simple json path starting with .";
            out.push(FieldError::invalid_text(format!("{at}.JSONPath"), json_path, detail));
        }
    }
}

fn scale(version: &Value, path: &str, out: &mut Vec<FieldError>) {
    let Some(scale) = version.pointer("/subresources/scale") else { return };
    for (key, under, required) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", "", false),
    ] {
        let text = json::text(scale, &[key]);
        let field = format!("{path}.{key}");
        if text.is_empty() {
            if required {
                out.push(FieldError::required(field, ""));
            }
        } else if !text.starts_with('.') {
            out.push(FieldError::invalid_text(field, text, "must be a simple json path starting with ."));
        } else if !under.is_empty() && !text.starts_with(under) {
            let detail = format!("should be a json path under {}", under.trim_end_matches('.'));
            out.push(FieldError::invalid_text(field, text, detail));
        } else if under.is_empty() && !text.starts_with(".spec.") && !text.starts_with(".status.") {
            out.push(FieldError::invalid_text(field, text, "should be a json path under either .spec or .status"));
        }
    }
}

fn selectable(schema: &Value, version: &Value, path: &str, out: &mut Vec<FieldError>) {
    let node = crd::compile(schema);
    let mut seen: Vec<&str> = Vec::new();
    for (index, field) in json::list(version, &["selectableFields"]).iter().enumerate() {
        let at = format!("{path}[{index}].jsonPath");
        let text = json::text(field, &["jsonPath"]);
        if text.is_empty() {
            out.push(FieldError::required(at, ""));
            continue;
        }
        let found = match steps(text).and_then(|steps| {
            // Metadata is there whether a schema says so or not, but only what it says can be selected by.
            let undeclared = steps.first() == Some(&"metadata") && schema.pointer("/properties/metadata").is_none();
            let found =
                declared(&node, &steps).filter(|_| !undeclared).ok_or("does not refer to a valid field".to_owned())?;
            Ok((steps, found))
        }) {
            Ok((steps, found)) => {
                if steps.first() == Some(&"metadata") {
                    out.push(FieldError::invalid_text(at.clone(), text, "must not point to fields in metadata"));
                }
                found
            }
            Err(why) => {
                out.push(FieldError::invalid_text(at, text, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if !matches!(found.shape, Shape::String | Shape::Boolean | Shape::Integer) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                          with formats are allowed.";
            out.push(FieldError::invalid_text(at.clone(), text, detail));
        }
        if seen.contains(&text) {
            out.push(FieldError::duplicate(at, &Value::from(text)));
        } else {
            seen.push(text);
        }
    }
    if seen.len() > SELECTABLE_MAX {
        out.push(FieldError::too_many(path, seen.len(), SELECTABLE_MAX as u64));
    }
}

/// Takes a path of plain fields apart.
fn steps(path: &str) -> Result<Vec<&str>, String> {
    if path.contains('[') {
        return Err("array notation is not allowed".to_owned());
    }
    let Some(rest) = path.strip_prefix('.') else {
        return Err(format!("expected [ or . but got: {}", path.split('.').next().unwrap_or_default()));
    };
    if rest.is_empty() || rest.ends_with('.') {
        return Err("unexpected end of JSON path".to_owned());
    }
    Ok(rest.split('.').collect())
}

fn declared<'a>(node: &'a Node, steps: &[&str]) -> Option<&'a Node> {
    steps.iter().try_fold(node, |node, step| node.fields.get(*step).map(|field| field.link.node()))
}

fn immutable(old: &Value, new: &Value, out: &mut Vec<FieldError>) {
    let established = json::list(old, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    if !established {
        return;
    }
    for path in [&["spec", "scope"][..], &["spec", "group"], &["spec", "names", "kind"], &["spec", "names", "plural"]] {
        let at = |object: &Value| json::at(object, path).cloned().unwrap_or_default();
        if at(old) != at(new) {
            out.push(FieldError::invalid(path.join("."), &at(new), "field is immutable"));
        }
    }
}
