//! What events, answers and reports change, and what has to be looked at because of them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use lattice_protocol::{clock, task};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::watch::Watched;
use super::{Done, Engine, Key, RETRY};
use crate::cache::{Change, Name};
use crate::events::Note;
use crate::kubelet::prepare::{self, Found, Missing};
use crate::kubelet::real::{Happening, Report};
use crate::meta;
use crate::node;
use crate::op::{self, Object, Seen};
use crate::workloads::{job, replica_set};

/// Shortest wait before needs are looked at again without a watch. Shorter: an API that is away is hammered.
const WAIT_MIN: Duration = Duration::from_millis(200);

/// Takes a change of a kind that concerns itself and its controller.
macro_rules! workload {
    ($engine:ident, $change:expr, $key:ident) => {
        for object in changed($change) {
            $engine.queue.add(Key::$key(Name::of(object.as_ref())));
            $engine.look_at_owner(&object.metadata);
        }
    };
}

impl Engine {
    pub(super) fn take_event(&mut self, event: Watched) {
        match event {
            Watched::Pod(event) => {
                let change = self.world.pods.apply(event);
                self.pods_changed(change);
            }
            Watched::Node(event) => {
                let change = self.world.nodes.apply(event);
                self.nodes_changed(change);
            }
            Watched::Deployment(event) => workload!(self, self.world.deployments.apply(event), Deployment),
            Watched::ReplicaSet(event) => {
                let change = self.world.replica_sets.apply(event);
                self.replica_sets_changed(change);
            }
            Watched::DaemonSet(event) => workload!(self, self.world.daemon_sets.apply(event), DaemonSet),
            Watched::StatefulSet(event) => workload!(self, self.world.stateful_sets.apply(event), StatefulSet),
            Watched::Job(event) => workload!(self, self.world.jobs.apply(event), Job),
        }
    }

    fn take_object(&mut self, object: Object) {
        match object {
            Object::Pod(pod) => {
                let change = self.world.pods.set(*pod);
                self.pods_changed(change);
            }
            Object::Node(node) => {
                let change = self.world.nodes.set(*node);
                self.nodes_changed(change);
            }
            Object::Deployment(one) => workload!(self, self.world.deployments.set(*one), Deployment),
            Object::ReplicaSet(one) => {
                let change = self.world.replica_sets.set(*one);
                self.replica_sets_changed(change);
            }
            Object::DaemonSet(one) => workload!(self, self.world.daemon_sets.set(*one), DaemonSet),
            Object::StatefulSet(one) => workload!(self, self.world.stateful_sets.set(*one), StatefulSet),
            Object::Job(one) => workload!(self, self.world.jobs.set(*one), Job),
            Object::ControllerRevision(_) | Object::PersistentVolumeClaim(_) => {}
        }
    }

    fn replica_sets_changed(&mut self, change: Change<ReplicaSet>) {
        for set in changed(change) {
            self.queue.add(Key::ReplicaSet(Name::of(set.as_ref())));
            self.look_at_owner(&set.metadata);
            self.look_at_adopters(&set.metadata);
        }
    }

    fn pods_changed(&mut self, change: Change<Pod>) {
        match change {
            Change::None => {}
            Change::Set(pod) => self.pod_changed(&pod),
            Change::Gone(pod) => self.pod_gone(&pod),
            Change::Synced(gone) => gone.iter().for_each(|pod| self.pod_gone(pod)),
        }
    }

    fn pod_changed(&mut self, pod: &Arc<Pod>) {
        let name = Name::of(pod.as_ref());
        self.queue.add(Key::Pod(name.clone()));
        self.look_at_owner(&pod.metadata);
        self.look_at_adopters(&pod.metadata);
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { return };
        self.assumed.remove(&name);
        if meta::ended(pod) {
            self.look_at_unplaced();
        }
        if self.config.cni.as_ref().is_some_and(|cni| node::brings_network_up(cni, pod)) {
            self.network_is_up(&node);
        }
        self.look_at_capped(pod);
    }

