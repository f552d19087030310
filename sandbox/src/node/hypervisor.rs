//! Makes machines: a folder, an address, cloud-init; and knows which faults hold for whom.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lattice_protocol::task;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::address::Block;
use super::child::{Child, Joining, Settings};
use super::cloud_init::CloudConfig;
use super::folder::{NodeFile, prepare};
use super::kubeadm;
use super::record::{Joined, MachineRecord};
use crate::capi::{Boot, Machines, Power};
use crate::causes::chain;
use crate::fault::What;
use crate::faults::Faults;

/// Seconds of life from the order to a machine that runs: clone and start.
const START: f64 = 40.0;
/// Seconds of life that `kubeadm init` and `kubeadm join` take.
const INIT: f64 = 20.0;
const JOIN: f64 = 15.0;
/// Changes that may wait for a slow listener; it then looks at everything.
const CHANGES_MAX: usize = 256;

/// How machines are made.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) child: Settings,
    pub(crate) manager_exe: PathBuf,
    pub(crate) control: PathBuf,
}

type Key = (String, String);

/// Makes machines.
pub(crate) struct Hypervisor {
    config: Config,
    faults: Arc<Faults>,
    me: Weak<Hypervisor>,
    machines: Mutex<HashMap<Key, Machine>>,
    children: Mutex<HashMap<Key, Arc<Child>>>,
    /// Machines of each cluster in order of appearance.
    seen: Mutex<HashMap<String, Vec<String>>>,
    changes: broadcast::Sender<String>,
}

struct Machine {
    power: Power,
    boot: Arc<Boot>,
    ip: Option<IpAddr>,
    joined: Option<Joined>,
    done: bool,
    task: Option<JoinHandle<()>>,
}

impl Machine {
    /// One that is switched on now.
    fn starting(boot: Arc<Boot>) -> Self {
        Self { power: Power::Starting, boot, ip: None, joined: None, done: false, task: None }
    }

    fn record(&self) -> MachineRecord {
        let failed = match &self.power {
            Power::Failed { message, .. } => Some(message.clone()),
            _ => None,
        };
        MachineRecord {
            boot: Boot::clone(&self.boot),
            ip: self.ip,
            joined: self.joined.clone(),
            done: self.done,
            failed,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Hypervisor {
    pub(crate) fn new(config: Config, faults: Arc<Faults>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            config,
            faults,
            me: me.clone(),
            machines: Mutex::default(),
            children: Mutex::default(),
            seen: Mutex::default(),
            changes: broadcast::channel(CHANGES_MAX).0,
        })
    }

    fn after(&self, seconds: f64) -> Duration {
        let speed = self.config.child.speed;
        if speed <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(seconds / speed) }
    }

    /// The workload cluster of that name; its addresses are claimed on first use.
    fn child(&self, namespace: &str, cluster: &str) -> Result<Arc<Child>, String> {
        let mut children = lock(&self.children);
        let key = (namespace.to_owned(), cluster.to_owned());
        if let Some(child) = children.get(&key) {
            return Ok(Arc::clone(child));
        }
        let down = self.faults.holds(cluster, |what| matches!(what, What::UplinkDown));
        let child = Child::new(namespace, cluster, self.config.child.clone(), down)
            .map_err(|error| format!("no loopback addresses for {cluster}: {error}"))?;
        let child = Arc::new(child);
        if self.faults.take_kill(cluster) {
            child.agents.kill();
        }
        children.insert(key, Arc::clone(&child));
        Ok(child)
    }

    /// Every workload cluster of that name.
    fn children_named(&self, cluster: &str) -> Vec<Arc<Child>> {
        lock(&self.children).iter().filter(|(key, _)| key.1 == cluster).map(|(_, child)| Arc::clone(child)).collect()
    }

    /// Makes what runs agree with the faults that hold for a cluster.
    pub(crate) fn apply_faults(&self, cluster: &str) {
        let faults = self.faults.of(cluster);
        for child in self.children_named(cluster) {
            child.line.set_down(faults.contains(&What::UplinkDown));
            apply_workload_faults(&child, &faults);
            if self.faults.take_kill(cluster) {
                child.agents.kill();
            }
        }
        let namespaces: Vec<String> = lock(&self.machines).keys().map(|key| key.0.clone()).collect();
        for namespace in namespaces {
            self.changed(&namespace);
        }
        self.changed(&format!("lattice-{cluster}"));
    }

