//! Runs one process: output to a file, polite end first, then by force.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{ContainerRun, Exit};

/// Runs `command` for `run` until it ends or is asked to stop; `on_pid` learns the process id.
///
/// Standard output and error go to [`ContainerRun::log`], appended. The environment is emptied
/// first, then filled from [`ContainerRun::env`]; what `command` sets on top stays.
///
/// # Cancel safety
/// Dropping the future kills the process.
pub async fn run(mut command: Command, run: ContainerRun, on_pid: impl FnOnce(u32) + Send) -> Exit {
    let log = match open_log(&run) {
        Ok(log) => log,
        Err(error) => return Exit::failed_to_start(error),
    };
    let stderr = match log.try_clone() {
        Ok(copy) => copy,
        Err(error) => return Exit::failed_to_start(error),
    };
    command.stdin(Stdio::null()).stdout(log).stderr(stderr).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Exit::failed_to_start(error),
    };
    if let Some(pid) = child.id() {
        on_pid(pid);
    }
    let ended = tokio::select! {
        biased;
        grace = run.stop.asked() => Err(grace),
        ended = child.wait() => Ok(ended),
    };
    match ended {
        Ok(ended) => exit(ended),
        Err(grace) => end(&mut child, grace).await,
    }
}

/// Makes the command that a container's own words and environment describe, with `program` in
/// place of the first word.
pub fn command(program: &std::path::Path, run: &ContainerRun) -> Command {
    let mut command = Command::new(program);
    command.args(run.argv.iter().skip(1)).env_clear().envs(run.env.iter().cloned());
    command
}

async fn end(child: &mut Child, grace: std::time::Duration) -> Exit {
    terminate(child);
    if let Ok(ended) = tokio::time::timeout(grace, child.wait()).await {
        return exit(ended);
    }
    if let Err(error) = child.start_kill() {
        tracing::warn!(%error, "process could not be killed");
    }
    exit(child.wait().await)
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        tracing::debug!(%error, "process was gone before it could be asked to end");
    }
}

fn exit(ended: std::io::Result<ExitStatus>) -> Exit {
    match ended {
        Ok(status) => Exit {
            code: status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255),
            signal: status.signal(),
            error: None,
        },
        Err(error) => Exit::failed_to_start(error),
    }
}

fn open_log(run: &ContainerRun) -> std::io::Result<std::fs::File> {
    if let Some(folder) = run.log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).open(&run.log)
}
