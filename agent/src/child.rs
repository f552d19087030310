//! The client of the cluster's own Kubernetes API, with the credentials of the agent's ServiceAccount.

use std::io;
use std::path::Path;
use std::time::Duration;

use http::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder};
use tower::{BoxError, service_fn};

mod line;
mod token;

use self::line::Dialler;
use self::token::Token;
use crate::cli::Run;

/// Where a pod finds the credentials of its ServiceAccount.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a connection without a request is kept. Lower makes handshakes of every burst; higher keeps what a burst of
/// watches has left.
const IDLE_AT_MOST: Duration = Duration::from_secs(60);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Host and port make no URL.
    #[error("{host}:{port} is no address of a Kubernetes API")]
    Address {
        /// The host that was given.
        host: String,
        /// The port that was given.
        port: u16,
    },
    /// The client could not be built from what the pod mounts.
    #[error("the credentials in {folder} cannot be used")]
    Credentials {
        /// Where they were looked for.
        folder: String,
        /// What is wrong with them.
        #[source]
        source: io::Error,
    },
}

/// Makes the client from what the agent's pod mounts.
///
/// # Errors
/// As [`connect`].
pub fn client(run: &Run) -> Result<kube::Client, Error> {
    let folder = run.mounted(Path::new(SERVICE_ACCOUNT));
    connect(&run.kubernetes_host, run.kubernetes_port, &folder, &run.namespace)
}

/// Makes a client of an API server, with the token and the CA that a folder holds. They are read again when the kubelet
/// replaces them.
///
/// It never tries a request twice by itself: proxied callers decide that, and our own waits are bounded. It is made of parts
/// of our own, because the client library's brings everything with it that a kubeconfig may ask for.
///
/// # Errors
/// [`Error::Address`], [`Error::Credentials`].
pub fn connect(host: &str, port: u16, folder: &Path, namespace: &str) -> Result<kube::Client, Error> {
    let unfit = |source| Error::Credentials { folder: folder.display().to_string(), source };
    let base = url(host, port)?;
    let token = Token::read(folder.join("token")).map_err(unfit)?;
    let dialler = Dialler::new(host, port, folder.join("ca.crt")).map_err(unfit)?;
    let http = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_AT_MOST)
        .build::<_, Body>(dialler);
    let service = service_fn(move |mut request: Request<Body>| {
        token.show(request.headers_mut());
        let sent = addressed(&mut request, &base).map(|()| http.request(request));
        async move { Ok::<_, BoxError>(sent?.await?) }
    });
    Ok(ClientBuilder::new(service, namespace).build())
}

/// Puts the server before the request's path.
fn addressed(request: &mut Request<Body>, base: &Uri) -> Result<(), BoxError> {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from_parts(parts)?;
    Ok(())
}

fn url(host: &str, port: u16) -> Result<http::Uri, Error> {
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("https://{bracketed}:{port}").parse().map_err(|_| Error::Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_make_urls() {
        assert_eq!(url("192.0.2.1", 6443).unwrap().to_string(), "https://192.0.2.1:6443/");
        assert_eq!(url("2001:db8::1", 6443).unwrap().to_string(), "https://[2001:db8::1]:6443/");
        assert!(url("a host", 1).is_err());
    }
}