    fn changed(&self, namespace: &str) {
        // Nobody listens before the controllers start.
        let _ = self.changes.send(namespace.to_owned());
    }

    /// Notes that a machine exists, for faults that name machines by number.
    fn note(&self, cluster: &str, machine: &str) {
        let mut seen = lock(&self.seen);
        let list = seen.entry(cluster.to_owned()).or_default();
        if !list.iter().any(|one| one == machine) {
            list.push(machine.to_owned());
        }
    }

    /// Whether a fault's `node=` means this machine.
    fn means(&self, node: &str, cluster: &str, machine: &str) -> bool {
        if let Ok(number) = node.parse::<usize>() {
            let seen = lock(&self.seen);
            return seen
                .get(cluster)
                .and_then(|list| list.get(number.checked_sub(1)?))
                .is_some_and(|one| one == machine);
        }
        machine == node || machine.strip_prefix(node).is_some_and(|rest| rest.starts_with('-'))
    }

    fn set_power(&self, key: &Key, power: Power) {
        self.set(key, |machine| machine.power = power);
        self.changed(&key.0);
    }

    /// Changes what is known of a machine, and writes it down.
    fn set(&self, key: &Key, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = lock(&self.machines).get_mut(key) {
            change(machine);
            self.config.child.records.write_machine(&machine.record());
        }
    }

    /// A machine's life: start, then its first commands.
    async fn live(self: Arc<Self>, key: Key, boot: Arc<Boot>) {
        tokio::time::sleep(self.after(START)).await;
        let failed = |addresses, message| Power::Failed { addresses, message };
        let known = lock(&self.machines).get(&key).and_then(|machine| machine.ip);
        let ip = match self.child(&boot.namespace, &boot.cluster) {
            Ok(child) => known.or_else(|| child.block.machine()),
            Err(message) => return self.set_power(&key, failed(Vec::new(), message)),
        };
        let Some(ip) = ip else {
            return self.set_power(&key, failed(Vec::new(), "the cluster's loopback addresses are used up".to_owned()));
        };
        self.set(&key, |machine| machine.ip = Some(ip));
        let addresses = vec![ip.to_string()];
        let joined = lock(&self.machines).get(&key).is_some_and(|machine| machine.joined.is_some());
        if !joined {
            self.set_power(&key, Power::Running { addresses: addresses.clone(), node: false, api_server: false });
        }
        let folder = self.folder(&boot);
        let node = NodeFile {
            control: self.config.control.clone(),
            namespace: boot.namespace.clone(),
            machine: boot.name.clone(),
        };
        let pid_file = self.config.child.state.join("pids/.boot").join(&boot.name);
        let result = match prepare(&folder, &self.config.manager_exe, &node) {
            Err(error) => Err(format!("the machine's folder could not be made: {error}")),
            Ok(()) => match CloudConfig::parse(&boot.user_data, &boot.metadata) {
                Err(error) => Err(error.to_string()),
                Ok(config) => config.execute(&folder, Some(&pid_file)).await.map_err(|error| error.to_string()),
            },
        };
        match result {
            Ok(()) => self.set(&key, |machine| machine.done = true),
            Err(message) => {
                tracing::warn!(machine = key.1, message, "a machine's first commands failed");
                self.set_power(&key, failed(addresses, message));
            }
        }
    }

    fn folder(&self, boot: &Boot) -> PathBuf {
        self.config.child.state.join("machines").join(&boot.namespace).join(&boot.name)
    }

    fn machine(&self, namespace: &str, name: &str) -> Result<(Arc<Boot>, IpAddr), String> {
        let machines = lock(&self.machines);
        let machine = machines.get(&(namespace.to_owned(), name.to_owned()));
        let machine = machine.ok_or_else(|| format!("machine {name} does not exist"))?;
        let ip = machine.ip.ok_or_else(|| format!("machine {name} has no address"))?;
        Ok((Arc::clone(&machine.boot), ip))
    }

