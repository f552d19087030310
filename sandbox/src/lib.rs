//! Runs all of Lattice with simulated infrastructure in one command.
//!
//! The runner ([`run()`]) starts an embedded Kubernetes-style API as the parent, a simulated Cluster API on it, the real
//! `lattice-manager` as a process of its own, and per workload cluster an embedded API with simulated nodes, on which
//! the real `lattice-agent` is started by executing what the rendered cloud-init says.
//!
//! The simulated Cluster API ([`capi`]) knows nothing of Lattice: it sees the objects that any client could have applied.

mod api;
pub mod capi;
mod causes;
pub mod cli;
mod control;
pub mod fault;
mod faults;
mod log;
mod node;
mod process;
mod run;
mod tool;

use std::path::PathBuf;
use std::process::ExitCode;

pub use cli::SandboxArgs;
use cli::{FaultAction, FaultArgs, SandboxCommand};

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
    // Fails only when a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tool = matches!(args.command, Some(SandboxCommand::NodeTool(_)));
    let mut builder =
        if tool { tokio::runtime::Builder::new_current_thread() } else { tokio::runtime::Builder::new_multi_thread() };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            run::complain(&format!("lattice-manager sandbox: could not start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match args.command {
            None => run::everything(args.run, env).await,
            Some(SandboxCommand::Api(args)) => api::run(args).await,
            Some(SandboxCommand::Fault(args)) => fault(args).await,
            Some(SandboxCommand::NodeTool(args)) => tool::run(&args).await,
        }
    });
    runtime.shutdown_background();
    code
}

/// `sandbox fault …`: asks the running sandbox.
async fn fault(args: FaultArgs) -> ExitCode {
    let request = match &args.action {
        FaultAction::Set { fault } => control::Request::FaultSet(fault.to_string()),
        FaultAction::Clear { fault } => control::Request::FaultClear(fault.as_ref().map(ToString::to_string)),
        FaultAction::List => control::Request::FaultList,
    };
    let answer = match run::state::find(args.state.as_deref()).await {
        Ok(socket) => control::call(&socket, &request).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    match answer {
        Ok(text) => {
            if !text.is_empty() {
                run::say(&text);
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            run::complain(&format!("lattice-manager sandbox fault: {why}"));
            ExitCode::FAILURE
        }
    }
}
