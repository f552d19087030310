//! The composition root and the command line.
//!
//! Everything is put together here and nowhere else: a room gets what it uses handed in.

mod authority;
mod cli;
mod client;
mod enrol;
mod kubeconfig;
mod leader;
mod run;
mod time;
mod words;

pub use authority::authority;
pub use cli::{CaArgs, Cli, Command, EnrolArgs, KubeconfigArgs, RunArgs};
pub use enrol::enrol;
pub use kubeconfig::{Made, kubeconfig};
pub use run::{Error, run};
pub use words::in_words;
