//! What the cluster looks like: one table per kind, fed by watches and by answers to own writes.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Resource;
use kube::runtime::watcher::Event;

/// How many deleted objects are remembered. Too few: the late answer to an own write brings one
/// back; each costs a uid.
const GRAVES_MAX: usize = 256;

/// Namespace and name; cluster-wide objects have an empty namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Name {
    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// The objects of one kind.
///
/// The answer to an own write is taken in at once, so that the next decision sees it; a watch that
/// lags behind never takes it back, because an older resource version is ignored; an answer that lags
/// behind the watch never brings a deleted object back, because its uid is remembered.
#[derive(Debug)]
pub(crate) struct Table<K> {
    objects: BTreeMap<Name, Arc<K>>,
    /// Names seen since a relist began.
    relist: Option<HashSet<Name>>,
    /// Uids of objects that were deleted last.
    graves: VecDeque<String>,
    synced: bool,
}

/// What an event did to a table.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// Nothing that matters.
    None,
    /// An object is new, or new to us.
    Set(Arc<K>),
    /// An object is gone.
    Gone(Arc<K>),
    /// A relist ended; these are gone.
    Synced(Vec<Arc<K>>),
}

impl<K: Resource<DynamicType = ()>> Table<K> {
    pub(crate) fn new() -> Self {
        Self { objects: BTreeMap::new(), relist: None, graves: VecDeque::new(), synced: false }
    }

    /// Says whether a first full list has arrived.
    pub(crate) fn synced(&self) -> bool {
        self.synced
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&Arc<K>> {
        self.objects.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    /// Takes in an event of the watch.
    pub(crate) fn apply(&mut self, event: Event<K>) -> Change<K> {
        match event {
            Event::Init => {
                self.relist = Some(HashSet::new());
                Change::None
            }
            Event::InitApply(object) | Event::Apply(object) => self.set(object),
            Event::Delete(object) => self.remove(&Name::of(&object), object.meta().uid.as_deref()),
            Event::InitDone => {
                self.synced = true;
                let seen = self.relist.take().unwrap_or_default();
                let lost: Vec<Name> = self.objects.keys().filter(|name| !seen.contains(*name)).cloned().collect();
                let gone: Vec<Arc<K>> = lost.iter().filter_map(|name| self.objects.remove(name)).collect();
                for object in &gone {
                    self.bury(object.meta().uid.as_deref());
                }
                Change::Synced(gone)
            }
        }
    }

    /// Takes in an object, unless a newer one is known.
    pub(crate) fn set(&mut self, mut object: K) -> Change<K> {
        let name = Name::of(&object);
        if let Some(seen) = &mut self.relist {
            seen.insert(name.clone());
        }
        if self.objects.get(&name).is_some_and(|known| revision(known.as_ref()) >= revision(&object)) {
            return Change::None;
        }
        if object.meta().uid.as_ref().is_some_and(|uid| self.graves.contains(uid)) {
            return Change::None;
        }
        // Half of an object's memory, and nothing here reads it. A replace without it keeps it.
        object.meta_mut().managed_fields = None;
        let object = Arc::new(object);
        self.objects.insert(name, Arc::clone(&object));
        Change::Set(object)
    }

    /// Forgets an object, unless the name has passed on to another.
    pub(crate) fn remove(&mut self, name: &Name, uid: Option<&str>) -> Change<K> {
        self.bury(uid);
        let same = self.objects.get(name).is_some_and(|known| known.meta().uid.as_deref() == uid);
        match same.then(|| self.objects.remove(name)).flatten() {
            Some(gone) => Change::Gone(gone),
            None => Change::None,
        }
    }

    fn bury(&mut self, uid: Option<&str>) {
        let Some(uid) = uid else { return };
        if self.graves.len() >= GRAVES_MAX {
            self.graves.pop_front();
        }
        self.graves.push_back(uid.to_owned());
    }
}

fn revision<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// All tables of one cluster.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) pods: Table<Pod>,
    pub(crate) nodes: Table<Node>,
    pub(crate) deployments: Table<Deployment>,
    pub(crate) replica_sets: Table<ReplicaSet>,
    pub(crate) daemon_sets: Table<DaemonSet>,
    pub(crate) stateful_sets: Table<StatefulSet>,
    pub(crate) jobs: Table<Job>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            pods: Table::new(),
            nodes: Table::new(),
            deployments: Table::new(),
            replica_sets: Table::new(),
            daemon_sets: Table::new(),
            stateful_sets: Table::new(),
            jobs: Table::new(),
        }
    }

    /// Says whether every kind has been listed once; before that nothing may be decided.
    pub(crate) fn synced(&self) -> bool {
        self.pods.synced()
            && self.nodes.synced()
            && self.deployments.synced()
            && self.replica_sets.synced()
            && self.daemon_sets.synced()
            && self.stateful_sets.synced()
            && self.jobs.synced()
    }

    /// Lists the pods that the object with this uid controls.
    pub(crate) fn pods_of(&self, namespace: &str, uid: &str) -> Vec<Arc<Pod>> {
        let controlled = |pod: &&Arc<Pod>| {
            pod.metadata.namespace.as_deref() == Some(namespace) && crate::meta::controlled_by(&pod.metadata, uid)
        };
        self.pods.iter().filter(controlled).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, version: u64) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(format!("uid-{name}"));
        pod.metadata.resource_version = Some(version.to_string());
        pod
    }

    fn names(table: &Table<Pod>) -> Vec<&str> {
        table.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    #[test]
    fn a_lagging_watch_never_takes_an_own_write_back() {
        let mut table = Table::new();
        table.set(pod("a", 12));
        assert!(matches!(table.apply(Event::Apply(pod("a", 9))), Change::None));
        assert!(matches!(table.apply(Event::Apply(pod("a", 13))), Change::Set(_)));
    }

    #[test]
    fn a_late_answer_never_brings_a_deleted_object_back() {
        let mut table = Table::new();
        table.set(pod("a", 5));
        table.apply(Event::Delete(pod("a", 6)));
        assert!(matches!(table.set(pod("a", 5)), Change::None));
        assert!(names(&table).is_empty());
    }

    #[test]
    fn a_relist_drops_what_it_lacks_but_not_what_was_written_meanwhile() {
        let mut table = Table::new();
        table.set(pod("lost", 1));
        table.set(pod("kept", 2));
        table.apply(Event::Init);
        table.apply(Event::InitApply(pod("kept", 2)));
        table.set(pod("written", 7));
        let Change::Synced(gone) = table.apply(Event::InitDone) else { panic!("a relist ends with what is gone") };
        assert_eq!(gone.len(), 1);
        assert_eq!(names(&table), ["kept", "written"]);
    }

    #[test]
    fn a_late_delete_spares_a_new_object_of_the_same_name() {
        let mut table = Table::new();
        table.set(pod("a", 5));
        assert!(matches!(table.remove(&Name::of(&pod("a", 5)), Some("another")), Change::None));
        assert_eq!(names(&table), ["a"]);
    }
}
