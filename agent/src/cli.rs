//! Command line of `lattice-agent`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::telemetry;
use lattice_protocol::tls::CaPin;

use crate::dial::Address;
use crate::dial::via::{ProxyArg, Proxying};
use crate::identity::BootstrapUrl;

const ABOUT: &str = "\
Runs on a workload cluster, dials its parent and serves it over that one connection: health, component bundles, and the
cluster's Kubernetes API. It never listens on the network; health and metrics are on loopback only.";

const EXAMPLES: &str = "\
Examples:
  As the Deployment that the parent's bootstrap port hands out (paths and variables come from its manifest):
    lattice-agent run --cluster backend --cluster-uid 0b6c2d1e-9f00-4c8e-8a77-0123456789ab \\
      --trust-domain fleet.example.org --endpoint lattice.example.org:50051 \\
      --bootstrap-url https://lattice.example.org:8443 --ca-pin sha256:<64 hexadecimal digits>

  Two ways to the parent, tried side by side:
    lattice-agent run … --endpoint 192.0.2.10:50051 --endpoint lattice.example.org:50051

  What it is doing (on the node):
    curl http://127.0.0.1:9440/readyz
    curl http://127.0.0.1:9440/metrics";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "lattice-agent", version, about = "The Lattice agent of a workload cluster", long_about = ABOUT)]
#[command(after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `lattice-agent` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrols, dials the parent and serves it until SIGTERM.
    #[command(after_help = EXAMPLES)]
    Run(Box<Run>),
}

/// Options of `lattice-agent run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Name of the LatticeCluster on the parent that this cluster is.
    #[arg(long, value_name = "NAME")]
    pub cluster: ClusterName,

    /// metadata.uid of that LatticeCluster: the certificate is bound to it.
    #[arg(long, value_name = "UID")]
    pub cluster_uid: ClusterUid,

    /// Trust domain of the parent's fleet; a peer of another one is refused.
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: TrustDomain,

    /// Where the parent's gateway listens (QUIC over UDP, or TLS over TCP); repeat it for several ways to the same parent.
    #[arg(long = "endpoint", value_name = "HOST:PORT", required = true)]
    pub endpoints: Vec<Address>,

    /// Where the parent takes enrolments; repeat it for several ways to the same parent.
    #[arg(long = "bootstrap-url", value_name = "URL", required = true)]
    pub bootstrap_urls: Vec<BootstrapUrl>,

    /// PEM file with the parent's CA, used until the agent has enrolled.
    #[arg(long, value_name = "FILE", default_value = "/etc/lattice/enrol/ca.crt")]
    pub ca_file: PathBuf,

    /// Key that the CA must have: sha256:<hex of its SubjectPublicKeyInfo>.
    #[arg(long, value_name = "PIN")]
    pub ca_pin: CaPin,

    /// File with the join token, used once to enrol.
    #[arg(long, value_name = "FILE", default_value = "/etc/lattice/enrol/token")]
    pub token_file: PathBuf,

    /// Secret in the agent's namespace that keeps its key and certificate.
    #[arg(long, value_name = "NAME", default_value = "lattice-agent-identity")]
    pub identity_secret: String,

    /// Namespace that the agent runs in.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "lattice-system")]
    pub namespace: String,

    /// Node that the agent runs on, for logs and Events.
    #[arg(long, env = "NODE_NAME", value_name = "NAME", default_value = "")]
    pub node_name: String,

    /// Address of that node; health and metrics listen on it if it is a loopback address, else on 127.0.0.1.
    #[arg(long, env = "HOST_IP", value_name = "ADDRESS")]
    pub host_ip: Option<IpAddr>,

    /// Port of health and metrics on loopback.
    #[arg(long, value_name = "PORT", default_value_t = 9440)]
    pub health_port: u16,

    /// Host of the cluster's own Kubernetes API.
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "HOST")]
    pub kubernetes_host: String,

    /// Port of the cluster's own Kubernetes API.
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", value_name = "PORT", default_value_t = 6443)]
    pub kubernetes_port: u16,

    /// HTTP proxy on the way to the parent, for what goes over TCP; QUIC is still tried straight.
    #[arg(long, env = "HTTPS_PROXY", value_name = "URL", hide_env_values = true)]
    pub https_proxy: Option<ProxyArg>,

    /// The same by its other name; --https-proxy comes first.
    #[arg(long, env = "https_proxy", value_name = "URL", hide_env_values = true, hide = true)]
    pub https_proxy_too: Option<ProxyArg>,

    /// Hosts, domains, addresses and networks that are reached without the proxy.
    #[arg(long, env = "NO_PROXY", value_name = "LIST", default_value = "")]
    pub no_proxy: String,

    /// Shortest time on TCP before QUIC is tried again, seconds; at random up to twice that. Only tests set it.
    #[arg(long, env = "LATTICE_QUIC_AGAIN_SECONDS", value_name = "SECONDS", hide = true,
        default_value_t = crate::dial::QUIC_AGAIN.as_secs())]
    pub quic_again_seconds: u64,

    /// The version that this agent says it is. Only tests set it.
    #[arg(long, env = "LATTICE_SIMULATED_AGENT_VERSION", value_name = "VERSION", hide = true,
        default_value = lattice_protocol::version::OWN)]
    pub simulated_version: String,

    /// Folder put before every mounted path; only a simulator sets it.
    #[arg(long, env = "LATTICE_VOLUME_ROOT", value_name = "DIR", hide = true)]
    pub volume_root: Option<PathBuf>,

    /// By how much this process's clock is to be wrong, seconds. Only tests set it.
    #[arg(long, value_name = "SECONDS", hide = true, allow_hyphen_values = true, default_value_t = 0)]
    #[arg(env = "LATTICE_SIMULATED_AGENT_CLOCK_OFFSET", hide_env = true)]
    pub simulated_clock_offset: i64,

    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: telemetry::Options,
}

