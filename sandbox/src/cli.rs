//! The command line of `lattice-manager sandbox`, as clap types.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::fault::{self, Fault};

/// Runs all of Lattice on this machine: an embedded Kubernetes API, a simulated Cluster API, the real manager, and for
/// each cluster an embedded API with simulated nodes and a real agent.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES
)]
pub struct SandboxArgs {
    /// What to do instead of running everything.
    #[command(subcommand)]
    pub command: Option<SandboxCommand>,
    /// The run's own arguments.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of a whole run.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// YAML files to apply instead of the built-in homelab example. Providers named `proxmox` and `docker` are added
    /// where the files have none of that name.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder for kubeconfigs, pids, logs, and all objects and machines: started again on the same folder, without FILE,
    /// the sandbox goes on where it was [default: a fresh temporary folder, printed].
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// End with exit code 0 once every given cluster is there.
    #[arg(long, value_name = "WHAT")]
    pub until: Option<Until>,
    /// With --until: give up after this time, exit non-zero and say per cluster why.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// How many times faster than life infrastructure, nodes and pods go; 0 leaves out every simulated delay.
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = parse_speed)]
    pub speed: f64,
    /// Print one line per change (time, cluster, what changed, from, to, why), as on a pipe.
    #[arg(long)]
    pub plain: bool,
    /// A fault to begin with; see `sandbox fault --help`. May be given more than once.
    #[arg(long = "fault", value_name = "SPEC")]
    pub faults: Vec<Fault>,
    /// Folder with CustomResourceDefinitions that take the place of the small built-in ones of Cluster API and its
    /// providers; others in it are left out.
    #[arg(long, value_name = "DIR", env = "LATTICE_CRDS_DIR")]
    pub crds_dir: Option<PathBuf>,
    /// Arguments passed on to `lattice-manager run` as they are.
    #[arg(long = "manager-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub manager_args: Vec<String>,
}

/// What `--until` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// Every given cluster is in phase Ready with condition Ready=True.
    Ready,
}

/// The smaller commands.
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Run the embedded Kubernetes API server alone.
    Api(ApiArgs),
    /// Set, clear or list faults of a running sandbox.
    #[command(after_long_help = fault::HELP)]
    Fault(FaultArgs),
    /// A program of a simulated node; called by the shims in front of its PATH.
    #[command(hide = true)]
    NodeTool(NodeToolArgs),
}

/// Arguments of `sandbox api`.
#[derive(Args, Clone, Debug)]
#[command(after_help = API_EXAMPLES)]
pub struct ApiArgs {
    /// Folder for parent.kubeconfig and all objects: started again on the same folder, the server goes on where it was
    /// [default: a fresh temporary folder, printed].
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Where to listen; loopback only.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Folder with CustomResourceDefinitions to install at start.
    #[arg(long, value_name = "DIR")]
    pub crds_dir: Option<PathBuf>,
    /// Run controllers too: garbage collection, the end of namespaces, default ServiceAccounts, and those of Deployments,
    /// ReplicaSets, DaemonSets, StatefulSets and Jobs.
    #[arg(long)]
    pub controllers: bool,
    /// With --controllers: simulated nodes (`node-1`, …) with a scheduler and kubelets, on which pods run. Without nodes
    /// pods stay Pending, as on an API server that has none.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "controllers", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub nodes: u8,
    /// With --nodes: how many times faster than life pods start; 0 leaves out every simulated delay.
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = parse_speed, requires = "nodes")]
    pub speed: f64,
}

/// Arguments of `sandbox fault`.
#[derive(Args, Clone, Debug)]
pub struct FaultArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: FaultAction,
    /// The running sandbox's state folder [default: the newest one that runs].
    #[arg(long, value_name = "DIR", global = true)]
    pub state: Option<PathBuf>,
}

/// What to do with faults.
#[derive(Clone, Debug, Subcommand)]
pub enum FaultAction {
    /// Set a fault in the running sandbox.
    #[command(after_long_help = fault::HELP)]
    Set {
        /// The fault.
        #[arg(value_name = "SPEC")]
        fault: Fault,
    },
    /// Clear one fault, or all of them.
    Clear {
        /// The fault as it was set; every fault when left out.
        #[arg(value_name = "SPEC")]
        fault: Option<Fault>,
    },
    /// List the faults that hold, one SPEC a line.
    List,
}

/// Arguments of `sandbox node-tool`.
#[derive(Args, Clone, Debug)]
pub struct NodeToolArgs {
    /// The node's folder.
    #[arg(long, value_name = "DIR")]
    pub node: PathBuf,
    /// The program's name and its own arguments.
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  lattice-manager sandbox                                  the built-in homelab cluster, shown live until Ctrl-C
  lattice-manager sandbox my.yaml --until ready            ends once every cluster of my.yaml is Ready
  lattice-manager sandbox --plain --speed 100 | tee log    one line per change
  lattice-manager sandbox --fault cluster=backend,kind=DaemonSet,name=ztunnel,ready=3
  lattice-manager sandbox --state DIR                      stopped with Ctrl-C and started again, it goes on where it was
  lattice-manager sandbox fault clear                      clears every fault of the newest running sandbox

The state folder holds parent.kubeconfig, <cluster>.kubeconfig, pids/manager, pids/agent-<cluster> and logs/.
Infrastructure and workloads are simulated; the manager, the agents and what is between them are the real programs.";

const API_EXAMPLES: &str = "\
Examples:
  lattice-manager sandbox api                              the bare API server, on a free port of loopback
  lattice-manager sandbox api --listen 127.0.0.1:7443 --state DIR --controllers
  lattice-manager sandbox api --controllers --nodes 3      with pods that run: kubectl logs, exec, attach, cp, port-forward

Faults are set while it runs, through /faults; docs/api-server.md lists what can go wrong:
  echo '{\"verb\": \"update\", \"kind\": \"Lease\", \"probability\": 0.3, \"effect\": {\"type\": \"refuse\", \"code\": 409}}' |
    kubectl create --raw /faults -f -
  kubectl get --raw /faults; kubectl delete --raw /faults

Simulated containers run a small simulated shell. Their ports (those that containers name, else every port) answer HTTP with
a page that tells the pod, the port and the request, and send back everything else as it came.";

/// Reads `120s`, `500ms`, `2m`, `1h`, or a bare number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is no time: use for example 120s, 2m or 500ms"))?;
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit of time: use ms, s, m or h")),
    };
    Duration::try_from_secs_f64(number * scale).map_err(|why| format!("{text:?}: {why}"))
}

/// Reads a speed: 0 (no delays) or a positive factor.
fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 0.0 => Ok(speed),
        _ => Err(format!("{text:?} is no speed: use a number, 0 for no delays at all, 1 for life, 20 by default")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_a_unit() {
        for (text, wanted) in [("120s", 120_000), ("2m", 120_000), ("500ms", 500), ("1.5s", 1_500), ("7", 7_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(wanted)), "{text}");
        }
        for bad in ["", "s", "12x", "-3s"] {
            assert!(parse_duration(bad).is_err(), "{bad} should be refused");
        }
    }

    #[test]
    fn speeds_are_not_negative() {
        assert_eq!(parse_speed("0"), Ok(0.0));
        assert!(parse_speed("-1").is_err() && parse_speed("inf").is_err() && parse_speed("x").is_err());
    }
}
