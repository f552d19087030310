//! Rendered objects onto the parent's API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::DynamicObject;
use serde_json::json;

use super::{Error, Performer, Subject, cluster_context};
use crate::lifecycle::Stage;
use crate::render::{self, RenderedObject};
use crate::store::{self, Applied, Kind, KindState, Policy, cluster_labels};

/// Kind that owns what is named by its content, so that it goes with the cluster.
const CLUSTER_KIND: &str = "Cluster";

impl Performer {
    /// Every object of a cluster, in apply order.
    pub(super) fn render(&self, subject: &Subject) -> Result<Vec<RenderedObject>, Error> {
        Ok(self.renderer.cluster(&cluster_context(subject)?)?)
    }

    /// Makes the namespace of the cluster's objects.
    pub(super) async fn ensure_namespace(&self, subject: &Subject) -> Result<(), Error> {
        let namespace = object(json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": subject.name.namespace(),
                "labels": cluster_labels(&subject.name, &subject.uid),
            },
        }))?;
        self.store.apply(&namespace, Policy::Apply, None).await?;
        Ok(())
    }

    /// Asks the API server about every object, and reports all refusals at once.
    pub(super) async fn dry_run(&self, subject: &Subject) -> Result<(), Error> {
        let mut refused: Option<Error> = None;
        for rendered in self.render(subject)? {
            let label = format!("{} {}", rendered.kind(), rendered.name());
            let object = object(rendered.into_object())?;
            match self.store.apply(&object, Policy::DryRun, None).await {
                Ok(_) => {}
                Err(store::Error::Refused { code: 400 | 404 | 422 | 500, message, .. }) => {
                    refused = Some(match refused {
                        None => Error::DryRun { object: label, message },
                        Some(Error::DryRun { object, message: before }) => {
                            Error::DryRun { object, message: format!("{before}; {label}: {message}") }
                        }
                        Some(other) => other,
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Applies the objects of one stage, those that differ.
    pub(super) async fn apply_objects(&self, subject: &Subject, stage: Stage) -> Result<(), Error> {
        let wanted = match stage {
            Stage::Cluster => render::Stage::Cluster,
            Stage::HealthChecks => render::Stage::HealthChecks,
        };
        let mut owner: Option<OwnerReference> = None;
        for rendered in self.render(subject)?.into_iter().filter(|rendered| rendered.stage() == wanted) {
            let (kind, by_content) = (rendered.kind().to_owned(), rendered.named_by_content());
            let mut object = object(rendered.into_object())?;
            if by_content {
                object.metadata.owner_references = owner.clone().map(|owner| vec![owner]);
            }
            let policy = if by_content { Policy::CreateIfAbsent } else { Policy::Apply };
            let applied = self.apply_one(&object, policy).await?;
            if kind == CLUSTER_KIND {
                owner = owner_reference(applied.as_ref(), self.live(&object).as_deref());
            }
        }
        Ok(())
    }

    /// Applies one object; what the API server stored, when it was asked to.
    async fn apply_one(&self, object: &DynamicObject, policy: Policy) -> Result<Option<DynamicObject>, Error> {
        let live = self.live(object);
        match self.store.apply(object, policy, live.as_deref()).await? {
            Applied::Unchanged => Ok(None),
            Applied::Written(stored) => {
                self.cache.put_object(&kind_of(object), strip(&stored));
                Ok(Some(*stored))
            }
        }
    }

    /// What the informers know of an object; nothing when its kind is not watched or not listed yet.
    fn live(&self, object: &DynamicObject) -> Option<std::sync::Arc<DynamicObject>> {
        let kind = kind_of(object);
        if self.cache.kind(&kind) != KindState::Synced {
            return None;
        }
        let objects = self.cache.objects(object.metadata.namespace.as_deref()?);
        objects.one(&kind, object.metadata.name.as_deref()?).cloned()
    }
}

/// Reads a rendered value as an object.
pub(super) fn object(value: serde_json::Value) -> Result<DynamicObject, Error> {
    let label = format!("{} {}", value["kind"].as_str().unwrap_or("object"), value["metadata"]["name"]);
    serde_json::from_value(value).map_err(|source| store::Error::Malformed { object: label, source }.into())
}

/// Group and kind of an object.
pub(super) fn kind_of(object: &DynamicObject) -> Kind {
    let types = object.types.clone().unwrap_or_default();
    let group = types.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    Kind::new(group, &types.kind)
}

fn strip(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    object
}

fn owner_reference(stored: Option<&DynamicObject>, live: Option<&DynamicObject>) -> Option<OwnerReference> {
    let cluster = stored.or(live)?;
    let types = cluster.types.clone()?;
    Some(OwnerReference {
        api_version: types.api_version,
        kind: types.kind,
        name: cluster.metadata.name.clone()?,
        uid: cluster.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}
