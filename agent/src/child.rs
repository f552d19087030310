//! The client of the cluster's own Kubernetes API, with the credentials of the agent's ServiceAccount.

use std::path::Path;
use std::time::Duration;

use kube::Config;

use crate::cli::Run;

/// Where a pod finds the credentials of its ServiceAccount.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Longest wait for a connection to the API server, which runs on this node or beside it.
const CONNECT_AT_MOST: Duration = Duration::from_secs(5);

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
        /// The client library's words.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Makes the client. Token and CA are read again when the kubelet replaces them.
///
/// It never tries a request twice by itself: proxied callers decide that, and our own waits are bounded.
pub fn client(run: &Run) -> Result<kube::Client, Error> {
    let folder = run.mounted(Path::new(SERVICE_ACCOUNT));
    let mut config = Config::new(url(&run.kubernetes_host, run.kubernetes_port)?);
    config.default_namespace.clone_from(&run.namespace);
    config.root_cert_file = Some(folder.join("ca.crt"));
    config.auth_info.token_file = Some(folder.join("token").to_string_lossy().into_owned());
    config.connect_timeout = Some(CONNECT_AT_MOST);
    config.default_retry = false;
    kube::Client::try_from(config)
        .map_err(|source| Error::Credentials { folder: folder.display().to_string(), source: Box::new(source) })
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
