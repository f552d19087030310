//! ControllerRevisions: how DaemonSets and StatefulSets name the versions of their template.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSetSpec, DaemonSetStatus, StatefulSetSpec, StatefulSetStatus,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Client, Resource};
use serde_json::{Value, json};

use crate::meta;
use crate::op::Op;
use crate::pace::fnv32_old;
use crate::workloads::template;

/// How many revisions before the newest are kept where nobody says so.
const HISTORY: i32 = 10;

/// The label that says which revision a pod was made of.
pub(crate) const LABEL: &str = "controller-revision-hash";
/// The label by which a StatefulSet's revisions themselves carry their hash.
pub(crate) const SET_LABEL: &str = "controller.kubernetes.io/hash";

/// The hash of a DaemonSet's template.
pub(crate) fn hash_of_daemons(spec: &DaemonSetSpec, status: Option<&DaemonSetStatus>) -> String {
    template::hash(&spec.template, status.and_then(|status| status.collision_count))
}

/// The hash of a StatefulSet's template: of its revision's data, not of Go's types as with the others.
pub(crate) fn hash_of_set(spec: &StatefulSetSpec, status: Option<&StatefulSetStatus>) -> String {
    let collisions = status.and_then(|status| status.collision_count).unwrap_or(0);
    let mut text = sorted(&data(&spec.template)).to_string();
    for (plain, escaped) in [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")] {
        text = text.replace(plain, escaped);
    }
    template::safe(fnv32_old(format!("{text}{collisions}").as_bytes()))
}

/// What a revision holds of a template: a patch that brings it back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut data = json!({ "spec": { "template": template } });
    data["spec"]["template"]["$patch"] = "replace".into();
    data
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> = fields.iter().map(|(key, inner)| (key, sorted(inner))).collect();
            fields.into_iter().map(|(key, inner)| (key.clone(), inner)).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// Records a revision as the newest one.
pub(crate) fn record<K: Resource<DynamicType = ()>>(
    owner: &K,
    template: &PodTemplateSpec,
    (label, hash): (&str, &str),
    limit: Option<i32>,
) -> Op {
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(label.to_owned(), hash.to_owned());
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(owner.meta()))),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: annotations(owner.meta()),
            owner_references: Some(vec![meta::owner_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data(template))),
        revision: 1,
    };
    let limit = usize::try_from(limit.unwrap_or(HISTORY)).unwrap_or_default();
    Op::Record { revision: Box::new(revision), limit }
}

/// A revision carries its owner's annotations, so that history can tell why it came.
fn annotations(owner: &ObjectMeta) -> Option<meta::Labels> {
    owner.annotations.clone().filter(|annotations| !annotations.is_empty())
}

/// Writes a revision: a new one gets the next number, and so does an old one whose template came back.
pub(crate) async fn write(
    client: &Client,
    params: &PostParams,
    wanted: &ControllerRevision,
    limit: usize,
) -> Result<(), kube::Error> {
    let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), meta::namespace(&wanted.metadata));
    let owner = meta::controller_of(&wanted.metadata).map(|owner| owner.uid.as_str()).unwrap_or_default();
    let mut history = revisions.list(&ListParams::default()).await?.items;
    history.retain(|one| meta::controlled_by(&one.metadata, owner));
    history.sort_by_key(|one| one.revision);
    let next = history.last().map_or(0, |newest| newest.revision) + 1;
    match history.iter().find(|one| one.metadata.name == wanted.metadata.name) {
        Some(known) if known.revision + 1 == next => {}
        Some(known) => {
            let raised = ControllerRevision { revision: next, ..known.clone() };
            revisions.replace(meta::name(&known.metadata), params, &raised).await?;
        }
        None => {
            revisions.create(params, &ControllerRevision { revision: next, ..wanted.clone() }).await?;
        }
    }
    history.retain(|one| one.metadata.name != wanted.metadata.name);
    let surplus = history.len().saturating_sub(limit);
    for old in history.iter().take(surplus) {
        let preconditions = Some(Preconditions { uid: old.metadata.uid.clone(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match revisions.delete(meta::name(&old.metadata), &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}
