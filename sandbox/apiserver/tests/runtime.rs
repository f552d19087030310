//! What controllers are built of, told to the server: `kube`'s runtime.

#[cfg(test)]
mod runtime {
    use std::sync::Arc;
    use std::time::Duration;

    use futures::StreamExt as _;
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
    use k8s_openapi::api::events::v1::Event as StoredEvent;
    use kube::api::{DeleteParams, ListParams, PostParams};
    use kube::runtime::controller::Action;
    use kube::runtime::events::{Event, EventType, Recorder, Reporter};
    use kube::runtime::finalizer::{Event as Finalizer, finalizer};
    use kube::runtime::reflector;
    use kube::runtime::wait::await_condition;
    use kube::runtime::{Controller, WatchStreamExt as _, watcher};
    use kube::{Api, Client, Resource as _, ResourceExt as _};
    use lattice_apiserver::{ApiServer, Config, Effect, Fault};
    use serde_json::json;

    const SOON: Duration = Duration::from_secs(20);
    const FINALIZER: &str = "runtime.example.com/cleanup";

    fn server() -> Arc<ApiServer> {
        ApiServer::new(Config::default()).unwrap()
    }

    fn maps(client: &Client) -> Api<ConfigMap> {
        Api::namespaced(client.clone(), "default")
    }

