//! The columns of kinds that are seldom looked at.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NONE, SHOWN_MAX, UNKNOWN, UNSET, created, few, labels, or, selector};
use crate::json;

/// Returns the columns of a kind.
pub(super) fn of(group: &str, plural: &str) -> Option<&'static [Column]> {
    Some(match (group, plural) {
        ("", "replicationcontrollers") => super::workloads::CONTROLLERS,
        ("", "resourcequotas") => QUOTAS,
        ("", "limitranges") | ("storage.k8s.io", "csistoragecapacities") => &[Column("Created At", "date", 0, created)],
        ("", "persistentvolumes") => VOLUMES,
        ("", "podtemplates") => TEMPLATES,
        ("apps", "controllerrevisions") => REVISIONS,
        ("autoscaling", "horizontalpodautoscalers") => AUTOSCALERS,
        ("certificates.k8s.io", "certificatesigningrequests") => REQUESTS,
        ("discovery.k8s.io", "endpointslices") => SLICES,
        ("networking.k8s.io", "ingressclasses") => INGRESS_CLASSES,
        ("networking.k8s.io", "networkpolicies") => NETWORK_POLICIES,
        ("networking.k8s.io", "servicecidrs") => CIDRS,
        ("node.k8s.io", "runtimeclasses") => RUNTIMES,
        ("resource.k8s.io", "resourceclaims") => RESOURCE_CLAIMS,
        ("resource.k8s.io", "resourceslices") => RESOURCE_SLICES,
        ("storage.k8s.io", "csidrivers") => DRIVERS,
        ("storage.k8s.io", "csinodes") => {
            &[Column("Drivers", "integer", 0, |o, _| json::list(o, &["spec", "drivers"]).len().into()), AGE]
        }
        ("storage.k8s.io", "volumeattributesclasses") => {
            &[Column("DriverName", "string", 0, |o, _| o["driverName"].clone()), AGE]
        }
        ("coordination.k8s.io", "leasecandidates") => CANDIDATES,
        ("networking.k8s.io", "ipaddresses") => ADDRESSES,
        ("storage.k8s.io", "volumeattachments") => ATTACHMENTS,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => POLICIES,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => MUTATIONS,
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings") => {
            POLICY_BINDINGS
        }
        ("apiregistration.k8s.io", "apiservices") => SERVICES,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => FLOWS,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => LEVELS,
        _ => return None,
    })
}

fn text(object: &Value, path: &[&str]) -> Value {
    json::text(object, path).into()
}

/// How many metrics a cell lists.
const METRICS_MAX: usize = 2;

const QUOTAS: &[Column] = &[
    Column("Request", "string", 0, |o, _| amounts(o, false)),
    Column("Limit", "string", 0, |o, _| amounts(o, true)),
    AGE,
];

fn amounts(object: &Value, limits: bool) -> Value {
    let hard = json::at(object, &["status", "hard"]).and_then(Value::as_object);
    let mut keys: Vec<&String> = hard.into_iter().flatten().map(|(key, _)| key).collect();
    keys.retain(|key| key.starts_with("limits.") == limits);
    keys.sort();
    let one = |key: &String| {
        let of = |part: &str| json::text(object, &["status", part, key]).to_owned();
        let used = of("used");
        format!("{key}: {}/{}", if used.is_empty() { "0" } else { &used }, of("hard"))
    };
    keys.into_iter().map(one).collect::<Vec<_>>().join(", ").into()
}

const VOLUMES: &[Column] = &[
    Column("Capacity", "string", 0, |o, _| text(o, &["spec", "capacity", "storage"])),
    Column("Access Modes", "string", 0, |o, _| super::modes(json::list(o, &["spec", "accessModes"]))),
    Column("Reclaim Policy", "string", 0, |o, _| text(o, &["spec", "persistentVolumeReclaimPolicy"])),
    Column("Status", "string", 0, super::phase),
    Column("Claim", "string", 0, |o, _| match json::at(o, &["spec", "claimRef"]) {
        Some(claim) => format!("{}/{}", json::text(claim, &["namespace"]), json::text(claim, &["name"])).into(),
        None => "".into(),
    }),
    Column("StorageClass", "string", 0, super::storage_class),
    Column("VolumeAttributesClass", "string", 0, |o, _| {
        or(json::text(o, &["spec", "volumeAttributesClassName"]), UNSET)
    }),
    Column("Reason", "string", 0, |o, _| text(o, &["status", "reason"])),
    AGE,
    Column("VolumeMode", "string", 1, |o, _| or(json::text(o, &["spec", "volumeMode"]), UNSET)),
];

