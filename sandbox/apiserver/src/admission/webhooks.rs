//! ValidatingWebhooks: HTTPS servers that are asked whether a request may pass.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use lattice_protocol::task::{self, Kind};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use super::policies::Request;
use super::rules;
use crate::json;
use crate::meta;
use crate::status::Status;

const STORAGE: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations";
/// Bytes of a webhook's answer.
const ANSWER_MAX: usize = 3 << 20;
const TIMEOUT_SECONDS: u64 = 10;

/// Asks all webhooks that are about a request. Answers warnings, or the refusal.
pub(super) async fn check(request: &Request<'_>) -> Result<Vec<String>, Status> {
    let mut warnings = Vec::new();
    for configuration in request.core.builtin_list(STORAGE, "") {
        for hook in json::list(&configuration, &["webhooks"]) {
            let about = rules::any(json::list(hook, &["rules"]), request.write, request.operation)
                && rules::selects(request.core, hook, request.write, request.old, request.new);
            if about {
                warnings.extend(ask(request, hook).await?);
            }
        }
    }
    Ok(warnings)
}

async fn ask(request: &Request<'_>, hook: &Value) -> Result<Vec<String>, Status> {
    let name = json::text(hook, &["name"]);
    let seconds = hook.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(TIMEOUT_SECONDS);
    let called = tokio::time::timeout(Duration::from_secs(seconds), call(request, hook, seconds)).await;
    let answer = match called {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => return failed(hook, name, &why),
        Err(_) => return failed(hook, name, "context deadline exceeded"),
    };
    let response = &answer["response"];
    let warnings: Vec<String> =
        json::list(response, &["warnings"]).iter().filter_map(Value::as_str).map(String::from).collect();
    if response["allowed"] == true {
        return Ok(warnings);
    }
    let by = format!("admission webhook {name:?} denied the request");
    let (message, reason) = (json::text(response, &["status", "message"]), json::text(response, &["status", "reason"]));
    let text = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = json::at(response, &["status", "code"]).and_then(Value::as_u64).unwrap_or(403);
    let code = u16::try_from(code).unwrap_or(403);
    let reason = match code {
        403 => "Forbidden",
        422 => "Invalid",
        409 => "Conflict",
        400 => "BadRequest",
        _ => "",
    };
    Err(Status::new(code, reason, text))
}

fn failed(hook: &Value, name: &str, why: &str) -> Result<Vec<String>, Status> {
    if json::text(hook, &["failurePolicy"]) == "Ignore" {
        tracing::debug!(webhook = name, why, "webhook could not be called");
        return Ok(Vec::new());
    }
    Err(Status::internal(format!("failed calling webhook {name:?}: failed to call webhook: {why}")))
}

fn review(request: &Request<'_>) -> Value {
    let write = request.write;
    let resource = write.resource;
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let plural = json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": uuid::Uuid::new_v4().to_string(),
            "kind": kind, "resource": plural, "requestKind": kind, "requestResource": plural,
            "subResource": write.subresource,
            "name": request.new.or(request.old).map(meta::name).unwrap_or_default(),
            "namespace": write.namespace,
            "operation": request.operation.name(),
            "userInfo": write.user.to_value(),
            "object": request.new, "oldObject": request.old,
            "dryRun": write.options.dry_run,
            "options": null,
        },
    })
}

async fn call(request: &Request<'_>, hook: &Value, seconds: u64) -> Result<Value, String> {
    let url = target(request, hook)?;
    let fail = |why: &dyn std::fmt::Display| format!("Post \"{url}?timeout={seconds}s\": {why}");
    let uri: http::Uri = url.parse().map_err(|error| fail(&error))?;
    let host = uri.host().unwrap_or_default().to_owned();
    let stream = tokio::net::TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443)))
        .await
        .map_err(|error| fail(&error))?;
    let tls = tls(hook)?;
    let server = server_name(hook, &host)?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(server, stream).await.map_err(|error| fail(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| fail(&error))?;
    task::spawn("apiserver.webhook", Kind::Request, async move {
        let _ = connection.await;
    });
    let body = serde_json::to_vec(&review(request)).unwrap_or_default();
    let path = format!("{}?timeout={seconds}s", uri.path());
    let call = http::Request::post(path)
        .header("host", uri.authority().map(ToString::to_string).unwrap_or_default())
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| fail(&error))?;
    let response = sender.send_request(call).await.map_err(|error| fail(&error))?;
    let status = response.status();
    let bytes =
        Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|error| fail(&error))?.to_bytes();
    if !status.is_success() {
        return Err(format!(
            "an error on the server ({:?}) has prevented the request from succeeding",
            status.as_u16()
        ));
    }
    serde_json::from_slice(&bytes).map_err(|error| fail(&error))
}

/// Returns the URL of a webhook; a service is reached at its cluster address.
fn target(request: &Request<'_>, hook: &Value) -> Result<String, String> {
    let config = &hook["clientConfig"];
    if let Some(url) = config.get("url").and_then(Value::as_str) {
        return Ok(url.to_owned());
    }
    let (namespace, name) = (json::text(config, &["service", "namespace"]), json::text(config, &["service", "name"]));
    let service =
        request.core.builtin("services", namespace, name).ok_or_else(|| format!("service {name:?} not found"))?;
    let path = json::text(config, &["service", "path"]);
    let port = json::at(config, &["service", "port"]).and_then(Value::as_u64).unwrap_or(443);
    Ok(format!("https://{}:{port}{path}", json::text(&service, &["spec", "clusterIP"])))
}

fn server_name(hook: &Value, host: &str) -> Result<ServerName<'static>, String> {
    let config = &hook["clientConfig"];
    let name = match config.get("service").filter(|service| service.is_object()) {
        Some(service) => format!("{}.{}.svc", json::text(service, &["name"]), json::text(service, &["namespace"])),
        None => host.trim_matches(['[', ']']).to_owned(),
    };
    ServerName::try_from(name).map_err(|error| error.to_string())
}

fn tls(hook: &Value) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let bundle = json::text(hook, &["clientConfig", "caBundle"]);
    let pem = base64::engine::general_purpose::STANDARD.decode(bundle).unwrap_or_default();
    for certificate in CertificateDer::pem_slice_iter(&pem).flatten() {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
