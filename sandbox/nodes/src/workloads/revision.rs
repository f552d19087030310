//! ControllerRevisions: how DaemonSets and StatefulSets name the versions of their template.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;

use crate::meta;
use crate::op::{Object, Op};

/// The label that says which revision a pod was made of.
pub(crate) const LABEL: &str = "controller-revision-hash";

/// The hash of a template.
pub(crate) fn hash(template: &PodTemplateSpec) -> String {
    meta::safe_hash(template, "")
}

/// Records a revision, unless it is recorded already.
pub(crate) fn record<K: Resource<DynamicType = ()>>(
    owner: &K,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    hash: &str,
) -> Op {
    let mut labels = selector.match_labels.clone().unwrap_or_default();
    labels.insert(LABEL.to_owned(), hash.to_owned());
    let mut data = serde_json::json!({ "spec": { "template": template } });
    data["spec"]["template"]["$patch"] = "replace".into();
    Op::Ensure(Object::from(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(owner.meta()))),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![meta::owner_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        // True for every history without a return to an older template.
        revision: owner.meta().generation.unwrap_or(1),
    }))
}
