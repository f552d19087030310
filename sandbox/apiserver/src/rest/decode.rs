//! From a request's body to an object of the kind that the path names.

use std::fmt::Write as _;

use serde_json::Value;

pub(crate) use super::unreadable::{JSON_PATCH, Unreadable};
use super::unreadable::{listed, places, report, worded};
use crate::field::FieldError;
use crate::json::{self, Parsed};
use crate::kinds::{self, Resource};
use crate::options::FieldValidation;
use crate::protobuf;
use crate::schema::{Node, Shape, defaults, prune, typed};
use crate::status::{Result, Status, Target};
use crate::strategy;

/// How much of a body error texts quote.
const QUOTED_MAX: usize = 30;

fn summary(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(QUOTED_MAX)];
    let dots = if bytes.len() > QUOTED_MAX { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(cut)),
        Some(_) => {
            let mut hex = String::new();
            for byte in cut {
                let _ = write!(hex, "{byte:02x}");
            }
            format!("{hex}{dots}")
        }
    }
}

fn unrecognized(kind: &str, why: &str, bytes: &[u8]) -> Status {
    let text = format!("the object provided is unrecognized (must be of type {kind}): {why} ({})", summary(bytes));
    Status::bad_request(text)
}

/// Reads a body of a content type.
pub(crate) fn body(bytes: &[u8], content_type: &str, kind: &str) -> Result<Parsed> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let parsed = match media {
        "" | "application/json" => json::parse(bytes).map_err(|error| {
            unrecognized(kind, &format!("couldn't get version/kind; json parse error: {error}"), bytes)
        })?,
        "application/yaml" => json::parse_yaml(bytes).map_err(|error| unrecognized(kind, &error, bytes))?,
        protobuf::MEDIA => {
            if let Some(value) = protobuf::read(bytes, kinds::node_of) {
                return Ok(Parsed::plain(value));
            }
            let why = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
            return Err(unrecognized(kind, why, bytes));
        }
        _ => return Err(unknown_media()),
    };
    for key in ["apiVersion", "kind"] {
        let wrong = parsed.value.get(key).filter(|value| !value.is_string() && !value.is_null());
        if let Some(wrong) = wrong {
            return Err(unrecognized(kind, &untold(wrong, key), bytes));
        }
    }
    if parsed.value.is_null() {
        return Ok(Parsed::plain(Value::Object(serde_json::Map::new())));
    }
    if !parsed.value.is_object() {
        let why = format!("couldn't get version/kind; json parse error: {}", not_object(&parsed.value));
        return Err(unrecognized(kind, &why, bytes));
    }
    if let Some(number) = &parsed.too_large {
        let why = format!("json: cannot unmarshal number {number} into Go value of type float64");
        let version = json::text(&parsed.value, &["apiVersion"]).rsplit('/').next().unwrap_or_default();
        return Err(Unreadable::Type(why).of_body(kind, version));
    }
    Ok(parsed)
}

/// Says that a body's kind or version is no text.
fn untold(wrong: &Value, key: &str) -> String {
    let got = json::type_name(wrong).replace("integer", "number").replace("boolean", "bool");
    format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {got} into Go struct field .{key} of type string"
    )
}

/// Reads a body as another kind than that of the path: what the type does not have is reported as everywhere.
pub(crate) fn admit_as(
    (version, kind): (&str, &str),
    Parsed { mut value, duplicates, .. }: Parsed,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>)> {
    let short = version.rsplit('/').next().unwrap_or_default();
    let mut unknown = Vec::new();
    let mut warnings = Vec::new();
    if let Some(node) = kinds::node_of(version, kind) {
        typed::read(node, &mut value, &mut unknown).map_err(|why| Unreadable::Type(why).of_body(kind, short))?;
    }
    report(&mut value, listed(&duplicates, &unknown), validation, &mut warnings)
        .map_err(|error| error.of_body(kind, short))?;
    Ok((value, warnings))
}

/// Refuses a media type that nobody reads, whatever else is wrong with a request.
pub(crate) fn check_media(content_type: &str) -> Result<()> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" | "application/yaml" | protobuf::MEDIA => Ok(()),
        _ => Err(unknown_media()),
    }
}

