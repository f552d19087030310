//! The files of simulated containers: a folder each, for as long as the simulation lives.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tempfile::TempDir;

use super::shell::host_name;
use crate::meta;

/// Makes folders when they are first needed; all of them go with the simulation.
#[derive(Debug, Default)]
pub(super) struct Files {
    root: Mutex<Option<TempDir>>,
}

impl Files {
    /// The folder that stands for a container's `/`.
    pub(super) fn folder(&self, pod: &Pod, container: &str) -> io::Result<PathBuf> {
        let base = {
            let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
            if root.is_none() {
                *root = Some(tempfile::Builder::new().prefix("simulated-containers-").tempdir()?);
            }
            root.as_ref().map(TempDir::path).map(PathBuf::from).unwrap_or_default()
        };
        let folder = base.join(meta::uid(&pod.metadata)).join(container);
        if !folder.exists() {
            furnish(&folder, pod)?;
        }
        Ok(folder)
    }
}

/// Lays out what every container has.
fn furnish(folder: &Path, pod: &Pod) -> io::Result<()> {
    for inner in ["tmp", "etc", "root", "var/run", "home", "usr/bin", "dev"] {
        std::fs::create_dir_all(folder.join(inner))?;
    }
    let host = host_name(pod);
    let namespace = meta::namespace(&pod.metadata);
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or("127.0.0.1");
    std::fs::write(folder.join("etc/hostname"), format!("{host}\n"))?;
    std::fs::write(
        folder.join("etc/hosts"),
        format!("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n{ip}\t{host}\n"),
    )?;
    std::fs::write(
        folder.join("etc/resolv.conf"),
        format!(
            "search {namespace}.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        ),
    )?;
    std::fs::write(folder.join("etc/os-release"), "NAME=\"Simulated Linux\"\nID=simulated\n")
}
