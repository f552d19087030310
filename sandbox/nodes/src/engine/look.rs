//! One look at one key: gathers what its decision needs, and decides.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use lattice_protocol::{clock, task};
use tokio::time::Instant;

use super::{Engine, Key};
use crate::cache::Name;
use crate::kubelet::pod::{PodMemory, Turn};
use crate::kubelet::real;
use crate::meta;
use crate::node;
use crate::op::{CONTROLLERS, KUBELET, Kind, Object, Op, Plan};
use crate::runtime::Stop;
use crate::scheduler;
use crate::workloads::{claim, daemon_set, deployment, job, replica_set, revision, stateful_set};

/// How long a kubelet may be silent before its node is given up.
const SILENCE: Duration = Duration::from_secs(40);
/// The same for a kubelet that has not reported yet.
const STARTUP: Duration = Duration::from_secs(60);
/// How long pods of a node that does not exist are left alone.
const ORPHANED: Duration = Duration::from_secs(40);
/// How often a kubelet renews its Lease; never scaled, since others judge it by their own clocks.
const LEASE: Duration = Duration::from_secs(10);

impl Engine {
    /// Decides what to do about one key.
    pub(super) fn look(&mut self, key: &Key) -> Plan {
        match key {
            Key::Pod(name) => self.look_at_pod(name),
            Key::Node(name) => self.look_at_node(name),
            Key::NodeLife(name) => self.look_at_node_life(name),
            Key::Lease(name) => self.look_at_lease(name),
            Key::Deployment(name) => self.look_at_deployment(name),
            Key::ReplicaSet(name) => self.look_at_replica_set(name),
            Key::DaemonSet(name) => self.look_at_daemon_set(name),
            Key::StatefulSet(name) => self.look_at_stateful_set(name),
            Key::Job(name) => {
                let Some(job) = self.world.jobs.get(name).cloned() else { return Plan::default() };
                let pods = self.world.pods_of(&name.namespace, meta::uid(&job.metadata));
                job::decide(&job, &pods, self.pace, clock::now())
            }
        }
    }

    fn look_at_deployment(&mut self, name: &Name) -> Plan {
        let Some(deployment) = self.world.deployments.get(name) else { return Plan::default() };
        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
        let (sets, claims) = claim::split(deployment.as_ref(), selector, self.world.replica_sets.iter());
        if !claims.is_empty() {
            return claim::plan(claims);
        }
        let pods: Vec<Arc<Pod>> =
            sets.iter().flat_map(|set| self.world.pods_of(&name.namespace, meta::uid(&set.metadata))).collect();
        deployment::decide(deployment, &sets, &pods, clock::now())
    }

    fn look_at_replica_set(&mut self, name: &Name) -> Plan {
        let Some(set) = self.world.replica_sets.get(name) else { return Plan::default() };
        let uid = meta::uid(&set.metadata);
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        let (pods, claims) = claim::split(set.as_ref(), selector, self.world.pods.iter());
        if !claims.is_empty() {
            return claim::plan(claims);
        }
        replica_set::decide(set, &pods, self.refusals.get(uid).map(String::as_str), clock::now())
    }

    fn look_at_daemon_set(&mut self, name: &Name) -> Plan {
        let Some(set) = self.world.daemon_sets.get(name).cloned() else { return Plan::default() };
        let uid = meta::uid(&set.metadata).to_owned();
        let nodes = self.nodes();
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        let (pods, claims) = claim::split(set.as_ref(), selector, self.world.pods.iter());
        if !claims.is_empty() {
            return claim::plan(claims);
        }
        let recorded = self.recorded.get(&uid).map(String::as_str);
        let plan = daemon_set::decide(&set, &nodes, &pods, recorded, clock::now());
        if let Some(spec) = &set.spec {
            self.recorded.insert(uid, revision::hash_of_daemons(spec, set.status.as_ref()));
        }
        plan
    }

    fn look_at_stateful_set(&mut self, name: &Name) -> Plan {
        let Some(set) = self.world.stateful_sets.get(name).cloned() else { return Plan::default() };
        let uid = meta::uid(&set.metadata).to_owned();
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        let (pods, claims) = claim::split(set.as_ref(), selector, self.world.pods.iter());
        if !claims.is_empty() {
            return claim::plan(claims);
        }
        let recorded = self.recorded.get(&uid).map(String::as_str);
        let plan = stateful_set::decide(&set, &pods, recorded, clock::now());
        if let Some(spec) = &set.spec {
            self.recorded.insert(uid, revision::hash_of_set(spec, set.status.as_ref()));
        }
        plan
    }

