//! Random sequences of writes keep what clients build on.

#[cfg(test)]
mod invariants {
    use std::collections::BTreeMap;

    use futures::StreamExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
    use kube::{Api, ResourceExt as _};
    use lattice_apiserver::{ApiServer, Config};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// A write by one of two managers, of one of three objects.
    #[derive(Clone, Debug)]
    enum Write {
        Create(u8, Vec<u8>),
        Apply(u8, u8, Vec<u8>),
        Merge(u8, u8, Option<u8>),
        Json(u8, u8),
        Replace(u8, Vec<u8>),
        Delete(u8),
    }

    fn writes() -> impl Strategy<Value = Vec<Write>> {
        let name = 0u8..3;
        let keys = || proptest::collection::vec(0u8..4, 0..4);
        let write = prop_oneof![
            (name.clone(), keys()).prop_map(|(name, keys)| Write::Create(name, keys)),
            (name.clone(), 0u8..2, keys()).prop_map(|(name, manager, keys)| Write::Apply(name, manager, keys)),
            (name.clone(), 0u8..4, proptest::option::of(0u8..3))
                .prop_map(|(n, key, value)| Write::Merge(n, key, value)),
            (name.clone(), 0u8..4).prop_map(|(name, key)| Write::Json(name, key)),
            (name.clone(), keys()).prop_map(|(name, keys)| Write::Replace(name, keys)),
            name.prop_map(Write::Delete),
        ];
        proptest::collection::vec(write, 1..30)
    }

    fn data(keys: &[u8]) -> Value {
        keys.iter().map(|key| (format!("k{key}"), json!("x"))).collect::<serde_json::Map<_, _>>().into()
    }

    fn object(name: u8, keys: &[u8]) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{name}")}, "data": data(keys)})
    }

    async fn perform(api: &Api<ConfigMap>, write: &Write) -> Result<Option<ConfigMap>, kube::Error> {
        let post = PostParams::default();
        let params = PatchParams::default();
        let made = match write {
            Write::Create(name, keys) => {
                api.create(&post, &serde_json::from_value(object(*name, keys)).unwrap()).await?
            }
            Write::Apply(name, manager, keys) => {
                let params = PatchParams::apply(&format!("manager{manager}")).force();
                api.patch(&format!("m{name}"), &params, &Patch::Apply(object(*name, keys))).await?
            }
            Write::Merge(name, key, value) => {
                let value = value.map(|value| value.to_string());
                let patch = json!({"data": {(format!("k{key}")): value}});
                api.patch(&format!("m{name}"), &params, &Patch::Merge(patch)).await?
            }
            Write::Json(name, key) => {
                let patch = json!([{"op": "remove", "path": format!("/data/k{key}")}]);
                let patch = serde_json::from_value(patch).unwrap();
                api.patch(&format!("m{name}"), &params, &Patch::Json::<()>(patch)).await?
            }
            Write::Replace(name, keys) => {
                let mut new = api.get(&format!("m{name}")).await?;
                new.data = serde_json::from_value(data(keys)).unwrap();
                api.replace(&format!("m{name}"), &post, &new).await?
            }
            Write::Delete(name) => {
                api.delete(&format!("m{name}"), &DeleteParams::default()).await?;
                return Ok(None);
            }
        };
        Ok(Some(made))
    }

    /// The keys of `data` that a manager owns by applying.
    fn owned(object: &ConfigMap, manager: &str) -> Option<Vec<String>> {
        let entry = object
            .managed_fields()
            .iter()
            .find(|entry| entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply"))?;
        let fields = &entry.fields_v1.as_ref()?.0;
        let keys = fields.get("f:data").and_then(Value::as_object).into_iter().flat_map(|data| data.keys());
        Some(keys.filter_map(|key| key.strip_prefix("f:")).map(String::from).collect())
    }

    async fn check(sequence: Vec<Write>) -> Result<(), TestCaseError> {
        let server = ApiServer::new(Config::default()).unwrap();
        let api: Api<ConfigMap> = Api::default_namespaced(server.client());
        let begin = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        let mut last = begin.parse::<u64>().unwrap();
        let mut known: BTreeMap<String, ConfigMap> = BTreeMap::new();
        for write in &sequence {
            let Ok(Some(made)) = perform(&api, write).await else { continue };
            let stored = api.get(&made.name_any()).await.unwrap();
            prop_assert_eq!(&stored, &made, "what is answered is what is stored");
            let revision = made.resource_version().unwrap().parse::<u64>().unwrap();
            if known.get(&made.name_any()) != Some(&made) {
                prop_assert!(revision > last, "each change has a larger revision than all before");
            }
            known.insert(made.name_any(), made.clone());
            last = last.max(revision);
            if let Write::Apply(_, manager, keys) = write {
                let mut applied: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
                applied.sort();
                applied.dedup();
                let has = owned(&made, &format!("manager{manager}")).unwrap_or_default();
                prop_assert_eq!(has, applied, "ownership covers exactly the applied fields");
            }
        }
        let list = api.list(&ListParams::default()).await.unwrap();
        let now = list.metadata.resource_version.clone().unwrap().parse::<u64>().unwrap();
        prop_assert!(now >= last, "revisions grow");
        let mut replayed: BTreeMap<String, ConfigMap> = BTreeMap::new();
        let mut at = begin.parse::<u64>().unwrap();
        let mut watch = api.watch(&WatchParams::default().timeout(1), &begin).await.unwrap().boxed();
        while at < now {
            let Some(Ok(event)) = watch.next().await else { break };
            let (WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) = &event
            else {
                continue;
            };
            let revision = object.resource_version().unwrap().parse::<u64>().unwrap();
            prop_assert!(revision > at, "a watch is in order");
            at = revision;
            match event {
                WatchEvent::Deleted(object) => replayed.remove(&object.name_any()),
                WatchEvent::Added(object) | WatchEvent::Modified(object) => replayed.insert(object.name_any(), object),
                _ => None,
            };
        }
        let listed: BTreeMap<String, ConfigMap> = list.items.into_iter().map(|map| (map.name_any(), map)).collect();
        prop_assert_eq!(replayed, listed, "a watch replays to what a list shows");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn random_writes_keep_what_clients_build_on(sequence in writes()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(check(sequence))?;
        }
    }
}