const RESOURCE_CLAIMS: &[Column] = &[
    Column("State", "string", 0, |o, _| {
        let allocated = json::at(o, &["status", "allocation"]).is_some();
        let deleted = json::at(o, &["metadata", "deletionTimestamp"]).is_some();
        let words = [
            (deleted, "deleted"),
            (!allocated && !deleted, "pending"),
            (allocated, "allocated"),
            (allocated && !json::list(o, &["status", "reservedFor"]).is_empty(), "reserved"),
        ];
        words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect::<Vec<_>>().join(",").into()
    }),
    AGE,
];

const RESOURCE_SLICES: &[Column] = &[
    Column("Node", "string", 0, |o, _| text(o, &["spec", "nodeName"])),
    Column("Driver", "string", 0, |o, _| text(o, &["spec", "driver"])),
    Column("Pool", "string", 0, |o, _| text(o, &["spec", "pool", "name"])),
    AGE,
];

const TEMPLATES: &[Column] = &[
    Column("Containers", "string", 0, |o, _| super::workloads::containers_of(o, &["template"], "name")),
    Column("Images", "string", 0, |o, _| super::workloads::containers_of(o, &["template"], "image")),
    Column("Pod Labels", "string", 0, |o, _| labels(json::at(o, &["template", "metadata", "labels"]))),
];

