//! The command line of `lattice-manager`. Others script against it: names and exit codes stay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lattice_protocol::telemetry;
use lattice_sandbox::SandboxArgs;

/// Turns LatticeCluster objects into running clusters.
#[derive(Debug, Parser)]
#[command(name = "lattice-manager", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the manager: the daemon on the parent cluster.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions of LatticeCluster and InfraProvider as YAML.
    #[command(after_help = CRDS_EXAMPLES)]
    Crds,
    /// Print a kubeconfig that leads to a cluster's Kubernetes API, with your own credential of the parent cluster.
    #[command(after_help = KUBECONFIG_EXAMPLES)]
    Kubeconfig(KubeconfigArgs),
    /// Let a new agent take over the identity of a cluster, and print what to apply on that cluster.
    #[command(after_help = ENROL_EXAMPLES)]
    Enrol(EnrolArgs),
    /// Show or rotate the certificate authority of this parent.
    #[command(after_help = CA_EXAMPLES)]
    Ca(CaArgs),
    /// Run all of Lattice on this machine, with simulated infrastructure.
    Sandbox(Box<SandboxArgs>),
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Kubeconfig of the parent cluster; without it, the ServiceAccount of the pod that this runs in.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Where agents connect, over QUIC (UDP).
    #[arg(long, value_name = "ADDR", default_value = ":50051", value_parser = parse_listen)]
    pub gateway_listen: SocketAddr,

    /// Where new nodes fetch the agent's manifest and agents enrol, over HTTPS.
    #[arg(long, value_name = "ADDR", default_value = ":8443", value_parser = parse_listen)]
    pub bootstrap_listen: SocketAddr,

    /// Where Cluster API reaches the Kubernetes APIs of workload clusters, over HTTPS.
    #[arg(long, value_name = "ADDR", default_value = ":6443", value_parser = parse_listen)]
    pub proxy_listen: SocketAddr,

    /// Where /metrics, /healthz and /readyz are answered, over HTTP.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9441", value_parser = parse_listen)]
    pub metrics_listen: SocketAddr,

    /// Name or IP address under which nodes and Cluster API reach this manager. May be given more than once; without it
    /// no cluster leaves Pending.
    #[arg(long = "external-address", value_name = "HOST")]
    pub external_addresses: Vec<String>,

    /// Trust domain of the identities that this manager issues. It stays the same for the life of a parent
    /// [default: made from the UID of the parent's namespace kube-system].
    #[arg(long, value_name = "TD")]
    pub trust_domain: Option<String>,

    /// Unix socket of a program that makes the CA's keys and signs with them (docs/signer.md); without it they lie in Secret
    /// lattice-system/lattice-ca.
    #[arg(long, value_name = "SOCKET", env = "LATTICE_CA_SIGNER")]
    pub ca_signer: Option<PathBuf>,

    /// Folder whose templates are used instead of the built-in ones, folder by folder: providers/<provider>,
    /// components/<component>, agent.
    #[arg(long, value_name = "DIR")]
    pub templates: Option<PathBuf>,

    /// HTTP proxy through which agents dial out: written as HTTPS_PROXY into the manifest that nodes fetch.
    #[arg(long, value_name = "URL", env = "LATTICE_AGENT_HTTPS_PROXY", hide_env_values = true)]
    pub agent_https_proxy: Option<String>,

    /// What agents dial straight although there is a proxy: their NO_PROXY.
    #[arg(long, value_name = "LIST", env = "LATTICE_AGENT_NO_PROXY")]
    pub agent_no_proxy: Option<String>,

    /// Identity in the Lease lattice-system/lattice-manager; a restarted process of the same identity goes on at once
    /// [default: the host's name].
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub holder: Option<String>,

    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: telemetry::Options,

    /// Life of every certificate, seconds. Only tests shorten it.
    #[arg(long, value_name = "SECONDS", hide = true, default_value = "86400", value_parser = parse_seconds)]
    #[arg(env = "LATTICE_CERTIFICATE_LIFETIME", hide_env = true)]
    pub certificate_lifetime: Duration,

    /// By how much this process's clock is to be wrong, seconds. Only tests set it.
    #[arg(long, value_name = "SECONDS", hide = true, allow_hyphen_values = true, default_value_t = 0)]
    #[arg(env = "LATTICE_SIMULATED_CLOCK_OFFSET", hide_env = true)]
    pub simulated_clock_offset: i64,

    /// The version that this manager says it is. Only tests set it.
    #[arg(long, value_name = "VERSION", hide = true, default_value = lattice_protocol::version::OWN)]
    #[arg(env = "LATTICE_SIMULATED_MANAGER_VERSION", hide_env = true)]
    pub simulated_version: String,

    /// Faults to inject, one per line: `panic <cluster>`. Only the sandbox sets it.
    #[arg(long, value_name = "FILE", hide = true)]
    pub sandbox_faults: Option<PathBuf>,
}

