//! From Pending to Ready, and what a person reads on the way.

use super::world::World;
use crate::api::condition::{AGENT_CONNECTED, DEGRADED, READY, VALIDATED};
use crate::api::{Condition, ConditionStatus, Phase, Reason};
use crate::lifecycle::{EffectKind, Observed, ReportState, SecretsFacts};

#[track_caller]
fn condition(world: &World, type_: &str) -> Condition {
    let found = world.status().conditions.into_iter().find(|condition| condition.type_ == type_);
    found.unwrap_or_else(|| panic!("no condition {type_}"))
}

#[track_caller]
fn says(world: &World, type_: &str, status: ConditionStatus, reason: Reason, words: &str) {
    let condition = condition(world, type_);
    assert_eq!((condition.status, condition.reason.as_str()), (status, reason.as_str()), "{condition:?}");
    assert!(condition.message.contains(words), "{:?} should say {words:?}", condition.message);
}

fn ready() -> World {
    let mut world = World::new();
    world.run();
    assert_eq!(world.phase(), Some(Phase::Ready), "{:#?}", world.status());
    world
}

#[test]
fn reaches_ready_through_every_phase_and_does_each_thing_once() {
    let world = ready();
    assert_eq!(world.phases, [Phase::Pending, Phase::Provisioning, Phase::Bootstrapping, Phase::Ready]);
    let mut done = world.done.clone();
    done.sort();
    let count = done.len();
    done.dedup();
    assert_eq!(done.len(), count, "{:?}", world.done);
    says(&world, READY, ConditionStatus::True, Reason::AllHealthy, "");
    assert_eq!(world.status().nodes.map(|nodes| nodes.summary), Some("4/4".to_owned()));
    assert_eq!(world.status().kubernetes_version.as_deref(), Some("v1.32.0"));
    assert!(world.status().components.iter().all(|c| c.name != "vmagent"), "what is off is not shown");
}

#[test]
fn steady_state_is_silent_across_a_restart() {
    let mut world = ready();
    let before = world.status();
    world.status_writes = 0;
    for _ in 0..5 {
        world.pass(20);
        let decision = world.look();
        assert_eq!((decision.effects.len(), world.status_writes), (0, 0));
    }
    world.restart();
    let decision = world.look();
    assert_eq!((decision.effects, decision.events), (vec![], vec![]));
    assert_eq!(decision.status, before, "a restarted manager says what the last one said");
    assert!(decision.requeue.is_some(), "it looks again when the agents' time is up");
    world.pass(5);
    world.agent();
    let decision = world.look();
    assert!(world.facts.agent.session.is_some());
    assert_eq!((decision.status, decision.effects), (before, vec![]), "an agent that is back changes nothing");
    assert_eq!(world.status_writes, 0);
}

#[test]
fn a_restarted_manager_that_has_seen_nothing_yet_says_what_was_said() {
    let mut pending = World::new();
    pending.facts.provider = Observed::Absent;
    pending.settle();
    let mut provisioning = World::new();
    provisioning.settle();
    assert_eq!(provisioning.phase(), Some(Phase::Provisioning));
    let mut bootstrapping = World::new();
    bootstrapping.held.insert("istio".to_owned());
    bootstrapping.run();
    for mut world in [pending, provisioning, bootstrapping, ready()] {
        let before = world.status();
        world.restart();
        world.facts.provider = Observed::Unknown;
        world.facts.credentials = Observed::Unknown;
        world.facts.missing_kinds = Observed::Unknown;
        world.facts.namespace = Observed::Unknown;
        world.facts.secrets = SecretsFacts::default();
        world.facts.objects = Observed::Unknown;
        let decision = world.look_again();
        assert_eq!(decision.effects, [], "{:?}", before.phase);
        assert_eq!(decision.status, before);
    }
}

