//! One HTTPS request to the parent's bootstrap port, and what it may answer.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, CaBundle, MANAGER_SERVER_NAME};
use rustls_pki_types::ServerName;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_rustls::TlsConnector;

use super::{Enrolment, Error};
use crate::dial::via::Proxying;

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

/// A certificate that the parent signed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) certificate: String,
    pub(super) ca_bundle: String,
    trust_domain: String,
    #[serde(default = "first")]
    pub(super) sequence: u64,
}

fn first() -> u64 {
    1
}

impl Answer {
    /// Gives the answer back if it is for our fleet.
    pub(super) fn check(self, url: &BootstrapUrl, what: &Enrolment) -> Result<Self, Error> {
        if self.trust_domain == what.trust_domain.as_str() {
            return Ok(self);
        }
        let why =
            format!("it is for trust domain {}, and this agent belongs to {}", self.trust_domain, what.trust_domain);
        Err(Error::Answer { url: url.to_string(), why })
    }
}

/// How the manager of our fleet is reached without a certificate of our own.
pub(super) struct Way<'a> {
    tls: TlsConnector,
    proxying: &'a Proxying,
}

impl<'a> Way<'a> {
    pub(super) fn new(ca: &CaBundle, what: &'a Enrolment) -> Self {
        let tls = TlsConnector::from(Arc::new(tls::enrolment_client(ca, &what.trust_domain)));
        Self { tls, proxying: &what.proxying }
    }
}

/// Asks every bootstrap port in turn until one answers. A refusal is an answer: the other ports lead to the same parent.
pub(super) async fn first_that_answers<T, F>(urls: &[BootstrapUrl], ask: impl Fn(BootstrapUrl) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut last = Error::Unreachable { url: String::new(), why: "no bootstrap URL is given".to_owned() };
    for url in urls {
        match ask(url.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(refused @ Error::Refused { .. }) => return Err(refused),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Posts `body` to `path` and reads the answer.
pub(super) async fn post<T: DeserializeOwned>(
    url: &BootstrapUrl,
    way: &Way<'_>,
    path: &str,
    body: Bytes,
) -> Result<T, Error> {
    let asked = tokio::time::timeout(ANSWER_AT_MOST, exchange(url, way, path, body)).await;
    asked.unwrap_or_else(|_| Err(unreachable(url, "no answer in time")))
}

fn unreachable(url: &BootstrapUrl, why: impl fmt::Display) -> Error {
    Error::Unreachable { url: url.to_string(), why: why.to_string() }
}

async fn exchange<T: DeserializeOwned>(url: &BootstrapUrl, way: &Way<'_>, path: &str, body: Bytes) -> Result<T, Error> {
    let failed = |error: &dyn fmt::Display| unreachable(url, error);
    let tcp = way.proxying.connect(&url.host, url.port).await.map_err(|error| failed(&error))?;
    let io = way.tls.connect(manager_name(), tcp).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|error| failed(&error))?;
    task::spawn("identity.connection", Kind::Request, async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "enrolment connection ended early");
        }
    });
    let request = http::Request::post(path)
        .header(http::header::HOST, format!("{}:{}", url.host, url.port))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| failed(&error))?;
    read_answer(url, status, &body.to_bytes())
}

fn read_answer<T: DeserializeOwned>(url: &BootstrapUrl, status: http::StatusCode, body: &[u8]) -> Result<T, Error> {
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
        let url: BootstrapUrl = "https://p:1".parse().unwrap();
        let body = br#"{"reason":"TokenUsed","message":"the token was used"}"#;
        let read = |status, body: &[u8]| read_answer::<Answer>(&url, status, body).unwrap_err();
        let refused = read(http::StatusCode::FORBIDDEN, body);
        assert!(refused.is_refusal());
        assert_eq!(std::error::Error::source(&refused).unwrap().to_string(), "TokenUsed: the token was used");
        assert!(!read(http::StatusCode::SERVICE_UNAVAILABLE, b"").is_refusal());
        assert!(!read(http::StatusCode::OK, b"<html>").is_refusal());
    }
}