    /// `kubeadm init` or `kubeadm join` on a machine.
    pub(crate) async fn kubeadm(
        &self,
        namespace: &str,
        name: &str,
        config: &str,
        join: bool,
    ) -> Result<String, String> {
        let (boot, ip) = self.machine(namespace, name)?;
        let config = kubeadm::parse(config)?;
        if join {
            self.wait_while_never(&boot).await;
        }
        tokio::time::sleep(self.after(if join { JOIN } else { INIT })).await;
        let child = self.child(namespace, &boot.cluster)?;
        let control_plane = !join || config.control_plane;
        let machine = Joining {
            name,
            ip,
            folder: self.folder(&boot),
            version: &boot.version,
            provider_id: boot.provider_sets_id.then(|| boot.provider_id.clone()),
            cpus: boot.cpus,
            memory_mib: boot.memory_mib,
            control_plane,
        };
        let result = if join { child.join(&machine, &config).await } else { child.init(&machine, &config).await };
        let (kubeconfig, node) = result.map_err(|error| chain(&error))?;
        apply_workload_faults(&child, &self.faults.of(&boot.cluster));
        let key = (namespace.to_owned(), name.to_owned());
        let power = Power::Running { addresses: vec![ip.to_string()], node: true, api_server: control_plane };
        self.set(&key, |machine| machine.joined = Some(Joined { node, api_server: control_plane }));
        self.set_power(&key, power);
        Ok(kubeconfig)
    }

    /// Lets the clusters and machines of a stopped sandbox go on. What was under way begins again.
    ///
    /// # Errors
    /// When a cluster's addresses are taken by somebody else, or its API does not come up.
    pub(crate) async fn go_on(self: &Arc<Self>) -> Result<(), String> {
        let records = &self.config.child.records;
        let machines = records.machines();
        for cluster in records.clusters() {
            let own = |record: &&MachineRecord| {
                record.boot.namespace == cluster.namespace && record.boot.cluster == cluster.name
            };
            let down = self.faults.holds(&cluster.name, |what| matches!(what, What::UplinkDown));
            let used = machines.iter().filter(own).filter_map(|record| record.ip);
            let block = Block::reclaim(cluster.addresses, used)
                .map_err(|error| format!("the addresses of {} cannot be had again: {error}", cluster.name))?;
            let child = Child::at(block, &cluster.namespace, &cluster.name, self.config.child.clone(), down);
            let child = Arc::new(child);
            for record in machines.iter().filter(own) {
                if let Some(Joined { node, api_server }) = &record.joined {
                    let going = child.go_on(&record.boot.name, node.clone(), *api_server).await;
                    going.map_err(|error| chain(&error))?;
                }
            }
            apply_workload_faults(&child, &self.faults.of(&cluster.name));
            lock(&self.children).insert((cluster.namespace.clone(), cluster.name.clone()), child);
        }
        for record in machines {
            self.switch_on_again(record);
        }
        Ok(())
    }

    fn switch_on_again(self: &Arc<Self>, record: MachineRecord) {
        let key = (record.boot.namespace.clone(), record.boot.name.clone());
        let boot = Arc::new(record.boot);
        let addresses: Vec<String> = record.ip.iter().map(ToString::to_string).collect();
        let power = match (&record.joined, record.failed.clone()) {
            (_, Some(message)) => Power::Failed { addresses, message },
            (Some(joined), None) => Power::Running { addresses, node: true, api_server: joined.api_server },
            (None, None) => Power::Starting,
        };
        let over = record.done || record.failed.is_some();
        let (joined, done) = (record.joined, record.done);
        let mut machine = Machine { power, boot: Arc::clone(&boot), ip: record.ip, joined, done, task: None };
        let mut machines = lock(&self.machines);
        if !over {
            let living = Arc::clone(self).live(key.clone(), boot);
            machine.task = Some(task::spawn("machine.live", task::Kind::Request, living));
        }
        machines.insert(key, machine);
    }

