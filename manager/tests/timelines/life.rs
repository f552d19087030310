//! The whole decision, driven by the recordings: from Pending to Ready, and from Ready to nothing.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lattice_manager::api::{FINALIZER, LatticeCluster, Phase};
use lattice_manager::lifecycle::{
    AgentFacts, Catalog, EffectKind, Facts, Health, NamespaceFacts, NodeFacts, Observed, Outcome, ParentFacts,
    SecretFacts, SecretsFacts, Session, State, decide,
};
use serde_json::json;

use super::recording::{Objects, Recording};
use super::truth::claims;

struct Life {
    now: Timestamp,
    state: State,
    facts: Facts,
    phases: Vec<Phase>,
    gone: bool,
}

fn demo(control_plane: u32, workers: u32) -> LatticeCluster {
    serde_json::from_value(json!({
        "apiVersion": "lattice.dev/v1alpha1", "kind": "LatticeCluster",
        "metadata": {"name": "demo", "uid": "0b6c2d1e-9f00-4c8e-8a77-0123456789ab", "generation": 1},
        "spec": {
            "latticeImage": "example.com/lattice:1", "providerRef": "docker",
            "provider": {"kubernetes": {"version": "1.34.0"}, "config": {"docker": {}}},
            "nodes": {"controlPlane": {"replicas": control_plane}, "workerPools": {"md-0": {"replicas": workers}}}
        }
    }))
    .expect("a cluster")
}

