//! What every API server does, told with `kube`: to a server of our own, or to the one whose kubeconfig
//! `LATTICE_CONTRACT_KUBECONFIG` names, so that a real one can be put under the same tests.

#[cfg(test)]
mod behaviour {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use futures::{StreamExt as _, TryStreamExt as _};
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
    use kube::api::{GroupVersionKind, WatchEvent, WatchParams};
    use kube::config::{KubeConfigOptions, Kubeconfig};
    use kube::runtime::wait::{await_condition, conditions};
    use kube::{Api, Client, Config as ClientConfig, ResourceExt as _};
    use lattice_apiserver::{ApiServer, Config};
    use serde_json::{Value, json};

    /// Long enough for anything that happens at all.
    const SOON: Duration = Duration::from_secs(30);

    /// A server, and a namespace of the test's own in it.
    struct Place {
        client: Client,
        namespace: String,
    }

    impl Place {
        async fn new() -> Self {
            let client = match std::env::var_os("LATTICE_CONTRACT_KUBECONFIG") {
                Some(file) => {
                    let kubeconfig = Kubeconfig::read_from(file).unwrap();
                    let options = KubeConfigOptions::default();
                    Client::try_from(ClientConfig::from_custom_kubeconfig(kubeconfig, &options).await.unwrap()).unwrap()
                }
                None => ApiServer::new(Config::default()).unwrap().client(),
            };
            let namespaces: Api<Namespace> = Api::all(client.clone());
            let wanted = serde_json::from_value(json!({"metadata": {"generateName": "behaviour-"}})).unwrap();
            let made = namespaces.create(&PostParams::default(), &wanted).await.unwrap();
            Self { client, namespace: made.name_any() }
        }

        fn maps(&self) -> Api<ConfigMap> {
            Api::namespaced(self.client.clone(), &self.namespace)
        }

