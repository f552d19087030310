//! In which order the objects of a bundle are applied. Pure.

use super::object::{Key, Object};

/// A part of a bundle that is applied before the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Namespaces and CRDs: the rest may live in them or be of them.
    Ground,
    /// Everything else.
    Main,
    /// Webhook configurations and admission policies: before their servers exist they would block the rest.
    Hooks,
}

/// Kinds that others refer to, in the order in which they are applied; kinds that are not here come after.
const MAIN_ORDER: [&str; 30] = [
    "PriorityClass",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "RuntimeClass",
    "IngressClass",
    "GatewayClass",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "Ingress",
    "APIService",
    "Endpoints",
];

/// Kinds of the last stage.
const HOOKS: [&str; 4] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicyBinding",
];

/// The stage of a kind.
pub fn of(key: &Key) -> Stage {
    if is_crd(key) || is_namespace(key) {
        Stage::Ground
    } else if key.group == "admissionregistration.k8s.io" && HOOKS.contains(&key.kind.as_str()) {
        Stage::Hooks
    } else {
        Stage::Main
    }
}

/// Whether it is a CustomResourceDefinition.
pub fn is_crd(key: &Key) -> bool {
    key.group == "apiextensions.k8s.io" && key.kind == "CustomResourceDefinition"
}

/// Whether it is a Namespace.
pub fn is_namespace(key: &Key) -> bool {
    key.group.is_empty() && key.kind == "Namespace"
}

/// Puts objects into the order in which they are applied; equals keep the bundle's order.
pub fn order(objects: &mut [Object]) {
    objects.sort_by_key(|object| rank(&object.key));
}

/// Puts keys into the order in which they are removed: what is applied last goes first.
pub fn removal_order(keys: &mut [Key]) {
    keys.sort_by_key(|key| std::cmp::Reverse(rank(key)));
}

fn rank(key: &Key) -> (Stage, usize) {
    let within = match of(key) {
        // Namespaces first: a CRD needs none, and the rest of the stage is CRDs.
        Stage::Ground => usize::from(is_crd(key)),
        Stage::Main => MAIN_ORDER.iter().position(|kind| *kind == key.kind).unwrap_or(MAIN_ORDER.len()),
        Stage::Hooks => 0,
    };
    (of(key), within)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(group: &str, kind: &str) -> Key {
        Key {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            namespace: String::new(),
            name: kind.to_lowercase(),
        }
    }

    fn kinds() -> Vec<Key> {
        vec![
            key("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
            key("cert-manager.io", "ClusterIssuer"),
            key("apps", "Deployment"),
            key("", "Namespace"),
            key("", "ServiceAccount"),
            key("apiextensions.k8s.io", "CustomResourceDefinition"),
            key("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ]
    }

    #[test]
    fn ground_comes_first_custom_resources_late_and_webhooks_last() {
        let mut objects: Vec<_> = kinds().into_iter().map(Object::named).collect();
        order(&mut objects);
        let names: Vec<_> = objects.iter().map(|object| object.key.kind.as_str()).collect();
        assert_eq!(
            names,
            [
                "Namespace",
                "CustomResourceDefinition",
                "ServiceAccount",
                "ClusterRoleBinding",
                "Deployment",
                "ClusterIssuer",
                "ValidatingWebhookConfiguration",
            ]
        );
    }

    proptest! {
        #[test]
        fn removal_is_the_reverse_of_applying(shuffled in Just(kinds()).prop_shuffle()) {
            let mut applied: Vec<_> =
                shuffled.iter().cloned().map(Object::named).collect();
            order(&mut applied);
            let mut removed = shuffled;
            removal_order(&mut removed);
            removed.reverse();
            let applied: Vec<_> = applied.into_iter().map(|object| object.key).collect();
            prop_assert_eq!(removed, applied);
        }
    }
}