impl RunArgs {
    /// What agents find in their environment.
    pub(super) fn agent_environment(&self) -> BTreeMap<String, String> {
        let given = [("HTTPS_PROXY", &self.agent_https_proxy), ("NO_PROXY", &self.agent_no_proxy)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        given.filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// Arguments of `kubeconfig`.
#[derive(Args, Clone, Debug)]
pub struct KubeconfigArgs {
    /// Name of the LatticeCluster.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Kubeconfig of the parent cluster [default: $KUBECONFIG, then ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context in it whose cluster and credential are used [default: its current one].
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Arguments of `enrol`.
#[derive(Args, Clone, Debug)]
pub struct EnrolArgs {
    /// Name of the LatticeCluster.
    pub name: String,

    /// Kubeconfig of the parent cluster [default: $KUBECONFIG, then ~/.kube/config, then the ServiceAccount of a pod].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Arguments of `ca`.
#[derive(Args, Clone, Debug)]
pub struct CaArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CaCommand,
}

/// What `ca` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum CaCommand {
    /// Show which CA signs, where the rotation is, and who has not followed.
    #[command(after_help = CA_EXAMPLES)]
    Status(CaStatusArgs),
    /// Take the next step of the rotation: publish, sign, retire.
    #[command(after_help = CA_EXAMPLES)]
    Rotate(CaRotateArgs),
}

/// Arguments of `ca status`.
#[derive(Args, Clone, Debug)]
pub struct CaStatusArgs {
    /// Kubeconfig of the parent cluster [default: $KUBECONFIG, then ~/.kube/config, then the ServiceAccount of a pod].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Arguments of `ca rotate`.
#[derive(Args, Clone, Debug)]
pub struct CaRotateArgs {
    /// The step to take; without it, the one that comes next.
    #[arg(long, value_name = "STEP", value_enum)]
    pub step: Option<CaStep>,

    /// Go on although some clusters have not followed. They come back by recovery.
    #[arg(long)]
    pub without_laggards: bool,

    /// Kubeconfig of the parent cluster [default: $KUBECONFIG, then ~/.kube/config, then the ServiceAccount of a pod].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// A step of the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CaStep {
    /// Make the next CA and let everybody trust it.
    Publish,
    /// Sign with it.
    Sign,
    /// Trust the previous one no more.
    Retire,
    /// Go back to the CA that signed before.
    Rollback,
}

const ENROL_EXAMPLES: &str = "\
Examples:
  lattice-manager enrol backend | kubectl --kubeconfig backend.yaml apply -f -
      let a new agent of cluster backend in: after its Secret was wiped, or its identity locked

backend.yaml is a kubeconfig of the cluster itself: without its agent, `lattice-manager kubeconfig` leads nowhere.
Nothing changes until the new agent has come; from then on whoever held the identity before is refused.
The output holds a join token: good for one agent and 24 hours. It goes to standard output only.";

const CA_EXAMPLES: &str = "\
Examples:
  lattice-manager ca status                     who signs, who has not followed
  lattice-manager ca rotate                     publish, then sign, then retire
  lattice-manager ca rotate --without-laggards  without those that are away
  lattice-manager ca rotate --step rollback     to the CA that signed before

The running manager takes the step; its key never leaves the parent.";

const EXAMPLES: &str = "\
Examples:
  lattice-manager sandbox                                          try it: nothing else is needed
  lattice-manager crds | kubectl apply --server-side -f -          install the resources on a parent cluster
  lattice-manager run --external-address parent.example.org        run in a pod of the parent cluster
  lattice-manager kubeconfig backend > backend.kubeconfig          a person's way to a cluster's Kubernetes API

Exit codes:
  0  done, or ended by SIGTERM or Ctrl-C
  1  failed; the last line on standard error says why
  2  the command line is wrong
  3  run: the resources are not installed on the parent (the message has the command that installs them)";

const RUN_EXAMPLES: &str = "\
Examples:
  lattice-manager run --external-address parent.example.org
      in a pod of the parent cluster, as charts/lattice-manager deploys it
  lattice-manager run --kubeconfig ~/.kube/config --external-address 192.0.2.10 --metrics-listen 127.0.0.1:9441
      from outside of the parent cluster; nodes must reach 192.0.2.10 on the three ports
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 lattice-manager run --external-address parent.example.org
      with traces: one trace per operation of a cluster

Only the holder of the Lease lattice-system/lattice-manager works and listens; others wait for it.
Exit code 3: the resources are not installed; `lattice-manager crds | kubectl apply --server-side -f -` installs them.";

const KUBECONFIG_EXAMPLES: &str = "\
Examples:
  lattice-manager kubeconfig backend > backend.kubeconfig
  kubectl --kubeconfig backend.kubeconfig get nodes
  lattice-manager kubeconfig backend --kubeconfig ~/.kube/parent --context work > backend.kubeconfig

You act on the cluster under your own name and groups of the parent cluster; the cluster's own RBAC says what you may. The
parent must let you through: a role with apiGroups [lattice.dev], resources [latticeclusters/proxy], verbs [get, create,
update, patch, delete]. Groups that are the parent's own, such as system:masters, do not go along; who may impersonate them
asks for them: kubectl --as $USER --as-group system:masters …";

const CRDS_EXAMPLES: &str = "\
Examples:
  lattice-manager crds | kubectl apply --server-side -f -
  lattice-manager crds > crds.yaml";

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    if seconds < 5 { Err("at least 5 seconds".to_owned()) } else { Ok(Duration::from_secs(seconds)) }
}

/// Reads `1.2.3.4:50051`, `[::1]:50051`, or `:50051` for every address.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse()
        .map_err(|_| format!("{text:?} is no listen address: use for example 127.0.0.1:8443, [::1]:8443 or :8443"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn agents_get_the_proxy_that_was_named_and_no_empty_one() {
        let environment = |args: &[&str]| match Cli::try_parse_from([&["lattice-manager", "run"], args].concat()) {
            Ok(Cli { command: Command::Run(run) }) => run.agent_environment(),
            other => panic!("{other:?}"),
        };
        let named = environment(&["--agent-https-proxy", "http://proxy:3128", "--agent-no-proxy", "10.0.0.0/8"]);
        assert_eq!(named["HTTPS_PROXY"], "http://proxy:3128");
        assert_eq!(named["NO_PROXY"], "10.0.0.0/8");
        assert!(environment(&["--agent-https-proxy", ""]).is_empty());
    }

    #[test]
    fn a_port_alone_means_every_address() {
        assert_eq!(parse_listen(":8443"), Ok("0.0.0.0:8443".parse().expect("an address")));
        assert_eq!(parse_listen("127.0.0.1:0"), Ok("127.0.0.1:0".parse().expect("an address")));
        assert!(parse_listen("8443").is_err());
    }

    #[test]
    fn every_subcommand_explains_itself_with_examples() {
        for command in Cli::command().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{} has no examples", command.get_name());
        }
    }

    #[test]
    fn run_needs_nothing_but_its_name() {
        let cli = Cli::try_parse_from(["lattice-manager", "run"]).expect("defaults");
        assert!(matches!(cli.command, Command::Run(args) if args.trust_domain.is_none()));
    }
}
