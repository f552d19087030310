//! All that is known of the cluster at one moment.

use std::collections::{BTreeMap, HashMap};

use super::facts::{
    ApiServiceFacts, CrdFacts, DaemonSetFacts, DeploymentFacts, JobFacts, NodeFacts, PodFacts, StatefulSetFacts,
};

/// Rows of one kind in one namespace; `None` until the first list ended.
#[derive(Clone, Debug, Default)]
pub struct Table<T> {
    rows: Option<BTreeMap<String, T>>,
    next: BTreeMap<String, T>,
}

impl<T> Table<T> {
    /// Every row by name, or `None` while nothing is known.
    pub fn rows(&self) -> Option<&BTreeMap<String, T>> {
        self.rows.as_ref()
    }

    /// A list begins; what is known stays until it ends.
    pub(super) fn begin(&mut self) {
        self.next.clear();
    }

    /// A row of the list.
    pub(super) fn listed(&mut self, name: String, row: T) {
        self.next.insert(name, row);
    }

    /// The list ended: it is all there is.
    pub(super) fn end(&mut self) {
        self.rows = Some(std::mem::take(&mut self.next));
    }

    /// A row was made or changed. True if that is new to us.
    pub(super) fn changed(&mut self, name: String, row: T) -> bool
    where
        T: PartialEq,
    {
        let rows = self.rows.get_or_insert_default();
        match rows.get(&name) {
            Some(known) if *known == row => false,
            _ => {
                rows.insert(name, row);
                true
            }
        }
    }

    /// A row went.
    pub(super) fn gone(&mut self, name: &str) -> bool {
        self.rows.as_mut().is_some_and(|rows| rows.remove(name).is_some())
    }
}

impl<T> FromIterator<(String, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(rows: I) -> Self {
        Self { rows: Some(rows.into_iter().collect()), next: BTreeMap::new() }
    }
}

/// A kind that can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `Node`
    Node,
    /// `DaemonSet`
    DaemonSet,
    /// `Deployment`
    Deployment,
    /// `StatefulSet`
    StatefulSet,
    /// `Job`
    Job,
    /// `Pod`
    Pod,
    /// `CustomResourceDefinition`
    Crd,
    /// `APIService`
    ApiService,
}

/// A kind in a namespace; cluster-scoped kinds have the empty one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// What is watched.
    pub kind: Kind,
    /// Where.
    pub namespace: String,
}

impl Scope {
    /// A kind without namespaces.
    pub fn cluster(kind: Kind) -> Self {
        Self { kind, namespace: String::new() }
    }

    /// A kind in a namespace.
    pub fn namespaced(kind: Kind, namespace: &str) -> Self {
        Self { kind, namespace: namespace.to_owned() }
    }
}

/// All tables, by namespace where the kind has them.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Nodes.
    pub nodes: Table<NodeFacts>,
    /// DaemonSets.
    pub daemon_sets: HashMap<String, Table<DaemonSetFacts>>,
    /// Deployments.
    pub deployments: HashMap<String, Table<DeploymentFacts>>,
    /// StatefulSets.
    pub stateful_sets: HashMap<String, Table<StatefulSetFacts>>,
    /// Jobs.
    pub jobs: HashMap<String, Table<JobFacts>>,
    /// Pods.
    pub pods: HashMap<String, Table<PodFacts>>,
    /// CustomResourceDefinitions.
    pub crds: Table<CrdFacts>,
    /// APIServices.
    pub api_services: Table<ApiServiceFacts>,
}

impl World {
    /// Forgets a scope that is not watched any more.
    pub(super) fn forget(&mut self, scope: &Scope) {
        match scope.kind {
            Kind::Node => self.nodes = Table::default(),
            Kind::DaemonSet => drop(self.daemon_sets.remove(&scope.namespace)),
            Kind::Deployment => drop(self.deployments.remove(&scope.namespace)),
            Kind::StatefulSet => drop(self.stateful_sets.remove(&scope.namespace)),
            Kind::Job => drop(self.jobs.remove(&scope.namespace)),
            Kind::Pod => drop(self.pods.remove(&scope.namespace)),
            Kind::Crd => self.crds = Table::default(),
            Kind::ApiService => self.api_services = Table::default(),
        }
    }
}