    fn nodes(&self) -> Vec<Arc<Node>> {
        self.world.nodes.iter().filter(|node| node.metadata.deletion_timestamp.is_none()).cloned().collect()
    }

    fn look_at_node(&mut self, name: &str) -> Plan {
        let silenced = self.is_silenced(name);
        let never_joins = self.never_joins(name);
        let node = self.world.nodes.get(&cluster_wide(name)).cloned();
        let nodes = self.nodes();
        let now = clock::now();
        let Some(kubelet) = self.kubelets.get_mut(name).filter(|_| !silenced) else {
            if node.is_some() {
                self.silent.entry(name.to_owned()).or_insert_with(Instant::now);
                self.queue.add(Key::NodeLife(name.to_owned()));
            } else {
                self.silent.remove(name);
            }
            return Plan::default();
        };
        if self.silent.remove(name).is_some() {
            self.queue.add(Key::NodeLife(name.to_owned()));
        }
        let cni = self.config.cni.as_ref();
        match node {
            Some(node) => {
                if self.config.leases && !kubelet.registered {
                    self.queue.add(Key::Lease(name.to_owned()));
                }
                kubelet.registered = true;
                // What was up stays up: a restarted simulation takes the Node's word for it.
                kubelet.network |= node::condition(&node, "Ready") == Some("True");
                node::report(&node, &kubelet.spec, kubelet.network, cni, now)
            }
            None if kubelet.registered || never_joins => Plan::default(),
            None => {
                let mut plan = Plan::new(KUBELET);
                let mut fresh = node::register(&kubelet.spec, kubelet.network, cni, now);
                if let Some(spec) = &mut fresh.spec {
                    let range = node::pod_range(self.config.pod_network, &nodes);
                    spec.pod_cidrs = Some(vec![range.clone()]);
                    spec.pod_cidr = Some(range);
                }
                plan.ops.push(Op::Create(Object::from(fresh)));
                plan
            }
        }
    }

    fn look_at_lease(&mut self, name: &str) -> Plan {
        let mut plan = Plan::new(KUBELET);
        let node = self.world.nodes.get(&cluster_wide(name));
        if let (Some(node), true) = (node, self.kubelets.contains_key(name) && !self.is_silenced(name)) {
            plan.ops.push(Op::Renew(Box::new(node::lease(node, clock::now()))));
            plan.wake_after(LEASE);
        }
        plan
    }

    fn look_at_node_life(&mut self, name: &str) -> Plan {
        let Some(node) = self.world.nodes.get(&cluster_wide(name)) else { return Plan::default() };
        let on_it = |pod: &&Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(name);
        let pods: Vec<Arc<Pod>> = self.world.pods.iter().filter(on_it).cloned().collect();
        let patience = if node::never_reported(node) { STARTUP } else { SILENCE };
        let due = self.silent.get(name).map(|since| *since + self.pace.delay(patience));
        let now = Instant::now();
        let silent = due.is_some_and(|due| due <= now);
        let mut plan = node::watch_over(node, silent, self.config.cni.as_ref(), &pods, clock::now());
        if let Some(due) = due.filter(|due| *due > now) {
            plan.wake_after(due - now);
        }
        plan
    }

