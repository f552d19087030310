//! What clients built with `kube` see.

#[cfg(test)]
mod clients {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use futures::{StreamExt as _, TryStreamExt as _};
    use http_body_util::BodyExt as _;
    use k8s_openapi::api::authorization::v1::SubjectAccessReview;
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
    use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
    use kube::runtime::wait::await_condition;
    use kube::{Api, Client, Config as ClientConfig, ResourceExt as _};
    use lattice_apiserver::{ApiServer, Config, Effect, Fault, History};
    use serde_json::json;

    /// Long enough for anything that happens at all.
    const SOON: Duration = Duration::from_secs(20);

    fn map(name: &str, value: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": value}})).unwrap()
    }

    fn maps(client: &Client) -> Api<ConfigMap> {
        Api::namespaced(client.clone(), "default")
    }

    /// Waits until an object is gone.
    async fn gone<K>(api: &Api<K>, name: &str)
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
        K::DynamicType: Default,
    {
        tokio::time::timeout(SOON, async {
            while api.get_opt(name).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn objects_are_written_read_listed_and_deleted_over_tls() {
        let server = ApiServer::new(Config::default()).unwrap();
        let serving = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&server.kubeconfig(&serving.addr()).unwrap()).unwrap();
        let config = ClientConfig::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let api = maps(&Client::try_from(config).unwrap());
        let made = api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
        assert!(made.uid().is_some() && made.creation_timestamp().is_some());
        assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "1");
        let mut stale = made.clone();
        let mut new = made;
        new.data = Some(BTreeMap::from([("k".into(), "2".into())]));
        api.replace("a", &PostParams::default(), &new).await.unwrap();
        stale.data = None;
        let refused = api.replace("a", &PostParams::default(), &stale).await.unwrap_err();
        assert!(matches!(refused, kube::Error::Api(status) if status.code == 409));
        assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
        api.delete("a", &DeleteParams::default()).await.unwrap();
        assert!(api.get_opt("a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_watch_sees_every_change_in_order_and_ends_with_410_when_it_is_too_old() {
        let config = Config { history: History { events_max: 10, ..History::default() }, ..Config::default() };
        let client = ApiServer::new(config).unwrap().client();
        let api = maps(&client);
        let from = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        for n in 0..5 {
            api.create(&PostParams::default(), &map(&format!("m{n}"), "x")).await.unwrap();
        }
        let events: Vec<_> =
            api.watch(&WatchParams::default(), &from).await.unwrap().take(5).try_collect().await.unwrap();
        for (n, event) in events.iter().enumerate() {
            assert!(matches!(event, WatchEvent::Added(map) if map.name_any() == format!("m{n}")), "{event:?}");
        }
        for n in 0..20 {
            api.create(&PostParams::default(), &map(&format!("n{n}"), "x")).await.unwrap();
        }
        let mut watch = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
        assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
    }

    #[tokio::test]
    async fn owned_objects_and_whole_namespaces_go_away() {
        let server = ApiServer::new(Config { controllers: true, ..Config::default() }).unwrap();
        let client = server.client();
        let api = maps(&client);
        let owner = api.create(&PostParams::default(), &map("owner", "x")).await.unwrap();
        let mut owned = map("owned", "x");
        owned.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: "owner".into(),
            uid: owner.uid().unwrap(),
            ..OwnerReference::default()
        }]);
        api.create(&PostParams::default(), &owned).await.unwrap();
        api.delete("owner", &DeleteParams::default()).await.unwrap();
        gone(&api, "owned").await;

        let namespaces: Api<Namespace> = Api::all(client.clone());
        let team = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
        namespaces.create(&PostParams::default(), &team).await.unwrap();
        let inside: Api<ConfigMap> = Api::namespaced(client.clone(), "team");
        inside.create(&PostParams::default(), &map("a", "x")).await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "team");
        tokio::time::timeout(SOON, async {
            while accounts.get_opt("default").await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        namespaces.delete("team", &DeleteParams::default()).await.unwrap();
        gone(&namespaces, "team").await;
        assert!(inside.list(&ListParams::default()).await.unwrap().items.is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_has_begun() {
        let server = ApiServer::new(Config::default()).unwrap();
        let serving = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&server.kubeconfig(&serving.addr()).unwrap()).unwrap();
        let config = ClientConfig::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        maps(&client).create(&PostParams::default(), &map("a", "1")).await.unwrap();
        server.faults().add(Fault { verb: "get".into(), ..Fault::new(Effect::Cut) });
        let request = http::Request::get("/api/v1/namespaces/default/configmaps/a");
        let answer = client.send(request.body(kube::client::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_namespace_keeps_what_is_in_it_as_long_as_its_embedder_wishes() {
        let grace = Duration::from_hours(1);
        let server = ApiServer::new(Config { controllers: true, namespace_grace: grace, ..Config::default() }).unwrap();
        let namespaces: Api<Namespace> = Api::all(server.client());
        let accounts = |namespace: &str| Api::<ServiceAccount>::namespaced(server.client(), namespace);
        for name in ["going", "later"] {
            let wanted = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            namespaces.create(&PostParams::default(), &wanted).await.unwrap();
            // Its account is made by the controllers: they have looked at everything before it.
            let made = await_condition(accounts(name), "default", |account: Option<&ServiceAccount>| account.is_some());
            tokio::time::timeout(SOON, made).await.unwrap().unwrap();
            drop(namespaces.delete("going", &DeleteParams::default()).await.unwrap());
        }
        assert!(accounts("going").get_opt("default").await.unwrap().is_some());
        let phase = namespaces.get("going").await.unwrap().status.unwrap().phase;
        assert_eq!(phase.as_deref(), Some("Terminating"));
    }

    #[tokio::test]
    async fn a_state_folder_outlives_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let config = || Config { state: Some(folder.path().to_owned()), ..Config::default() };
        let server = ApiServer::new(config()).unwrap();
        let api = maps(&server.client());
        let made = api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
        api.create(&PostParams::default(), &map("b", "1")).await.unwrap();
        api.delete("b", &DeleteParams::default()).await.unwrap();
        let ca = server.ca_pem().to_owned();
        drop((server, api));
        let server = ApiServer::new(config()).unwrap();
        let api = maps(&server.client());
        assert_eq!(server.ca_pem(), ca);
        assert_eq!(api.get("a").await.unwrap().metadata, made.metadata);
        assert!(api.get_opt("b").await.unwrap().is_none());
        let next = api.create(&PostParams::default(), &map("c", "1")).await.unwrap();
        let number = |object: &ConfigMap| object.resource_version().unwrap().parse::<u64>().unwrap();
        assert!(number(&next) > number(&made));
    }

    /// A store that was read from a folder is at no change of any binding; that was taken for bindings read already, none.
    #[tokio::test]
    async fn rights_outlive_their_server() {
        let folder = tempfile::tempdir().unwrap();
        let config = || Config { state: Some(folder.path().to_owned()), ..Config::default() };
        let may = async |client: Client| {
            let asked: SubjectAccessReview = serde_json::from_value(json!({
                "spec": {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}},
            }))
            .unwrap();
            Api::all(client).create(&PostParams::default(), &asked).await.unwrap().status.unwrap().allowed
        };
        let server = ApiServer::new(config()).unwrap();
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "jane"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
        }))
        .unwrap();
        let bindings = Api::<ClusterRoleBinding>::all(server.client());
        assert!(!may(server.client()).await);
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        assert!(may(server.client()).await);
        drop((server, bindings));
        let server = ApiServer::new(config()).unwrap();
        assert!(may(server.client()).await);
        let bindings = Api::<ClusterRoleBinding>::all(server.client());
        bindings.delete("jane", &DeleteParams::default()).await.unwrap();
        assert!(!may(server.client()).await, "what was bound before is not bound for ever");
    }

