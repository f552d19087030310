//! The composition root and the command line.
//!
//! Everything is put together here and nowhere else: a room gets what it uses handed in.

mod cli;
mod client;
mod leader;
mod run;

pub use cli::{Cli, Command, RunArgs};
pub use run::{Error, run};