impl Run {
    /// Where a path that the pod mounts really is.
    pub fn mounted(&self, path: &Path) -> PathBuf {
        match &self.volume_root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// The proxies on the way to the parent.
    pub fn proxying(&self) -> Proxying {
        let mut given = [&self.https_proxy, &self.https_proxy_too].into_iter().flatten();
        Proxying::new(given.find_map(|arg| arg.0.clone()), &self.no_proxy)
    }

    /// The address that health and metrics listen on: always a loopback one.
    pub fn loopback(&self) -> IpAddr {
        self.host_ip.filter(IpAddr::is_loopback).unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    const PIN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn run(extra: &[&str]) -> Result<Run, clap::Error> {
        let mut line = vec![
            "lattice-agent",
            "run",
            "--cluster",
            "backend",
            "--cluster-uid",
            "0b6c2d1e-9f00-4c8e-8a77-0123456789ab",
            "--trust-domain",
            "td",
            "--endpoint",
            "127.0.0.1:50051",
            "--bootstrap-url",
            "https://127.0.0.1:8443",
            "--ca-pin",
            PIN,
            "--kubernetes-host",
            "127.0.0.1",
        ];
        line.extend(extra);
        Cli::try_parse_from(line).map(|cli| match cli.command {
            Command::Run(run) => *run,
        })
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mounted_paths_move_below_the_simulators_folder_only() {
        let token = Path::new("/etc/lattice/enrol/token");
        assert_eq!(run(&[]).unwrap().mounted(token), token);
        let simulated = run(&["--volume-root", "/tmp/node"]).unwrap();
        assert_eq!(simulated.mounted(token), Path::new("/tmp/node/etc/lattice/enrol/token"));
    }

    #[test]
    fn health_listens_on_loopback_whatever_the_nodes_address_is() {
        let on = |ip| run(&["--host-ip", ip]).unwrap().loopback().to_string();
        assert_eq!(on("127.0.3.2"), "127.0.3.2");
        assert_eq!(on("192.0.2.7"), "127.0.0.1");
    }

    #[test]
    fn what_cannot_be_dialled_is_refused() {
        assert!(run(&["--https-proxy", ""]).is_ok(), "an empty variable means no proxy");
        assert!(run(&["--https-proxy", "socks5://proxy"]).is_err());
        for endpoint in ["", "host", "host:0", "host:x", ":1", "https://host:1"] {
            assert!(run(&["--endpoint", endpoint]).is_err(), "{endpoint:?} should be refused");
        }
        for url in ["http://host:8443", "host:8443", "https://", "https://host/path"] {
            assert!(run(&["--bootstrap-url", url]).is_err(), "{url:?} should be refused");
        }
    }
}
