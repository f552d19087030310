//! What people may know of this manager: the proxy's address and whom to trust for it, in a ConfigMap.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams};

use super::{Error, FIELD_MANAGER, Store};

/// Name of the ConfigMap, in the manager's namespace.
pub const PROXY_CONFIG_MAP: &str = "lattice-proxy";
/// Its key with the proxy's URL: `https://host:port`.
pub const PROXY_SERVER: &str = "server";
/// Its key with the CA, PEM.
pub const PROXY_CA: &str = "ca.crt";

impl Store {
    /// Publishes where the proxy is and whom to trust for it; writes nothing when that is what is published.
    ///
    /// # Errors
    /// As every write.
    pub async fn publish_proxy(&self, namespace: &str, server: &str, ca_pem: &str) -> Result<(), Error> {
        self.fence.check()?;
        let data = [(PROXY_SERVER, server), (PROXY_CA, ca_pem)];
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(PROXY_CONFIG_MAP.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), "lattice".to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
            ..ConfigMap::default()
        };
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let object = format!("ConfigMap {namespace}/{PROXY_CONFIG_MAP}");
        let published = self.call("read", &object, api.get_opt(PROXY_CONFIG_MAP)).await?;
        if published.is_some_and(|published| published.data == map.data) {
            return Ok(());
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.write("apply", &object, api.patch(PROXY_CONFIG_MAP, &params, &Patch::Apply(&map))).await?;
        Ok(())
    }
}
