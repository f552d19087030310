//! `sandbox api`: the embedded API server alone.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use lattice_apiserver::ApiServer;
use lattice_nodes::{NodeSpec, Nodes, NodesConfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::causes::chain;
use crate::cli::ApiArgs;
use crate::node::answer_for_pods;
use crate::node::folder::{private, write_mode};
use crate::run::{complain, parent, say};

/// How long a real controller leaves a namespace that is being deleted alone before it empties it, and looks again.
const NAMESPACE_GRACE: Duration = Duration::from_secs(5);

/// Runs it until it is interrupted.
pub(crate) async fn run(args: ApiArgs) -> ExitCode {
    match serve(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&format!("lattice-manager sandbox api: {why}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: &ApiArgs) -> Result<(), String> {
    if !args.listen.ip().is_loopback() {
        return Err(format!("--listen {}: only loopback addresses are served", args.listen));
    }
    let (folder, kept) = match &args.state {
        Some(path) => (path.clone(), Some(path.join("api"))),
        None => {
            let made = tempfile::Builder::new().prefix("lattice-api-").tempdir().map_err(|error| error.to_string())?;
            (made.keep(), None)
        }
    };
    let say_path = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(say_path)?;
    private(&folder).map_err(say_path)?;
    if let Some(kept) = &kept {
        std::fs::create_dir_all(kept).map_err(say_path)?;
    }
    let config = lattice_apiserver::Config {
        controllers: args.controllers,
        namespace_grace: NAMESPACE_GRACE,
        state: kept,
        ..Default::default()
    };
    let server = ApiServer::new(config).map_err(|error| chain(&error))?;
    let serving = server.serve(args.listen).await.map_err(|error| chain(&error))?;
    let kubeconfig = server.kubeconfig(&serving.addr()).map_err(|error| chain(&error))?;
    let path = folder.join("parent.kubeconfig");
    write_mode(&path, kubeconfig.as_bytes(), 0o600).map_err(say_path)?;
    if let Some(folder) = &args.crds_dir {
        install(&server, folder).await?;
    }
    let nodes = args.controllers.then(|| workloads(&server, args));
    say(&format!("serving https://{}", serving.addr()));
    say(&format!("kubectl --kubeconfig {} get namespaces", path.display()));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if let Some(nodes) = nodes {
        nodes.stop().await;
    }
    Ok(())
}

/// Starts the workload controllers, and nodes for them where they are wanted.
fn workloads(server: &std::sync::Arc<ApiServer>, args: &ApiArgs) -> Nodes {
    // Without nodes nothing is simulated that could be hurried.
    let speed = if args.nodes > 0 { args.speed } else { 1.0 };
    let config = NodesConfig { speed, scheduler: args.nodes > 0, leases: true, ..NodesConfig::default() };
    let nodes = Nodes::start(server.client(), config);
    answer_for_pods(server, &nodes);
    for number in 1..=args.nodes {
        nodes.join(NodeSpec::new(format!("node-{number}"), IpAddr::from([127, 0, 100, number])));
    }
    nodes
}

async fn install(server: &std::sync::Arc<ApiServer>, folder: &Path) -> Result<(), String> {
    let all = parent::read_folder(folder).map_err(|error| chain(&error))?;
    parent::install_all(&server.client(), all).await.map(|_| ()).map_err(|error| chain(&error))
}
