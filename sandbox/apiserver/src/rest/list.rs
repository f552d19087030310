//! Reading one object and lists of them.

use std::sync::Arc;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::serve;
use crate::core::Core;
use crate::kinds::Resource;
use crate::options::{ListOptions, unsigned};
use crate::selector::LabelSelector;
use crate::selector::field::FieldSelector;
use crate::status::{Cause, Result, Status};
use crate::store::{Miss, Stored};

/// How long a read waits for a revision that is not there yet.
const FUTURE_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// Which objects are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) namespace: String,
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    /// Tells whether it leaves anything out, its namespace apart.
    pub(crate) fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }
}

/// A list, or a page of one.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) items: Vec<Value>,
    pub(crate) revision: u64,
    pub(crate) continue_at: String,
    pub(crate) remaining: Option<usize>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Token {
    v: String,
    rv: u64,
    start: String,
}

fn too_large(asked: u64, now: u64) -> Status {
    let mut status = Status::new(504, "Timeout", format!("Too large resource version: {asked}, current: {now}"))
        .with_cause(Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        })
        .with_retry(1);
    status.message = format!("Timeout: {}", status.message);
    status
}

fn expired(message: &str) -> Status {
    Status::new(410, "Expired", message)
}

/// Reads a resourceVersion of a list or get.
pub(crate) fn revision(text: &str) -> Result<u64> {
    if text.is_empty() {
        return Ok(0);
    }
    unsigned(text).map_err(|why| {
        Status::bad_request(format!("invalid resource version: resourceVersion: Invalid value: {text:?}: {why}"))
    })
}

/// Waits until a revision is there, for a while.
pub(crate) async fn wait_for(core: &Core, asked: u64) -> Result<()> {
    let mut changed = core.store.subscribe_all();
    let reached = async {
        while core.store.revision() < asked {
            if changed.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(FUTURE_WAIT, reached).await;
    let now = core.store.revision();
    if now < asked { Err(too_large(asked, now)) } else { Ok(()) }
}

/// Lists objects.
pub(crate) async fn list(
    core: &Core,
    resource: &Resource,
    selection: &Selection,
    options: &ListOptions,
) -> Result<Listed> {
    let (at, objects, after) = if options.continue_at.is_empty() {
        let asked = revision(&options.resource_version)?;
        // A page of a version is a page of exactly that version.
        let exact = options.exact || (options.limit > 0 && asked != 0 && !options.not_older);
        if exact {
            let now = core.store.revision();
            if asked > now {
                return Err(too_large(asked, now));
            }
            let objects = core
                .store
                .list_at(&resource.storage, &selection.namespace, asked)
                .map_err(|_| expired("The resourceVersion for the provided list is too old."))?;
            (asked, objects, String::new())
        } else {
            if asked > core.store.revision() {
                wait_for(core, asked).await?;
            }
            let (now, objects) = core.store.list(&resource.storage, &selection.namespace);
            (now, objects, String::new())
        }
    } else {
        continued(core, resource, selection, options)?
    };
    // Whoever takes whatever the server has gets all of it at once.
    let limit = if options.resource_version == "0" { 0 } else { options.limit };
    Ok(page(resource, selection, limit, at, objects, &after))
}

fn continued(
    core: &Core,
    resource: &Resource,
    selection: &Selection,
    options: &ListOptions,
) -> Result<(u64, Vec<Arc<Stored>>, String)> {
    let token = decode(&options.continue_at)
        .map_err(|why| Status::bad_request(format!("invalid continue token: continue key is not valid{why}")))?;
    if !matches!(options.resource_version.as_str(), "" | "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    match core.store.list_at(&resource.storage, &selection.namespace, token.rv) {
        Ok(objects) => Ok((token.rv, objects, token.start)),
        Err(Miss::TooOld(_) | Miss::Exists | Miss::Changed) => Err(expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter.",
        )),
    }
}

/// Reads where a list goes on; what is wrong with it follows the same words each time.
fn decode(text: &str) -> std::result::Result<Token, String> {
    let alphabet = base64::alphabet::URL_SAFE;
    let config = base64::engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone);
    let bytes = base64::engine::GeneralPurpose::new(&alphabet, config).decode(text).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(_) => text.len() / 4 * 4,
            base64::DecodeError::InvalidPadding => text.find('=').unwrap_or(text.len()),
        };
        format!(": illegal base64 data at input byte {at}")
    })?;
    if let Some(first) = bytes.first().filter(|first| !first.is_ascii() || first.is_ascii_control()) {
        let shown = match char::from(*first) {
            c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
            c => c.to_string(),
        };
        return Err(format!(": invalid character '{shown}' looking for beginning of value"));
    }
    let parsed = crate::json::parse(&bytes).map_err(|error| format!(": {error}"))?;
    let token: Token = serde_json::from_value(parsed.value).map_err(|error| format!(": {error}"))?;
    match &token {
        Token { v, .. } if v != "meta.k8s.io/v1" => {
            Err(format!(": server does not recognize this encoded version {v}"))
        }
        Token { rv: 0, .. } => Err(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned()),
        Token { start, .. } if start.is_empty() => Err(": encoded start key empty (version meta.k8s.io/v1)".to_owned()),
        Token { start, .. } if !is_clean(start) => Err(format!(": {start}")),
        _ => Ok(token),
    }
}

/// Tells whether a key leads nowhere but down.
fn is_clean(key: &str) -> bool {
    key.trim_start_matches('/').split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn sort_key(stored: &Stored) -> String {
    format!("{}/{}", stored.key.namespace, stored.key.name)
}

fn page(
    resource: &Resource,
    selection: &Selection,
    limit: usize,
    at: u64,
    objects: Vec<Arc<Stored>>,
    after: &str,
) -> Listed {
    let mut items = Vec::new();
    let mut rest = 0;
    let mut last = String::new();
    for stored in objects {
        let key = sort_key(&stored);
        if !after.is_empty() && *key <= *after {
            continue;
        }
        if limit > 0 && items.len() == limit {
            rest += 1;
            if selection.selects() {
                let object = serve::served(resource, &stored);
                if selection.matches(&object) {
                    break;
                }
                rest -= 1;
            }
            continue;
        }
        let object = serve::served(resource, &stored);
        if selection.matches(&object) {
            items.push(object);
            last = key;
        }
    }
    let continue_at = if rest > 0 {
        let token = Token { v: "meta.k8s.io/v1".to_owned(), rv: at, start: last };
        let text = serde_json::to_vec(&token).unwrap_or_default();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    } else {
        String::new()
    };
    let remaining = (rest > 0 && !selection.selects()).then_some(rest);
    Listed { items, revision: at, continue_at, remaining }
}

/// Writes a list as an object. Built-in items carry no kind and version, and no empty `continue`.
pub(crate) fn to_value(resource: &Resource, listed: Listed) -> Value {
    let revision = listed.revision.to_string();
    let mut items = listed.items;
    if resource.is_custom() {
        let mut meta = json!({"continue": listed.continue_at});
        if let Some(remaining) = listed.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        meta["resourceVersion"] = revision.into();
        return json!({
            "apiVersion": resource.api_version(), "items": items, "kind": resource.list_kind, "metadata": meta,
        });
    }
    let mut meta = json!({"resourceVersion": revision});
    if !listed.continue_at.is_empty() {
        meta["continue"] = listed.continue_at.into();
    }
    if let Some(remaining) = listed.remaining {
        meta["remainingItemCount"] = remaining.into();
    }
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.shift_remove("kind");
        item.shift_remove("apiVersion");
    }
    json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": meta, "items": items})
}
