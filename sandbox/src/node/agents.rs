//! Runs pods whose command is one of our own programs as real processes.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use lattice_nodes::runtime::process;
use lattice_nodes::{ContainerRun, Exit, Runtime};

use super::relay::Line;

/// The program whose pods are real.
const PROGRAM: &str = "lattice-agent";
/// Environment variable that names the folder before every mounted path.
const VOLUME_ROOT: &str = "LATTICE_VOLUME_ROOT";

/// Starts real agents for one cluster.
pub(crate) struct Agents {
    exe: PathBuf,
    line: Arc<Line>,
    /// File with the number of the process that was started last.
    pid_file: PathBuf,
    /// File that gets what the processes say.
    log: PathBuf,
    running: Arc<Mutex<HashMap<String, u32>>>,
    kill_next: Arc<std::sync::atomic::AtomicBool>,
}

impl Agents {
    pub(crate) fn new(exe: PathBuf, line: Arc<Line>, pid_file: PathBuf, log: PathBuf) -> Self {
        Self { exe, line, pid_file, log, running: Arc::default(), kill_next: Arc::default() }
    }

    /// Kills every process that runs; when none does, the next one.
    pub(crate) fn kill(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_empty() {
            self.kill_next.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        for pid in running.values() {
            crate::process::kill(*pid);
        }
    }
}

impl Runtime for Agents {
    fn runs(&self, pod: &Pod) -> bool {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        containers.filter_map(|container| container.command.as_ref()?.first()).any(|word| is_ours(word))
    }

    fn run(&self, mut run: ContainerRun) -> Pin<Box<dyn Future<Output = Exit> + Send>> {
        let (exe, line, pid_file, log) =
            (self.exe.clone(), Arc::clone(&self.line), self.pid_file.clone(), self.log.clone());
        let (running, kill_next) = (Arc::clone(&self.running), Arc::clone(&self.kill_next));
        Box::pin(async move {
            if !run.argv.first().is_some_and(|word| is_ours(word)) {
                return Exit::failed_to_start("only containers of the sandbox's own programs are real");
            }
            if let Err(error) = reroute(&mut run.argv, &line).await {
                return Exit::failed_to_start(format!("no way to the parent: {error}"));
            }
            let mut command = process::command(&exe, &run);
            command.env(VOLUME_ROOT, &run.root).process_group(0);
            link_log(&run.log, &log);
            let id = format!("{}/{}", run.pod.metadata.uid.as_deref().unwrap_or_default(), run.restarts);
            let (started, file) = (Arc::clone(&running), pid_file.clone());
            let key = id.clone();
            let exit = process::run(command, run, move |pid| {
                started.lock().unwrap_or_else(PoisonError::into_inner).insert(key, pid);
                if let Err(error) = std::fs::write(&file, format!("{pid}\n")) {
                    tracing::warn!(%error, "the agent's pid file could not be written");
                }
                if kill_next.swap(false, std::sync::atomic::Ordering::Relaxed) {
                    crate::process::kill(pid);
                }
            })
            .await;
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            // A file that outlives its process would have another process of its number killed.
            let _ = std::fs::remove_file(&pid_file);
            exit
        })
    }
}

fn is_ours(word: &str) -> bool {
    Path::new(word).file_name().is_some_and(|name| name == PROGRAM)
}

/// Leads every address outside of the machine through the cluster's line.
async fn reroute(argv: &mut [String], line: &Line) -> std::io::Result<()> {
    for at in 1..argv.len() {
        let (option, value) = (argv[at - 1].as_str(), argv[at].clone());
        match option {
            "--endpoint" => argv[at] = line.route(&value).await?.to_string(),
            "--bootstrap-url" => {
                let Some(target) = value.strip_prefix("https://") else { continue };
                let (target, path) = target.split_at(target.find('/').unwrap_or(target.len()));
                argv[at] = format!("https://{}{path}", line.route(target).await?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Shows the container's log under the sandbox's own name for it, where it outlives the machine.
fn link_log(log: &Path, name: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let inode = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.ino());
    let made = log
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::OpenOptions::new().create(true).append(true).open(log).map(|_| ()));
    if inode(log).is_some() && inode(log) == inode(name) {
        return;
    }
    // The log of an earlier pod; the one before that goes.
    let _ = std::fs::rename(name, name.with_extension("log.1"));
    if let Err(error) = made.and_then(|()| std::fs::hard_link(log, name)) {
        tracing::debug!(%error, "no link to the agent's log");
    }
}
