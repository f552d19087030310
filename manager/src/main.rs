//! Command line of `lattice-manager`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use lattice_manager::api;
use lattice_manager::app::{self, Cli, Command};
use lattice_sandbox::SandboxEnv;

/// Exit code of `run` when the resources are not installed on the parent.
const EXIT_CRDS_MISSING: u8 = 3;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => return run(*args),
        Command::Crds => crds(),
        Command::Kubeconfig(args) => kubeconfig(args),
        Command::Enrol(args) => ask(app::enrol(args)),
        Command::Ca(args) => ask(app::authority(args)),
        Command::Sandbox(args) => sandbox_env().map(|env| lattice_sandbox::run(*args, env)),
    };
    result.unwrap_or_else(|error| fail(&error, 1))
}

fn run(args: app::RunArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("could not start the runtime"), 1),
    };
    match runtime.block_on(app::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is_crds_missing() { EXIT_CRDS_MISSING } else { 1 };
            fail(&anyhow::Error::new(error), code)
        }
    }
}

/// Runs a command that asks the parent and prints the answer.
fn ask<E: std::error::Error + Send + Sync + 'static>(
    asking: impl Future<Output = Result<String, E>>,
) -> anyhow::Result<ExitCode> {
    lattice_protocol::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let answer = runtime.block_on(asking)?;
    std::io::stdout().write_all(answer.as_bytes()).context("could not write the answer")?;
    Ok(ExitCode::SUCCESS)
}

fn crds() -> anyhow::Result<ExitCode> {
    let yaml = api::crds_yaml();
    std::io::stdout().write_all(yaml.as_bytes()).context("could not write the definitions")?;
    Ok(ExitCode::SUCCESS)
}

fn kubeconfig(args: app::KubeconfigArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let made = runtime.context("could not start the runtime")?.block_on(app::kubeconfig(args))?;
    for note in made.notes {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{note}");
    }
    std::io::stdout().write_all(made.yaml.as_bytes()).context("could not write the kubeconfig")?;
    Ok(ExitCode::SUCCESS)
}

fn sandbox_env() -> anyhow::Result<SandboxEnv> {
    let manager_exe = std::env::current_exe().context("could not find this program's own file")?;
    let agent_exe = manager_exe.with_file_name("lattice-agent");
    Ok(SandboxEnv {
        manager_exe,
        agent_exe,
        crds_yaml: api::crds_yaml(),
        example_yaml: include_str!("app/homelab.yaml").to_owned(),
    })
}

/// Says why on standard error; the process's exit code is `code`.
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "lattice-manager: {}", app::in_words(error.as_ref()));
    ExitCode::from(code)
}