    fn pod_gone(&mut self, pod: &Arc<Pod>) {
        let name = Name::of(pod.as_ref());
        self.assumed.remove(&name);
        self.orphans.remove(&name);
        self.failures.remove(&Key::Pod(name));
        self.look_at_owner(&pod.metadata);
        if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) {
            if let Some(kubelet) = self.kubelets.get_mut(node) {
                kubelet.forget(meta::uid(&pod.metadata));
            }
            self.look_at_unplaced();
        }
        self.look_at_capped(pod);
    }

    fn nodes_changed(&mut self, change: Change<Node>) {
        self.tell_of_nodes(&change);
        let nodes = changed(change);
        if nodes.is_empty() {
            return;
        }
        for node in &nodes {
            let name = meta::name(&node.metadata).to_owned();
            self.look_at_pods_on(&name);
            self.queue.add(Key::Node(name.clone()));
            self.queue.add(Key::NodeLife(name));
        }
        for set in self.world.daemon_sets.iter() {
            self.queue.add(Key::DaemonSet(Name::of(set.as_ref())));
        }
        self.look_at_unplaced();
    }

    /// Tells of nodes that came or went; those that were there before this simulation are no news.
    fn tell_of_nodes(&mut self, change: &Change<Node>) {
        let uid = |node: &Node| meta::uid(&node.metadata).to_owned();
        let (came, gone): (Option<&Node>, &[Arc<Node>]) = match change {
            Change::Set(node) => (Some(node), &[]),
            Change::Gone(node) => (None, std::slice::from_ref(node)),
            Change::Synced(gone) => (None, gone),
            Change::None => return,
        };
        let came = came.filter(|node| self.registered.insert(uid(node)) && self.world.nodes.synced());
        let mut notes: Vec<Note> = came.map(node::registered).into_iter().collect();
        for node in gone {
            self.registered.remove(&uid(node));
            notes.push(node::removed(node));
        }
        self.tell(notes);
    }

    /// Notes that pods with a network of their own can start on a node from now on.
    pub(super) fn network_is_up(&mut self, node: &str) {
        let Some(kubelet) = self.kubelets.get_mut(node) else { return };
        if !kubelet.network {
            kubelet.network = true;
            self.queue.add(Key::Node(node.to_owned()));
            self.look_at_pods_on(node);
        }
    }

    pub(super) fn look_at_pods_on(&mut self, node: &str) {
        for pod in self.world.pods.iter() {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node) {
                self.queue.add(Key::Pod(Name::of(pod.as_ref())));
            }
        }
    }

    fn look_at_unplaced(&mut self) {
        for pod in self.world.pods.iter() {
            if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
                self.queue.add(Key::Pod(Name::of(pod.as_ref())));
            }
        }
    }

    fn look_at_owner(&mut self, meta: &ObjectMeta) {
        let Some(owner) = meta::controller_of(meta) else { return };
        let name = Name { namespace: meta::namespace(meta).to_owned(), name: owner.name.clone() };
        match owner.kind.as_str() {
            "ReplicaSet" => {
                // A Deployment that recreates waits for the last old pod itself.
                let parent = self.world.replica_sets.get(&name).map(|set| set.metadata.clone());
                self.queue.add(Key::ReplicaSet(name));
                if let Some(parent) = parent.filter(|_| meta.deletion_timestamp.is_some()) {
                    self.look_at_owner(&parent);
                }
            }
            "Deployment" => self.queue.add(Key::Deployment(name)),
            "DaemonSet" => self.queue.add(Key::DaemonSet(name)),
            "StatefulSet" => self.queue.add(Key::StatefulSet(name)),
            "Job" => self.queue.add(Key::Job(name)),
            _ => {}
        }
    }

    /// Looks at everything that might take a pod or ReplicaSet, if it has no owner.
    fn look_at_adopters(&mut self, meta: &ObjectMeta) {
        if meta::controller_of(meta).is_some() {
            return;
        }
        let labels = meta.labels.as_ref();
        let wants = |own: &ObjectMeta, selector: Option<&LabelSelector>| {
            own.namespace == meta.namespace && selector.is_some_and(|selector| meta::selects(selector, labels))
        };
        macro_rules! adopters {
            ($table:ident, $key:ident) => {
                for one in self.world.$table.iter() {
                    if wants(&one.metadata, one.spec.as_ref().map(|spec| &spec.selector)) {
                        self.queue.add(Key::$key(Name::of(one.as_ref())));
                    }
                }
            };
        }
        adopters!(deployments, Deployment);
        adopters!(replica_sets, ReplicaSet);
        adopters!(daemon_sets, DaemonSet);
        adopters!(stateful_sets, StatefulSet);
    }

    pub(super) fn take_done(&mut self, done: Option<Done>) {
        let Some(Done { key, seen, notes, error }) = done else { return };
        self.tell(notes);
        for one in seen {
            match one {
                Seen::Object(object) => {
                    self.tell_created(&key, &object);
                    self.take_object(object);
                }
                Seen::Prepared { pod, uid, found } => self.take_found(&pod, &uid, &found),
            }
        }
        match error {
            None => self.forget_failure(&key),
            Some(error) => self.take_error(&key, &error),
        }
        self.queue.done(&key);
    }

    fn forget_failure(&mut self, key: &Key) {
        self.failures.remove(key);
        if let Key::ReplicaSet(name) = key
            && let Some(set) = self.world.replica_sets.get(name)
            && self.refusals.remove(meta::uid(&set.metadata)).is_some()
        {
            self.queue.add(key.clone());
        }
    }

    fn take_error(&mut self, key: &Key, error: &op::Error) {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        *failures += 1;
        let wait = RETRY.0.saturating_mul(1 << (*failures - 1).min(16)).min(RETRY.1);
        self.queue.add_at(key.clone(), Instant::now() + wait);
        match key {
            Key::Pod(name) => {
                self.assumed.remove(name);
            }
            Key::DaemonSet(name) => {
                let uid = self.world.daemon_sets.get(name).map(|set| meta::uid(&set.metadata).to_owned());
                self.recorded.remove(&uid.unwrap_or_default());
            }
            Key::StatefulSet(name) => {
                let uid = self.world.stateful_sets.get(name).map(|set| meta::uid(&set.metadata).to_owned());
                self.recorded.remove(&uid.unwrap_or_default());
            }
            Key::ReplicaSet(name) => self.take_refusal(name, error),
            Key::Node(_) | Key::NodeLife(_) | Key::Lease(_) | Key::Deployment(_) | Key::Job(_) => {}
        }
        if error.is_stale() {
            tracing::debug!(?key, error = %error, "somebody else wrote first");
        } else {
            tracing::warn!(?key, error = error as &dyn std::error::Error, "write failed, will be tried again");
        }
    }

    fn take_refusal(&mut self, name: &Name, error: &op::Error) {
        let (op::Kind::Pod, Some(message)) = (error.kind, error.refusal()) else { return };
        let Some(set) = self.world.replica_sets.get(name) else { return };
        let note = replica_set::refused(set, message);
        let uid = meta::uid(&set.metadata).to_owned();
        self.refusals.insert(uid, message.to_owned());
        self.tell(vec![note]);
    }

    fn tell_created(&mut self, key: &Key, object: &Object) {
        let Object::Pod(pod) = object else { return };
        let note = match key {
            Key::ReplicaSet(name) => self.world.replica_sets.get(name).map(|set| replica_set::created(set, pod)),
            Key::Job(name) => self.world.jobs.get(name).map(|job| job::created(job, pod)),
            _ => None,
        };
        if let Some(note) = note.filter(|_| pod.metadata.deletion_timestamp.is_none()) {
            self.tell(vec![note]);
        }
    }

    /// Writes events beside everything else.
    pub(super) fn tell(&mut self, notes: Vec<Note>) {
        let now = clock::now();
        let notes: Vec<Note> = notes.into_iter().filter_map(|note| self.recorder.record(note, now)).collect();
        if notes.is_empty() {
            return;
        }
        let client = self.client.clone();
        self.in_flight.push(Box::pin(async move {
            for note in notes {
                note.write(&client).await;
            }
            None
        }));
    }

    fn take_found(&mut self, name: &Name, uid: &str, found: &Found) {
        let Some(pod) = self.world.pods.get(name).cloned() else { return };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let Some(memory) = self.kubelets.get_mut(&node).and_then(|kubelet| kubelet.pods.get_mut(uid)) else { return };
        let mut notes = Vec::new();
        memory.found(&pod, found, &mut notes);
        let life = memory.life.clone();
        self.tell(notes.into_iter().map(|note| note.by_host(&node)).collect());
        if let Some(missing) = found.first_missing() {
            self.wait_for(name.clone(), missing.clone(), life);
        }
        self.queue.add(Key::Pod(name.clone()));
    }

    /// Waits beside everything else until something is there, then has the pod looked at again.
    fn wait_for(&self, pod: Name, missing: Missing, life: CancellationToken) {
        let (client, met, stop) = (self.client.clone(), self.met.0.clone(), self.stop.clone());
        let pause = self.pace.backoff(Duration::from_secs(2), 1).max(WAIT_MIN);
        let waiting = async move {
            // Where there is nothing to watch for, or the watch fails, time has to do.
            if missing.error.is_some() || prepare::appears(client, missing).await.is_err() {
                tokio::time::sleep(pause).await;
            }
            let _ = met.send(pod).await;
        };
        let bounded = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = life.cancelled() => {}
                () = waiting => {}
            }
        };
        task::spawn("kubelet.wait_for_needs", task::Kind::Request, self.tasks.track_future(bounded));
    }

    pub(super) fn take_met(&mut self, name: Name) {
        let Some(pod) = self.world.pods.get(&name) else { return };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        let kubelet = node.and_then(|node| self.kubelets.get_mut(node));
        if let Some(memory) = kubelet.and_then(|kubelet| kubelet.pods.get_mut(meta::uid(&pod.metadata))) {
            memory.look_again();
            self.queue.add(Key::Pod(name));
        }
    }

    /// Takes in what a real container reports.
    pub(super) fn take_report(&mut self, report: Report) {
        let Report { pod: name, uid, container, what } = report;
        let missing = match &what {
            Happening::Missing(missing) => Some(missing.clone()),
            _ => None,
        };
        let happened = self.with_turn(&name, &uid, |memory, turn| {
            if let Some(container) = memory.container(&container) {
                container.happened(what, turn);
            }
            (std::mem::take(&mut turn.notes), memory.life.clone())
        });
        let Some((notes, life)) = happened else { return };
        self.tell(notes);
        if let Some(missing) = missing {
            self.wait_for(name.clone(), missing, life);
        }
        self.queue.add(Key::Pod(name));
    }
}

fn changed<K>(change: Change<K>) -> Vec<Arc<K>> {
    match change {
        Change::None => Vec::new(),
        Change::Set(object) | Change::Gone(object) => vec![object],
        Change::Synced(gone) => gone,
    }
}
