//! Where a parent listens, as it was given, and the addresses behind it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::via::{HttpProxy, Proxying};

/// `HOST:PORT`; an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no endpoint: expected HOST:PORT");
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() || host.contains(['/', '[', ']', ' ']) || (bare.is_none() && host.contains(':')) {
            return Err(refuse());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One thing to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An address, over QUIC and TCP.
    Straight(SocketAddr),
    /// An address whose TCP goes through a proxy: over QUIC only.
    Datagrams(SocketAddr),
    /// An endpoint over TCP through a proxy, which resolves its name.
    Through(HttpProxy, Address),
}

/// Everything to dial: the addresses of every endpoint, and the endpoints that a proxy leads to. Names are resolved at once,
/// each for at most `limit`. Order is kept, duplicates go; what does not resolve is left out.
pub(super) async fn targets(endpoints: &[Address], proxying: &Proxying, limit: Duration) -> Vec<Target> {
    let proxied = endpoints.iter().filter_map(|to| Some((proxying.to(&to.host)?.clone(), to.clone())));
    let through: Vec<_> = proxied.map(|(proxy, to)| Target::Through(proxy, to)).collect();
    let (behind, straight): (Vec<_>, Vec<_>) =
        endpoints.iter().cloned().partition(|to| proxying.to(&to.host).is_some());
    let (straight, behind) = tokio::join!(resolve_all(&straight, limit), resolve_all(&behind, limit));
    let straight = straight.into_iter().map(Target::Straight);
    straight.chain(behind.into_iter().map(Target::Datagrams)).chain(through).collect()
}

async fn resolve_all(endpoints: &[Address], limit: Duration) -> Vec<SocketAddr> {
    let lookups = endpoints.iter().map(|endpoint| async move {
        match tokio::time::timeout(limit, tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => {
                tracing::debug!(endpoint = %endpoint, error = %error, "name not resolved");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    });
    let mut all = Vec::new();
    for address in futures::future::join_all(lookups).await.into_iter().flatten() {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in ["lattice.example.org:50051", "192.0.2.1:1", "[2001:db8::1]:50051"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for bad in ["2001:db8::1:50051", "[::1]", "host", "host:70000"] {
            assert!(bad.parse::<Address>().is_err(), "{bad} should be refused");
        }
    }

    #[tokio::test]
    async fn what_does_not_resolve_is_left_out() {
        let endpoints = ["127.0.0.1:1", "no-such-host.invalid:1", "127.0.0.1:1"].map(|text| text.parse().unwrap());
        let found = resolve_all(&endpoints, Duration::from_secs(5)).await;
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 1))]);
    }
}
