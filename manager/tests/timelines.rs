//! Recorded timelines of real Cluster API objects, replayed through what mirrors them: event by event, with duplicates,
//! with gaps and with kinds that lag behind each other. At every step what would be claimed is true.
//!
//! The recordings are not part of the repository: `LATTICE_CAPI_TIMELINES_DIR` names their folder.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unused_self,
    reason = "a replay that cannot go on has failed, and one that was skipped says so"
)]

#[path = "timelines/life.rs"]
mod life;
#[path = "timelines/recording.rs"]
mod recording;
#[path = "timelines/truth.rs"]
mod truth;

use recording::{Objects, Recording};
use truth::Truth;

/// Every recording: what is claimed is true at every step of each.
const ALL: [&str; 17] = [
    "add-remove-machinedeployment",
    "delete",
    "delete-proxy-away",
    "infra-delayed",
    "infra-never-control-plane",
    "infra-never-worker",
    "infra-status-denied",
    "infra-writes-refused",
    "mhc-replace-worker",
    "pause-unpause",
    "provision-1-2",
    "provision-3-3",
    "roll-workers",
    "scale-control-plane",
    "scale-workers",
    "upgrade-1-2",
    "upgrade-3-2",
];

#[test]
fn every_claim_is_true_at_every_step() {
    for name in ALL {
        let Some(recording) = Recording::open(name) else { return };
        let (mut objects, mut truth) = (Objects::default(), Truth::default());
        for (at, event) in recording.events.iter().enumerate() {
            objects.apply(event);
            truth.learn(&objects);
            truth.check(&objects, &format!("{name}, event {at}"));
        }
    }
}

#[test]
fn duplicates_change_no_claim() {
    for name in ALL {
        let Some(recording) = Recording::open(name) else { return };
        let (mut objects, mut truth) = (Objects::default(), Truth::default());
        for (at, event) in recording.events.iter().enumerate() {
            objects.apply(event);
            let once = truth::claims(&objects);
            objects.apply(event);
            truth.learn(&objects);
            assert_eq!(truth::claims(&objects), once, "{name}, event {at}");
        }
        let _ = &mut truth;
    }
}

/// Each kind has a watch of its own, and each may be behind by as much as it likes: what is claimed then was true at
/// some time, and what is set once stays.
#[test]
fn kinds_that_lag_behind_each_other_lead_to_no_false_claim() {
    for name in [
        "provision-1-2",
        "provision-3-3",
        "infra-delayed",
        "infra-never-control-plane",
        "infra-never-worker",
        "infra-status-denied",
    ] {
        let Some(recording) = Recording::open(name) else { return };
        for seed in 0..4_u64 {
            let mut lagging = recording.lagging(seed);
            let (mut objects, mut seen, mut truth) = (Objects::default(), Objects::default(), Truth::default());
            for (at, event) in recording.events.iter().enumerate() {
                objects.apply(event);
                truth.learn(&objects);
                for late in lagging.step(event) {
                    seen.apply(&late);
                }
                truth.check_lasting(&seen, &format!("{name}, event {at}, seed {seed}"));
            }
            for late in lagging.rest() {
                seen.apply(&late);
            }
            assert_eq!(truth::claims(&seen), truth::claims(&objects), "{name}: all watches have caught up");
        }
    }
}

#[test]
fn what_is_set_once_is_never_taken_back_while_provisioning() {
    for name in ["provision-1-2", "provision-3-3", "infra-delayed"] {
        let Some(recording) = Recording::open(name) else { return };
        let mut objects = Objects::default();
        let (mut infrastructure, mut control_plane) = (false, false);
        for (at, event) in recording.events.iter().enumerate() {
            objects.apply(event);
            let claims = truth::claims(&objects);
            assert!(claims.infrastructure || !infrastructure, "{name}, event {at}: InfrastructureReady taken back");
            assert!(claims.control_plane || !control_plane, "{name}, event {at}: ControlPlaneInitialized taken back");
            (infrastructure, control_plane) = (claims.infrastructure, claims.control_plane);
        }
        assert!(infrastructure && control_plane, "{name} ends provisioned");
    }
}

#[track_caller]
fn ends_with(name: &str, nodes_ready: bool, summary: &str) {
    let Some(recording) = Recording::open(name) else { return };
    let mut objects = Objects::default();
    recording.events.iter().for_each(|event| objects.apply(event));
    let claims = truth::claims(&objects);
    assert_eq!(
        (claims.nodes_ready, claims.summary.as_str()),
        (nodes_ready, summary),
        "{name}: {}",
        claims.nodes_message
    );
}

#[test]
fn the_last_word_of_each_recording_is_right() {
    ends_with("provision-1-2", true, "3/3");
    ends_with("provision-3-3", true, "6/6");
    ends_with("infra-delayed", true, "3/3");
    ends_with("infra-status-denied", true, "4/4");
    ends_with("scale-workers", true, "2/2");
    ends_with("scale-control-plane", true, "3/3");
    ends_with("upgrade-1-2", true, "3/3");
    ends_with("upgrade-3-2", true, "5/5");
    ends_with("roll-workers", true, "3/3");
    ends_with("mhc-replace-worker", true, "3/3");
    ends_with("add-remove-machinedeployment", true, "3/3");
}

#[test]
fn a_first_machine_that_never_comes_is_named() {
    let Some(recording) = Recording::open("infra-never-control-plane") else { return };
    let mut objects = Objects::default();
    let mut named = false;
    for event in &recording.events {
        objects.apply(event);
        let claims = truth::claims(&objects);
        assert!(!claims.infrastructure, "it never was ready: {}", claims.infrastructure_message);
        let machine = objects.names("Machine").find(|name| name.starts_with("demo-cp-")).map(str::to_owned);
        named |= machine.is_some_and(|machine| {
            claims.infrastructure_reason == "WaitingForFirstMachine" && claims.infrastructure_message.contains(&machine)
        });
    }
    assert!(named, "the machine that is waited for is named");
}

#[test]
fn a_worker_without_infrastructure_is_named_and_never_counted() {
    for name in ["infra-never-worker", "infra-status-denied"] {
        let Some(recording) = Recording::open(name) else { return };
        let mut objects = Objects::default();
        let mut named = false;
        for event in &recording.events {
            objects.apply(event);
            let claims = truth::claims(&objects);
            let stuck: Vec<String> =
                objects.names("Machine").filter(|n| n.starts_with("demo-md-1-")).map(str::to_owned).collect();
            named |= !claims.nodes_ready && stuck.iter().any(|machine| claims.nodes_message.contains(machine));
        }
        assert!(named, "{name}: the machine that is waited for is named");
    }
}

#[test]
fn a_deletion_names_all_that_remains_until_nothing_does() {
    for name in ["delete", "delete-proxy-away", "infra-never-control-plane"] {
        let Some(recording) = Recording::open(name) else { return };
        let mut objects = Objects::default();
        for (at, event) in recording.events.iter().enumerate() {
            objects.apply(event);
            let mut remaining: Vec<(String, String)> =
                objects.world().objects.iter().map(|o| (o.kind.clone(), o.name.clone())).collect();
            remaining.sort();
            let mut there = objects.mirrored();
            there.sort();
            assert_eq!(remaining, there, "{name}, event {at}");
        }
        assert_eq!(objects.mirrored(), [], "{name}: nothing is left");
    }
}