#[test]
fn an_agent_that_does_not_come_back_after_a_restart_is_lost_after_the_grace() {
    let mut world = ready();
    world.restart();
    world.uplink = false;
    world.pass(44);
    world.look();
    says(&world, AGENT_CONNECTED, ConditionStatus::True, Reason::Connected, "quic");
    world.pass(2);
    world.look();
    says(&world, AGENT_CONNECTED, ConditionStatus::False, Reason::ConnectionLost, "since lattice-manager started");
    says(&world, "CNI", ConditionStatus::Unknown, Reason::AgentAway, "healthy");
    says(&world, READY, ConditionStatus::False, Reason::ConnectionLost, "agent");
    assert_eq!(world.phase(), Some(Phase::Ready), "the phase stays");
}

#[test]
fn the_age_of_a_session_outlives_a_restart_but_not_an_absence_of_the_manager() {
    let mut world = ready();
    let since = |world: &World| world.status().agent.expect("an agent").since.expect("a time").0;
    let first = since(&world);
    world.pass(30);
    world.restart();
    world.run();
    assert_eq!(since(&world), first, "a restart has nothing to tell");
    world.pass(3 * 3600);
    world.restart();
    world.facts.parent.after_absence = true;
    world.run();
    let second = since(&world);
    assert!(second > first, "nobody has seen the first session for hours");
    says(&world, AGENT_CONNECTED, ConditionStatus::True, Reason::Connected, &second.to_string());
    world.pass(600);
    world.settle();
    assert_eq!(since(&world), second, "and it goes on from there");
}

#[test]
fn an_agent_that_cannot_reach_the_parent_is_explained() {
    let mut world = World::new();
    world.uplink = false;
    world.run();
    assert_eq!(world.phase(), Some(Phase::Bootstrapping));
    says(&world, AGENT_CONNECTED, ConditionStatus::False, Reason::NeverDialled, "10.0.0.5:50051");
    says(&world, AGENT_CONNECTED, ConditionStatus::False, Reason::NeverDialled, "since 2026-11-24T12:00");
    let before = condition(&world, AGENT_CONNECTED);
    world.pass(300);
    world.settle();
    assert_eq!(condition(&world, AGENT_CONNECTED), before, "it keeps saying since when");
    world.restart();
    world.pass(100);
    world.settle();
    assert_eq!(condition(&world, AGENT_CONNECTED), before, "and a restart does not change it");
    world.uplink = true;
    world.run();
    assert_eq!(world.phase(), Some(Phase::Ready));
}

#[test]
fn a_held_gate_holds_only_what_needs_it() {
    let mut world = World::new();
    world.held.insert("istio".to_owned());
    world.run();
    assert_eq!(world.phase(), Some(Phase::Bootstrapping));
    for type_ in ["CNI", "CertManager", "SecretSync", "MetricsApi"] {
        says(&world, type_, ConditionStatus::True, Reason::AsExpected, "");
    }
    says(&world, "Mesh", ConditionStatus::False, Reason::DaemonSetNotReady, "3/4 nodes ready");
    says(&world, "PlatformOperator", ConditionStatus::False, Reason::WaitingForDependencies, "istio");
    let message = world.status().message.unwrap_or_default();
    assert!(message.contains("4/6 components healthy") && message.contains("3/4"), "{message}");
    world.held.clear();
    world.run();
    assert_eq!(world.phase(), Some(Phase::Ready));
}

#[test]
fn a_component_that_falls_ill_after_ready_degrades_and_recovers() {
    let mut world = ready();
    let installs = world.done.len();
    world.held.insert("cilium".to_owned());
    world.components();
    world.settle();
    assert_eq!(world.phase(), Some(Phase::Ready));
    says(&world, DEGRADED, ConditionStatus::True, Reason::NodesNotReady, "cilium: 3/4");
    says(&world, "CNI", ConditionStatus::False, Reason::DaemonSetNotReady, "3/4");
    says(&world, "Mesh", ConditionStatus::True, Reason::AsExpected, "");
    assert_eq!(world.done.len(), installs, "a sick component makes nobody install or remove anything");
    world.held.clear();
    world.components();
    world.settle();
    says(&world, DEGRADED, ConditionStatus::False, Reason::AllHealthy, "");
    says(&world, READY, ConditionStatus::True, Reason::AllHealthy, "");
}

