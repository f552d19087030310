//! What a webhook answers.

use base64::Engine as _;
use serde_json::Value;

use crate::json;
use crate::status::{Cause, Result, Status};

/// An answer that lets a request pass.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) warnings: Vec<String>,
    /// The operations of a JSON patch.
    pub(super) patch: Vec<Value>,
}

/// Reads an answer: a response, a refusal, or why it is no answer to the review with this uid.
pub(super) fn read(
    answer: &Value,
    uid: &str,
    name: &str,
    mutating: bool,
) -> std::result::Result<Result<Response>, String> {
    let response = answer.get("response").filter(|response| response.is_object());
    let response = response.ok_or("webhook response was absent")?;
    let (version, kind) = (json::text(answer, &["apiVersion"]), json::text(answer, &["kind"]));
    let sent = json::text(response, &["uid"]);
    if sent != uid {
        return Err(format!("expected response.uid={uid:?}, got {sent:?}"));
    }
    if (version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        let version = if version.is_empty() { "/" } else { version };
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, Kind={kind}"
        ));
    }
    let patch = patch(response, mutating)?;
    let warnings = json::list(response, &["warnings"]).iter().filter_map(Value::as_str).map(String::from).collect();
    if response["allowed"] == true {
        return Ok(Ok(Response { warnings, patch }));
    }
    Ok(Err(refusal(response, name)))
}

fn patch(response: &Value, mutating: bool) -> std::result::Result<Vec<Value>, String> {
    let (encoded, kind) = (json::text(response, &["patch"]), response.get("patchType").and_then(Value::as_str));
    if !mutating {
        return match (encoded, kind) {
            ("", None) => Ok(Vec::new()),
            ("", Some(_)) => Err("webhook may not return response.patchType".to_owned()),
            _ => Err("webhook may not return response.patch".to_owned()),
        };
    }
    match (encoded, kind) {
        ("", None) => Ok(Vec::new()),
        ("", Some(_)) => Err("webhook returned response.patchType but not response.patch".to_owned()),
        (_, None) => Err("webhook returned response.patch but not response.patchType".to_owned()),
        (encoded, Some("JSONPatch")) => {
            let decoded =
                base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|error| error.to_string())?;
            serde_json::from_slice(&decoded).map_err(|error| error.to_string())
        }
        (_, Some(other)) => Err(format!("webhook returned invalid response.patchType of {other:?}")),
    }
}

/// Words a refusal: the webhook chooses code and reason, but not success.
fn refusal(response: &Value, name: &str) -> Status {
    let by = format!("admission webhook {name:?} denied the request");
    let text = |key: &str| json::text(response, &["status", key]);
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = json::at(response, &["status", "code"]).and_then(Value::as_u64).unwrap_or(0);
    let code = u16::try_from(code).ok().filter(|code| (400..600).contains(code)).unwrap_or(400);
    let mut status = Status::new(code, reason(text("reason")), message);
    if let Some(details) = json::at(response, &["status", "details"]) {
        for cause in json::list(details, &["causes"]) {
            let of = |key: &str| json::text(cause, &[key]).to_owned();
            status = status.with_cause(Cause { reason: of("reason"), message: of("message"), field: of("field") });
        }
    }
    status
}

/// Returns a reason that the API knows; others are left out.
fn reason(text: &str) -> &'static str {
    const KNOWN: [&str; 12] = [
        "Unauthorized",
        "Forbidden",
        "NotFound",
        "AlreadyExists",
        "Conflict",
        "Gone",
        "Invalid",
        "Timeout",
        "TooManyRequests",
        "BadRequest",
        "InternalError",
        "ServiceUnavailable",
    ];
    KNOWN.into_iter().find(|known| *known == text).unwrap_or_default()
}
