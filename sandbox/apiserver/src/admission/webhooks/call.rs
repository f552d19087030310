//! How a webhook is called: a review posted to its HTTPS server.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use lattice_protocol::task::{self, Kind};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use crate::core::Core;
use crate::json;

/// Bytes of a webhook's answer.
const ANSWER_MAX: usize = 3 << 20;

/// Posts a review; answers what came back, or why nothing did.
pub(super) async fn post(core: &Core, hook: &Value, review: &Value, seconds: u64) -> Result<Value, String> {
    let url = target(core, hook, seconds)?;
    let fail = |why: &dyn std::fmt::Display| format!("Post \"{url}?timeout={seconds}s\": {why}");
    let uri: http::Uri = url.parse().map_err(|error| fail(&error))?;
    let host = uri.host().unwrap_or_default().to_owned();
    let stream = tokio::net::TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443)))
        .await
        .map_err(|error| fail(&unreached(&host, uri.port_u16().unwrap_or(443), &error)))?;
    let tls = tls(hook)?;
    let server = server_name(hook, &host)?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(server, stream).await.map_err(|error| fail(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| fail(&error))?;
    task::spawn("apiserver.webhook", Kind::Request, async move {
        let _ = connection.await;
    });
    let body = serde_json::to_vec(review).unwrap_or_default();
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

/// Says why a server could not be reached.
fn unreached(host: &str, port: u16, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {host}:{port}: connect: connection refused"),
        _ => format!("dial tcp: {error}"),
    }
}

/// Returns the URL of a webhook; a service is reached at its cluster address.
fn target(core: &Core, hook: &Value, seconds: u64) -> Result<String, String> {
    let config = &hook["clientConfig"];
    if let Some(url) = config.get("url").and_then(Value::as_str) {
        // A URL without a path has the root's.
        let root = url.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
        return Ok(if root { format!("{url}/") } else { url.to_owned() });
    }
    let (namespace, name) = (json::text(config, &["service", "namespace"]), json::text(config, &["service", "name"]));
    let path = match json::text(config, &["service", "path"]) {
        "" => "/",
        path => path,
    };
    let port = json::at(config, &["service", "port"]).and_then(Value::as_u64).unwrap_or(443);
    let service = core.builtin("services", namespace, name).ok_or_else(|| {
        let url = format!("https://{name}.{namespace}.svc:{port}{path}?timeout={seconds}s");
        format!("Post {url:?}: service {name:?} not found")
    })?;
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
