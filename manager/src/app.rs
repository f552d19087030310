//! The composition root and the command line.
//!
//! Everything is put together here and nowhere else: a room gets what it uses handed in.

mod cli;
mod client;
mod kubeconfig;
mod leader;
mod run;

pub use cli::{Cli, Command, KubeconfigArgs, RunArgs};
pub use kubeconfig::{Made, kubeconfig};
pub use run::{Error, run};
