//! The hands of an attacker: keys, requests, and the two ports where they are shown.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::recovery::Claim;
use lattice_protocol::task::{self, Kind};
use lattice_tests::tunnel::{Enrolled, Way, https_stream_from};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

/// Longest wait for the manager's word on a certificate.
const ANSWER_AT_MOST: Duration = Duration::from_secs(30);

/// A cluster that somebody speaks for.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) name: ClusterName,
    pub(crate) uid: ClusterUid,
}

/// A cluster without an object of its own. Attacks share a parent, so each has numbers of its own.
pub(crate) fn cluster(number: u32) -> Cluster {
    Cluster {
        name: format!("c{number}").parse().expect("a name"),
        uid: format!("0b6c2d1e-9f00-4c8e-8a77-{number:012}").parse().expect("a uid"),
    }
}

/// A key and a request for a certificate.
pub(crate) struct Asking {
    pub(crate) key: String,
    pub(crate) csr: String,
}

impl Asking {
    pub(crate) fn new() -> Result<Self> {
        Self::with(CertificateParams::default())
    }

    pub(crate) fn with(params: CertificateParams) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { csr: params.serialize_request(&key)?.pem()?, key: key.serialize_pem() })
    }

    /// The identity that an answer gives to this key.
    pub(crate) fn enrolled(&self, of: &Cluster, answer: &Value) -> Result<Enrolled> {
        let chain = answer["certificate"].as_str().with_context(|| answer.to_string())?.to_owned();
        Ok(Enrolled { cluster: of.name.to_string(), chain, key: self.key.clone() })
    }
}

/// Where agents enrol and come back, whose CA is trusted for it, and from which address one comes.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    pub(crate) from: IpAddr,
}

impl Door {
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<(u16, Value)> {
        let io = https_stream_from(self.from, self.address, &self.ca).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        drop(task::spawn("attack.client", Kind::Request, async move { drop(connection.await) }));
        let request = Request::post(path).header("host", "bootstrap").body(Full::<Bytes>::from(body.into()))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Comes back with `bound` as the key and `sequence` as the count.
    pub(crate) async fn recover(
        &self,
        uid: &ClusterUid,
        bound: &str,
        sequence: u64,
        kube_system_uid: &str,
        csr: &str,
    ) -> Result<(u16, Value)> {
        let (status, given) = self.post("/v1/recover/challenge", json!({"clusterUid": uid}).to_string()).await?;
        ensure!(status == 200, "{status} {given}");
        let claim = Claim {
            cluster_uid: uid.clone(),
            sequence,
            kube_system_uid: kube_system_uid.to_owned(),
            csr: csr.to_owned(),
            challenge: given["challenge"].as_str().context("a challenge")?.to_owned(),
        };
        self.post("/v1/recover", serde_json::to_vec(&claim.sign(bound)?)?).await
    }
}

/// Dials and tells how the manager ended it; none when it took the session into service.
pub(crate) async fn verdict(way: &Way, own: &Enrolled) -> Result<Option<String>> {
    let (session, _endpoint) = match way.quic(own).await {
        Ok(dialled) => dialled,
        Err(error) => return Ok(Some(format!("{error:#}"))),
    };
    // Who is taken is asked for its version at once.
    match tokio::time::timeout(ANSWER_AT_MOST, session.accept()).await.context("neither taken nor refused")? {
        Ok(_) => Ok(None),
        Err(_) => Ok(Some(session.closed().await.to_string())),
    }
}
