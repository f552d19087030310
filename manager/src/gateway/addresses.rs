//! Where the gateway is reached: external addresses with the ports that were bound.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::GatewayConfig;

/// Bound addresses, and what others dial.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) gateway: SocketAddr,
    pub(super) bootstrap: SocketAddr,
    pub(super) proxy: SocketAddr,
    pub(super) endpoints: Vec<String>,
    pub(super) bootstrap_urls: Vec<String>,
    pub(super) proxy_urls: Vec<String>,
}

impl Addresses {
    pub(super) fn new(hosts: &[String], gateway: SocketAddr, bootstrap: SocketAddr, proxy: SocketAddr) -> Self {
        let with_port = |port: u16| hosts.iter().map(|host| authority(host, port)).collect::<Vec<_>>();
        let url = |port: u16| with_port(port).into_iter().map(|authority| format!("https://{authority}")).collect();
        Self {
            gateway,
            bootstrap,
            proxy,
            endpoints: with_port(gateway.port()),
            bootstrap_urls: url(bootstrap.port()),
            proxy_urls: url(proxy.port()),
        }
    }
}

/// The names that the manager's certificate must carry: what clients dial, and the addresses that it listens on.
pub(super) fn certificate_names(config: &GatewayConfig) -> Vec<String> {
    let listening = [config.gateway_listen, config.bootstrap_listen, config.proxy_listen];
    let own = listening.into_iter().map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
    let external = config.external_addresses.iter().map(|host| bare(host).to_owned());
    external.chain(own.map(|ip| ip.to_string())).collect::<BTreeSet<_>>().into_iter().collect()
}

fn authority(host: &str, port: u16) -> String {
    let host = bare(host);
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_external_address_gets_the_bound_ports() {
        let bound = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let hosts = ["parent.example.org".to_owned(), "2001:db8::1".to_owned(), "[2001:db8::2]".to_owned()];
        let addresses = Addresses::new(&hosts, bound(50051), bound(8443), bound(6443));
        assert_eq!(addresses.endpoints, ["parent.example.org:50051", "[2001:db8::1]:50051", "[2001:db8::2]:50051"]);
        assert_eq!(addresses.bootstrap_urls[1], "https://[2001:db8::1]:8443");
        assert_eq!(addresses.proxy_urls[0], "https://parent.example.org:6443");
    }
}
