//! From an object to Provisioning, and what a killed daemon leaves.

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;

use super::harness::{World, at, condition, phase, until};

/// Waits until a cluster's objects are all there and its status says so.
async fn provisioned(world: &World, name: &str) {
    world.cluster_when(name, "is Provisioning", |cluster| phase(cluster) == "Provisioning").await;
    until("the worker pool is applied", async || {
        let objects = world.objects(name).await;
        objects.iter().any(|o| o.starts_with("MachineDeployment ")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_becomes_the_objects_of_cluster_api() {
    let world = World::ready().await;
    let _daemon = world.start("pod-a");
    let created = world.create_cluster("backend").await;
    provisioned(&world, "backend").await;

    let objects = world.objects("backend").await;
    for wanted in [
        "Cluster backend ",
        "ProxmoxCluster backend ",
        "KubeadmControlPlane backend-cp ",
        "MachineDeployment backend-default ",
        "Secret backend-enroll ",
        "Secret backend-kubeconfig ",
        "Secret backend-proxmox-credentials ",
    ] {
        assert!(objects.iter().any(|object| object.starts_with(wanted)), "{wanted} in {objects:#?}");
    }
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cluster.x-k8s.io", "v1beta2", "Cluster"));
    let clusters: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), "lattice-backend", &resource);
    let cluster = clusters.get("backend").await.expect("a Cluster");
    assert_eq!(at(&cluster, "/spec/infrastructureRef/kind"), "ProxmoxCluster");
    let labels = cluster.metadata.labels.expect("labels");
    assert_eq!(labels.get("lattice.dev/cluster-uid"), created.metadata.uid.as_ref());

    let held = world.clusters().get("backend").await.expect("the object");
    assert_eq!(held.metadata.finalizers.as_deref(), Some(&["lattice.dev/cluster".to_owned()][..]));
    let status = held.status.expect("a status");
    assert!(status.operation.and_then(|operation| operation.traceparent).is_some(), "the operation has a trace");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_makes_nothing_twice_and_then_is_silent() {
    let world = World::ready().await;
    let mut daemon = world.start("pod-a");
    world.create_cluster("backend").await;
    for _ in 0..4 {
        // Wherever it is by now.
        tokio::time::sleep(std::time::Duration::from_millis(350)).await;
        daemon.kill().await;
        daemon = world.start("pod-a");
    }
    provisioned(&world, "backend").await;
    let settled = settled(&world, "backend").await;
    daemon.kill().await;

    let daemon = world.start("pod-a");
    daemon.logs("gateway open").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(world.objects("backend").await, settled, "the same objects, with the same uids");
    let templates = |kind: &str| settled.iter().filter(|object| object.starts_with(kind)).count();
    assert_eq!(templates("ProxmoxMachineTemplate "), 2, "{settled:#?}");
    assert_eq!(templates("KubeadmConfigTemplate "), 1, "{settled:#?}");

    let before = world.writes().await;
    daemon.kill().await;
    let daemon = world.start("pod-b-after-a");
    daemon.logs("manager started").await;
    drop(daemon);
    let daemon = world.start("pod-a");
    daemon.logs("gateway open").await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.writes().await, before, "a restart in steady state writes nothing");
}

/// Waits until nothing is written for two seconds; the objects of then.
async fn settled(world: &World, name: &str) -> Vec<String> {
    let mut before = world.writes().await;
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let now = world.writes().await;
        if now == before {
            return world.objects(name).await;
        }
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_deletes_or_edits_is_put_back() {
    let world = World::ready().await;
    let _daemon = world.start("pod-a");
    world.create_cluster("backend").await;
    provisioned(&world, "backend").await;
    settled(&world, "backend").await;

    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(world.client.clone(), "lattice-backend");
    let old = secrets.get("backend-kubeconfig").await.expect("a kubeconfig");
    secrets.delete("backend-kubeconfig", &DeleteParams::default()).await.expect("it is deleted");
    until("the kubeconfig is back", async || {
        let now = secrets.get_opt("backend-kubeconfig").await.ok()??;
        (now.metadata.uid != old.metadata.uid).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_waits_until_cluster_api_is_installed_and_then_goes_on() {
    let world = World::with_lattice().await;
    world.make_provider().await;
    let _daemon = world.start("pod-a");
    world.create_cluster("backend").await;
    let waiting = world
        .cluster_when("backend", "waits for Cluster API", |cluster| {
            condition(cluster, "Validated").1 == "ClusterApiNotInstalled"
        })
        .await;
    assert_eq!(phase(&waiting), "Pending");
    world.install_cluster_api().await;
    provisioned(&world, "backend").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_spec_stays_pending_and_creates_nothing() {
    let world = World::ready().await;
    let _daemon = world.start("pod-a");
    let mut cluster = super::harness::cluster("backend");
    cluster.spec.nodes.worker_pools.get_mut("default").expect("a pool").replicas = Some(30);
    world.clusters().create(&Default::default(), &cluster).await.expect("the schema cannot know it");
    let refused =
        world.cluster_when("backend", "is refused", |cluster| condition(cluster, "Validated").0 == "False").await;
    assert_eq!(phase(&refused), "Pending");
    let (_, reason, message) = condition(&refused, "Validated");
    assert_eq!(reason, "AddressPoolTooSmall");
    assert!(message.contains("ipv4Pool"), "{message}");
    assert!(world.objects("backend").await.is_empty(), "nothing is created");

    let patch = json!({"spec": {"nodes": {"workerPools": {"default": {"replicas": 3}}}}});
    world.clusters().patch("backend", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("the cure");
    provisioned(&world, "backend").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_provisioned_cluster_can_be_deleted() {
    let world = World::ready().await;
    let daemon = world.start("pod-a");
    world.create_cluster("backend").await;
    provisioned(&world, "backend").await;
    daemon.kill().await;
    world.clusters().delete("backend", &DeleteParams::default()).await.expect("it is deleted");
    let _daemon = world.start("pod-a");
    until("the object is gone", async || world.clusters().get_opt("backend").await.ok()?.is_none().then_some(())).await;
    until("its objects are gone", async || world.objects("backend").await.is_empty().then_some(())).await;

    let system: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(world.client.clone(), "lattice-system");
    let left = system.list(&Default::default()).await.expect("secrets");
    let identities = left.iter().filter(|s| s.metadata.name.as_deref().unwrap_or_default().contains("identity"));
    assert_eq!(identities.count(), 0, "the agent's identity is gone");
    let infra: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(world.client.clone(), "infra");
    let credentials = infra.get("pve").await.expect("the provider's credentials");
    assert!(credentials.metadata.finalizers.unwrap_or_default().is_empty(), "nobody holds them any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_reaches_log_status_or_event() {
    let world = World::ready().await;
    let daemon = world.start_with("pod-a", &["--log-filter", "debug"]);
    world.create_cluster("backend").await;
    provisioned(&world, "backend").await;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(world.client.clone(), "lattice-backend");
    let enrol = secrets.get("backend-enroll").await.expect("an enrolment Secret").data.expect("data");
    let token = String::from_utf8(enrol["token"].0.clone()).expect("text");
    let token = token.rsplit('.').next().expect("a secret part").to_owned();
    assert!(token.len() > 20, "a token is there to be looked for");
    let status = serde_json::to_string(&world.clusters().get("backend").await.expect("it").status).expect("text");
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::all(world.client.clone());
    let events = serde_json::to_string(&events.list(&Default::default()).await.expect("events").items).expect("text");
    for (place, text) in [("log", daemon.log()), ("status", status), ("events", events)] {
        for secret in ["s3cr3t-value", &token] {
            assert!(!text.contains(secret), "a secret is in the {place}");
        }
    }
}
