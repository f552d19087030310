//! Runs everything: the parent's API, the simulated Cluster API, the manager, and what shows them.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lattice_apiserver::ApiServer;
use lattice_protocol::task;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::SandboxEnv;
use crate::capi::{self, Capi};
use crate::cli::{RunArgs, Until};
use crate::faults::Faults;
use crate::node::child;
use crate::node::hypervisor::{self, Hypervisor};
use crate::node::record::Records;

pub(crate) mod control;
mod documents;
mod manager;
mod observe;
pub(crate) mod parent;
mod plain;
mod screen;
pub(crate) mod state;

use observe::Board;
use state::StateFolder;

/// Longest wait for processes to end by themselves when the sandbox ends.
const STOP_MAX: Duration = Duration::from_secs(8);

/// Why the sandbox could not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the state folder could not be used")]
    State(#[source] std::io::Error),
    #[error("the embedded API could not be started")]
    Server(#[source] lattice_apiserver::Error),
    #[error(transparent)]
    Documents(#[from] documents::Error),
    #[error(transparent)]
    Parent(#[from] parent::Error),
    #[error(transparent)]
    Manager(#[from] manager::Error),
    #[error("{} is missing: build both programs (cargo build), or put lattice-agent beside lattice-manager", .0.display())]
    Agent(std::path::PathBuf),
    #[error("signals could not be received")]
    Signals(#[source] std::io::Error),
    #[error("--until ready needs a LatticeCluster, and the given files have none")]
    NoCluster,
    #[error("what the state folder holds cannot go on: {0}")]
    GoOn(String),
}

/// Why it ends.
enum End {
    Reached,
    Interrupted,
    TimedOut,
    Failed(Error),
}

/// Runs until it is done or interrupted.
pub(crate) async fn everything(args: RunArgs, env: SandboxEnv) -> ExitCode {
    let state = match StateFolder::create(args.state.as_deref()).await {
        Ok(state) => state,
        Err(error) => return fail(&Error::State(error)),
    };
    crate::log::start(&state.logs().join("sandbox.log"));
    let board = Arc::new(Board::default());
    let mut running = None;
    let end = match run(&args, &env, &state, &board, &mut running).await {
        Ok(end) => end,
        Err(error) => End::Failed(error),
    };
    let code = report(&end, &args, &board, &state);
    if let Some(running) = running {
        running.stop(&state).await;
    }
    state.clear();
    code
}

/// What must be ended.
struct Running {
    stop: CancellationToken,
    hypervisor: Arc<Hypervisor>,
    manager: Option<manager::Manager>,
    capi: Option<Capi>,
    _parent: (Arc<ApiServer>, lattice_apiserver::Serving),
    _watchdog: Option<state::Watchdog>,
}

impl Running {
    /// Ends everything that was started; by force when it takes too long.
    async fn stop(mut self, state: &StateFolder) {
        drop(self.capi.take());
        let manager = self.manager.take();
        let all = async {
            // First, so that nobody notes that its agents go.
            if let Some(manager) = manager {
                manager.stop().await;
            }
            self.hypervisor.stop().await;
        };
        if tokio::time::timeout(STOP_MAX, all).await.is_err() {
            tracing::warn!("not everything ended by itself");
        }
        self.stop.cancel();
        state.kill_all();
    }
}

async fn run(
    args: &RunArgs,
    env: &SandboxEnv,
    state: &StateFolder,
    board: &Arc<Board>,
    running: &mut Option<Running>,
) -> Result<End, Error> {
    if !env.agent_exe.is_file() {
        return Err(Error::Agent(env.agent_exe.clone()));
    }
    let began = Instant::now();
    let mut interrupts = Interrupts::new().map_err(Error::Signals)?;
    let before = state.ports();
    // A sandbox that goes on has its objects, except those of files that are given again.
    let documents = if before.is_some() && args.files.is_empty() {
        Vec::new()
    } else {
        documents::load(&args.files, &env.example_yaml)?
    };
    let faults = Arc::new(Faults::new(args.faults.iter().cloned(), state.path()).map_err(Error::State)?);
    let control_path = state.socket();
    let settings = child::Settings {
        speed: args.speed,
        state: state.path().to_owned(),
        agent_exe: env.agent_exe.clone(),
        records: Records::new(state.path(), state.kept()),
    };
    let config =
        hypervisor::Config { child: settings, manager_exe: env.manager_exe.clone(), control: control_path.clone() };
    let hypervisor = Hypervisor::new(config, Arc::clone(&faults));
    let api = lattice_apiserver::Config { controllers: true, state: state.parent_api(), ..Default::default() };
    let server = ApiServer::new(api).map_err(Error::Server)?;
    let port = before.map_or(0, |[parent, ..]| parent);
    let serving = server.serve(([127, 0, 0, 1], port).into()).await.map_err(Error::Server)?;
    let ports = manager::choose_ports(before.map(|[_, manager @ ..]| manager))?;
    let [gateway, bootstrap, proxy, metrics] = ports;
    let all_ports = [serving.addr().port(), gateway, bootstrap, proxy, metrics];
    let kubeconfig = server.kubeconfig(&serving.addr()).map_err(Error::Server)?;
    let stop = CancellationToken::new();
    let client = server.client();
    let clusters = if before.is_some() && args.files.is_empty() {
        parent::clusters(&client).await
    } else {
        documents::clusters(&documents)
    };
    if args.until.is_some() && clusters.is_empty() {
        return Err(Error::NoCluster);
    }
    let running = running.insert(Running {
        stop: stop.clone(),
        hypervisor: Arc::clone(&hypervisor),
        manager: None,
        capi: None,
        _parent: (server, serving),
        _watchdog: state.watchdog().ok(),
    });
    control::start(&control_path, Arc::clone(&hypervisor), Arc::clone(&faults), Arc::clone(board), stop.clone())
        .map_err(Error::State)?;
    let show = show(args, state, board, &clusters, &stop);
    let work = async {
        parent::install(&client, env, args.crds_dir.as_deref()).await?;
        hypervisor.go_on().await.map_err(Error::GoOn)?;
        running.capi = Some(Capi::start(client.clone(), capi::Config { speed: args.speed, machines: hypervisor }));
        parent::apply(&client, &documents).await?;
        // From here on there is something that can go on.
        state.write_ports(all_ports).map_err(Error::State)?;
        // Whoever waits for this file finds the kinds and the clusters there.
        state.write_kubeconfig("parent", &kubeconfig).map_err(Error::State)?;
        observe::start(client.clone(), Arc::clone(board), stop.clone());
        let manager = running.manager.insert(manager::Manager::start(env, args, state, Arc::clone(board), ports)?);
        match args.until {
            Some(Until::Ready) => {
                manager.ready().await;
                board.all_ready(&clusters).await;
            }
            None => std::future::pending().await,
        }
        Ok(End::Reached)
    };
    let end = tokio::select! {
        biased;
        () = interrupts.next() => Ok(End::Interrupted),
        end = work => end,
        () = tokio::time::sleep_until(began + args.timeout), if args.until.is_some() => Ok(End::TimedOut),
    };
    stop.cancel();
    // It draws its last frame and gives the screen back.
    let _ = tokio::time::timeout(Duration::from_secs(2), show).await;
    end
}

/// Starts what shows the run: live on a terminal, else line by line.
fn show(
    args: &RunArgs,
    state: &StateFolder,
    board: &Arc<Board>,
    clusters: &[String],
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let intro = intro(args, state);
    let (board, stop, clusters) = (Arc::clone(board), stop.clone(), clusters.to_vec());
    if !args.plain && std::io::stdout().is_terminal() {
        return task::spawn("sandbox.screen", task::Kind::Request, screen::run(board, intro, clusters, stop));
    }
    for line in &intro {
        say(line);
    }
    task::spawn("sandbox.plain", task::Kind::Request, plain::run(board, stop))
}

/// What a person needs to know before anything happens.
fn intro(args: &RunArgs, state: &StateFolder) -> Vec<String> {
    let speed = if args.speed > 0.0 { format!("{}x", args.speed) } else { "without delays".to_owned() };
    vec![
        format!(
            "Lattice sandbox: infrastructure and workloads are simulated ({speed}), manager, agents and tunnels are real"
        ),
        format!("state folder  {}", state.path().display()),
        format!("parent        kubectl --kubeconfig {} get lc", state.kubeconfig("parent").display()),
    ]
}

/// Says how it ended, and returns the exit code.
fn report(end: &End, args: &RunArgs, board: &Board, state: &StateFolder) -> ExitCode {
    match end {
        End::Interrupted => {
            say("interrupted: ending everything that was started");
            if args.until.is_some() { ExitCode::from(130) } else { ExitCode::SUCCESS }
        }
        End::Reached => {
            for line in board.summary() {
                say(&line);
            }
            ExitCode::SUCCESS
        }
        End::TimedOut => {
            for line in board.summary() {
                complain(&line);
            }
            complain(&format!("not Ready after {} s; logs: {}", args.timeout.as_secs(), state.logs().display()));
            ExitCode::FAILURE
        }
        End::Failed(error) => fail(error),
    }
}

fn fail(error: &Error) -> ExitCode {
    complain(&format!("lattice-manager sandbox: {}", crate::causes::chain(error)));
    ExitCode::FAILURE
}

/// Prints a line; nobody is left to read it when that fails.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line to standard error.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Ctrl-C, SIGTERM and a closed terminal.
struct Interrupts([tokio::signal::unix::Signal; 3]);

impl Interrupts {
    fn new() -> std::io::Result<Self> {
        let on = |kind| signal(kind);
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
