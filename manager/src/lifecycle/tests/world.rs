//! A world in memory: it does what effects ask, and what Cluster API, nodes and an agent would do, one step at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::api::testing::{UID, homelab, provider, start};
use crate::api::{FINALIZER, FINALIZER_IN_USE, LatticeCluster, LatticeClusterStatus, Phase};
use crate::lifecycle::{
    AgentFacts, Catalog, Component, Decision, Effect, EffectKind, Facts, Health, NamespaceFacts, Need, NodeFacts,
    Observed, Outcome, ParentFacts, Report, ReportState, SecretFacts, SecretsFacts, Session, Stage, State, decide,
};

/// How far one machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Machine {
    Absent,
    Made,
    HasData,
    Up,
    Joined,
}

/// The simulated world.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) state: State,
    pub(super) facts: Facts,
    pub(super) exists: bool,
    pub(super) applied: bool,
    pub(super) infrastructure: bool,
    pub(super) initialized: bool,
    pub(super) cluster_deleting: bool,
    pub(super) leftovers: bool,
    pub(super) machines: Vec<Machine>,
    pub(super) health_checks: bool,
    /// Components on the child.
    pub(super) child: BTreeMap<String, ReportState>,
    /// Components whose gate is held shut.
    pub(super) held: BTreeSet<String>,
    pub(super) connected: bool,
    pub(super) uplink: bool,
    revoked: bool,
    pub(super) phases: Vec<Phase>,
    pub(super) done: Vec<EffectKind>,
    pub(super) status_writes: u32,
    /// The watches are behind: the next look sees the objects of the last one.
    pub(super) lagging: bool,
}

pub(super) fn secret(keys: &[&str]) -> SecretFacts {
    SecretFacts { keys: keys.iter().map(|key| (*key).to_owned()).collect(), ..SecretFacts::default() }
}

pub(super) fn component(name: &str, condition: &str, needs: &[(&str, bool)]) -> Component {
    Component {
        name: name.to_owned(),
        condition: condition.to_owned(),
        needs: needs.iter().map(|(name, policy)| Need { name: (*name).to_owned(), policy: *policy }).collect(),
        enabled: true,
        digest: Some(format!("digest-of-{name}")),
    }
}

