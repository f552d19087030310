//! Command line of `lattice-agent`.

use clap::Parser as _;
use lattice_agent::app;
use lattice_agent::cli::{Cli, Command};
use lattice_protocol::tls;

fn main() -> anyhow::Result<()> {
    tls::install_provider();
    let Command::Run(options) = Cli::parse().command;
    // One thread: the agent waits far more than it works, and each thread costs memory on every cluster.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::run(*options))?;
    Ok(())
}
