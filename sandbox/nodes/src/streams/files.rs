//! The files of simulated containers: a folder each, for as long as the simulation lives.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// Makes folders when they are first needed; all of them go with the simulation.
#[derive(Debug, Default)]
pub(super) struct Files {
    root: Mutex<Option<TempDir>>,
}

impl Files {
    /// The folder that stands for a container's `/`.
    pub(super) fn folder(&self, pod_uid: &str, container: &str) -> io::Result<PathBuf> {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        if root.is_none() {
            *root = Some(tempfile::Builder::new().prefix("simulated-containers-").tempdir()?);
        }
        let base = root.as_ref().map(TempDir::path).map(PathBuf::from).unwrap_or_default();
        let folder = base.join(pod_uid).join(container);
        for inner in ["tmp", "etc", "root"] {
            std::fs::create_dir_all(folder.join(inner))?;
        }
        Ok(folder)
    }
}
