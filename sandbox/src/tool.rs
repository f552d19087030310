//! The programs of a simulated node that cloud-init calls: `kubeadm`, `curl` and `kubectl`, as far as it uses them.
//!
//! Each is this very binary, called by a shim in front of the node's PATH. An option that is not simulated is refused
//! with a message: silence would hide that a real node behaves otherwise.

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::NodeToolArgs;
use crate::node::folder::NodeFile;

mod args;
mod curl;
mod kubeadm;
mod kubectl;

/// How a program ends: its exit code, and what it says on standard error.
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Runs a program of a node.
pub(crate) async fn run(args: &NodeToolArgs) -> ExitCode {
    let (program, words) = (args.command[0].as_str(), &args.command[1..]);
    let node = match NodeFile::read(&args.node) {
        Ok(node) => node,
        Err(error) => {
            return end(program, Err(Failure::new(1, format!("{} is no node's folder: {error}", args.node.display()))));
        }
    };
    let result = match program {
        "kubeadm" => kubeadm::run(&args.node, &node, words).await,
        "curl" => curl::run(&node, words).await,
        "kubectl" => kubectl::run(words).await,
        other => Err(Failure::new(127, format!("{other} is no program of a simulated node"))),
    };
    end(program, result)
}

fn end(program: &str, result: Result<String, Failure>) -> ExitCode {
    let (code, text) = match result {
        Ok(output) => {
            if std::io::stdout().write_all(output.as_bytes()).is_ok() {
                return ExitCode::SUCCESS;
            }
            (1, "standard output is closed".to_owned())
        }
        Err(failure) => (failure.code, failure.message),
    };
    if !text.is_empty() {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{program}: {text}");
    }
    ExitCode::from(code)
}
