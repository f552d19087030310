//! The faults that hold in a running sandbox.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::fault::{Fault, What};

/// The faults that hold.
pub(crate) struct Faults {
    set: Mutex<BTreeSet<Fault>>,
    changed: watch::Sender<()>,
    /// The file in which the manager finds those that are meant for it.
    manager_file: PathBuf,
}

impl Faults {
    /// Makes the set; those for the manager are kept in `manager_file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>, manager_file: PathBuf) -> std::io::Result<Self> {
        let set: BTreeSet<Fault> = faults.into_iter().collect();
        let faults = Self { set: Mutex::new(set), changed: watch::Sender::new(()), manager_file };
        faults.write_manager_file()?;
        Ok(faults)
    }

    /// Sets a fault; another cap on the same workload is replaced.
    pub(crate) fn set(&self, fault: Fault) -> std::io::Result<()> {
        {
            let mut set = self.lock();
            if let What::ReadyCap { workload, .. } = &fault.what {
                set.retain(|old| !matches!(&old.what, What::ReadyCap { workload: other, .. } if old.cluster == fault.cluster && other == workload));
            }
            set.insert(fault);
        }
        self.tell()
    }

    /// Clears a fault, or all; returns those that held.
    pub(crate) fn clear(&self, fault: Option<&Fault>) -> std::io::Result<Vec<Fault>> {
        let cleared = {
            let mut set = self.lock();
            match fault {
                Some(fault) => set.take(fault).into_iter().collect(),
                None => std::mem::take(&mut *set).into_iter().collect(),
            }
        };
        self.tell()?;
        Ok(cleared)
    }

    /// Lists all of them.
    pub(crate) fn list(&self) -> Vec<Fault> {
        self.lock().iter().cloned().collect()
    }

    /// Those of a cluster.
    pub(crate) fn of(&self, cluster: &str) -> Vec<What> {
        self.lock().iter().filter(|fault| fault.cluster == cluster).map(|fault| fault.what.clone()).collect()
    }

    /// Whether one of a cluster's is as asked.
    pub(crate) fn holds(&self, cluster: &str, is: impl Fn(&What) -> bool) -> bool {
        self.lock().iter().any(|fault| fault.cluster == cluster && is(&fault.what))
    }

    /// Takes out that the agent of a cluster is to be killed once.
    pub(crate) fn take_kill(&self, cluster: &str) -> bool {
        self.lock().remove(&Fault { cluster: cluster.to_owned(), what: What::AgentKill })
    }

    /// Tells of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn tell(&self) -> std::io::Result<()> {
        self.changed.send_replace(());
        self.write_manager_file()
    }

    fn write_manager_file(&self) -> std::io::Result<()> {
        let mut lines = String::new();
        for fault in self.lock().iter().filter(|fault| fault.what == What::ActorPanic) {
            lines.push_str("panic ");
            lines.push_str(&fault.cluster);
            lines.push('\n');
        }
        let fresh = self.manager_file.with_extension("new");
        std::fs::write(&fresh, lines)?;
        std::fs::rename(fresh, &self.manager_file)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Fault>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_finds_its_faults_in_its_file_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults");
        let all = ["cluster=a,actor=panic", "cluster=b,uplink=down"].map(|text| text.parse::<Fault>().unwrap());
        let faults = Faults::new(all.clone(), file.clone()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "panic a\n");
        assert_eq!(faults.clear(Some(&all[0])).unwrap(), [all[0].clone()]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
        assert_eq!(faults.clear(None).unwrap().len(), 1);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn a_second_cap_replaces_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let cap = |ready| format!("cluster=a,kind=DaemonSet,name=z,ready={ready}").parse::<Fault>().unwrap();
        let faults = Faults::new([cap(3)], folder.path().join("faults")).unwrap();
        faults.set(cap(2)).unwrap();
        assert_eq!(faults.list(), [cap(2)]);
    }
}
