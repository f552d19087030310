//! The three objects of a new machine: bootstrap configuration, infrastructure machine, and the Machine itself.

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::object::{Look as _, Reference, owner};
use super::plan::Step;
use super::view::View;

/// Seconds after which a Machine's deletion goes on without its Node's, when nothing else is asked for.
const NODE_DELETION_TIMEOUT: i64 = 10;

/// What a new machine is made of.
pub(crate) struct Clone<'a> {
    /// Who will own it: a MachineSet or a KubeadmControlPlane.
    pub(crate) maker: (Kind, &'a DynamicObject),
    pub(crate) cluster: &'a str,
    pub(crate) name: &'a str,
    pub(crate) labels: Value,
    pub(crate) annotations: Value,
    pub(crate) infra: &'a Reference,
}

impl Clone<'_> {
    /// Clones the infrastructure template; `None` while the template is not there.
    pub(crate) fn infra_machine(&self, view: &View<'_>) -> Option<Step> {
        let Kind::InfraTemplate(provider) = self.infra.kind else { return None };
        let template = view.cache.get(self.infra.kind, self.maker.1.namespace(), &self.infra.name)?;
        let spec = template.at("/spec/template/spec").cloned().unwrap_or_else(|| json!({}));
        let body = self.body(self.infra, &template, spec);
        Some(Step::Create(Kind::InfraMachine(provider), body))
    }

    /// Clones a bootstrap template.
    pub(crate) fn bootstrap_from(&self, view: &View<'_>, from: &Reference) -> Option<Step> {
        let template = view.cache.get(from.kind, self.maker.1.namespace(), &from.name)?;
        let spec = template.at("/spec/template/spec").cloned().unwrap_or_else(|| json!({}));
        Some(Step::Create(Kind::Bootstrap, self.body(from, &template, spec)))
    }

    /// Makes a bootstrap configuration of a given spec.
    pub(crate) fn bootstrap(&self, spec: Value) -> Step {
        Step::Create(
            Kind::Bootstrap,
            json!({
                "metadata": {
                    "name": self.name, "labels": self.labels, "annotations": self.annotations,
                    "ownerReferences": [owner(self.maker.0, self.maker.1, false)],
                },
                "spec": spec,
            }),
        )
    }

    fn body(&self, from: &Reference, template: &DynamicObject, spec: Value) -> Value {
        let mut labels = object(template.at("/spec/template/metadata/labels"));
        labels.extend(object(Some(&self.labels)));
        let mut annotations = object(template.at("/spec/template/metadata/annotations"));
        annotations.insert("cluster.x-k8s.io/cloned-from-name".to_owned(), from.name.clone().into());
        annotations.insert(
            "cluster.x-k8s.io/cloned-from-groupkind".to_owned(),
            format!("{}.{}", from.kind.name(), from.kind.group()).into(),
        );
        json!({
            "metadata": {
                "name": self.name, "labels": labels, "annotations": annotations,
                "ownerReferences": [owner(self.maker.0, self.maker.1, false)],
            },
            "spec": spec,
        })
    }

    /// Makes the Machine; `spec` is the owner's machine template, `finalizer` what it starts with.
    pub(crate) fn machine(&self, spec: Value, finalizer: Option<&str>) -> Step {
        let Kind::InfraTemplate(provider) = self.infra.kind else { return Step::Create(Kind::Machine, Value::Null) };
        let infra = Kind::InfraMachine(provider);
        let mut spec = object(Some(&spec));
        spec.insert("clusterName".to_owned(), self.cluster.into());
        spec.insert("bootstrap".to_owned(), json!({"configRef": reference(Kind::Bootstrap, self.name)}));
        spec.insert("infrastructureRef".to_owned(), reference(infra, self.name));
        let deletion = spec.entry("deletion").or_insert_with(|| json!({}));
        if deletion.get("nodeDeletionTimeoutSeconds").is_none() {
            deletion["nodeDeletionTimeoutSeconds"] = NODE_DELETION_TIMEOUT.into();
        }
        let mut metadata = json!({
            "name": self.name, "labels": self.labels, "annotations": self.annotations,
            "ownerReferences": [owner(self.maker.0, self.maker.1, true)],
        });
        if let Some(finalizer) = finalizer {
            metadata["finalizers"] = json!([finalizer]);
        }
        Step::Create(Kind::Machine, json!({"metadata": metadata, "spec": spec}))
    }
}

fn reference(kind: Kind, name: &str) -> Value {
    json!({"apiGroup": kind.group(), "kind": kind.name(), "name": name})
}

/// A copy of an object value; empty for anything else.
pub(crate) fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}
