//! One cluster cannot hurt another.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::harness::{World, condition, phase, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_cluster_is_quarantined_and_the_others_never_notice() {
    let world = World::ready().await;
    let faults = world.file("faults");
    std::fs::write(&faults, "panic poison\n").expect("a file");
    let daemon = world.start_with("pod-a", &["--sandbox-faults", &faults.display().to_string()]);
    for name in ["a", "b", "poison", "c"] {
        world.create_cluster(name).await;
    }
    for name in ["a", "b", "c"] {
        world.cluster_when(name, "is Provisioning", |cluster| phase(cluster) == "Provisioning").await;
    }
    let left_alone =
        world.cluster_when("poison", "is quarantined", |cluster| condition(cluster, "Ready").1 == "Quarantined").await;
    assert_eq!(condition(&left_alone, "Ready").0, "False");
    assert!(condition(&left_alone, "Ready").2.contains("panicked 5 times"), "{:?}", condition(&left_alone, "Ready"));
    for name in ["a", "b", "c"] {
        let cluster = world.clusters().get(name).await.expect("a cluster");
        assert_ne!(condition(&cluster, "Ready").1, "Quarantined", "{name}");
    }

    // The cause is gone, and an edit says so.
    std::fs::write(&faults, "").expect("a file");
    let patch = json!({"spec": {"provider": {"kubernetes": {"certSANs": ["api.example.org"]}}}});
    world.clusters().patch("poison", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("an edit");
    world.cluster_when("poison", "is Provisioning", |cluster| phase(cluster) == "Provisioning").await;
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_cluster_can_be_deleted() {
    let world = World::ready().await;
    let faults = world.file("faults");
    std::fs::write(&faults, "").expect("a file");
    let _daemon = world.start_with("pod-a", &["--sandbox-faults", &faults.display().to_string()]);
    world.create_cluster("poison").await;
    world.cluster_when("poison", "is Provisioning", |cluster| phase(cluster) == "Provisioning").await;
    std::fs::write(&faults, "panic poison\n").expect("a file");
    let patch = json!({"metadata": {"labels": {"look": "again"}}});
    world.clusters().patch("poison", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a change");
    world.cluster_when("poison", "is quarantined", |cluster| condition(cluster, "Ready").1 == "Quarantined").await;
    world.clusters().delete("poison", &DeleteParams::default()).await.expect("it is deleted");
    until("the object is gone", async || world.clusters().get_opt("poison").await.ok()?.is_none().then_some(())).await;
    assert!(world.objects("poison").await.is_empty(), "its objects went first");
}
