//! Runs all of Lattice with simulated infrastructure in one command.
//!
//! The runner ([`run`]) starts an embedded Kubernetes-style API as the parent, a simulated Cluster API on it, the real
//! `lattice-manager` as a process of its own, and per workload cluster an embedded API with simulated nodes, on which
//! the real `lattice-agent` is started by executing what the rendered cloud-init says.
//!
//! The simulated Cluster API knows nothing of Lattice: it sees the objects that any client could have applied.

pub mod cli;
pub mod fault;

use std::path::PathBuf;
use std::process::ExitCode;

pub use cli::SandboxArgs;

/// What the runner needs from the program that it is part of.
#[derive(Clone, Debug)]
pub struct SandboxEnv {
    /// The `lattice-manager` binary: started as the manager, and again as the node programs of cloud-init.
    pub manager_exe: PathBuf,
    /// The `lattice-agent` binary, started for each pod whose command is `lattice-agent`.
    pub agent_exe: PathBuf,
    /// The product's own CustomResourceDefinitions, YAML documents.
    pub crds_yaml: String,
    /// The objects that are applied when no FILE is given, YAML documents.
    pub example_yaml: String,
}

/// Runs `lattice-manager sandbox …` until it is done or interrupted, and tells the process's exit code.
///
/// Blocks: it brings a runtime of its own. To be called outside of any runtime, from the main thread.
pub fn run(args: SandboxArgs, env: SandboxEnv) -> ExitCode {
    let _ = (args, env);
    ExitCode::FAILURE
}
