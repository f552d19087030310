//! What built-in kinds do beyond their schema: defaults, what the server decides, what may not change.

pub(crate) mod defaults;
pub(crate) mod prepare;
pub(crate) mod validate;
pub(crate) mod warnings;

use crate::kinds::Resource;

/// Kinds of the core group that count generations.
const GENERATION_CORE: [&str; 3] = ["pods", "podtemplates", "replicationcontrollers"];
/// Other groups' kinds that count no generations.
const NO_GENERATION: [&str; 21] = [
    "leases",
    "events",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "controllerrevisions",
    "csinodes",
    "csidrivers",
    "csistoragecapacities",
    "storageclasses",
    "volumeattachments",
    "runtimeclasses",
    "horizontalpodautoscalers",
    "apiservices",
    "certificatesigningrequests",
    "volumeattributesclasses",
    "ipaddresses",
    "servicecidrs",
    "resourceclaims",
    "resourceclaimtemplates",
];

/// Tells whether a kind counts generations.
pub(crate) fn has_generation(resource: &Resource) -> bool {
    if resource.is_custom() {
        return true;
    }
    match resource.group.as_str() {
        "" => GENERATION_CORE.contains(&resource.plural.as_str()),
        _ => !NO_GENERATION.contains(&resource.plural.as_str()),
    }
}