#[test]
fn an_invalid_spec_creates_nothing_and_heals_without_a_restart() {
    let mut world = World::new();
    world.edit(|cluster| {
        cluster.spec.nodes.control_plane.replicas = 2;
        cluster.spec.provider.kubernetes.version = "1.99.0".to_owned();
    });
    world.settle();
    assert_eq!((world.phase(), world.done.len()), (Some(Phase::Pending), 0));
    says(&world, VALIDATED, ConditionStatus::False, Reason::InvalidSpec, "spec.nodes.controlPlane.replicas: ");
    says(&world, VALIDATED, ConditionStatus::False, Reason::InvalidSpec, "spec.provider.kubernetes.version: ");
    assert!(world.status().operation.is_none(), "no operation before the spec holds");
    world.edit(|cluster| {
        cluster.spec.nodes.control_plane.replicas = 1;
        cluster.spec.provider.kubernetes.version = "1.32.0".to_owned();
    });
    world.run();
    assert_eq!(world.phase(), Some(Phase::Ready));
}

#[test]
fn a_missing_provider_or_secret_is_named_with_its_cure() {
    let mut world = World::new();
    world.facts.provider = Observed::Absent;
    world.settle();
    says(&world, VALIDATED, ConditionStatus::False, Reason::ProviderNotFound, "kubectl get infra");
    let mut world = World::new();
    world.facts.credentials = Observed::Known(super::world::secret(&["url"]));
    world.settle();
    says(&world, VALIDATED, ConditionStatus::False, Reason::CredentialsInvalid, "lacks token, secret");
    world.facts.credentials = Observed::Absent;
    world.settle();
    says(&world, VALIDATED, ConditionStatus::False, Reason::CredentialsNotFound, "lattice-system/pve");
    assert_eq!(world.done, []);
}

#[test]
fn the_kubeconfig_secret_is_restored_when_deleted() {
    let mut world = ready();
    world.done.clear();
    world.facts.secrets.kubeconfig = Observed::Absent;
    world.settle();
    assert_eq!(world.done, [EffectKind::EnsureKubeconfig]);
}

#[test]
fn paused_reconciles_nothing_and_says_so() {
    let mut world = World::new();
    world.edit(|cluster| cluster.spec.paused = true);
    world.run();
    assert_eq!((world.phase(), world.done.len()), (Some(Phase::Pending), 0));
    says(&world, READY, ConditionStatus::False, Reason::Paused, "spec.paused");
    world.edit(|cluster| cluster.spec.paused = false);
    world.run();
    assert_eq!(world.phase(), Some(Phase::Ready));
}

#[test]
fn an_edit_of_what_machines_run_is_not_taken_over_silently() {
    let mut world = ready();
    world.done.clear();
    world.edit(|cluster| {
        let pool = cluster.spec.nodes.worker_pools.get_mut("default").expect("the pool");
        pool.replicas = Some(4);
    });
    world.settle();
    assert_eq!((world.phase(), world.done.len()), (Some(Phase::Ready), 0));
    says(&world, VALIDATED, ConditionStatus::False, Reason::NotYetSupported, "set them back");
    let message = world.status().message.unwrap_or_default();
    assert!(message.contains("cannot be taken over"), "{message}");
}

#[test]
fn a_feature_that_is_turned_off_is_taken_off_the_child() {
    let mut world = ready();
    world.child.insert("vmagent".to_owned(), ReportState::Healthy);
    world.done.clear();
    world.settle();
    assert_eq!(world.done, [EffectKind::Remove { component: "vmagent".to_owned() }]);
}
