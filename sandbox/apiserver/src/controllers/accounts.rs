//! Every namespace has the account `default` and the certificate by which pods know the API.

use serde_json::{Value, json};

use super::owners;
use crate::core::Core;
use crate::kinds::Kinds;
use crate::meta;
use crate::store::Key;

const CA_MAP: &str = "kube-root-ca.crt";

/// Makes what is missing.
pub(crate) fn look(core: &Core) {
    let kinds = core.registry.now();
    for namespace in core.builtin_list("namespaces", "") {
        if meta::is_deleting(&namespace) {
            continue;
        }
        let name = meta::name(&namespace);
        put(
            core,
            &kinds,
            "serviceaccounts",
            name,
            "default",
            json!({
                "kind": "ServiceAccount", "apiVersion": "v1", "metadata": {},
            }),
        );
        put(
            core,
            &kinds,
            "configmaps",
            name,
            CA_MAP,
            json!({
                "kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"annotations": {"kubernetes.io/description":
                    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
                     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
                     Kubernetes clusters."}},
                "data": {"ca.crt": core.ca},
            }),
        );
    }
}

fn put(core: &Core, kinds: &Kinds, storage: &str, namespace: &str, name: &str, mut object: Value) {
    let Some(resource) = kinds.find("", "v1", storage) else { return };
    let key = Key::new(namespace, name);
    if core.store.get(storage, &key).is_some() {
        return;
    }
    let now = core.now();
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
    object["metadata"]["creationTimestamp"] = now.into();
    owners::made(core, &resource, &mut object);
    let _ = core.store.create(storage, key, object);
}