pub(super) fn catalog() -> Catalog {
    Catalog {
        components: vec![
            component("cilium", "CNI", &[]),
            component("cert-manager", "CertManager", &[("cilium", false)]),
            component("istio", "Mesh", &[("cilium", false), ("cert-manager", true)]),
            component("external-secrets", "SecretSync", &[("cilium", false)]),
            component("metrics-server", "MetricsApi", &[("cilium", false)]),
            component(
                "platform-operator",
                "PlatformOperator",
                &[("cert-manager", true), ("istio", true), ("external-secrets", true)],
            ),
            Component { enabled: false, ..component("vmagent", "Metrics", &[("cilium", false)]) },
        ],
        problems: Vec::new(),
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(homelab())
    }

    pub(super) fn of(cluster: LatticeCluster) -> Self {
        let workers = cluster.spec.nodes.worker_pools.values().map(crate::api::WorkerPool::desired).sum::<u32>();
        let count = (cluster.spec.nodes.control_plane.replicas + workers) as usize;
        let facts = Facts {
            cluster: Arc::new(cluster),
            provider: Observed::Known(Arc::new(provider())),
            credentials: Observed::Known(secret(&["url", "token", "secret"])),
            missing_kinds: Observed::Known(Vec::new()),
            parent: ParentFacts {
                addresses: vec!["10.0.0.5:50051".to_owned()],
                started_at: start(),
                after_absence: false,
                clock_ahead_ms: 0,
            },
            namespace: Observed::Absent,
            secrets: SecretsFacts {
                enrolment: Observed::Absent,
                kubeconfig: Observed::Absent,
                credentials: Observed::Absent,
                identity: Observed::Absent,
            },
            objects: Observed::Known(Vec::new()),
            agent: AgentFacts::default(),
            catalog: Arc::new(catalog()),
            typical: None,
            quarantine: None,
        };
        Self {
            now: start(),
            state: State::default(),
            facts,
            exists: true,
            applied: false,
            infrastructure: false,
            initialized: false,
            cluster_deleting: false,
            leftovers: false,
            machines: vec![Machine::Absent; count],
            health_checks: false,
            child: BTreeMap::new(),
            held: BTreeSet::new(),
            connected: false,
            uplink: true,
            revoked: false,
            phases: Vec::new(),
            done: Vec::new(),
            status_writes: 0,
            lagging: false,
        }
    }

    pub(super) fn status(&self) -> LatticeClusterStatus {
        self.facts.cluster.status.clone().unwrap_or_default()
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        self.status().phase
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut LatticeCluster)) {
        let cluster = Arc::make_mut(&mut self.facts.cluster);
        edit(cluster);
        cluster.metadata.generation = cluster.metadata.generation.map(|generation| generation + 1);
    }

    pub(super) fn delete(&mut self) {
        let cluster = Arc::make_mut(&mut self.facts.cluster);
        if cluster.metadata.finalizers.iter().flatten().next().is_none() {
            self.exists = false;
            return;
        }
        cluster
            .metadata
            .deletion_timestamp
            .get_or_insert(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
    }

    /// A manager that was killed and started again.
    pub(super) fn restart(&mut self) {
        self.state = State::default();
        self.facts.parent.started_at = self.now;
        self.connected = false;
        self.facts.agent = AgentFacts::default();
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("a time");
    }

    /// Decides, and writes the status when it differs, as the API would store it.
    pub(super) fn look(&mut self) -> Decision {
        self.gather();
        self.look_again()
    }

    /// Looks at the same facts.
    pub(super) fn look_again(&mut self) -> Decision {
        let before = self.phase();
        let decision = decide(&self.state, &self.facts, self.now);
        self.state = decision.state.clone();
        if Some(&decision.status) != self.facts.cluster.status.as_ref() {
            self.status_writes += 1;
            let stored = serde_json::to_value(&decision.status).expect("a status is data");
            let stored: LatticeClusterStatus = serde_json::from_value(stored).expect("a status reads back");
            assert_eq!(stored, decision.status, "a stored status reads back as it was written");
            Arc::make_mut(&mut self.facts.cluster).status = Some(stored);
        }
        let after = decision.status.phase.expect("a decided status has a phase");
        if before != Some(after) {
            assert!(crate::lifecycle::phase::is_legal(before, after), "{before:?} to {after}");
            self.phases.push(after);
        }
        decision
    }

    /// Looks and does what is asked, at once and with success, until nothing more is asked.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            let decision = self.look();
            for effect in &decision.effects {
                self.perform(effect);
            }
            if !self.exists || (decision.effects.is_empty() && decision.moved.is_none()) {
                return;
            }
        }
        panic!("did not settle: {:?}", self.status().message);
    }

    /// Everything that can go on by itself goes on until Ready, or nothing changes.
    pub(super) fn run(&mut self) {
        for _ in 0..200 {
            self.settle();
            let before = format!(
                "{:?}{:?}{}{}{}",
                self.machines, self.child, self.infrastructure, self.initialized, self.connected
            );
            self.pass(1);
            self.capi();
            self.agent();
            self.components();
            let after = format!(
                "{:?}{:?}{}{}{}",
                self.machines, self.child, self.infrastructure, self.initialized, self.connected
            );
            if before == after {
                self.settle();
                return;
            }
        }
        panic!("goes on for ever: {:?}", self.status().message);
    }

    /// Does an effect, and records its success.
    pub(super) fn perform(&mut self, effect: &Effect) {
        self.act(&effect.kind);
        self.state.finish(effect, Outcome::Done, self.now);
    }

    /// What an effect does to the world.
    pub(super) fn act(&mut self, kind: &EffectKind) {
        self.done.push(kind.clone());
        let name = self.facts.cluster.metadata.name.clone().unwrap_or_default();
        match kind {
            EffectKind::Render | EffectKind::DryRun => {}
            EffectKind::AddFinalizer => {
                let cluster = Arc::make_mut(&mut self.facts.cluster);
                cluster.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            }
            EffectKind::HoldProvider => self.hold(true),
            EffectKind::EnsureNamespace => {
                self.facts.namespace =
                    Observed::Known(NamespaceFacts { terminating: false, cluster_uid: Some(UID.to_owned()) });
            }
            EffectKind::EnsureCredentials => {
                self.facts.secrets.credentials = Observed::Known(secret(&["url", "token", "secret"]));
            }
            EffectKind::EnsureEnrolment => {
                self.facts.secrets.enrolment = Observed::Known(secret(&["token", "ca.crt", "bootstrap-urls"]));
                self.facts.secrets.identity = Observed::Known(secret(&["state"]));
            }
            EffectKind::EnsureKubeconfig => self.facts.secrets.kubeconfig = Observed::Known(secret(&["value"])),
            EffectKind::ApplyObjects(Stage::Cluster) => {
                assert!(self.facts.secrets.enrolment.known().is_some(), "{name}: machines before their Secret");
                self.applied = true;
            }
            EffectKind::ApplyObjects(Stage::HealthChecks) => {
                assert!(self.initialized, "{name}: health checks before the control plane is initialised");
                self.health_checks = true;
            }
            EffectKind::Install { component, .. } => {
                assert!(self.connected, "{component} without an agent");
                let graph = crate::lifecycle::graph::Graph::new(&self.facts.catalog.components).expect("a graph");
                let started = self.child.contains_key(component);
                for need in graph.needs(component) {
                    let healthy = self.child.get(need) == Some(&ReportState::Healthy);
                    assert!(started || healthy, "{component} started before {need} was healthy");
                }
                self.child.entry(component.clone()).or_insert(ReportState::Pending);
            }
            EffectKind::Remove { component } => {
                self.child.remove(component);
            }
            EffectKind::DeleteCluster => self.cluster_deleting = true,
            EffectKind::DeleteLeftovers => self.leftovers = false,
            EffectKind::RevokeIdentity => {
                self.facts.secrets.identity = Observed::Absent;
                self.connected = false;
                self.revoked = true;
            }
            EffectKind::ReleaseProvider => self.hold(false),
            EffectKind::DeleteSecrets => {
                self.facts.secrets.enrolment = Observed::Absent;
                self.facts.secrets.kubeconfig = Observed::Absent;
                self.facts.secrets.credentials = Observed::Absent;
            }
            EffectKind::DeleteNamespace => self.facts.namespace = Observed::Absent,
            EffectKind::RemoveFinalizer => {
                assert!(!self.applied && !self.leftovers, "{name}: let go before its infrastructure was gone");
                assert!(self.facts.secrets.identity.is_absent(), "{name}: let go before its identity was revoked");
                self.exists = false;
            }
        }
    }

    fn hold(&mut self, held: bool) {
        if let Observed::Known(provider) = &mut self.facts.provider {
            let finalizers = held.then(|| vec![FINALIZER_IN_USE.to_owned()]);
            Arc::make_mut(provider).metadata.finalizers = finalizers;
        }
        if let Observed::Known(secret) = &mut self.facts.credentials {
            secret.held = held;
        }
    }

    /// One step of Cluster API and the provider.
    pub(super) fn capi(&mut self) {
        if !self.applied {
            self.leftovers = false;
            return;
        }
        if self.cluster_deleting {
            match self.machines.iter().rposition(|machine| *machine != Machine::Absent) {
                Some(last) => self.machines[last] = Machine::Absent,
                None => {
                    self.applied = false;
                    self.infrastructure = false;
                    self.health_checks = false;
                    self.cluster_deleting = false;
                    self.leftovers = true;
                }
            }
            return;
        }
        if !self.infrastructure {
            self.infrastructure = true;
            return;
        }
        let initialized = self.initialized;
        if self.machines[0] == Machine::Up && self.connected && !initialized {
            self.initialized = true;
            return;
        }
        for (at, machine) in self.machines.iter_mut().enumerate() {
            let joins = initialized;
            *machine = match *machine {
                Machine::Absent if at == 0 || initialized => Machine::Made,
                Machine::Made => Machine::HasData,
                Machine::HasData => Machine::Up,
                Machine::Up if joins => Machine::Joined,
                other => other,
            };
        }
    }

    /// One step of the agent's connection.
    pub(super) fn agent(&mut self) {
        self.connected = self.uplink && !self.revoked && self.machines[0] >= Machine::Up;
    }

    /// One step of each component on the child.
    pub(super) fn components(&mut self) {
        let held = self.held.clone();
        for (name, state) in &mut self.child {
            *state = match *state {
                ReportState::Pending => ReportState::Applying,
                ReportState::Applying => ReportState::Waiting,
                ReportState::Waiting if !held.contains(name) => ReportState::Healthy,
                ReportState::Healthy if held.contains(name) => ReportState::Waiting,
                other => other,
            };
        }
    }

    /// Puts what there is into the facts.
    fn gather(&mut self) {
        if !std::mem::take(&mut self.lagging) {
            self.facts.objects = Observed::Known(self.objects());
        }
        if !self.connected {
            if self.facts.agent.session.take().is_some() {
                self.facts.agent.sighting = Some(crate::lifecycle::Sighting {
                    at: self.now,
                    seen: crate::lifecycle::Seen::Lost("no answer for 20 s".to_owned()),
                });
            }
            self.facts.agent.health = Observed::Unknown;
            self.facts.agent.reports = Observed::Unknown;
            return;
        }
        self.facts.agent.session.get_or_insert_with(|| Session {
            since: self.now,
            transport: "quic".to_owned(),
            rtt_ms: Some(12),
            certificate_expires: None,
            certificate_late: None,
        });
        let cni = self.child.get("cilium") == Some(&ReportState::Healthy);
        let nodes = (0..self.machines.len()).filter(|at| self.joined(*at)).map(|at| NodeFacts {
            name: self.machine_name(at),
            ready: cni,
            control_plane: at == 0,
            kubelet_version: "v1.32.0".to_owned(),
            reason: "KubeletNotReady".to_owned(),
            message: "cni plugin not initialized".to_owned(),
            ..NodeFacts::default()
        });
        self.facts.agent.health = Observed::Known(Health {
            agent_version: "0.1.0".to_owned(),
            kubernetes_version: "v1.32.0".to_owned(),
            nodes: Some(nodes.collect()),
            clock_ahead_ms: 0,
        });
        let reports = self.child.iter().map(|(name, state)| (name.clone(), report(name, *state)));
        self.facts.agent.reports = Observed::Known(reports.collect());
    }

    /// Whether everything that was asked for is there and well.
    pub(super) fn is_well(&self) -> bool {
        let enabled = self.facts.catalog.components.iter().filter(|component| component.enabled);
        let healthy = enabled.into_iter().all(|c| self.child.get(&c.name) == Some(&ReportState::Healthy));
        healthy && self.connected && self.machines.iter().all(|machine| *machine == Machine::Joined)
    }

    fn joined(&self, at: usize) -> bool {
        self.machines[at] == Machine::Joined || (at == 0 && self.machines[0] >= Machine::Up)
    }

    fn machine_name(&self, at: usize) -> String {
        if at == 0 { "backend-cp-aaaaa".to_owned() } else { format!("backend-default-bbbbb-{at:05}") }
    }

    fn objects(&self) -> Vec<Arc<DynamicObject>> {
        let mut objects = Vec::new();
        let mut push =
            |value: Value| objects.push(Arc::new(serde_json::from_value::<DynamicObject>(value).expect("an object")));
        let capi = "cluster.x-k8s.io/v1beta2";
        let infra = "infrastructure.cluster.x-k8s.io/v1alpha2";
        let labels = json!({"lattice.dev/environment": "homelab", "lattice.dev/role": "backend"});
        let deleting = |value: bool| value.then(|| self.now.to_string());
        if self.leftovers {
            push(json!({"apiVersion": infra, "kind": "ProxmoxMachineTemplate", "metadata": {"name": "backend-cp-0"}}));
        }
        if !self.applied {
            return objects;
        }
        push(json!({
            "apiVersion": capi, "kind": "Cluster",
            "metadata": {"name": "backend", "labels": labels, "deletionTimestamp": deleting(self.cluster_deleting)},
            "spec": {"controlPlaneEndpoint": {"host": "10.0.1.110", "port": 6443}},
            "status": {"initialization": {
                "infrastructureProvisioned": self.infrastructure.then_some(true),
                "controlPlaneInitialized": self.initialized.then_some(true),
            }}
        }));
        push(json!({"apiVersion": infra, "kind": "ProxmoxCluster", "metadata": {"name": "backend"}}));
        push(json!({
            "apiVersion": "controlplane.cluster.x-k8s.io/v1beta2", "kind": "KubeadmControlPlane",
            "metadata": {"name": "backend-cp"}, "spec": {"replicas": 1, "version": "v1.32.0"}
        }));
        push(json!({
            "apiVersion": capi, "kind": "MachineDeployment", "metadata": {"name": "backend-default"},
            "spec": {"replicas": 3, "template": {"spec": {"version": "v1.32.0"}}}
        }));
        if self.health_checks {
            for group in ["cp", "default"] {
                push(
                    json!({"apiVersion": capi, "kind": "MachineHealthCheck", "metadata": {"name": format!("backend-{group}")}}),
                );
            }
        }
        for (at, machine) in self.machines.iter().enumerate().filter(|(_, machine)| **machine != Machine::Absent) {
            let label = if at == 0 {
                json!({"cluster.x-k8s.io/control-plane": ""})
            } else {
                json!({"cluster.x-k8s.io/deployment-name": "backend-default"})
            };
            let name = self.machine_name(at);
            let up = *machine >= Machine::Up;
            push(json!({
                "apiVersion": capi, "kind": "Machine", "metadata": {"name": name, "labels": label},
                "spec": {"version": "v1.32.0", "providerID": up.then(|| format!("proxmox://{name}"))},
                "status": {
                    "initialization": {
                        "bootstrapDataSecretCreated": (*machine >= Machine::HasData).then_some(true),
                        "infrastructureProvisioned": up.then_some(true),
                    },
                    "nodeRef": (*machine == Machine::Joined).then(|| json!({"name": name})),
                }
            }));
        }
        objects
    }
}

fn report(name: &str, state: ReportState) -> Report {
    Report {
        digest: format!("digest-of-{name}"),
        state,
        reason: if state == ReportState::Healthy { String::new() } else { "DaemonSetNotReady".to_owned() },
        message: match state {
            ReportState::Waiting => format!("{name}: 3/4 nodes ready"),
            _ => String::new(),
        },
        since: None,
        attempt: 0,
        next_attempt: None,
        version: "1.0.0".to_owned(),
    }
}
