//! Writes of status: server-side apply under a field manager of its own, so that nobody else's fields are touched.

use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Error, Store};

/// Field manager of the status of our own kinds.
pub const STATUS_MANAGER: &str = "lattice-manager-status";

impl Store {
    /// Writes the status of one of our own cluster-scoped objects, and returns the object as stored.
    ///
    /// The object's uid goes along: the status of an object that was deleted is never written to its namesake.
    pub async fn write_status<K, S>(&self, object: &K, status: &S) -> Result<K, Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
        S: Serialize + std::fmt::Debug,
    {
        self.fence.check()?;
        let name = object.name_any();
        let api: Api<K> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "uid": object.uid()},
            "status": status,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        let label = format!("status of {} {name}", K::kind(&()));
        self.write("apply", &label, api.patch_status(&name, &params, &Patch::Apply(&patch))).await
    }
}