    fn map(name: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Failed(String);

    /// Gives each map an account while it is there.
    async fn reconcile(map: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, Failed> {
        let accounts: Api<ServiceAccount> = Api::namespaced((*client).clone(), "default");
        let failed = |error: kube::Error| Failed(error.to_string());
        finalizer(&maps(&client), FINALIZER, map, |event| async {
            match event {
                Finalizer::Apply(map) => {
                    let account = serde_json::from_value(json!({"metadata": {"name": map.name_any()}})).unwrap();
                    match accounts.create(&PostParams::default(), &account).await {
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        other => drop(other.map_err(failed)?),
                    }
                }
                Finalizer::Cleanup(map) => {
                    drop(accounts.delete(&map.name_any(), &DeleteParams::default()).await.map_err(failed)?);
                }
            }
            Ok::<_, Failed>(Action::await_change())
        })
        .await
        .map_err(|error| Failed(error.to_string()))
    }

    #[tokio::test]
    async fn a_controller_with_a_finalizer_makes_and_cleans_up() {
        let server = server();
        let client = server.client();
        let api = maps(&client);
        api.create(&PostParams::default(), &map("a")).await.unwrap();
        let controller = Controller::new(api.clone(), watcher::Config::default())
            .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(client.clone()))
            .for_each(|_| async {});
        let story = async {
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
            await_condition(accounts.clone(), "a", |found: Option<&ServiceAccount>| found.is_some()).await.unwrap();
            assert_eq!(api.get("a").await.unwrap().finalizers(), [FINALIZER]);
            api.delete("a", &DeleteParams::default()).await.unwrap();
            await_condition(api.clone(), "a", |found: Option<&ConfigMap>| found.is_none()).await.unwrap();
            assert!(accounts.get_opt("a").await.unwrap().is_none());
        };
        tokio::select! {
            () = controller => panic!("the controller ended"),
            done = tokio::time::timeout(SOON, story) => done.unwrap(),
        }
    }

    #[tokio::test]
    async fn a_streaming_list_begins_with_what_is_there_and_goes_on() {
        let server = server();
        let api = maps(&server.client());
        for name in ["a", "b"] {
            api.create(&PostParams::default(), &map(name)).await.unwrap();
        }
        let mut events = watcher(api.clone(), watcher::Config::default().streaming_lists()).boxed();
        let mut seen = Vec::new();
        while seen.len() < 5 {
            let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
            seen.push(match event {
                watcher::Event::Init => "init".to_owned(),
                watcher::Event::InitApply(map) => format!("there {}", map.name_any()),
                watcher::Event::InitDone => {
                    api.create(&PostParams::default(), &map("c")).await.unwrap();
                    "done".to_owned()
                }
                watcher::Event::Apply(map) => format!("new {}", map.name_any()),
                watcher::Event::Delete(map) => format!("gone {}", map.name_any()),
            });
        }
        assert_eq!(seen, ["init", "there a", "there b", "done", "new c"]);
    }

    #[tokio::test]
    async fn a_watch_that_expires_leads_to_a_new_list() {
        let server = server();
        let api = maps(&server.client());
        api.create(&PostParams::default(), &map("a")).await.unwrap();
        server.faults().add(Fault { verb: "watch".into(), times: Some(1), ..Fault::new(Effect::Expire) });
        let mut events = watcher(api, watcher::Config::default()).boxed();
        let mut lists = 0;
        while lists < 2 {
            let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
            lists += i32::from(matches!(event, Ok(watcher::Event::InitDone)));
        }
    }

    #[tokio::test]
    async fn a_reflector_holds_what_the_server_holds() {
        let server = server();
        let api = maps(&server.client());
        let (store, writer) = reflector::store();
        let stream = reflector::reflector(writer, watcher(api.clone(), watcher::Config::default()));
        let running = stream.applied_objects().for_each(|_| async {});
        let story = async {
            store.wait_until_ready().await.unwrap();
            assert!(store.state().is_empty());
            api.create(&PostParams::default(), &map("a")).await.unwrap();
            await_condition(api.clone(), "a", |found: Option<&ConfigMap>| found.is_some()).await.unwrap();
            while store.state().is_empty() {
                tokio::task::yield_now().await;
            }
            assert_eq!(store.state()[0].name_any(), "a");
        };
        tokio::select! {
            () = running => panic!("the reflector ended"),
            done = tokio::time::timeout(SOON, story) => done.unwrap(),
        }
    }

    #[tokio::test]
    async fn a_recorder_writes_events_and_counts_them_again() {
        let server = server();
        let client = server.client();
        let namespace = Api::<Namespace>::all(client.clone()).get("default").await.unwrap();
        let recorder = Recorder::new(client.clone(), Reporter { controller: "tester".into(), instance: None });
        let event = Event {
            type_: EventType::Normal,
            reason: "Looked".into(),
            note: Some("all is well".into()),
            action: "Looking".into(),
            secondary: None,
        };
        for _ in 0..2 {
            recorder.publish(&event, &namespace.object_ref(&())).await.unwrap();
        }
        let stored = Api::<StoredEvent>::namespaced(client, "default").list(&ListParams::default()).await.unwrap();
        assert_eq!(stored.items.len(), 1);
        assert_eq!(stored.items[0].series.as_ref().map(|series| series.count), Some(2));
    }

    #[tokio::test]
    async fn of_two_candidates_for_a_lease_one_wins() {
        let server = server();
        let leases: Api<Lease> = Api::namespaced(server.client(), "default");
        let made = serde_json::from_value(json!({"metadata": {"name": "leader"}})).unwrap();
        let free = leases.create(&PostParams::default(), &made).await.unwrap();
        let claim = |who: &str| {
            let mut lease = free.clone();
            let spec = json!({"holderIdentity": who, "leaseDurationSeconds": 15, "leaseTransitions": 1});
            lease.spec = Some(serde_json::from_value(spec).unwrap());
            lease
        };
        let (one, two) = (claim("one"), claim("two"));
        let params = PostParams::default();
        let (first, second) =
            tokio::join!(leases.replace("leader", &params, &one), leases.replace("leader", &params, &two));
        let holder = match (first, second) {
            (Ok(won), Err(kube::Error::Api(status))) | (Err(kube::Error::Api(status)), Ok(won)) => {
                assert_eq!(status.code, 409);
                won.spec.and_then(|spec| spec.holder_identity)
            }
            other => panic!("both or none won: {other:?}"),
        };
        assert_eq!(leases.get("leader").await.unwrap().spec.and_then(|spec| spec.holder_identity), holder);
    }
}