        /// Defines a kind `Thing` of a group of the test's own and waits until it is served.
        async fn define(&self, schema: Value) -> Api<DynamicObject> {
            let group = format!("{}.example.com", self.namespace);
            let name = format!("things.{group}");
            let definition: CustomResourceDefinition = serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                    "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema,
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]},
            }))
            .unwrap();
            let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
            definitions.create(&PostParams::default(), &definition).await.unwrap();
            let established = await_condition(definitions, &name, conditions::is_crd_established());
            tokio::time::timeout(SOON, established).await.unwrap().unwrap();
            let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, "v1", "Thing"), "things");
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
        }
    }

    fn map(name: &str, value: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"v": value}}, "data": {"k": value}}))
            .unwrap()
    }

    fn thing(api: &Api<DynamicObject>, spec: &Value) -> DynamicObject {
        let group = api.resource_url().split('/').nth(2).unwrap_or_default().to_owned();
        let object =
            json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": {"name": "t"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn code(error: &kube::Error) -> u16 {
        match error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        }
    }

    #[tokio::test]
    async fn a_replace_of_what_somebody_else_changed_conflicts() {
        let api = Place::new().await.maps();
        let made = api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
        assert!(made.uid().is_some() && made.creation_timestamp().is_some());
        let mut new = made.clone();
        new.data = Some(BTreeMap::from([("k".into(), "2".into())]));
        api.replace("a", &PostParams::default(), &new).await.unwrap();
        assert_eq!(code(&api.replace("a", &PostParams::default(), &made).await.unwrap_err()), 409);
        assert_eq!(code(&api.create(&PostParams::default(), &map("a", "1")).await.unwrap_err()), 409);
        assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "2");
    }

    #[tokio::test]
    async fn a_write_that_changes_nothing_keeps_its_revision() {
        let api = Place::new().await.maps();
        let made = api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
        let same = Patch::Merge(json!({"data": {"k": "1"}}));
        let patched = api.patch("a", &PatchParams::default(), &same).await.unwrap();
        assert_eq!(patched.resource_version(), made.resource_version());
    }

    #[tokio::test]
    async fn pages_of_a_list_are_of_one_revision() {
        let api = Place::new().await.maps();
        for n in 0..5 {
            api.create(&PostParams::default(), &map(&format!("m{n}"), "x")).await.unwrap();
        }
        let first = api.list(&ListParams::default().labels("v=x").limit(2)).await.unwrap();
        api.delete("m3", &DeleteParams::default()).await.unwrap();
        let token = first.metadata.continue_.clone().unwrap();
        let second = api.list(&ListParams::default().labels("v=x").limit(10).continue_token(&token)).await.unwrap();
        assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
        let names: Vec<String> = first.iter().chain(second.iter()).map(kube::ResourceExt::name_any).collect();
        assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
    }

    #[tokio::test]
    async fn a_watch_tells_changes_as_its_selector_sees_them() {
        let api = Place::new().await.maps();
        let from = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        api.create(&PostParams::default(), &map("a", "in")).await.unwrap();
        let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"v": value}}}));
        api.patch("a", &PatchParams::default(), &label("out")).await.unwrap();
        api.patch("a", &PatchParams::default(), &label("in")).await.unwrap();
        api.delete("a", &DeleteParams::default()).await.unwrap();
        let watch = api.watch(&WatchParams::default().labels("v=in"), &from).await.unwrap();
        let events: Vec<_> = watch.take(4).try_collect().await.unwrap();
        assert!(matches!(
            events.as_slice(),
            [WatchEvent::Added(_), WatchEvent::Deleted(_), WatchEvent::Added(_), WatchEvent::Deleted(_)]
        ));
    }

    #[tokio::test]
    async fn two_managers_that_apply_the_same_field_are_told_so() {
        let api = Place::new().await.maps();
        let object =
            |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
        let apply = async |manager: &str, force: bool, data: Value| {
            let params = PatchParams { force, ..PatchParams::apply(manager) };
            api.patch("a", &params, &Patch::Apply(object(data))).await
        };
        apply("one", false, json!({"k": "1", "only": "one"})).await.unwrap();
        let refused = apply("two", false, json!({"k": "2"})).await.unwrap_err();
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 409 && status.message.contains("one")));
        assert_eq!(apply("two", true, json!({"k": "2"})).await.unwrap().data.unwrap()["k"], "2");
        let less = apply("one", false, json!({})).await.unwrap().data.unwrap();
        assert_eq!(less, BTreeMap::from([("k".to_owned(), "2".to_owned())]));
    }

    #[tokio::test]
    async fn the_note_of_an_apply_without_the_server_follows_one_with_it() {
        const NOTE: &str = "kubectl.kubernetes.io/last-applied-configuration";
        let api = Place::new().await.maps();
        let mut noted = map("a", "1");
        noted.metadata.annotations = Some(BTreeMap::from([(NOTE.to_owned(), "{\"old\":1}".to_owned())]));
        api.create(&PostParams::default(), &noted).await.unwrap();
        let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "<"}});
        let note = |map: &ConfigMap| map.annotations().get(NOTE).cloned().unwrap_or_default();
        let other = api.patch("a", &PatchParams::apply("other").force(), &Patch::Apply(&apply)).await.unwrap();
        assert_eq!(note(&other), "{\"old\":1}", "only kubectl keeps notes");
        let patched = api.patch("a", &PatchParams::apply("kubectl").force(), &Patch::Apply(&apply)).await.unwrap();
        assert_eq!(
            note(&patched),
            "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"\\u003c\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}\n"
        );
    }

    #[tokio::test]
    async fn a_finalizer_holds_an_object_until_it_is_taken_off() {
        let api = Place::new().await.maps();
        let mut held = map("a", "1");
        held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
        api.create(&PostParams::default(), &held).await.unwrap();
        api.delete("a", &DeleteParams::default()).await.unwrap();
        assert!(api.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        api.patch("a", &PatchParams::default(), &none).await.unwrap();
        assert!(api.get_opt("a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_dry_run_stores_nothing() {
        let api = Place::new().await.maps();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        assert!(api.create(&dry, &map("a", "1")).await.unwrap().uid().is_some());
        assert!(api.get_opt("a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn custom_resources_are_defaulted_pruned_and_validated() {
        let place = Place::new().await;
        let api = place
            .define(json!({"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10}, "color": {"type": "string", "default": "red"}},
                "x-kubernetes-validations": [
                    {"rule": "self.color == oldSelf.color", "message": "color cannot change"}]}))
            .await;
        let made = api.create(&PostParams::default(), &thing(&api, &json!({"size": 3, "odd": 1}))).await.unwrap();
        assert_eq!(made.data["spec"], json!({"size": 3, "color": "red"}));
        let patch = |spec: Value| Patch::Merge(json!({"spec": spec}));
        let refused = api.patch("t", &PatchParams::default(), &patch(json!({"size": 11}))).await.unwrap_err();
        assert!(refused.to_string().contains("should be less than or equal to 10"), "{refused}");
        let refused = api.patch("t", &PatchParams::default(), &patch(json!({"color": "blue"}))).await.unwrap_err();
        assert!(refused.to_string().contains("color cannot change"), "{refused}");
    }

    #[tokio::test]
    async fn status_and_the_rest_are_written_apart() {
        let place = Place::new().await;
        let api = place.define(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})).await;
        api.create(&PostParams::default(), &thing(&api, &json!({"a": 1}))).await.unwrap();
        let both = Patch::Merge(json!({"spec": {"a": 2}, "status": {"b": 2}}));
        let status = api.patch_status("t", &PatchParams::default(), &both).await.unwrap();
        assert_eq!((&status.data["spec"]["a"], &status.data["status"]["b"]), (&json!(1), &json!(2)));
        assert_eq!(status.metadata.generation, Some(1));
        let other = Patch::Merge(json!({"spec": {"a": 2}, "status": {"b": 3}}));
        let main = api.patch("t", &PatchParams::default(), &other).await.unwrap();
        assert_eq!((&main.data["spec"]["a"], &main.data["status"]["b"]), (&json!(2), &json!(2)));
        assert_eq!(main.metadata.generation, Some(2));
    }
}