impl Life {
    fn new(cluster: LatticeCluster) -> Self {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().expect("a time");
        let provider = json!({
            "apiVersion": "lattice.dev/v1alpha1", "kind": "InfraProvider", "metadata": {"name": "docker", "finalizers": ["lattice.dev/in-use"]},
            "spec": {"type": "docker"}
        });
        let facts = Facts {
            cluster: Arc::new(cluster),
            provider: Observed::Known(Arc::new(serde_json::from_value(provider).expect("a provider"))),
            credentials: Observed::Absent,
            missing_kinds: Observed::Known(Vec::new()),
            parent: ParentFacts {
                addresses: vec!["parent:50051".to_owned()],
                started_at: now,
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
            catalog: Arc::new(Catalog::default()),
            typical: None,
            quarantine: None,
        };
        Self { now, state: State::default(), facts, phases: Vec::new(), gone: false }
    }

    /// Looks at these objects until nothing more is asked.
    fn look(&mut self, objects: &Objects) {
        self.facts.objects = Observed::Known(objects.watched());
        self.agent(objects);
        for _ in 0..50 {
            let decision = decide(&self.state, &self.facts, self.now);
            self.state = decision.state.clone();
            let phase = decision.status.phase.expect("a phase");
            if self.phases.last() != Some(&phase) {
                self.phases.push(phase);
            }
            Arc::make_mut(&mut self.facts.cluster).status = Some(decision.status);
            for effect in &decision.effects {
                self.perform(&effect.kind);
                self.state.finish(effect, Outcome::Done, self.now);
            }
            if decision.effects.is_empty() && decision.moved.is_none() {
                return;
            }
        }
        panic!("does not settle: {:?}", self.facts.cluster.status.as_ref().and_then(|s| s.message.clone()));
    }

    fn perform(&mut self, kind: &EffectKind) {
        let secret = Observed::Known(SecretFacts::default());
        match kind {
            EffectKind::AddFinalizer => {
                Arc::make_mut(&mut self.facts.cluster).metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
            }
            EffectKind::EnsureNamespace => self.facts.namespace = Observed::Known(NamespaceFacts::default()),
            EffectKind::EnsureEnrolment => self.facts.secrets.enrolment = secret,
            EffectKind::EnsureKubeconfig => self.facts.secrets.kubeconfig = secret,
            EffectKind::DeleteSecrets => {
                self.facts.secrets = SecretsFacts {
                    enrolment: Observed::Absent,
                    kubeconfig: Observed::Absent,
                    credentials: Observed::Absent,
                    identity: Observed::Absent,
                }
            }
            EffectKind::DeleteNamespace => self.facts.namespace = Observed::Absent,
            EffectKind::RemoveFinalizer => self.gone = true,
            _ => {}
        }
    }

    /// The agent is there from the first machine on, and sees a ready node for every Machine that has one.
    fn agent(&mut self, objects: &Objects) {
        if objects.world().first_machine_up().is_none() {
            return;
        }
        self.facts.agent.session.get_or_insert_with(|| Session {
            since: self.now,
            transport: "quic".to_owned(),
            rtt_ms: None,
            certificate_expires: None,
            certificate_late: None,
        });
        let world = objects.world();
        let nodes = world.machines.values().filter_map(|machine| machine.node.clone());
        let nodes = nodes.map(|name| NodeFacts {
            name,
            ready: true,
            kubelet_version: "v1.34.0".into(),
            ..NodeFacts::default()
        });
        self.facts.agent.health = Observed::Known(Health { nodes: Some(nodes.collect()), ..Health::default() });
        self.facts.agent.reports = Observed::Known(std::collections::BTreeMap::new());
    }

    fn check(&self, objects: &Objects, at: &str) {
        let status = self.facts.cluster.status.clone().expect("a status");
        let is_true = |type_: &str| status.conditions.iter().any(|c| c.type_ == type_ && c.is_true());
        let claims = claims(objects);
        assert_eq!(is_true("InfrastructureReady"), claims.infrastructure, "{at}");
        assert_eq!(is_true("ControlPlaneInitialized"), claims.control_plane, "{at}");
        if status.phase == Some(Phase::Ready) && is_true("Ready") {
            assert!(
                objects.of("Machine").all(|machine| machine.data.pointer("/status/nodeRef/name").is_some()),
                "{at}"
            );
        }
        if status.phase >= Some(Phase::Bootstrapping) {
            let infrastructure = claims.infrastructure || status.phase == Some(Phase::Deleting);
            assert!(infrastructure, "{at}: {:?} without infrastructure", status.phase);
        }
    }
}

/// Replays a recording; `every` looks only at each n-th event, `restart` kills the manager at each n-th.
#[track_caller]
fn provision(name: &str, counts: (u32, u32), every: usize, restart: usize) {
    let Some(recording) = Recording::open(name) else { return };
    let mut objects = Objects::default();
    let mut life = Life::new(demo(counts.0, counts.1));
    for (at, event) in recording.events.iter().enumerate() {
        objects.apply(event);
        life.now = life.now.checked_add(SignedDuration::from_millis(250)).expect("a time");
        if at % restart == restart - 1 {
            life.state = State::default();
            life.facts.parent.started_at = life.now;
        }
        if at % every == 0 {
            life.look(&objects);
            life.check(&objects, &format!("{name}, event {at}"));
        }
    }
    life.look(&objects);
    let expected = [Phase::Pending, Phase::Provisioning, Phase::Bootstrapping, Phase::Ready];
    assert_eq!(life.phases, expected, "{name}, every {every}, restart {restart}");
    let nodes = life.facts.cluster.status.as_ref().and_then(|status| status.nodes.clone()).expect("counts");
    assert_eq!(nodes.summary, format!("{0}/{0}", counts.0 + counts.1));
}

#[test]
fn provisions_through_every_phase_with_gaps_and_restarts() {
    for (name, counts) in [("provision-1-2", (1, 2)), ("provision-3-3", (3, 3)), ("infra-delayed", (1, 2))] {
        provision(name, counts, 1, usize::MAX);
        provision(name, counts, 1, 7);
        provision(name, counts, 5, 11);
        provision(name, counts, 23, usize::MAX);
    }
}

#[test]
fn stays_provisioning_while_the_first_machine_never_comes() {
    let Some(recording) = Recording::open("infra-never-control-plane") else { return };
    let mut objects = Objects::default();
    let mut life = Life::new(demo(1, 2));
    for event in &recording.events {
        objects.apply(event);
        if objects.one("Cluster", "demo").is_some_and(|cluster| cluster.metadata.deletion_timestamp.is_some()) {
            break;
        }
        life.look(&objects);
    }
    assert_eq!(life.phases, [Phase::Pending, Phase::Provisioning]);
    let message = life.facts.cluster.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default();
    assert!(message.contains("Machine demo-cp-"), "{message}");
}

#[test]
fn deletes_and_names_what_remains_at_each_step() {
    for (name, restart) in
        [("delete", usize::MAX), ("delete", 5), ("delete-proxy-away", 9), ("infra-never-control-plane", 3)]
    {
        let Some(recording) = Recording::open(name) else { return };
        let mut objects = Objects::default();
        let mut life = Life::new(demo(1, 2));
        for (at, event) in recording.events.iter().enumerate() {
            objects.apply(event);
            if at % restart == restart - 1 {
                life.state = State::default();
            }
            let deleted =
                objects.one("Cluster", "demo").is_none_or(|cluster| cluster.metadata.deletion_timestamp.is_some());
            if deleted && at > 20 {
                let now = life.now;
                let cluster = Arc::make_mut(&mut life.facts.cluster);
                cluster
                    .metadata
                    .deletion_timestamp
                    .get_or_insert(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            }
            life.look(&objects);
            let status = life.facts.cluster.status.clone().expect("a status");
            if let Some(deletion) = status.deletion.filter(|deletion| deletion.step.contains("DeletingInfrastructure"))
            {
                let there = objects.mirrored();
                assert_eq!(
                    deletion.remaining.len(),
                    there.len().min(50),
                    "{name}, event {at}: {:?}",
                    deletion.remaining
                );
                assert!(!life.gone, "{name}, event {at}: let go while {there:?} remain");
            }
        }
        life.look(&objects);
        assert!(life.gone, "{name}: {:?}", life.facts.cluster.status.as_ref().and_then(|s| s.message.clone()));
        assert_eq!(life.phases.last(), Some(&Phase::Deleting));
    }
}
