//! The simulated Cluster API against recordings of the real one: what appears first must appear in the same order.
//!
//! From the recordings comes every pair of first appearances whose order is the same in all of them; the simulation may
//! order no such pair the other way.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says on standard error when it was skipped"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

mod facts;
mod world;

use facts::{Facts, firsts};

/// Facts of the recordings that the simulation does not show, and why.
const NOT_SHOWN: &[(&str, &str)] = &[];

/// Pairs (earlier, later) that the simulation may order otherwise, and why. A text matches facts that begin with it.
const MAY_DIFFER: &[(&str, &str, &str)] = &[
    ("Cluster controlPlane.", "Cluster WorkersAvailable=False", "two chains that meet in the Cluster only"),
    ("Cluster endpoint", "Cluster WorkersAvailable=False", "the same"),
    ("Cluster init.infrastructureProvisioned", "Cluster WorkersAvailable=False", "the same"),
    ("Cluster phase Provisioned", "Cluster WorkersAvailable=False", "the same"),
    ("MachineHealthCheck", "", "it looks every 15 s, whatever the others do"),
    ("", "MachineHealthCheck", "the same"),
    ("Machine/master HealthCheckSucceeded", "", "the same: it is the health check that writes it"),
    ("", "Machine/master HealthCheckSucceeded", "the same"),
];

/// Recordings that begin with a provision that succeeds.
const PROVISIONS: &[&str] = &[
    "provision-1-2",
    "provision-3-3",
    "scale-workers",
    "scale-control-plane",
    "upgrade-1-2",
    "upgrade-3-2",
    "roll-workers",
    "delete",
    "delete-proxy-away",
    "infra-delayed",
];
const DELETES: &[&str] = &["delete", "delete-proxy-away"];

/// Folder of the recordings; without one the test says loudly that it did nothing.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("LATTICE_CAPI_TIMELINES_DIR").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: LATTICE_CAPI_TIMELINES_DIR is not set; the simulation was compared with nothing");
    }
    folder
}

/// Time between two facts of different objects, in every recording, from which on their order is no accident: each
/// controller looks at an object once a second, so what is closer may come either way.
const APART: f64 = 2.0;

/// Time between two facts of one object, in every recording, up to which one reconcile wrote both: their order is exact.
const TOGETHER: f64 = 0.2;

/// Time by which the simulation may be early otherwise: two of its reconciles, on a machine that is busy.
const SLACK: f64 = 0.4;

/// Pairs of facts whose order is the same in all of the recordings, and follows from what the controllers do.
fn pairs(recordings: &[Facts]) -> BTreeMap<(String, String), f64> {
    let common: BTreeSet<&String> =
        recordings[0].keys().filter(|fact| recordings.iter().all(|facts| facts.contains_key(*fact))).collect();
    let mut pairs = BTreeMap::new();
    for a in &common {
        for b in &common {
            let role = |fact: &str| fact.split(' ').next().unwrap_or_default().to_owned();
            let apart = if role(a) == role(b) { 0.0 } else { APART };
            if recordings.iter().all(|facts| facts[*a].0 < facts[*b].0 && facts[*b].1 - facts[*a].1 >= apart) {
                let gap = recordings.iter().map(|facts| facts[*b].1 - facts[*a].1).fold(0.0, f64::max);
                let exact = role(a) == role(b) && gap <= TOGETHER;
                pairs.insert(((*a).clone(), (*b).clone()), if exact { 0.0 } else { SLACK });
            }
        }
    }
    pairs
}

/// Compares and returns what is wrong.
fn compare(recordings: &[Facts], simulated: &Facts) -> Vec<String> {
    let mut wrong = Vec::new();
    let pairs = pairs(recordings);
    assert!(pairs.len() > 500, "the recordings say too little: {} pairs", pairs.len());
    let known: BTreeSet<&String> = pairs.keys().flat_map(|(a, b)| [a, b]).collect();
    for fact in &known {
        let excused = NOT_SHOWN.iter().any(|(begin, _)| fact.starts_with(begin));
        if !simulated.contains_key(*fact) && !excused {
            wrong.push(format!("missing: {fact}"));
        }
    }
    let mut swapped: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for ((a, b), slack) in &pairs {
        let (Some(first), Some(second)) = (simulated.get(a), simulated.get(b)) else { continue };
        let excused = MAY_DIFFER.iter().any(|(one, other, _)| a.starts_with(one) && b.starts_with(other));
        if second.0 < first.0 && first.1 - second.1 >= *slack && !excused {
            swapped.entry(b).or_default().push(format!("{a} ({:.2} s later)", first.1 - second.1));
        }
    }
    for (later, earlier) in swapped {
        wrong.push(format!("too early: {later} came before {}", earlier.join(", ")));
    }
    wrong
}

fn read(folder: &std::path::Path, names: &[&str]) -> Vec<Vec<facts::Event>> {
    names.iter().map(|name| facts::read(&folder.join(format!("{name}.jsonl.gz")))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provision_and_delete_show_the_recorded_order() {
    let Some(folder) = folder() else { return };
    let provisions: Vec<Facts> = read(&folder, PROVISIONS).iter().map(|events| firsts(events)).collect();
    let deletes: Vec<Facts> =
        read(&folder, DELETES).iter().map(|events| firsts(facts::from_deletion(events))).collect();
    let recording = world::record(1, 2).await;
    let mut wrong = compare(&provisions, &firsts(facts::until_deletion(&recording)));
    wrong.extend(compare(&deletes, &firsts(facts::from_deletion(&recording))));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
