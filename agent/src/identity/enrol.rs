//! Enrolment: the first certificate, with the join token.

use bytes::Bytes;
use lattice_protocol::tls::CaBundle;
use lattice_protocol::token::JoinToken;
use serde::Serialize;

use super::ask::{self, Answer};
use super::key::Request;
use super::{Enrolment, Error};

/// Body of the request. It holds the token: never log it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ask<'a> {
    cluster: &'a str,
    token: &'a str,
    csr: &'a str,
    kube_system_uid: &'a str,
}

/// Reads the CA that the node was given, and keeps of it what is pinned.
pub(super) async fn pinned_ca(what: &Enrolment) -> Result<CaBundle, Error> {
    let ca = read(&what.ca_file).await?;
    CaBundle::from_pem(&ca).and_then(|bundle| bundle.pinned(&what.ca_pin)).map_err(Error::Ca)
}

/// Asks every bootstrap port in turn until one answers.
pub(super) async fn enrol(what: &Enrolment, request: &Request, kube_system_uid: &str) -> Result<Answer, Error> {
    let way = ask::Way::new(&pinned_ca(what).await?, what);
    let token = token(what).await?.expose();
    let asked = Ask { cluster: what.cluster.as_str(), token: &token, csr: &request.csr, kube_system_uid };
    let body = Bytes::from(serde_json::to_vec(&asked).unwrap_or_default());
    ask::first_that_answers(&what.urls, |url| {
        let (way, body) = (&way, body.clone());
        async move { ask::post::<Answer>(&url, way, "/v1/enrol", body).await?.check(&url, what) }
    })
    .await
}

/// Reads the join token.
pub(super) async fn token(what: &Enrolment) -> Result<JoinToken, Error> {
    let token = zeroize::Zeroizing::new(read(&what.token_file).await?);
    let token = std::str::from_utf8(&token).ok().and_then(|text| JoinToken::parse(text).ok());
    token.ok_or_else(|| Error::Token { path: what.token_file.display().to_string() })
}

async fn read(path: &std::path::Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|source| Error::File { path: path.display().to_string(), source })
}
