//! The sandbox's own log: a file, so that the screen stays for what people want to see.

use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is logged: our own rooms in detail, everything else when it is wrong.
const FILTER: &str =
    "warn,kube_client=off,lattice_sandbox=debug,lattice_nodes=info,lattice_apiserver=info,kube_runtime=error";

/// Starts to log to a file; without one nothing is logged.
pub(crate) fn start(path: &Path) {
    let Ok(file) = std::fs::OpenOptions::new().create(true).append(true).open(path) else { return };
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::sync::Mutex::new(file));
    // A second start in one process (tests) keeps the first log.
    let _ = tracing_subscriber::registry().with(EnvFilter::new(FILTER)).with(layer).try_init();
}
