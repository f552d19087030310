//! What form of an answer a client takes.

use crate::protobuf;
use crate::status::Status;
use crate::view::{Encoding, Include, Shown};

/// The form that a client takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) shown: Shown,
    /// The aggregated form of discovery.
    pub(crate) aggregated: bool,
}

/// Where an answer is asked for; the real server words refusals by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    BuiltInObject,
    BuiltInList,
    Other,
}

/// Chooses the first form of an `Accept` header that can be served; `binary` tells whether whole objects have one in
/// protobuf.
pub(crate) fn choose(header: &str, include: Include, place: Place, binary: bool) -> Result<Accepted, Status> {
    if header.trim().is_empty() {
        return Ok(Accepted::default());
    }
    for clause in by_preference(header) {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let get = |key: &str| parameters.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| *value);
        let encoding = match media {
            "application/json" | "*/*" => Encoding::Json,
            // Built-in kinds are asked for by whole names.
            "application/*" if place == Place::Other => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            protobuf::MEDIA if binary || get("as").starts_with("PartialObjectMetadata") => Encoding::Protobuf,
            _ => continue,
        };
        let known_meta = get("g") == "meta.k8s.io" && matches!(get("v"), "v1" | "v1beta1");
        let out = |shown, aggregated| Ok(Accepted { encoding, shown, aggregated });
        match get("as") {
            "" => return out(Shown::Object, false),
            "Table" if encoding == Encoding::Protobuf => {}
            "Table" if known_meta && get("v") == "v1" => return out(Shown::Table(include), false),
            "Table" if known_meta => return out(Shown::OldTable(include), false),
            "PartialObjectMetadata" if known_meta => return out(Shown::Partial { old: get("v") == "v1beta1" }, false),
            "PartialObjectMetadataList" if known_meta => {
                return out(Shown::PartialList { old: get("v") == "v1beta1" }, false);
            }
            "APIGroupDiscoveryList" if get("g") == "apidiscovery.k8s.io" && get("v") == "v2" => {
                return out(Shown::Object, true);
            }
            _ => {}
        }
    }
    // A form of another kind is no question of encodings.
    let transformed = header.contains("as=");
    Err(refusal(if transformed { Place::Other } else { place }))
}

/// Returns the clauses of an `Accept` header, the most wanted first.
fn by_preference(header: &str) -> Vec<&str> {
    let weight = |clause: &str| {
        let quality = clause.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q="));
        quality.and_then(|text| text.trim().parse::<f32>().ok()).unwrap_or(1.0)
    };
    let mut clauses: Vec<&str> = header.split(',').collect();
    clauses.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    clauses
}

/// Tells whether a client takes JSON.
pub(crate) fn takes_json(header: &str) -> bool {
    let known = |clause: &str| {
        let media = clause.split(';').next().unwrap_or_default().trim();
        matches!(media, "" | "*/*" | "application/*" | "application/json")
    };
    header.split(',').any(known)
}

/// Words the refusal of an `Accept` header.
pub(crate) fn refusal(place: Place) -> Status {
    let listed = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let available = |more: &str| {
        let text = format!("406: Not Acceptable\n\nAvailable representations: {listed}{more}");
        Status::new(406, "NotAcceptable", text).with_empty_details()
    };
    match place {
        Place::BuiltInObject => available(""),
        Place::BuiltInList => {
            available(", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch")
        }
        Place::Other => {
            Status::new(406, "NotAcceptable", format!("only the following media types are accepted: {listed}"))
        }
    }
}
