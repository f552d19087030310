//! The state folder: where kubeconfigs, pids, logs and machines lie, and how a running sandbox is found.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::control;
use crate::node::folder::{private, write_mode};

/// How default state folders, and links to others, begin.
const PREFIX: &str = "lattice-sandbox-";
/// Links and folders that are looked at to find a running sandbox.
const CANDIDATES_MAX: usize = 256;

/// A sandbox's state folder.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
    /// Link beside temporary files, by which a folder elsewhere is found.
    link: Option<PathBuf>,
    /// Whether a sandbox that is started again on it goes on where this one was.
    kept: bool,
}

impl StateFolder {
    /// Makes the folder, or a fresh temporary one.
    ///
    /// # Errors
    /// When it cannot be made, or another sandbox runs in it.
    pub(crate) async fn create(path: Option<&Path>) -> io::Result<Self> {
        let temporary = std::env::temp_dir();
        let (path, link) = match path {
            Some(path) => {
                std::fs::create_dir_all(path)?;
                let path = std::fs::canonicalize(path)?;
                (path, Some(temporary.join(format!("{PREFIX}{}", std::process::id()))))
            }
            None => (tempfile::Builder::new().prefix(PREFIX).tempdir_in(temporary)?.keep(), None),
        };
        let kept = link.is_some();
        let folder = Self { path, link, kept };
        if control::answers(&folder.socket()).await {
            let text = format!("another sandbox runs in {}", folder.path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        private(&folder.path)?;
        // Whoever waits for them must not find those of a run that was killed.
        folder.remove_kubeconfigs();
        for sub in ["pids/.boot", "logs", "machines"] {
            std::fs::create_dir_all(folder.path.join(sub))?;
        }
        if let Some(link) = &folder.link {
            let _ = std::fs::remove_file(link);
            // Without the link the folder is still found by --state.
            let _ = std::os::unix::fs::symlink(&folder.path, link);
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what is in it outlives this run.
    pub(crate) fn kept(&self) -> bool {
        self.kept
    }

    /// Where the objects of the parent's API are kept.
    pub(crate) fn parent_api(&self) -> Option<PathBuf> {
        self.kept.then(|| self.path.join("api"))
    }

    /// The ports of the run before: of the parent's API, then of the manager.
    pub(crate) fn ports(&self) -> Option<[u16; 5]> {
        let text = std::fs::read_to_string(self.path.join("ports")).ok()?;
        let ports: Vec<u16> = text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        ports.try_into().ok()
    }

    /// Writes the ports down: agents and kubeconfigs know them.
    pub(crate) fn write_ports(&self, ports: [u16; 5]) -> io::Result<()> {
        let words: Vec<String> = ports.iter().map(ToString::to_string).collect();
        if self.kept { std::fs::write(self.path.join("ports"), words.join(" ") + "\n") } else { Ok(()) }
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(crate) fn pid_file(&self, name: &str) -> PathBuf {
        self.path.join("pids").join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        control::socket_path(&self.path)
    }

    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.kubeconfig"))
    }

    pub(crate) fn write_kubeconfig(&self, name: &str, text: &str) -> io::Result<()> {
        write_mode(&self.kubeconfig(name), text.as_bytes(), 0o600)
    }

    /// Kills every process group whose number is in a pid file, and removes the files.
    pub(crate) fn kill_all(&self) {
        for folder in ["pids", "pids/.boot"] {
            for entry in std::fs::read_dir(self.path.join(folder)).into_iter().flatten().flatten() {
                let path = entry.path();
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                if let Ok(pid) = text.trim().parse() {
                    crate::process::kill_group(pid);
                }
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Takes away what serves nobody once the sandbox has ended; logs stay, and in a kept folder what the next run needs.
    pub(crate) fn clear(&self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(self.path.join("machines"));
            let _ = std::fs::remove_file(self.path.join("faults"));
        }
        let _ = std::fs::remove_file(self.socket());
        let _ = std::fs::remove_file(self.path.join("manager-faults"));
        self.remove_kubeconfigs();
        if let Some(link) = &self.link {
            let _ = std::fs::remove_file(link);
        } else if !self.logs().join("manager.log").exists() {
            // Nothing ran: there is nothing to look at.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    fn remove_kubeconfigs(&self) {
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "kubeconfig") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Starts a small shell that outlives this process for a moment: when this process goes without a word (SIGKILL),
    /// it kills what was started.
    pub(crate) fn watchdog(&self) -> io::Result<Watchdog> {
        use std::os::unix::process::CommandExt as _;
        const SCRIPT: &str = "read -r _; for f in \"$1\"/pids/* \"$1\"/pids/.boot/*; do \
                              [ -f \"$f\" ] && kill -9 -\"$(cat \"$f\")\" 2>/dev/null; rm -f \"$f\"; done; :";
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "sandbox-watchdog"])
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Watchdog(child))
    }
}

/// Ends when dropped: by then there is nothing left to kill.
#[derive(Debug)]
pub(crate) struct Watchdog(Child);

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The control socket of the sandbox in `state`, or of the newest one that runs.
pub(crate) async fn find(state: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(state) = state {
        let path = std::fs::canonicalize(state).map_err(|error| format!("{}: {error}", state.display()))?;
        let socket = control::socket_path(&path);
        return if control::answers(&socket).await {
            Ok(socket)
        } else {
            Err(format!("no sandbox runs in {}", state.display()))
        };
    }
    let entries = std::fs::read_dir(std::env::temp_dir()).map_err(|error| error.to_string())?;
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .filter_map(|entry| std::fs::canonicalize(entry.path()).ok())
        .filter(|path| path.is_dir())
        .filter_map(|path| Some((std::fs::metadata(path.join("pids")).ok()?.created().ok()?, path)))
        .collect();
    found.sort();
    for (_, path) in found.into_iter().rev().take(CANDIDATES_MAX) {
        let socket = control::socket_path(&path);
        if control::answers(&socket).await {
            return Ok(socket);
        }
    }
    Err("no sandbox runs; --state DIR names one that was started with a folder of its own".to_owned())
}