    /// Holds `kubeadm join` for as long as a fault says that it never ends.
    async fn wait_while_never(&self, boot: &Boot) {
        let held =
            |what: &What| matches!(what, What::JoinNever { node } if self.means(node, &boot.cluster, &boot.name));
        let mut changes = self.faults.subscribe();
        while self.faults.holds(&boot.cluster, held) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// By which address a machine reaches `target`.
    pub(crate) async fn route(&self, namespace: &str, name: &str, target: &str) -> Result<String, String> {
        let (boot, _) = self.machine(namespace, name)?;
        let child = self.child(namespace, &boot.cluster)?;
        if child.line.is_down() {
            return Err("network is unreachable".to_owned());
        }
        child.line.route(target).await.map(|address| address.to_string()).map_err(|error| error.to_string())
    }

    /// Ends everything that runs.
    pub(crate) async fn stop(&self) {
        lock(&self.machines).clear();
        let children: Vec<_> = std::mem::take(&mut *lock(&self.children)).into_values().collect();
        let all = children.into_iter().map(|child| async move {
            if let Some(child) = Arc::into_inner(child) {
                child.stop().await;
            }
        });
        futures::future::join_all(all).await;
    }
}

impl Machines for Hypervisor {
    fn boot(&self, boot: Boot) {
        let key = (boot.namespace.clone(), boot.name.clone());
        let mut machines = lock(&self.machines);
        if machines.contains_key(&key) {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        let boot = Arc::new(boot);
        let machine = Machine::starting(Arc::clone(&boot));
        self.config.child.records.write_machine(&machine.record());
        machines.insert(key.clone(), machine);
        let task = task::spawn("machine.live", task::Kind::Request, me.live(key.clone(), boot));
        if let Some(machine) = machines.get_mut(&key) {
            machine.task = Some(task);
        }
    }

    fn look(&self, namespace: &str, name: &str) -> Power {
        let machines = lock(&self.machines);
        machines.get(&(namespace.to_owned(), name.to_owned())).map_or(Power::Absent, |machine| machine.power.clone())
    }

    fn destroy(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(machine) = lock(&self.machines).remove(&key) else { return };
        self.config.child.records.forget_machine(namespace, name);
        let child = lock(&self.children).get(&(key.0, machine.boot.cluster.clone())).cloned();
        if let Some(child) = child {
            child.remove(name);
        }
        let folder = self.folder(&machine.boot);
        drop(machine);
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::debug!(%error, machine = name, "the machine's folder stays");
        }
    }

    fn cluster_gone(&self, namespace: &str, cluster: &str) {
        let child = lock(&self.children).remove(&(namespace.to_owned(), cluster.to_owned()));
        lock(&self.seen).remove(cluster);
        let records = self.config.child.records.clone();
        let (namespace, cluster) = (namespace.to_owned(), cluster.to_owned());
        task::spawn("child.stop", task::Kind::Request, async move {
            if let Some(child) = child.and_then(Arc::into_inner) {
                child.stop().await;
            }
            records.forget_cluster(&namespace, &cluster);
        });
    }

    fn endpoint(&self, namespace: &str, cluster: &str) -> (String, u16) {
        let address = self.child(namespace, cluster).map(|child| child.block.api());
        address.map_or(("127.0.0.1".to_owned(), super::address::API_PORT), |at| (at.ip().to_string(), at.port()))
    }

    fn stalled(&self, cluster: &str, machine: Option<&str>) -> bool {
        if let Some(machine) = machine {
            self.note(cluster, machine);
        }
        self.faults.holds(cluster, |what| match (what, machine) {
            (What::InfrastructureStall { node: None }, _) => true,
            (What::InfrastructureStall { node: Some(node) }, Some(machine)) => self.means(node, cluster, machine),
            _ => false,
        })
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }
}

/// Makes the faults of a cluster's workloads what they should be.
fn apply_workload_faults(child: &Child, faults: &[What]) {
    let Some(handle) = child.faults() else { return };
    let wanted: Vec<lattice_nodes::Fault> = faults.iter().filter_map(workload_fault).collect();
    for old in handle.list() {
        if !wanted.contains(&old) {
            handle.clear(&old);
        }
    }
    let set = handle.list();
    for new in wanted {
        if !set.contains(&new) {
            handle.set(new);
        }
    }
}

fn workload_fault(what: &What) -> Option<lattice_nodes::Fault> {
    let reference = |workload: &crate::fault::Workload| lattice_nodes::WorkloadRef {
        kind: workload.kind.clone(),
        namespace: workload.namespace.clone(),
        name: workload.name.clone(),
    };
    match what {
        What::ReadyCap { workload, ready } => {
            Some(lattice_nodes::Fault::Ready { workload: reference(workload), ready: *ready })
        }
        What::PullFails { workload } => Some(lattice_nodes::Fault::Pull { workload: reference(workload) }),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