/// Refuses a body of a media type that nobody reads.
pub(crate) fn unknown_media() -> Status {
    let text = "the body of the request was in an unknown format - accepted media types include: application/json, \
                application/yaml, application/vnd.kubernetes.protobuf";
    Status::new(415, "UnsupportedMediaType", text)
}

/// Reads the body of a delete.
pub(crate) fn delete_options(mut value: Value) -> Result<Value> {
    const SCHEME: &str = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";
    if value.is_null() {
        return Ok(value);
    }
    if !value.is_object() {
        let why = format!("couldn't get version/kind; json parse error: {}", not_object(&value));
        return Err(Status::bad_request(why));
    }
    for key in ["apiVersion", "kind"] {
        if let Some(wrong) = value.get(key).filter(|value| !value.is_string() && !value.is_null()) {
            return Err(Status::bad_request(untold(wrong, key)));
        }
    }
    let kind = json::text(&value, &["kind"]).to_owned();
    let version = json::text(&value, &["apiVersion"]).to_owned();
    if !matches!(kind.as_str(), "" | "DeleteOptions") {
        let version = if version.is_empty() { "meta.k8s.io/v1" } else { &version };
        let text = format!("no kind {kind:?} is registered for version {version:?} in scheme {SCHEME:?}");
        return Err(Status::bad_request(text));
    }
    if let Some(node) = kinds::node_of("meta.k8s.io/v1", "DeleteOptions") {
        typed::read(node, &mut value, &mut Vec::new()).map_err(Status::bad_request)?;
    }
    Ok(value)
}

