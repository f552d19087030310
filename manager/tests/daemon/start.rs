//! What the daemon needs to start, and who leads.

use super::harness::World;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;

#[tokio::test(flavor = "multi_thread")]
async fn without_its_resources_it_ends_with_the_command_that_installs_them() {
    let world = World::empty().await;
    let log = world.file("early.log");
    let status = world.command("early", &[], &log).status().await.expect("it runs");
    assert_eq!(status.code(), Some(3));
    let said = std::fs::read_to_string(&log).expect("a log");
    assert!(said.contains("latticeclusters.lattice.dev"), "{said}");
    assert!(said.contains("lattice-manager crds | kubectl apply --server-side -f -"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_waits_for_the_lease_and_goes_on_at_once_when_it_is_given_up() {
    let world = World::with_lattice().await;
    let first = world.start("pod-a");
    first.logs("gateway open").await;
    let second = world.start("pod-b");
    second.logs("manager started").await;
    assert_eq!(first.terminate().await, Some(0), "SIGTERM is an orderly end");
    second.logs("gateway open").await;
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "lattice-system");
    let lease = leases.get("lattice-manager").await.expect("a lease").spec.expect("a spec");
    assert_eq!(lease.holder_identity.as_deref(), Some("pod-b"));
    assert_eq!(lease.lease_transitions, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_one_of_the_same_name_goes_on_at_once() {
    let world = World::with_lattice().await;
    let first = world.start("pod-a");
    first.logs("gateway open").await;
    first.kill().await;
    let began = tokio::time::Instant::now();
    let again = world.start_with("pod-a", &["--log-filter", "info,lattice_manager=debug"]);
    super::harness::until("it opens its gateway again", async || {
        (again.log().matches("gateway open").count() >= 2).then_some(())
    })
    .await;
    assert!(began.elapsed() < std::time::Duration::from_secs(14), "it waited for its own lease");
}
