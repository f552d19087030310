//! `lattice-manager enrol NAME`: a person lets a new key take a cluster's identity over.
//!
//! A join token is written down by its hash, then the agent's manifest with that token is fetched from the running
//! manager's bootstrap port, as a node would. The CA's key is not touched.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lattice_protocol::clock;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, CaBundle, MANAGER_SERVER_NAME};
use lattice_protocol::token::JoinToken;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::cli::EnrolArgs;
use super::client;
use crate::api::{LatticeCluster, SYSTEM_NAMESPACE};
use crate::store::identity::{self, let_in};
use crate::store::vault::KubeVault;
use crate::store::{self, Fence, Kinds, Store};

/// Longest wait for one bootstrap port.
const ANSWER_AT_MOST: Duration = Duration::from_secs(10);
/// How often the running manager is asked again while it does not know the new token yet.
const TRIES_MAX: usize = 20;
/// Pause between two tries.
const APART: Duration = Duration::from_millis(250);
/// Longest manifest, bytes.
const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Most clusters that are named where an unknown one was asked for.
const NAMED_MAX: usize = 20;

/// Why nothing can be printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parent's API cannot be used.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The parent's API failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The token could not be written down.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// There is no such cluster.
    #[error("there is no LatticeCluster {name:?} on this parent; {others}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Which there are, in words.
        others: String,
    },
    /// The cluster's Secret for enrolment is missing or damaged.
    #[error("Secret {0}-enroll in namespace lattice-{0} does not say how to reach this parent: {1}")]
    Way(ClusterName, &'static str),
    /// The manager's bootstrap port was not reached.
    #[error("the manager's bootstrap port at {url} did not answer: {why}")]
    Unreachable {
        /// Which.
        url: String,
        /// What failed.
        why: String,
    },
}

/// Lets a new agent in and gives the manifest to apply on the cluster.
///
/// # Errors
/// [`Error`].
pub async fn enrol(args: EnrolArgs) -> Result<String, Error> {
    let client = client::connect_as_kubectl(args.kubeconfig.as_deref()).await?;
    let store = Store::new(client.clone(), Kinds::default(), Fence::open());
    let clusters = Api::<LatticeCluster>::all(client.clone());
    let Some((name, uid)) = identified(&store, &clusters, &args.name).await? else {
        // Who may not list them is told no less than before.
        let listed = clusters.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let names = listed.iter().map(ResourceExt::name_any).collect();
        return Err(Error::Unknown { name: args.name, others: others(names) });
    };
    let (ca, urls) = way(&store, &name).await?;
    let vault = KubeVault::new(client, Fence::open(), SYSTEM_NAMESPACE);
    let token = let_in(&vault, &name, &uid, clock::now()).await?;
    manifest(&name, &token, &ca, &urls).await
}

/// The cluster of that name, if there is one.
async fn identified(
    store: &Store,
    clusters: &Api<LatticeCluster>,
    name: &str,
) -> Result<Option<(ClusterName, ClusterUid)>, Error> {
    let Ok(name) = name.parse::<ClusterName>() else { return Ok(None) };
    let found = store.call("read", &format!("LatticeCluster {name}"), clusters.get_opt(name.as_str())).await?;
    let uid = found.and_then(|found| found.metadata.uid?.parse::<ClusterUid>().ok());
    Ok(uid.map(|uid| (name, uid)))
}

/// Names what could have been meant.
fn others(mut names: Vec<String>) -> String {
    names.sort();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    match (names.as_slice(), more) {
        ([], _) => "it has none that you may list".to_owned(),
        (names, 0) => format!("it has {}", names.join(", ")),
        (names, more) => format!("it has {} and {more} more", names.join(", ")),
    }
}

/// How nodes reach this parent: public, in the cluster's own Secret.
async fn way(store: &Store, name: &ClusterName) -> Result<(String, Vec<String>), Error> {
    let way = |why| Error::Way(name.clone(), why);
    let secret = store.read_secret(&name.namespace(), &format!("{name}-enroll")).await?;
    let data = secret.ok_or_else(|| way("it does not exist, since the cluster is still Pending"))?.data;
    let ca = data.text("ca.crt").ok_or_else(|| way("it has no ca.crt"))?.to_owned();
    let urls: Vec<_> = data.text("bootstrap-urls").unwrap_or_default().lines().map(str::to_owned).collect();
    if urls.is_empty() { Err(way("it has no bootstrap-urls")) } else { Ok((ca, urls)) }
}

async fn manifest(name: &ClusterName, token: &JoinToken, ca: &str, urls: &[String]) -> Result<String, Error> {
    let (bundle, fleet) = trust(ca).ok_or_else(|| Error::Way(name.clone(), "its ca.crt is no CA of ours"))?;
    let tls = TlsConnector::from(Arc::new(tls::enrolment_client(&bundle, &fleet)));
    let mut last = Error::Way(name.clone(), "it has no bootstrap-urls");
    for _ in 0..TRIES_MAX {
        for url in urls {
            match tokio::time::timeout(ANSWER_AT_MOST, fetch(url, &tls, name, token)).await {
                Ok(Ok(text)) => return Ok(text),
                Ok(Err(why)) => last = Error::Unreachable { url: url.clone(), why },
                Err(_) => last = Error::Unreachable { url: url.clone(), why: "no answer in time".to_owned() },
            }
        }
        tokio::time::sleep(APART).await;
    }
    Err(last)
}

/// The bundle, and the fleet that its CA names.
fn trust(ca: &str) -> Option<(CaBundle, TrustDomain)> {
    let bundle = CaBundle::from_pem(ca.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&bundle.certificates()[0]).ok()?;
    let fleet = parsed.subject().iter_common_name().next()?.as_str().ok()?.parse().ok()?;
    Some((bundle, fleet))
}

/// Asks one bootstrap port as a node does. The words of a failure hold no token.
async fn fetch(url: &str, tls: &TlsConnector, name: &ClusterName, token: &JoinToken) -> Result<String, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let host = url.strip_prefix("https://").unwrap_or(url).trim_end_matches('/');
    let tcp = TcpStream::connect(host).await.map_err(|error| words(&error))?;
    let server = MANAGER_SERVER_NAME.try_into().map_err(|_| "no server name".to_owned())?;
    let io = tls.connect(server, tcp).await.map_err(|error| words(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|error| words(&error))?;
    drop(task::spawn("enrol.connection", Kind::Request, async move { drop(connection.await) }));
    let request = http::Request::get(format!("/v1/clusters/{name}/agent.yaml"))
        .header(http::header::HOST, host)
        .header(http::header::AUTHORIZATION, format!("Bearer {}", token.expose().as_str()))
        .body(Empty::<Bytes>::new())
        .map_err(|error| words(&error))?;
    let response = sender.send_request(request).await.map_err(|error| words(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MANIFEST_BYTES_MAX).collect().await.map_err(|error| words(&error))?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_mistypes_a_name_is_told_which_there_are() {
        let named = |count: usize| others((0..count).map(|number| format!("c{number:02}")).rev().collect());
        assert_eq!(named(0), "it has none that you may list");
        assert_eq!(named(2), "it has c00, c01");
        assert!(named(25).ends_with("c19 and 5 more"));
    }
}
