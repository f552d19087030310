//! Enrolment: one HTTPS request to the parent's bootstrap port, with the join token.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, CaBundle, MANAGER_SERVER_NAME};
use lattice_protocol::token::JoinToken;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsConnector;

use crate::dial::via::Proxying;

use super::key::Request;
use super::{Enrolment, Error};

/// Longest wait for one bootstrap port, from the dial to the last byte.
const ANSWER_AT_MOST: Duration = Duration::from_secs(15);

/// Largest answer that is read, bytes: a chain and a CA bundle are a few KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where a parent takes enrolments: `https://host:port`, no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapUrl {
    host: String,
    port: u16,
}

impl FromStr for BootstrapUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no bootstrap URL: expected https://HOST[:PORT]");
        let uri: http::Uri = text.trim().parse().map_err(|_| refuse())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refuse)?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(443) })
    }
}

impl fmt::Display for BootstrapUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

/// What a parent says when it refuses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// In one word.
    pub reason: String,
    /// In a sentence.
    #[serde(default)]
    pub message: String,
}

/// Body of the request. It holds the token: never log it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ask<'a> {
    cluster: &'a str,
    token: &'a str,
    csr: &'a str,
    kube_system_uid: &'a str,
}

/// Body of the answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) certificate: String,
    pub(super) ca_bundle: String,
    trust_domain: String,
}

/// Asks every bootstrap port in turn until one answers.
pub(super) async fn enrol(what: &Enrolment, request: &Request, kube_system_uid: &str) -> Result<Answer, Error> {
    let ca = read(&what.ca_file).await?;
    let ca = CaBundle::from_pem(&ca).and_then(|bundle| bundle.pinned(&what.ca_pin)).map_err(Error::Ca)?;
    let token = zeroize::Zeroizing::new(read(&what.token_file).await?);
    let token = std::str::from_utf8(&token).ok().and_then(|text| JoinToken::parse(text).ok());
    let token = token.ok_or_else(|| Error::Token { path: what.token_file.display().to_string() })?.expose();
    let ask = Ask { cluster: what.cluster.as_str(), token: &token, csr: &request.csr, kube_system_uid };
    let body = Bytes::from(serde_json::to_vec(&ask).unwrap_or_default());
    let tls = TlsConnector::from(Arc::new(tls::enrolment_client(&ca, &what.trust_domain)));
    let mut last = Error::Unreachable { url: String::new(), why: "no bootstrap URL is given".to_owned() };
    for url in &what.urls {
        let asked = tokio::time::timeout(ANSWER_AT_MOST, post(url, &what.proxying, &tls, body.clone())).await;
        let asked = asked.unwrap_or_else(|_| Err(unreachable(url, "no answer in time")));
        match asked.and_then(|answer| check(url, what, answer)) {
            Ok(answer) => return Ok(answer),
            // A refusal is an answer: the other ports lead to the same parent.
            Err(refused @ Error::Refused { .. }) => return Err(refused),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn check(url: &BootstrapUrl, what: &Enrolment, answer: Answer) -> Result<Answer, Error> {
    if answer.trust_domain == what.trust_domain.as_str() {
        return Ok(answer);
    }
    let why =
        format!("it is for trust domain {}, and this agent belongs to {}", answer.trust_domain, what.trust_domain);
    Err(Error::Answer { url: url.to_string(), why })
}

async fn read(path: &std::path::Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|source| Error::File { path: path.display().to_string(), source })
}

fn unreachable(url: &BootstrapUrl, why: impl fmt::Display) -> Error {
    Error::Unreachable { url: url.to_string(), why: why.to_string() }
}

async fn post(url: &BootstrapUrl, proxying: &Proxying, tls: &TlsConnector, body: Bytes) -> Result<Answer, Error> {
    let failed = |error: &dyn fmt::Display| unreachable(url, error);
    let tcp = proxying.connect(&url.host, url.port).await.map_err(|error| failed(&error))?;
    let io = tls.connect(manager_name(), tcp).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|error| failed(&error))?;
    task::spawn("identity.connection", Kind::Request, async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "enrolment connection ended early");
        }
    });
    let request = http::Request::post("/v1/enrol")
        .header(http::header::HOST, format!("{}:{}", url.host, url.port))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| failed(&error))?;
    read_answer(url, status, &body.to_bytes())
}

fn read_answer(url: &BootstrapUrl, status: http::StatusCode, body: &[u8]) -> Result<Answer, Error> {
    if status.is_success() {
        let unreadable = |error: serde_json::Error| Error::Answer { url: url.to_string(), why: error.to_string() };
        return serde_json::from_slice(body).map_err(unreadable);
    }
    if status.is_client_error() {
        let source = serde_json::from_slice(body)
            .unwrap_or_else(|_| Refusal { reason: status.to_string(), message: String::new() });
        return Err(Error::Refused { url: url.to_string(), source });
    }
    Err(unreachable(url, status))
}

/// The name that the TLS handshake asks for; the certificate is checked by its SPIFFE id.
fn manager_name() -> ServerName<'static> {
    ServerName::try_from(MANAGER_SERVER_NAME).expect("a constant DNS name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_back() {
        for (text, shown) in [
            ("https://lattice.example.org:8443", "https://lattice.example.org:8443"),
            ("https://192.0.2.1", "https://192.0.2.1:443"),
            ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443"),
        ] {
            assert_eq!(text.parse::<BootstrapUrl>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_refusal_is_told_from_a_parent_that_is_ill() {
        let url = "https://p:1".parse().unwrap();
        let body = br#"{"reason":"TokenUsed","message":"the token was used"}"#;
        let refused = read_answer(&url, http::StatusCode::FORBIDDEN, body).unwrap_err();
        assert!(refused.is_refusal());
        assert_eq!(std::error::Error::source(&refused).unwrap().to_string(), "TokenUsed: the token was used");
        assert!(!read_answer(&url, http::StatusCode::SERVICE_UNAVAILABLE, b"").unwrap_err().is_refusal());
        assert!(!read_answer(&url, http::StatusCode::OK, b"<html>").unwrap_err().is_refusal());
    }
}