    #[tokio::test]
    async fn faults_strike_the_requests_that_they_name() {
        let server = ApiServer::new(Config::default()).unwrap();
        let api = maps(&server.client());
        let faults = server.faults();
        let on = |verb: &str, effect| Fault { verb: verb.into(), kind: "ConfigMap".into(), ..Fault::new(effect) };

        faults
            .add(Fault { times: Some(1), ..on("create", Effect::Refuse { code: 429, retry_after_seconds: Some(1) }) });
        let refused = api.create(&PostParams::default(), &map("a", "1")).await.unwrap_err();
        assert!(matches!(refused, kube::Error::Api(status) if status.code == 429));
        let lost = faults.add(on("create", Effect::LoseAnswer));
        api.create(&PostParams::default(), &map("a", "1")).await.unwrap_err();
        faults.remove(lost);
        assert!(api.get_opt("a").await.unwrap().is_some());

        let patch = Patch::Merge(json!({"data": {"k": "2"}}));
        api.patch("a", &PatchParams::default(), &patch).await.unwrap();
        faults.add(on("get", Effect::Stale { revisions: 1 }));
        assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "1");
        faults.clear();
        assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "2");

        faults.add(on("list", Effect::Cut));
        api.list(&ListParams::default()).await.unwrap_err();
        faults.add(on("watch", Effect::Expire));
        let mut watch = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
        assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
    }

    #[tokio::test]
    async fn the_same_seed_meets_the_same_faults() {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let server = ApiServer::new(Config::default()).unwrap();
            server.faults().seed(7);
            let refuse = Effect::Refuse { code: 503, retry_after_seconds: None };
            server.faults().add(Fault { probability: 0.5, ..Fault::new(refuse) });
            let api = maps(&server.client());
            let mut run = Vec::new();
            for _ in 0..20 {
                run.push(api.list(&ListParams::default()).await.is_ok());
            }
            runs.push(run);
        }
        assert_eq!(runs[0], runs[1]);
        assert!(runs[0].contains(&true) && runs[0].contains(&false));
    }
}
