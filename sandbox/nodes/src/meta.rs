//! Small questions about objects that several controllers ask.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;

pub(crate) type Labels = BTreeMap<String, String>;

/// The reference that marks its holder as made and managed by `owner`.
pub(crate) fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The owner that manages the object, if it has one.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

pub(crate) fn controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

pub(crate) fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// Says whether labels match a selector; an empty one matches all.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let exact = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    let by_expression = selector.match_expressions.iter().flatten().all(|requirement| {
        requirement_holds(
            &requirement.operator,
            value(&requirement.key).map(String::as_str),
            requirement.values.as_deref().unwrap_or_default(),
        )
    });
    exact && by_expression
}

/// Evaluates one requirement of a label or node selector; an unknown operator never holds.
pub(crate) fn requirement_holds(operator: &str, value: Option<&str>, wanted: &[String]) -> bool {
    let among = || value.is_some_and(|value| wanted.iter().any(|one| one == value));
    let compared = |order: fn(&i64, &i64) -> bool| {
        let pair = (value.and_then(|v| v.parse().ok()), wanted.first().and_then(|w| w.parse().ok()));
        matches!(pair, (Some(value), Some(wanted)) if order(&value, &wanted))
    };
    match operator {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

/// Resolves a number or a percentage of `total`; what cannot be read counts as 0.
pub(crate) fn resolve(value: Option<&IntOrString>, default: &str, total: i32, round_up: bool) -> i32 {
    let percent = |text: &str| {
        let share: i64 = text.strip_suffix('%').and_then(|number| number.parse().ok()).unwrap_or(0);
        let product = share * i64::from(total);
        let rounded = if round_up { (product + 99) / 100 } else { product / 100 };
        i32::try_from(rounded).unwrap_or(i32::MAX)
    };
    match value {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => percent(text),
        None => percent(default),
    }
}

/// Makes a pod of a template, owned by `owner`; the caller names it.
pub(crate) fn pod_of<K: Resource<DynamicType = ()>>(template: &PodTemplateSpec, owner: &K) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: owner.meta().namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Cuts the time to what Kubernetes keeps of it.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(lattice_protocol::clock::to_seconds(at))
}

pub(crate) fn pod_condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Says whether the pod has ended for good.
pub(crate) fn ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Says whether the pod counts as one of its controller's: neither ended nor being deleted.
pub(crate) fn active(pod: &Pod) -> bool {
    !ended(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub(crate) fn ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether a pod has been ready long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// It is not ready.
    No,
    /// It is ready, and will be available at this time if it stays so.
    From(Timestamp),
    /// It is.
    Yes,
}

pub(crate) fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !ready(pod) {
        return Availability::No;
    }
    if min_ready_seconds <= 0 {
        return Availability::Yes;
    }
    let since = pod_condition(pod, "Ready").and_then(|condition| condition.last_transition_time.as_ref());
    let Some(since) = since else {
        return Availability::No;
    };
    let from = since.0 + jiff::SignedDuration::from_secs(min_ready_seconds.into());
    if from <= now { Availability::Yes } else { Availability::From(from) }
}

#[cfg(test)]
mod tests;
