//! What a sandbox writes down of its clusters and machines, so that it can go on after a stop.
//!
//! `clusters/<namespace>/<cluster>/cluster.json` tells a cluster's addresses (its API's objects lie beside, in `api/`),
//! `machines/<namespace>/<machine>.json` how a machine was switched on and how far it came (its disk lies beside, in
//! `<machine>/`). The files hold secrets, as the machines' disks do, and are for their owner only.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use lattice_nodes::NodeSpec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::folder::write_mode;
use crate::capi::Boot;

/// A workload cluster.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterRecord {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// First three parts of its addresses.
    pub(crate) addresses: [u8; 3],
}

/// A machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineRecord {
    pub(crate) boot: Boot,
    pub(crate) ip: Option<IpAddr>,
    /// Once its kubelet has registered.
    pub(crate) joined: Option<Joined>,
    /// Whether its first commands are done.
    pub(crate) done: bool,
    /// Why they failed.
    pub(crate) failed: Option<String>,
}

/// A machine that became a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Joined {
    pub(crate) node: NodeSpec,
    pub(crate) api_server: bool,
}

/// Where the records are; without a place nothing is written down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records(Option<PathBuf>);

impl Records {
    /// Keeps records below a state folder, if that is to be kept.
    pub(crate) fn new(state: &Path, kept: bool) -> Self {
        Self(kept.then(|| state.to_owned()))
    }

    fn cluster_folder(&self, namespace: &str, name: &str) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join("clusters").join(namespace).join(name))
    }

    fn machine_file(&self, namespace: &str, name: &str) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join("machines").join(namespace).join(format!("{name}.json")))
    }

    /// Folder for the objects of a cluster's API.
    pub(crate) fn api(&self, namespace: &str, name: &str) -> Option<PathBuf> {
        self.cluster_folder(namespace, name).map(|folder| folder.join("api"))
    }

    pub(crate) fn write_cluster(&self, record: &ClusterRecord) {
        if let Some(folder) = self.cluster_folder(&record.namespace, &record.name) {
            write(&folder.join("cluster.json"), record);
        }
    }

    pub(crate) fn write_machine(&self, record: &MachineRecord) {
        if let Some(file) = self.machine_file(&record.boot.namespace, &record.boot.name) {
            write(&file, record);
        }
    }

    pub(crate) fn forget_cluster(&self, namespace: &str, name: &str) {
        if let Some(folder) = self.cluster_folder(namespace, name) {
            tell(&folder, std::fs::remove_dir_all(&folder));
        }
    }

    pub(crate) fn forget_machine(&self, namespace: &str, name: &str) {
        if let Some(file) = self.machine_file(namespace, name) {
            tell(&file, std::fs::remove_file(&file));
        }
    }

    /// Reads all clusters.
    pub(crate) fn clusters(&self) -> Vec<ClusterRecord> {
        let below = |folder: PathBuf| entries(&folder).map(|cluster| cluster.join("cluster.json"));
        let folders = self.0.iter().flat_map(|state| entries(&state.join("clusters")));
        folders.flat_map(below).filter_map(|file| read(&file)).collect()
    }

    /// Reads all machines.
    pub(crate) fn machines(&self) -> Vec<MachineRecord> {
        let folders = self.0.iter().flat_map(|state| entries(&state.join("machines")));
        let files = folders.flat_map(|folder| entries(&folder));
        files.filter(|file| file.extension().is_some_and(|end| end == "json")).filter_map(|file| read(&file)).collect()
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all.into_iter()
}

/// Writes beside and renames: who is killed in between finds the old record.
fn write(file: &Path, record: &impl Serialize) {
    let fresh = file.with_extension("new");
    let written = serde_json::to_vec(record)
        .map_err(io::Error::other)
        .and_then(|text| write_mode(&fresh, &text, 0o600))
        .and_then(|()| std::fs::rename(&fresh, file));
    tell(file, written);
}

fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    let text = std::fs::read(file).ok()?;
    match serde_json::from_slice(&text) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(file = %file.display(), line = error.line(), "a record cannot be read, what it tells is lost");
            None
        }
    }
}

fn tell(file: &Path, done: io::Result<()>) {
    if let Err(error) = done
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %file.display(), "a record could not be changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str) -> MachineRecord {
        let boot = Boot {
            namespace: "lattice-a".to_owned(),
            name: name.to_owned(),
            cluster: "a".to_owned(),
            metadata: [("k".to_owned(), "v".to_owned())].into(),
            provider_id: "proxmox://1".to_owned(),
            provider_sets_id: false,
            version: "v1.36.2".to_owned(),
            cpus: 2,
            memory_mib: 2048,
            user_data: "#cloud-config".to_owned(),
        };
        let node = NodeSpec::new(name, IpAddr::from([127, 1, 2, 3])).control_plane();
        MachineRecord {
            boot,
            ip: Some(node.ip),
            joined: Some(Joined { node, api_server: true }),
            done: true,
            failed: None,
        }
    }

    #[test]
    fn what_was_written_down_is_found_again_and_what_was_forgotten_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path(), true);
        let cluster = ClusterRecord { namespace: "lattice-a".to_owned(), name: "a".to_owned(), addresses: [127, 9, 8] };
        records.write_cluster(&cluster);
        records.write_machine(&machine("a-1"));
        records.write_machine(&machine("a-2"));
        records.forget_machine("lattice-a", "a-2");
        assert_eq!(records.clusters(), [cluster]);
        let machines = records.machines();
        assert_eq!(machines.len(), 1);
        assert_eq!(machines[0].joined.as_ref().unwrap().node, machine("a-1").joined.unwrap().node);
        let file = folder.path().join("machines/lattice-a/a-1.json");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        records.forget_cluster("lattice-a", "a");
        assert!(records.clusters().is_empty());
    }

    #[test]
    fn without_a_place_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path(), false);
        records.write_machine(&machine("a-1"));
        assert!(records.machines().is_empty() && entries(folder.path()).next().is_none());
    }
}
