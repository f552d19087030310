//! The real manager as a process of its own, started again with backoff when it ends, as a kubelet would.

use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lattice_protocol::task;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::observe::{Board, Change};
use super::state::StateFolder;
use crate::SandboxEnv;
use crate::cli::RunArgs;

/// First and longest wait before a new start.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A run of this length makes the next wait a short one again.
const STABLE: Duration = Duration::from_secs(10);
/// Time between the request to end and the end by force.
const GRACE: Duration = Duration::from_secs(5);
/// How often the manager is asked whether it is ready, and how long it may think about it.
const READY_EVERY: Duration = Duration::from_millis(200);
const READY_MAX: Duration = Duration::from_secs(2);
/// Tries to find a port that is free for UDP and TCP.
const PORT_TRIES_MAX: usize = 50;

/// Why the manager could not be started at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no free loopback port for the manager")]
    Port(#[source] std::io::Error),
    #[error("port {port}, which the agents of this state folder know the manager by, is not free")]
    Taken {
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("the manager's log could not be opened")]
    Log(#[source] std::io::Error),
}

/// The running manager.
pub(crate) struct Manager {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    metrics: u16,
}

impl Manager {
    /// Starts it, and again each time that it ends.
    pub(crate) fn start(
        env: &SandboxEnv,
        args: &RunArgs,
        state: &StateFolder,
        board: Arc<Board>,
        ports: [u16; 4],
    ) -> Result<Self, Error> {
        let log = state.logs().join("manager.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(Error::Log)?;
        let mut words = vec!["run".to_owned(), "--kubeconfig".to_owned()];
        words.push(state.kubeconfig("parent").display().to_string());
        for (option, port) in
            ["--gateway-listen", "--bootstrap-listen", "--proxy-listen", "--metrics-listen"].iter().zip(ports)
        {
            words.extend([(*option).to_owned(), format!("127.0.0.1:{port}")]);
        }
        words.extend(["--external-address", "127.0.0.1", "--holder", "lattice-manager-sandbox"].map(str::to_owned));
        words.extend(["--sandbox-faults".to_owned(), state.path().join("manager-faults").display().to_string()]);
        words.extend(args.manager_args.iter().cloned());
        let metrics = format!("http://127.0.0.1:{}/metrics", ports[3]);
        board.tell(Change::plain("-", "manager", "", "starting", &metrics));
        let stop = CancellationToken::new();
        let job = Job {
            exe: env.manager_exe.clone(),
            words,
            log,
            pid_file: state.pid_file("manager"),
            board,
            stop: stop.clone(),
        };
        let task = task::spawn("sandbox.manager", task::Kind::Service, job.keep());
        Ok(Self { stop, task, metrics: ports[3] })
    }

    /// Waits until it says that it is ready: what stands in the API from the run before is no news until then.
    pub(crate) async fn ready(&self) {
        while !answers_ready(self.metrics).await {
            tokio::time::sleep(READY_EVERY).await;
        }
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        // The task bounds its own wait.
        let _ = self.task.await;
    }
}

struct Job {
    exe: std::path::PathBuf,
    words: Vec<String>,
    log: std::fs::File,
    pid_file: std::path::PathBuf,
    board: Arc<Board>,
    stop: CancellationToken,
}

impl Job {
    async fn keep(self) {
        let mut wait = BACKOFF_MIN;
        loop {
            let began = Instant::now();
            let why = self.once().await;
            if self.stop.is_cancelled() {
                return;
            }
            wait = if began.elapsed() >= STABLE { BACKOFF_MIN } else { wait };
            let note = format!("{why}; again in {:.1} s", wait.as_secs_f64());
            self.board.tell(Change::plain("-", "manager", "running", "ended", &note));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    /// Runs it once; returns how it ended.
    async fn once(&self) -> String {
        let (Ok(output), Ok(errors)) = (self.log.try_clone(), self.log.try_clone()) else {
            return "its log is gone".to_owned();
        };
        let child = Command::new(&self.exe)
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return format!("it could not be started: {error}"),
        };
        let pid = child.id().unwrap_or_default();
        if let Err(error) = std::fs::write(&self.pid_file, format!("{pid}\n")) {
            tracing::warn!(%error, "the manager's pid file could not be written");
        }
        self.board.tell(Change::plain("-", "manager", "", "running", &format!("pid {pid}")));
        let status = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                crate::process::terminate(pid);
                if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                    let _ = child.kill().await;
                }
                None
            }
            status = child.wait() => status.ok(),
        };
        // A file that outlives its process would have another process of its number killed.
        let _ = std::fs::remove_file(&self.pid_file);
        status.map_or_else(|| "it was asked to end".to_owned(), |status| status.to_string())
    }
}

async fn answers_ready(port: u16) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let asked = async {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut line = [0; 12];
        socket.read_exact(&mut line).await?;
        std::io::Result::Ok(line.ends_with(b" 200"))
    };
    tokio::time::timeout(READY_MAX, asked).await.is_ok_and(|answer| answer.unwrap_or(false))
}

/// Chooses ports for gateway (UDP and TCP), enrolment, proxy and metrics: those of the run before, if there was one.
pub(super) fn choose_ports(before: Option<[u16; 4]>) -> Result<[u16; 4], Error> {
    let Some(ports) = before else { return free_ports().map_err(Error::Port) };
    for port in ports {
        let free = TcpListener::bind(("127.0.0.1", port)).and_then(|_| UdpSocket::bind(("127.0.0.1", port)));
        free.map_err(|source| Error::Taken { port, source })?;
    }
    Ok(ports)
}

fn free_ports() -> std::io::Result<[u16; 4]> {
    let mut held = Vec::new();
    let mut last = None;
    for _ in 0..PORT_TRIES_MAX {
        let tcp = TcpListener::bind(("127.0.0.1", 0))?;
        let port = tcp.local_addr()?.port();
        match UdpSocket::bind(("127.0.0.1", port)) {
            Ok(udp) => held.push((tcp, udp, port)),
            Err(error) => last = Some(error),
        }
        if let [a, b, c, d] = held.as_slice() {
            return Ok([a.2, b.2, c.2, d.2]);
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("no free port")))
}
