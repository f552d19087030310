//! From any phase to nothing.

use super::world::{Machine, World};
use crate::api::Phase;
use crate::lifecycle::{EffectKind, Observed};

fn gone(world: &mut World) {
    for _ in 0..50 {
        world.settle();
        if !world.exists {
            return;
        }
        world.pass(1);
        world.capi();
    }
    panic!("still there: {:#?}", world.status());
}

#[test]
fn a_ready_cluster_goes_step_by_step() {
    let mut world = World::new();
    world.run();
    world.done.clear();
    world.delete();
    gone(&mut world);
    assert_eq!(
        world.done,
        [
            EffectKind::DeleteCluster,
            EffectKind::DeleteLeftovers,
            EffectKind::RevokeIdentity,
            EffectKind::ReleaseProvider,
            EffectKind::DeleteSecrets,
            EffectKind::DeleteNamespace,
            EffectKind::RemoveFinalizer
        ]
    );
}

#[test]
fn says_what_remains() {
    let mut world = World::new();
    world.run();
    world.delete();
    world.settle();
    let deletion = world.status().deletion.expect("a deletion");
    assert_eq!(deletion.step, "2/6 DeletingInfrastructure");
    assert_eq!(deletion.remaining[0], "Machine backend-cp-aaaaa (proxmox://backend-cp-aaaaa)");
    let message = world.status().message.unwrap_or_default();
    assert!(message.contains("step 2 of 6") && message.contains("objects remain"), "{message}");
}

#[test]
fn works_at_every_moment_of_a_provision() {
    for steps in 0..30 {
        let mut world = World::new();
        for _ in 0..steps {
            let decision = world.look();
            decision.effects.iter().for_each(|effect| world.perform(effect));
            world.pass(1);
            world.capi();
            world.agent();
            world.components();
        }
        world.delete();
        if world.exists {
            gone(&mut world);
        }
        assert!(world.facts.namespace.is_absent() && world.facts.secrets.identity.is_absent(), "after {steps} steps");
        assert!(world.machines.iter().all(|machine| *machine == Machine::Absent), "after {steps} steps");
    }
}

#[test]
fn protection_and_pause_hold_it_and_say_so() {
    for set in [true, false] {
        let mut world = World::new();
        world.run();
        world.edit(|cluster| {
            cluster.spec.deletion.protection = set;
            cluster.spec.paused = !set;
        });
        world.settle();
        world.done.clear();
        world.delete();
        world.settle();
        assert_eq!((world.phase(), world.done.len()), (Some(Phase::Deleting), 0));
        assert!(world.status().message.is_some_and(|message| message.contains("clear it")));
        world.edit(|cluster| {
            cluster.spec.deletion.protection = false;
            cluster.spec.paused = false;
        });
        gone(&mut world);
    }
}

#[test]
fn a_quarantined_cluster_can_be_deleted() {
    let mut world = World::new();
    world.run();
    world.facts.quarantine = Some(crate::lifecycle::Quarantine { since: world.now, message: "it panicked".to_owned() });
    world.settle();
    assert!(world.status().message.is_some_and(|message| message.starts_with("Quarantined since")));
    world.delete();
    gone(&mut world);
}

#[test]
fn a_namespace_of_another_cluster_is_left_alone() {
    let mut world = World::new();
    world.run();
    if let Observed::Known(namespace) = &mut world.facts.namespace {
        namespace.cluster_uid = Some("somebody-else".to_owned());
    }
    world.done.clear();
    world.delete();
    gone(&mut world);
    assert!(!world.done.contains(&EffectKind::DeleteNamespace));
}