/// Says that a body is no object.
fn not_object(value: &Value) -> String {
    let got = json::type_name(value);
    let got = match got {
        "integer" => "number",
        "boolean" => "bool",
        got => got,
    };
    format!(
        "json: cannot unmarshal {got} into Go value of type struct {{ APIVersion string \
         \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )
}

/// Checks that a body is of the kind that the path names, and fills in what built-in kinds may leave out.
pub(crate) fn check_kind(
    resource: &Resource,
    value: &mut Value,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<()> {
    let kind = json::text(value, &["kind"]).to_owned();
    let version = json::text(value, &["apiVersion"]).to_owned();
    if resource.is_custom() {
        return check_custom(resource, &kind, bytes, validation);
    }
    if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        return Err(unrecognized(&resource.kind, &why, bytes));
    }
    expect_kind(value, &resource.kind, &resource.group, &resource.version)
}

/// Checks that a body is of a built-in kind.
pub(crate) fn expect_kind(value: &mut Value, kind: &str, group: &str, version: &str) -> Result<()> {
    let text = |key: &str, instead: &str| match json::text(value, &[key]) {
        "" => instead.to_owned(),
        sent => sent.to_owned(),
    };
    let (sent, sent_version) = (text("kind", kind), text("apiVersion", &kinds::join(group, version)));
    let short = sent_version.rsplit('/').next().unwrap_or_default().to_owned();
    let wanted = kinds::join(group, version);
    if sent_version != wanted && kinds::is_older(kind, group, &sent_version) {
        let why =
            format!("the API version in the data ({sent_version}) does not match the expected API version ({wanted})");
        return Err(Status::bad_request(why));
    }
    foreign(value, kind, group, version)
        .map_err(|why| read_as_itself(value, why))
        .map_err(|why| Status::bad_request(format!("{sent} in version {short:?} cannot be handled as a {kind}: {why}")))
}

/// Says why an object cannot be read as the kind that it says it is, or, where it can, what else is wrong with it.
fn read_as_itself(object: &Value, why: String) -> String {
    let node = kinds::node_of(json::text(object, &["apiVersion"]), json::text(object, &["kind"]));
    let read = node.map(|node| typed::read(node, &mut object.clone(), &mut Vec::new()));
    read.and_then(std::result::Result::err).unwrap_or(why)
}

/// Tells kinds that the real server has types for, whether or not it serves them.
fn is_known(group: &str, version: &str, kind: &str) -> bool {
    /// What the core group has beside kinds that are kept.
    const CORE: [&str; 6] = ["List", "Status", "APIVersions", "APIGroup", "APIGroupList", "APIResourceList"];
    let everywhere = kind == "WatchEvent" || kind.ends_with("Options");
    (matches!(group, "" | "meta.k8s.io") && version == "v1" && CORE.contains(&kind))
        || (everywhere && kinds::builtins().iter().any(|known| known.group == group && known.version == version))
        || (group == "autoscaling" && version == "v1" && kind == "Scale")
        || kinds::is_older(kind, if group == "extensions" { "apps" } else { group }, &kinds::join(group, version))
        || kinds::builtins().iter().any(|known| {
            let list = kind.strip_suffix("List").is_some_and(|one| one == known.kind);
            known.group == group && known.version == version && (known.kind == kind || list)
        })
}

/// Fills in the kind of a built-in object, or says why another one cannot be taken for it.
fn foreign(value: &mut Value, kind: &str, group: &str, version: &str) -> std::result::Result<(), String> {
    let wanted = kinds::join(group, version);
    let sent = json::text(value, &["kind"]).to_owned();
    let sent_version = json::text(value, &["apiVersion"]).to_owned();
    if (sent.is_empty() || sent == kind) && (sent_version.is_empty() || sent_version == wanted) {
        json::set(value, &["kind"], kind.into());
        json::set(value, &["apiVersion"], wanted.into());
        return Ok(());
    }
    let sent = if sent.is_empty() { kind.to_owned() } else { sent };
    let sent_version = if sent_version.is_empty() { wanted } else { sent_version };
    let (sent_group, short) = sent_version.split_once('/').unwrap_or(("", &sent_version));
    // Definitions of kinds are read by a part of the server that knows its own types and those of every API alone.
    let apart = group == "apiextensions.k8s.io";
    let of_every_api = sent_group.is_empty() && sent != "List" && kinds::builtins().iter().all(|b| b.kind != sent);
    let known = is_known(sent_group, short, &sent) && (!apart || sent_group == group || of_every_api);
    let internal = match group {
        "" => "core",
        group => group.split('.').next().unwrap_or_default(),
    };
    let why = if known {
        format!("converting ({short}.{sent}) to ({internal}.{kind}): unknown conversion")
    } else {
        let scheme = if apart {
            "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55"
        } else {
            "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
        };
        format!("no kind {sent:?} is registered for version {sent_version:?} in scheme {scheme:?}")
    };
    Err(why)
}

fn check_custom(resource: &Resource, kind: &str, bytes: &[u8], validation: FieldValidation) -> Result<()> {
    if kind.is_empty() {
        let why = format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(bytes));
        return Err(match validation {
            FieldValidation::Ignore => Unreadable::Type(why).of_body(&resource.kind, &resource.version),
            _ => unrecognized(&resource.kind, &why, bytes),
        });
    }
    Ok(())
}

/// Refuses a custom resource of another version, once it was read.
pub(crate) fn check_version(resource: &Resource, object: &Value) -> Result<()> {
    let (sent, wanted) = (json::text(object, &["apiVersion"]), resource.api_version());
    if !resource.is_custom() || sent == wanted {
        return Ok(());
    }
    let why = format!("the API version in the data ({sent}) does not match the expected API version ({wanted})");
    Err(Status::bad_request(why))
}

