//! Server-side apply that asks the API server for nothing when nothing differs.

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Error, Resource, Store, subset};

/// Field manager of the objects that we apply.
pub const FIELD_MANAGER: &str = "lattice-manager";

/// Hash of what was applied last, on the object itself: it tells a field that we no longer want from one that was
/// never ours, also after a restart.
const HASH_ANNOTATION: &str = "lattice.dev/applied-hash";

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Server-side apply, our fields forced.
    Apply,
    /// Created when absent, never changed: for kinds that Cluster API holds immutable, named by their content.
    CreateIfAbsent,
    /// Server-side apply as a dry run with strict field validation: nothing is stored.
    DryRun,
}

/// What an apply did.
#[derive(Clone, Debug)]
pub enum Applied {
    /// The object already was as wanted; no request was made beyond, at most, a read.
    Unchanged,
    /// The object as the API server stored it.
    Written(Box<DynamicObject>),
}

impl Store {
    /// Makes `object` what it should be. `live` is what the caller knows of it: `None` when it must be read first.
    ///
    /// # Errors
    /// As the API answers; [`Error::Terminating`] for an object that is being deleted.
    pub async fn apply(
        &self,
        object: &DynamicObject,
        policy: Policy,
        live: Option<&DynamicObject>,
    ) -> Result<Applied, Error> {
        let what = self.resource_of(object);
        let name = object.metadata.name.clone().unwrap_or_default();
        let label = what.object(&name);
        let wanted = with_hash(object, &label)?;

        if policy == Policy::DryRun {
            return self.patch(&what, &name, &wanted, policy).await;
        }
        let read;
        let live = match live {
            Some(live) => Some(live),
            None => {
                read = self.read(&what, &name).await?;
                read.as_ref()
            }
        };
        match live {
            Some(live) if live.metadata.deletion_timestamp.is_some() => Err(Error::Terminating { object: label }),
            Some(_) if policy == Policy::CreateIfAbsent => Ok(Applied::Unchanged),
            Some(live) if is_as_wanted(&wanted, live, &label)? => Ok(Applied::Unchanged),
            None if policy == Policy::CreateIfAbsent => self.create(&what, &wanted, &label).await,
            Some(_) | None => self.patch(&what, &name, &wanted, policy).await,
        }
    }

    async fn patch(
        &self,
        what: &Resource,
        name: &str,
        wanted: &DynamicObject,
        policy: Policy,
    ) -> Result<Applied, Error> {
        self.fence.check()?;
        let mut params = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
        if policy == Policy::DryRun {
            params = params.dry_run();
        }
        let patch = Patch::Apply(wanted);
        let stored = self.write("apply", &what.object(name), self.api(what).patch(name, &params, &patch)).await?;
        Ok(Applied::Written(Box::new(stored)))
    }

    async fn create(&self, what: &Resource, wanted: &DynamicObject, label: &str) -> Result<Applied, Error> {
        self.fence.check()?;
        let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        match self.write("create", label, self.api(what).create(&params, wanted)).await {
            Ok(stored) => Ok(Applied::Written(Box::new(stored))),
            // Somebody, or a try of ours whose answer was lost, was first: the name says the content.
            Err(error) if error.is_conflict() => Ok(Applied::Unchanged),
            Err(error) => Err(error),
        }
    }

    /// Names the resource that an object is of.
    pub fn resource_of(&self, object: &DynamicObject) -> Resource {
        let types = object.types.clone().unwrap_or_default();
        let gvk = GroupVersionKind::try_from(&types).unwrap_or_else(|_| GroupVersionKind::gvk("", "", &types.kind));
        self.resource(&gvk, object.metadata.namespace.as_deref())
    }
}

/// Hash that [`Store::apply`] leaves on what it applies.
pub fn applied_hash(object: &DynamicObject) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(HASH_ANNOTATION).map(String::as_str)
}

fn with_hash(object: &DynamicObject, label: &str) -> Result<DynamicObject, Error> {
    let bytes = serde_json::to_vec(object).map_err(|source| Error::Malformed { object: label.to_owned(), source })?;
    let mut wanted = object.clone();
    wanted
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(HASH_ANNOTATION.to_owned(), lattice_protocol::tls::hex(&Sha256::digest(bytes)[..8]));
    Ok(wanted)
}

fn is_as_wanted(wanted: &DynamicObject, live: &DynamicObject, label: &str) -> Result<bool, Error> {
    let value = |object: &DynamicObject| -> Result<Value, Error> {
        serde_json::to_value(object).map_err(|source| Error::Malformed { object: label.to_owned(), source })
    };
    Ok(applied_hash(wanted) == applied_hash(live) && subset::holds(&value(wanted)?, Some(&value(live)?)))
}

impl Applied {
    /// Whether the API server was asked to change anything.
    pub fn is_written(&self) -> bool {
        matches!(self, Self::Written(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(spec: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": "backend", "namespace": "lattice-backend"}, "spec": spec,
        }))
        .expect("an object")
    }

    #[test]
    fn a_field_that_is_wanted_no_more_is_a_difference() {
        let before = with_hash(&object(json!({"paused": false, "extra": 1})), "x").expect("hash");
        let mut live = before.clone();
        live.metadata.resource_version = Some("7".into());
        assert!(is_as_wanted(&before, &live, "x").expect("compare"));
        let after = with_hash(&object(json!({"paused": false})), "x").expect("hash");
        assert!(!is_as_wanted(&after, &live, "x").expect("compare"));
    }

    #[test]
    fn a_field_changed_by_somebody_else_is_a_difference() {
        let wanted = with_hash(&object(json!({"paused": false})), "x").expect("hash");
        let mut live = wanted.clone();
        live.data["spec"]["paused"] = json!(true);
        assert!(!is_as_wanted(&wanted, &live, "x").expect("compare"));
    }
}