const REVISIONS: &[Column] = &[
    Column("Controller", "string", 0, |o, _| {
        let owner = json::list(o, &["metadata", "ownerReferences"]).iter().find(|owner| owner["controller"] == true);
        let Some(owner) = owner else { return NONE.into() };
        let group = json::text(owner, &["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
        let kind = json::text(owner, &["kind"]).to_lowercase();
        let dot = if group.is_empty() { "" } else { "." };
        format!("{kind}{dot}{group}/{}", json::text(owner, &["name"])).into()
    }),
    Column("Revision", "string", 0, |o, _| o["revision"].clone()),
    AGE,
];

const AUTOSCALERS: &[Column] = &[
    Column("Reference", "string", 0, |o, _| {
        let target = |key: &str| json::text(o, &["spec", "scaleTargetRef", key]);
        format!("{}/{}", target("kind"), target("name")).into()
    }),
    Column("Targets", "string", 0, targets),
    Column("MinPods", "string", 0, |o, _| match json::at(o, &["spec", "minReplicas"]) {
        Some(count) => count.to_string().into(),
        None => UNSET.into(),
    }),
    Column("MaxPods", "string", 0, |o, _| json::at(o, &["spec", "maxReplicas"]).cloned().unwrap_or(0.into())),
    Column("Replicas", "string", 0, |o, _| json::at(o, &["status", "currentReplicas"]).cloned().unwrap_or(0.into())),
    AGE,
];

fn targets(object: &Value, _: Timestamp) -> Value {
    let old = json::at(object, &["spec", "targetCPUUtilizationPercentage"]);
    if let Some(share) = old {
        let current = json::at(object, &["status", "currentCPUUtilizationPercentage"]);
        return format!("cpu: {}/{share}%", current.map_or(UNKNOWN.to_owned(), |share| format!("{share}%"))).into();
    }
    let known = json::list(object, &["status", "currentMetrics"]);
    let metrics = json::list(object, &["spec", "metrics"]).iter().enumerate();
    let shown: Vec<String> = metrics.map(|(index, metric)| target(metric, known.get(index))).collect();
    or(&few(&shown, METRICS_MAX), NONE)
}

/// Says what a metric is and what it is to be.
fn target(metric: &Value, known: Option<&Value>) -> String {
    let kind = json::text(metric, &["type"]);
    let part = match kind {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let current = |key: &str| match known.and_then(|known| json::at(known, &[part, "current", key])) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(share)) => format!("{share}%"),
        _ => UNKNOWN.to_owned(),
    };
    let wanted = |key: &str| json::text(metric, &[part, "target", key]).to_owned();
    let name = match part {
        "resource" | "containerResource" => format!("{}: ", json::text(metric, &[part, "name"])),
        _ => String::new(),
    };
    if !wanted("averageValue").is_empty() {
        let average = if matches!(part, "object" | "external") { " (avg)" } else { "" };
        return format!("{name}{}/{}{average}", current("averageValue"), wanted("averageValue"));
    }
    if name.is_empty() {
        return format!("{}/{}", current("value"), wanted("value"));
    }
    let share = json::at(metric, &[part, "target", "averageUtilization"]);
    let share = share.map_or("<auto>".to_owned(), |share| format!("{share}%"));
    format!("{name}{}/{share}", current("averageUtilization"))
}

const REQUESTS: &[Column] = &[
    AGE,
    Column("SignerName", "string", 0, |o, _| text(o, &["spec", "signerName"])),
    Column("Requestor", "string", 0, |o, _| text(o, &["spec", "username"])),
    Column("RequestedDuration", "string", 0, |o, _| match json::at(o, &["spec", "expirationSeconds"]) {
        Some(seconds) => crate::time::human(seconds.as_i64().unwrap_or(0)).into(),
        None => NONE.into(),
    }),
    Column("Condition", "string", 0, |o, _| {
        let conditions = json::list(o, &["status", "conditions"]);
        let has = |kind: &str| conditions.iter().any(|condition| condition["type"] == kind);
        let mut out = match (has("Denied"), has("Approved")) {
            (true, _) => "Denied",
            (false, true) => "Approved",
            _ => "Pending",
        }
        .to_owned();
        if has("Failed") {
            out.push_str(",Failed");
        }
        if !json::text(o, &["status", "certificate"]).is_empty() {
            out.push_str(",Issued");
        }
        out.into()
    }),
];

const SLICES: &[Column] = &[
    Column("AddressType", "string", 0, |o, _| o["addressType"].clone()),
    Column("Ports", "string", 0, |o, _| {
        let ports = json::list(o, &["ports"]).iter();
        let one = |port: &Value| match (port.get("port"), json::text(port, &["name"])) {
            (Some(number), _) if !number.is_null() => number.to_string(),
            (_, "") => "*".to_owned(),
            (_, name) => name.to_owned(),
        };
        or(&few(&ports.map(one).collect::<Vec<_>>(), SHOWN_MAX), UNSET)
    }),
    Column("Endpoints", "string", 0, |o, _| {
        let all = json::list(o, &["endpoints"]).iter().flat_map(|endpoint| json::list(endpoint, &["addresses"]));
        or(&few(&all.filter_map(Value::as_str).map(String::from).collect::<Vec<_>>(), SHOWN_MAX), UNSET)
    }),
    AGE,
];

const INGRESS_CLASSES: &[Column] = &[
    Column("Controller", "string", 0, |o, _| text(o, &["spec", "controller"])),
    Column("Parameters", "string", 0, |o, _| match json::at(o, &["spec", "parameters"]) {
        Some(parameters) => {
            let of = |key: &str| json::text(parameters, &[key]);
            let dot = if of("apiGroup").is_empty() { "" } else { "." };
            format!("{}{dot}{}/{}", of("kind"), of("apiGroup"), of("name")).into()
        }
        None => NONE.into(),
    }),
    AGE,
];

const NETWORK_POLICIES: &[Column] =
    &[Column("Pod-Selector", "string", 0, |o, _| or(&selector(json::at(o, &["spec", "podSelector"])), NONE)), AGE];

const CIDRS: &[Column] = &[
    Column("CIDRs", "string", 0, |o, _| {
        let cidrs = json::list(o, &["spec", "cidrs"]).iter().filter_map(Value::as_str);
        cidrs.collect::<Vec<_>>().join(",").into()
    }),
    AGE,
];

const RUNTIMES: &[Column] = &[Column("Handler", "string", 0, |o, _| o["handler"].clone()), AGE];

fn switch(object: &Value, key: &str, instead: bool) -> Value {
    json::at(object, &["spec", key]).and_then(Value::as_bool).unwrap_or(instead).into()
}

const DRIVERS: &[Column] = &[
    Column("AttachRequired", "boolean", 0, |o, _| switch(o, "attachRequired", true)),
    Column("PodInfoOnMount", "boolean", 0, |o, _| switch(o, "podInfoOnMount", false)),
    Column("StorageCapacity", "boolean", 0, |o, _| switch(o, "storageCapacity", false)),
    Column("TokenRequests", "string", 0, |o, _| {
        let Some(all) = json::at(o, &["spec", "tokenRequests"]).and_then(Value::as_array) else { return UNSET.into() };
        all.iter().map(|one| json::text(one, &["audience"])).collect::<Vec<_>>().join(",").into()
    }),
    Column("RequiresRepublish", "boolean", 0, |o, _| switch(o, "requiresRepublish", false)),
    Column("Modes", "string", 0, |o, _| {
        let modes = json::list(o, &["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str);
        or(&modes.collect::<Vec<_>>().join(","), NONE)
    }),
    AGE,
];

const CANDIDATES: &[Column] = &[
    Column("LeaseName", "string", 0, |o, _| text(o, &["spec", "leaseName"])),
    Column("BinaryVersion", "string", 0, |o, _| text(o, &["spec", "binaryVersion"])),
    Column("EmulationVersion", "string", 0, |o, _| text(o, &["spec", "emulationVersion"])),
    AGE,
];

const ADDRESSES: &[Column] = &[Column("ParentRef", "string", 0, |o, _| {
    let of = |key: &str| json::text(o, &["spec", "parentRef", key]);
    let resource =
        if of("group").is_empty() { of("resource").to_owned() } else { format!("{}.{}", of("resource"), of("group")) };
    format!("{resource}/{}/{}", of("namespace"), of("name")).into()
})];

fn value_or_none(object: &Value, path: &[&str]) -> Value {
    json::at(object, path).cloned().unwrap_or_else(|| NONE.into())
}

const FLOWS: &[Column] = &[
    Column("PriorityLevel", "string", 0, |o, _| text(o, &["spec", "priorityLevelConfiguration", "name"])),
    Column("MatchingPrecedence", "string", 0, |o, _| json::at(o, &["spec", "matchingPrecedence"]).cloned().into()),
    Column("DistinguisherMethod", "string", 0, |o, _| value_or_none(o, &["spec", "distinguisherMethod", "type"])),
    AGE,
    Column("MissingPL", "string", 0, |o, _| {
        let dangling = json::list(o, &["status", "conditions"]).iter().find(|found| found["type"] == "Dangling");
        dangling.map_or_else(|| "?".into(), |found| found["status"].clone())
    }),
];

const LEVELS: &[Column] = &[
    Column("Type", "string", 0, |o, _| text(o, &["spec", "type"])),
    Column("NominalConcurrencyShares", "string", 0, |o, _| {
        value_or_none(o, &["spec", "limited", "nominalConcurrencyShares"])
    }),
    Column("Queues", "string", 0, |o, _| value_or_none(o, &["spec", "limited", "limitResponse", "queuing", "queues"])),
    Column("HandSize", "string", 0, |o, _| {
        value_or_none(o, &["spec", "limited", "limitResponse", "queuing", "handSize"])
    }),
    Column("QueueLengthLimit", "string", 0, |o, _| {
        value_or_none(o, &["spec", "limited", "limitResponse", "queuing", "queueLengthLimit"])
    }),
    AGE,
];

const ATTACHMENTS: &[Column] = &[
    Column("Attacher", "string", 0, |o, _| text(o, &["spec", "attacher"])),
    Column("PV", "string", 0, |o, _| text(o, &["spec", "source", "persistentVolumeName"])),
    Column("Node", "string", 0, |o, _| text(o, &["spec", "nodeName"])),
    Column("Attached", "boolean", 0, |o, _| {
        json::at(o, &["status", "attached"]).and_then(Value::as_bool).unwrap_or(false).into()
    }),
    AGE,
];

fn param_kind(object: &Value, _: Timestamp) -> Value {
    match json::at(object, &["spec", "paramKind"]) {
        Some(kind) => format!("{}/{}", json::text(kind, &["apiVersion"]), json::text(kind, &["kind"])).into(),
        None => UNSET.into(),
    }
}

const POLICIES: &[Column] = &[
    Column("Validations", "integer", 0, |o, _| json::list(o, &["spec", "validations"]).len().into()),
    Column("ParamKind", "string", 0, param_kind),
    AGE,
];
const MUTATIONS: &[Column] = &[
    Column("Mutations", "integer", 0, |o, _| json::list(o, &["spec", "mutations"]).len().into()),
    Column("ParamKind", "string", 0, param_kind),
    AGE,
];
const POLICY_BINDINGS: &[Column] = &[
    Column("PolicyName", "string", 0, |o, _| text(o, &["spec", "policyName"])),
    Column("ParamRef", "string", 0, |o, _| match json::at(o, &["spec", "paramRef"]) {
        None => UNSET.into(),
        Some(reference) => match (json::text(reference, &["namespace"]), json::text(reference, &["name"])) {
            (_, "") if json::at(reference, &["selector"]).is_none() => UNSET.into(),
            ("", name) => format!("*/{name}").into(),
            (namespace, name) => format!("{namespace}/{name}").into(),
        },
    }),
    AGE,
];

const SERVICES: &[Column] = &[
    Column("Service", "string", 0, |o, _| match json::at(o, &["spec", "service"]) {
        Some(service) => format!("{}/{}", json::text(service, &["namespace"]), json::text(service, &["name"])).into(),
        None => "Local".into(),
    }),
    Column("Available", "string", 0, |o, _| {
        let found = json::list(o, &["status", "conditions"]).iter().find(|condition| condition["type"] == "Available");
        match found {
            Some(condition) if condition["status"] == "True" => "True".into(),
            Some(condition) => {
                format!("{} ({})", json::text(condition, &["status"]), json::text(condition, &["reason"])).into()
            }
            None => "Unknown".into(),
        }
    }),
    AGE,
];
