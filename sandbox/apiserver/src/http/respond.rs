//! Answers on the wire.

use std::io::Write as _;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;

use super::accept::Accepted;
use super::{Response, full};
use crate::config::Clock;
use crate::protobuf;
use crate::rest::watch::Watch;
use crate::status::Status;
use crate::view::Encoding;

/// What a request is answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    Object { code: u16, value: Value, warnings: Vec<String> },
    Text { code: u16, content_type: &'static str, text: String, headers: Vec<(&'static str, String)> },
    Watch { watch: Box<Watch>, warnings: Vec<String> },
    Ready(Box<ReadyResponse>),
}

/// An answer that was made elsewhere.
pub(crate) struct ReadyResponse(pub(crate) Response);

impl std::fmt::Debug for ReadyResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadyResponse").field("status", &self.0.status()).finish_non_exhaustive()
    }
}

impl Answer {
    pub(crate) fn ok(value: Value) -> Self {
        Self::Object { code: 200, value, warnings: Vec::new() }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text { code: 200, content_type: "text/plain; charset=utf-8", text: text.into(), headers: Vec::new() }
    }

    pub(crate) fn raw_json(text: String, content_type: &'static str) -> Self {
        Self::Text { code: 200, content_type, text, headers: Vec::new() }
    }
}

/// Writes an answer.
pub(crate) fn write(answer: Result<Answer, Status>, accepted: &Accepted, asked: &http::HeaderMap) -> Response {
    let has = |name: &str, text: &str| asked.get(name).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains(text));
    let mut response = match answer {
        Ok(Answer::Object { code, value, warnings }) => {
            let gzip = has("accept-encoding", "gzip");
            object(code, &value, &warnings, accepted.encoding, gzip)
        }
        Ok(Answer::Text { code, content_type, text, headers }) => {
            let mut response = plain(code, content_type, text);
            for (name, value) in headers {
                insert(&mut response, name, &value);
            }
            response
        }
        Ok(Answer::Watch { watch, warnings }) => {
            let content_type = match accepted.encoding {
                Encoding::Protobuf => WATCHED,
                Encoding::Json | Encoding::Yaml => "application/json",
            };
            let frames = watch.into_stream().map(|bytes| Ok(Frame::data(bytes)));
            let mut response = http::Response::new(StreamBody::new(frames).boxed_unsync());
            insert(&mut response, "content-type", content_type);
            warn(&mut response, &warnings);
            response
        }
        Ok(Answer::Ready(response)) => return response.0,
        Err(status) => {
            // A refusal comes in protobuf even where nothing else could.
            let alone = asked.get("accept").is_some_and(|accept| accept == protobuf::MEDIA);
            let mut response = refusal(&status, if alone { Encoding::Protobuf } else { accepted.encoding });
            warn(&mut response, &status.warnings);
            response
        }
    };
    insert(&mut response, "audit-id", &uuid::Uuid::new_v4().to_string());
    insert(&mut response, "cache-control", "no-cache, private");
    // One flow schema and one priority level take all requests here; clients only look that they are named.
    insert(&mut response, "x-kubernetes-pf-flowschema-uid", FLOW_SCHEMA);
    insert(&mut response, "x-kubernetes-pf-prioritylevel-uid", PRIORITY_LEVEL);
    response
}

/// The content type of a watch in protobuf.
const WATCHED: &str = "application/vnd.kubernetes.protobuf;stream=watch";

const FLOW_SCHEMA: &str = "5c7c4c66-5a3e-4f0c-9c8e-0d3c5a1f2b01";
const PRIORITY_LEVEL: &str = "5c7c4c66-5a3e-4f0c-9c8e-0d3c5a1f2b02";

fn plain(code: u16, content_type: &str, text: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(text));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    insert(&mut response, "content-type", content_type);
    response
}

fn insert(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = http::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Says what time the server has, where that is not the system's: the transport says the system's.
pub(crate) fn date(response: &mut Response, clock: &Clock) {
    if clock.is_chosen() {
        let now = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&clock.now());
        insert(response, "date", now.as_deref().unwrap_or_default());
    }
}

fn warn(response: &mut Response, warnings: &[String]) {
    let mut seen: Vec<&String> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning) {
            continue;
        }
        seen.push(warning);
        let escaped = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = http::HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append("warning", value);
        }
    }
}

/// Bytes from which answers are compressed for clients that can read it.
const GZIP_MIN: usize = 128 << 10;

fn compressed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

fn object(code: u16, value: &Value, warnings: &[String], encoding: Encoding, gzip: bool) -> Response {
    let (text, content_type) = match encoding {
        Encoding::Json => {
            let mut bytes = serde_json::to_vec(value).unwrap_or_default();
            bytes.push(b'\n');
            (bytes, "application/json")
        }
        Encoding::Protobuf if let Some(bytes) = protobuf::write::object(value) => (bytes, protobuf::MEDIA),
        Encoding::Protobuf => (serde_json::to_vec(value).unwrap_or_default(), "application/json"),
        Encoding::Yaml => {
            let sorted = crate::json::sorted(value);
            (serde_saphyr::to_string(&sorted).unwrap_or_default().into_bytes(), "application/yaml")
        }
    };
    let small = (gzip && text.len() > GZIP_MIN).then(|| compressed(&text)).flatten();
    let is_small = small.is_some();
    let mut response = plain(code, content_type, small.unwrap_or(text));
    if is_small {
        insert(&mut response, "content-encoding", "gzip");
        insert(&mut response, "vary", "Accept-Encoding");
    }
    warn(&mut response, warnings);
    response
}

/// Writes a refusal.
fn refusal(status: &Status, encoding: Encoding) -> Response {
    if let Some(text) = status.plain {
        return plain(status.code, "text/plain; charset=utf-8", text);
    }
    let mut response = object(status.code, &status.to_value(), &[], encoding, false);
    if let Some(seconds) = status.details.as_ref().and_then(|details| details.retry_after_seconds) {
        insert(&mut response, "retry-after", &seconds.to_string());
    }
    response
}

/// Answers with bytes of a content type.
pub(crate) fn bytes(content_type: &str, bytes: Vec<u8>) -> Answer {
    Answer::Ready(Box::new(ReadyResponse(plain(200, content_type, bytes))))
}

/// Says that the client has the answer already.
pub(crate) fn not_modified(etag: &str) -> ReadyResponse {
    let mut response = http::Response::new(full(Bytes::new()));
    *response.status_mut() = http::StatusCode::NOT_MODIFIED;
    insert(&mut response, "etag", etag);
    insert(&mut response, "vary", "Accept");
    ReadyResponse(response)
}