/// Refuses a custom resource of another kind or version.
pub(crate) fn wrong_kind(resource: &Resource, object: &Value) -> Option<Status> {
    let (kind, version) = (json::text(object, &["kind"]), json::text(object, &["apiVersion"]));
    if !resource.is_custom() {
        return None;
    }
    let mut errors = Vec::new();
    for (field, is, wanted) in [("kind", kind, resource.kind.clone()), ("apiVersion", version, resource.api_version())]
    {
        if is != wanted {
            errors.push(FieldError::invalid_text(field, is, format!("must be {wanted}")));
        }
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let name = crate::meta::name(object);
    (!errors.is_empty()).then(|| Status::invalid(&Target::new(group, kind), name, &errors))
}

/// Gives a built-in object its kind, whatever a patch made of it.
pub(crate) fn as_kind(resource: &Resource, object: &mut Value) {
    if !resource.is_custom() {
        json::set(object, &["kind"], resource.kind.as_str().into());
        json::set(object, &["apiVersion"], resource.api_version().into());
    }
}

/// Checks that a patched object still is of its kind.
pub(crate) fn patched_kind(resource: &Resource, object: &mut Value) -> std::result::Result<(), Unreadable> {
    if !resource.is_custom() {
        if kinds::is_older(&resource.kind, &resource.group, json::text(object, &["apiVersion"])) {
            as_kind(resource, object);
        }
        return foreign(object, &resource.kind, &resource.group, &resource.version)
            .map_err(|why| Unreadable::Type(read_as_itself(object, why)));
    }
    if json::text(object, &["kind"]).is_empty() {
        return Err(Unreadable::Type(format!("Object 'Kind' is missing in '{}'", json::compact(object))));
    }
    Ok(())
}

/// Reads an object as its kind does: fields that the schema does not have are dropped, defaults filled in.
pub(crate) fn admit(
    resource: &Resource,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> std::result::Result<(), Unreadable> {
    if let Some(custom) = resource.custom() {
        json::whole(object);
        // Nulls that nothing takes the place of are dropped before anybody could object to them.
        let kind = (json::text(object, &["kind"]), json::text(object, &["apiVersion"]));
        let none = Node { shape: Shape::Object, ..Node::default() };
        let node = match kind {
            (kind, version) if kind == resource.kind && version == resource.api_version() => custom.node(),
            // Of a version that is not there no field is known, of another kind nobody asks.
            (kind, version) if kind == resource.kind && version.starts_with(&format!("{}/", resource.group)) => &none,
            _ => crate::schema::any(),
        };
        let mut unknown = Vec::new();
        prune::object(node, object, &mut unknown).map_err(Unreadable::Type)?;
        defaults::apply(node, object);
        defaults::drop_nulls(node, object);
        unknown.sort();
        return report(object, listed(duplicates, &unknown), validation, warnings);
    }
    admit_merged(resource, object, duplicates, validation, warnings)
}

/// Reads an object that an apply made: what it says is null stays null, for the schema to judge.
pub(crate) fn admit_merged(
    resource: &Resource,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> std::result::Result<(), Unreadable> {
    let mut found: Option<Vec<String>> = None;
    let mut unknown = Vec::new();
    match resource.custom() {
        Some(custom) => {
            let node = custom.node();
            prune::object(node, object, &mut unknown).map_err(Unreadable::Type)?;
            unknown.sort();
            json::whole(object);
            defaults::apply(node, object);
        }
        None => {
            let order = if duplicates.is_empty() { Vec::new() } else { places(object) };
            typed::read(resource.node(), object, &mut unknown).map_err(Unreadable::Type)?;
            if !unknown.is_empty() && !duplicates.iter().any(worded) {
                // What is wrong is told in the order of the document.
                let place = |(_, path): &(&str, String)| order.iter().position(|known| known == path);
                // Nobody looks into what the type does not have.
                let within = |path: &String| {
                    let below = |unknown: &String| {
                        path.strip_prefix(unknown.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
                    };
                    unknown.iter().any(below)
                };
                let twice = duplicates.iter().filter(|path| !within(path)).map(|path| ("duplicate", path.clone()));
                let twice: Vec<_> = twice.collect();
                let mut all: Vec<_> =
                    twice.into_iter().chain(unknown.drain(..).map(|path| ("unknown", path))).collect();
                all.sort_by_key(place);
                found = Some(all.into_iter().map(|(what, path)| format!("{what} field {path:?}")).collect());
            }
            typed::normalise(resource.node(), object);
            strategy::defaults::apply(resource, object);
            typed::normalise(resource.node(), object);
        }
    }
    let found = found.unwrap_or_else(|| listed(duplicates, &unknown));
    report(object, found, validation, warnings)
}

/// Reads an object of a built-in type that is no resource.
pub(crate) fn admit_type(
    node: &Node,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> std::result::Result<(), Unreadable> {
    let mut unknown = Vec::new();
    typed::read(node, object, &mut unknown).map_err(Unreadable::Type)?;
    report(object, listed(duplicates, &unknown), validation, warnings)
}