    fn look_at_pod(&mut self, name: &Name) -> Plan {
        let Some(pod) = self.world.pods.get(name).cloned() else { return Plan::default() };
        match pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
            None => self.look_at_unplaced_pod(&pod, name),
            Some(node) => {
                let exists = self.world.nodes.get(&cluster_wide(&node)).is_some();
                match self.kubelets.get(&node) {
                    Some(_) if exists => self.look_at_pod_on(&pod, &node),
                    None if exists => Plan::default(),
                    // About to register again: a restarted simulation.
                    Some(kubelet) if !kubelet.registered => Plan::default(),
                    _ => self.look_at_orphan(&pod, name),
                }
            }
        }
    }

    fn look_at_unplaced_pod(&mut self, pod: &Arc<Pod>, name: &Name) -> Plan {
        if !self.config.scheduler || !scheduler::concerns(pod) || self.assumed.contains_key(name) {
            return Plan::default();
        }
        let place = |other: &Arc<Pod>| {
            let placed = other.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let at = placed.or_else(|| self.assumed.get(&Name::of(other.as_ref())).cloned())?;
            (!meta::ended(other)).then(|| (Arc::clone(other), at))
        };
        let placed: Vec<(Arc<Pod>, String)> = self.world.pods.iter().filter_map(place).collect();
        let plan = scheduler::decide(pod, &self.nodes(), &placed, clock::now());
        if let Some(Op::Bind { node, .. }) = plan.ops.first() {
            self.assumed.insert(name.clone(), node.clone());
        }
        plan
    }

    /// Clears a pod away whose node does not exist any more.
    fn look_at_orphan(&mut self, pod: &Pod, name: &Name) -> Plan {
        let mut plan = Plan::new(CONTROLLERS);
        let wait = self.pace.delay(ORPHANED);
        let since = *self.orphans.entry(name.clone()).or_insert_with(Instant::now);
        let due = since + wait;
        let now = Instant::now();
        if due > now {
            plan.wake_after(due - now);
        } else {
            plan.ops.push(Op::Delete {
                kind: Kind::Pod,
                name: name.clone(),
                uid: meta::uid(&pod.metadata).to_owned(),
                grace: Some(0),
            });
        }
        plan
    }

    fn look_at_pod_on(&mut self, pod: &Arc<Pod>, node: &str) -> Plan {
        if self.is_silenced(node) {
            return Plan::default();
        }
        let (name, uid) = (Name::of(pod.as_ref()), meta::uid(&pod.metadata).to_owned());
        let stepped = self.with_turn(&name, &uid, |memory, turn| {
            let plan = memory.step(turn);
            (plan, std::mem::take(&mut turn.starts))
        });
        let Some((plan, starts)) = stepped else { return Plan::default() };
        for container in starts {
            self.start_real(pod, node, &container);
        }
        plan
    }

    /// Gives a pod's kubelet its turn; `None` if the pod has none.
    pub(super) fn with_turn<T>(
        &mut self,
        name: &Name,
        uid: &str,
        act: impl FnOnce(&mut PodMemory, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let pod = self.world.pods.get(name).filter(|pod| meta::uid(&pod.metadata) == uid).cloned()?;
        let node_name = pod.spec.as_ref()?.node_name.clone()?;
        let verdict = self.verdict(&pod);
        let node = self.world.nodes.get(&cluster_wide(&node_name)).cloned();
        let kubelet = self.kubelets.get_mut(&node_name)?;
        kubelet.network |= node.as_deref().and_then(|node| node::condition(node, "Ready")) == Some("True");
        let pod_ip = kubelet.address(&pod, node.as_deref());
        let machine = kubelet.spec.folder.clone();
        let runtime = self.config.runtime.as_ref();
        let now = Instant::now();
        let mut memory = kubelet.pods.remove(uid).unwrap_or_else(|| {
            let real = machine.is_some() && runtime.is_some_and(|runtime| runtime.runs(&pod));
            PodMemory::new(&pod, real, now)
        });
        let folder = machine.filter(|_| memory.real).map(|machine| crate::kubelet::volumes::pod_folder(&machine, &pod));
        let mut turn = Turn {
            now,
            wall: clock::now(),
            pace: self.pace,
            pod: &pod,
            node: &node_name,
            host_ip: kubelet.spec.ip.to_string(),
            pod_ip,
            network: kubelet.network,
            verdict,
            real: memory.real,
            folder,
            images: &mut kubelet.images,
            missing: std::collections::BTreeMap::new(),
            notes: Vec::new(),
            starts: Vec::new(),
            wake: None,
        };
        let result = act(&mut memory, &mut turn);
        kubelet.pods.insert(uid.to_owned(), memory);
        Some(result)
    }

    /// Starts a real container beside everything else.
    fn start_real(&mut self, pod: &Arc<Pod>, node: &str, container: &str) {
        let Some(runtime) = self.config.runtime.clone() else { return };
        let Some(kubelet) = self.kubelets.get_mut(node) else { return };
        let object = self.world.nodes.get(&cluster_wide(node)).cloned();
        let pod_ip = kubelet.address(pod, object.as_deref());
        let Some(machine) = kubelet.spec.folder.clone() else { return };
        let host_ip = kubelet.spec.ip.to_string();
        let Some(memory) = kubelet.pods.get_mut(meta::uid(&pod.metadata)) else { return };
        let Some(of) = memory.container(container) else { return };
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let stop = Stop::new(Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
        of.holds(stop.clone());
        let job = real::Job {
            client: self.client.clone(),
            runtime,
            pod: Arc::clone(pod),
            container: container.to_owned(),
            node: node.to_owned(),
            host_ip,
            pod_ip,
            machine,
            restarts: of.restarts(),
            stop,
            pace: self.pace,
            reports: self.reports.0.clone(),
        };
        task::spawn("kubelet.container", task::Kind::Request, self.tasks.track_future(real::run(job)));
    }
}

fn cluster_wide(name: &str) -> Name {
    Name { namespace: String::new(), name: name.to_owned() }
}
