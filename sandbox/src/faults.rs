//! The faults that hold in a running sandbox.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::fault::{Fault, What};

/// The faults that hold.
pub(crate) struct Faults {
    set: Mutex<BTreeSet<Fault>>,
    changed: watch::Sender<()>,
    /// The file in which the manager finds those that are meant for it.
    manager_file: PathBuf,
    /// The file from which a sandbox that is started again takes them.
    kept_file: PathBuf,
}

impl Faults {
    /// Makes the set: those that are given, and those that held when the sandbox of this folder was stopped.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub(crate) fn new(given: impl IntoIterator<Item = Fault>, folder: &Path) -> std::io::Result<Self> {
        let kept_file = folder.join("faults");
        let kept = std::fs::read_to_string(&kept_file).unwrap_or_default();
        let set: BTreeSet<Fault> = kept.lines().filter_map(|line| line.parse().ok()).chain(given).collect();
        let manager_file = folder.join("manager-faults");
        let faults = Self { set: Mutex::new(set), changed: watch::Sender::new(()), manager_file, kept_file };
        faults.write_files()?;
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
        self.write_files()
    }

    fn write_files(&self) -> std::io::Result<()> {
        let (mut panics, mut kept) = (String::new(), String::new());
        for fault in self.lock().iter() {
            match fault.what {
                What::ActorPanic => panics.extend(["panic ", &fault.cluster, "\n"]),
                // Done once, and over.
                What::AgentKill => continue,
                _ => {}
            }
            kept.extend([fault.to_string().as_str(), "\n"]);
        }
        for (file, lines) in [(&self.manager_file, panics), (&self.kept_file, kept)] {
            let fresh = file.with_extension("new");
            std::fs::write(&fresh, lines)?;
            std::fs::rename(fresh, file)?;
        }
        Ok(())
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
        let file = folder.path().join("manager-faults");
        let all = ["cluster=a,actor=panic", "cluster=b,uplink=down"].map(|text| text.parse::<Fault>().unwrap());
        let faults = Faults::new(all.clone(), folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "panic a\n");
        assert_eq!(faults.clear(Some(&all[0])).unwrap(), [all[0].clone()]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
        assert_eq!(faults.clear(None).unwrap().len(), 1);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn faults_hold_on_when_the_sandbox_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let all = ["cluster=a,uplink=down", "cluster=b,agent=kill"].map(|text| text.parse::<Fault>().unwrap());
        drop(Faults::new(all.clone(), folder.path()).unwrap());
        let again = Faults::new([], folder.path()).unwrap();
        assert_eq!(again.list(), [all[0].clone()]);
        again.clear(None).unwrap();
        assert!(Faults::new([], folder.path()).unwrap().list().is_empty());
    }

    #[test]
    fn a_second_cap_replaces_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let cap = |ready| format!("cluster=a,kind=DaemonSet,name=z,ready={ready}").parse::<Fault>().unwrap();
        let faults = Faults::new([cap(3)], folder.path()).unwrap();
        faults.set(cap(2)).unwrap();
        assert_eq!(faults.list(), [cap(2)]);
    }
}
