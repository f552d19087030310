//! Defaults of built-in kinds: most are a table, some follow from other fields.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::json;
use crate::kinds::{EXTENSIONS, Resource};
use crate::meta;
use crate::schema::{Node, builtin};

type Table = HashMap<&'static str, Vec<(&'static str, Value)>>;

const JOB_TEMPLATE: &str = "io.k8s.api.batch.v1.JobTemplateSpec";
/// The default label of a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut out = Table::new();
        for line in include_str!("defaults.txt").lines().filter(|line| !line.starts_with('#')) {
            let mut columns = line.splitn(3, '|');
            let (Some(name), Some(field), Some(value)) = (columns.next(), columns.next(), columns.next()) else {
                continue;
            };
            if let Ok(value) = serde_json::from_str(value) {
                out.entry(builtin::intern(&format!("io.k8s.api.{name}"))).or_default().push((field, value));
            }
        }
        out
    })
}

/// Fills in what a built-in object leaves out.
pub(crate) fn apply(resource: &Resource, object: &mut Value) {
    let given =
        json::at(object, &["spec", "jobTemplate", "spec"]).and_then(Value::as_object).cloned().unwrap_or_default();
    before(resource, object);
    walk(resource.node(), object);
    if resource.is("batch", "CronJob") {
        plain_template(object, &given);
    }
    after(resource, object);
}

/// The jobs of a CronJob get their own defaults when they are made; until then only their pods have them.
fn plain_template(object: &mut Value, given: &Map<String, Value>) {
    let Some(Value::Object(spec)) = object.pointer_mut("/spec/jobTemplate/spec") else { return };
    spec.retain(|key, _| given.contains_key(key));
}

fn short(node: &Node) -> &'static str {
    node.name.strip_prefix("io.k8s.api.").unwrap_or(node.name)
}

fn walk(node: &Node, value: &mut Value) {
    match value {
        // What a CronJob holds is no Job yet: only its pods are defaulted.
        Value::Object(map) if node.name == JOB_TEMPLATE => {
            let template = map.get_mut("spec").and_then(|spec| spec.get_mut("template"));
            if let Some(template) = template {
                walk(builtin::node("io.k8s.api.core.v1.PodTemplateSpec"), template);
            }
        }
        Value::Object(map) => {
            for (field, default) in table().get(node.name).into_iter().flatten() {
                if !map.contains_key(*field) {
                    map.insert((*field).to_owned(), default.clone());
                }
            }
            follow(short(node), map);
            for (key, item) in map.iter_mut() {
                match node.fields.get(key) {
                    Some(field) => walk(field.link.node(), item),
                    None => {
                        if let Some(values) = &node.values {
                            walk(values.node(), item);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = &node.items {
                for item in items.iter_mut() {
                    walk(inner.node(), item);
                }
            }
        }
        _ => {}
    }
}

/// Defaults that follow from other fields of the same struct.
fn follow(name: &str, map: &mut Map<String, Value>) {
    let absent = |map: &Map<String, Value>, key: &str| !map.contains_key(key);
    match name {
        "core.v1.Container" | "core.v1.EphemeralContainer" if absent(map, "imagePullPolicy") => {
            let image = map.get("image").and_then(Value::as_str).unwrap_or_default();
            map.insert("imagePullPolicy".to_owned(), pull_policy(image).into());
        }
        "core.v1.Volume" if map.len() == 1 && map.contains_key("name") => {
            map.insert("emptyDir".to_owned(), json!({}));
        }
        "core.v1.PodSpec" => pod_spec(map),
        "core.v1.ServicePort" => {
            let unset = map.get("targetPort").is_none_or(|port| *port == 0 || *port == "");
            if let (true, Some(port)) = (unset, map.get("port").cloned()) {
                map.insert("targetPort".to_owned(), port);
            }
        }
        "core.v1.ServiceSpec" if map.get("sessionAffinity").is_some_and(|kind| *kind == "ClientIP") => {
            let config = map.entry("sessionAffinityConfig").or_insert_with(|| json!({}));
            if json::at(config, &["clientIP", "timeoutSeconds"]).is_none() {
                json::set(config, &["clientIP", "timeoutSeconds"], 10800.into());
            }
        }
        // Who keeps no client with a pod has nothing to say of how long.
        "core.v1.ServiceSpec" => {
            map.shift_remove("sessionAffinityConfig");
        }
        "apps.v1.DeploymentStrategy" | "apps.v1.DaemonSetUpdateStrategy" | "apps.v1.StatefulSetUpdateStrategy"
            if map.get("type").is_some_and(|kind| *kind == "RollingUpdate") && absent(map, "rollingUpdate") =>
        {
            map.insert("rollingUpdate".to_owned(), json!({}));
        }
        "resource.v1.ExactDeviceRequest" | "resource.v1.DeviceSubRequest"
            if map.get("allocationMode").is_some_and(|mode| *mode == "ExactCount")
                && map.get("count").is_none_or(|count| *count == 0) =>
        {
            map.insert("count".to_owned(), 1.into());
        }
        // Where each index has a limit of its own, all of them together have none.
        "batch.v1.JobSpec" if map.contains_key("backoffLimitPerIndex") && !map.contains_key("backoffLimit") => {
            map.insert("backoffLimit".to_owned(), i32::MAX.into());
            follow(name, map);
        }
        "batch.v1.JobSpec" => {
            if absent(map, "completions") && absent(map, "parallelism") {
                map.insert("completions".to_owned(), 1.into());
            }
            map.entry("parallelism").or_insert(1.into());
            map.entry("backoffLimit").or_insert(6.into());
            let policy = if map.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
            map.entry("podReplacementPolicy").or_insert(policy.into());
            map.entry("manualSelector").or_insert(false.into());
        }
        "batch.v1.PodFailurePolicyOnPodConditionsPattern" if map.get("status").is_none_or(|status| *status == "") => {
            map.insert("status".to_owned(), "True".into());
        }
        "flowcontrol.v1.FlowSchemaSpec" if map.get("matchingPrecedence").is_none_or(|number| *number == 0) => {
            map.insert("matchingPrecedence".to_owned(), 1000.into());
        }
        "autoscaling.v2.HorizontalPodAutoscalerBehavior" => {
            for (key, default) in scaling() {
                let rules = map.entry(key).or_insert_with(|| json!({}));
                let Some(rules) = rules.as_object_mut() else { continue };
                for (key, value) in default {
                    rules.entry(key).or_insert(value);
                }
            }
        }
        "networking.v1.IngressClassParametersReference" if absent(map, "scope") => {
            map.insert("scope".to_owned(), "Cluster".into());
        }
        "core.v1.LimitRangeItem" if map.get("type").is_some_and(|kind| *kind == "Container") => limits(map),
        "networking.v1.NetworkPolicySpec" if absent(map, "policyTypes") => {
            let mut types = vec!["Ingress"];
            if map.contains_key("egress") {
                types.push("Egress");
            }
            map.insert("policyTypes".to_owned(), types.into());
        }
        // Leases that are handed over by strategy are not switched on.
        "coordination.v1.LeaseSpec" => {
            for key in ["strategy", "preferredHolder"] {
                map.shift_remove(key);
            }
        }
        "rbac.v1.Subject" => {
            let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
            if absent(map, "apiGroup") && matches!(kind, "User" | "Group") {
                map.insert("apiGroup".to_owned(), "rbac.authorization.k8s.io".into());
            }
        }
        _ => {}
    }
}

/// How fast something is scaled up, and down, where nothing else is said.
fn scaling() -> [(&'static str, Map<String, Value>); 2] {
    let policy = |kind: &str, value: u8| json!({"type": kind, "value": value, "periodSeconds": 15});
    let mut up = Map::new();
    up.insert("stabilizationWindowSeconds".to_owned(), 0.into());
    up.insert("selectPolicy".to_owned(), "Max".into());
    let mut down = Map::new();
    down.insert("selectPolicy".to_owned(), "Max".into());
    down.insert("policies".to_owned(), json!([policy("Percent", 100)]));
    up.insert("policies".to_owned(), json!([policy("Pods", 4), policy("Percent", 100)]));
    [("scaleUp", up), ("scaleDown", down)]
}

/// Limits of containers follow from each other: the default from the maximum, the default request from both.
fn limits(map: &mut Map<String, Value>) {
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let amounts = map.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, amount) in amounts {
            let target = map.entry(to).or_insert_with(|| json!({}));
            if let Some(target) = target.as_object_mut() {
                target.entry(name).or_insert(amount);
            }
        }
    }
}

fn pod_spec(map: &mut Map<String, Value>) {
    let limits = map.get("resources").and_then(|resources| resources.get("limits")).and_then(Value::as_object).cloned();
    if let (Some(limits), Some(resources)) = (limits, map.get_mut("resources")) {
        for (name, limit) in limits.into_iter().filter(|(name, _)| name == "cpu" || name == "memory") {
            if json::at(resources, &["requests", &name]).is_none() {
                json::set(resources, &["requests", &name], limit);
            }
        }
    }
    let name = map.get("serviceAccountName").cloned();
    let old_name = map.get("serviceAccount").cloned();
    match (name, old_name) {
        (Some(name), None) => {
            map.insert("serviceAccount".to_owned(), name);
        }
        (None, Some(old)) => {
            map.insert("serviceAccountName".to_owned(), old);
        }
        _ => {}
    }
    if map.get("hostNetwork").is_some_and(|set| *set == true) {
        for key in ["containers", "initContainers"] {
            let Some(Value::Array(containers)) = map.get_mut(key) else { continue };
            let ports = containers.iter_mut().filter_map(|c| c.get_mut("ports")?.as_array_mut()).flatten();
            for port in ports.filter_map(Value::as_object_mut) {
                if let (false, Some(number)) = (port.contains_key("hostPort"), port.get("containerPort").cloned()) {
                    port.insert("hostPort".to_owned(), number);
                }
            }
        }
    }
}

fn pull_policy(image: &str) -> &'static str {
    if image.is_empty() || image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn before(resource: &Resource, object: &mut Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "secrets") => string_data(object),
        ("", "services") => service(object),
        _ => {}
    }
}

/// Moves the plain texts of a Secret into its data.
fn string_data(object: &mut Value) {
    for value in object.get_mut("data").and_then(Value::as_object_mut).into_iter().flat_map(|data| data.values_mut()) {
        if value.is_null() {
            *value = "".into();
        }
    }
    let Some(Value::Object(texts)) = json::remove(object, &["stringData"]) else { return };
    for (key, text) in texts {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        json::set(object, &["data", &key], encoded.into());
    }
}

fn service(object: &mut Value) {
    let kind = json::text(object, &["spec", "type"]).to_owned();
    let Some(Value::Object(spec)) = object.get_mut("spec") else { return };
    let mut default = |key: &str, value: Value| {
        if !spec.contains_key(key) {
            spec.insert(key.to_owned(), value);
        }
    };
    if matches!(kind.as_str(), "" | "ClusterIP" | "NodePort" | "LoadBalancer") {
        default("internalTrafficPolicy", "Cluster".into());
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default("externalTrafficPolicy", "Cluster".into());
    }
    if kind == "LoadBalancer" {
        default("allocateLoadBalancerNodePorts", true.into());
    }
}

fn after(resource: &Resource, object: &mut Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => {
            let name = meta::name(object).to_owned();
            if !name.is_empty() {
                json::set(object, &["metadata", "labels", NAME_LABEL], name.into());
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings")
            if json::text(object, &["roleRef", "apiGroup"]).is_empty() =>
        {
            json::set(object, &["roleRef", "apiGroup"], "rbac.authorization.k8s.io".into());
        }
        ("apiregistration.k8s.io", "apiservices")
            if object["spec"]["service"].is_object() && object["spec"]["service"].get("port").is_none() =>
        {
            json::set(object, &["spec", "service", "port"], 443.into());
        }
        ("apps", "daemonsets") => {
            let path = ["metadata", "annotations", "deprecated.daemonset.template.generation"];
            if json::at(object, &path).is_none() {
                json::set(object, &path, "0".into());
            }
        }
        ("batch", "jobs") => job(object),
        ("apps", "statefulsets") => claim_templates(object),
        ("", "pods") => pod(object),
        ("", "nodes") => node(object),
        ("", "replicationcontrollers") => labels_from_template(object),
        (EXTENSIONS, "customresourcedefinitions") => definition(object),
        _ => {}
    }
}

/// What a claim is filled from is told in two places.
pub(crate) fn sources(claim: &mut Value) {
    let Some(Value::Object(spec)) = claim.get_mut("spec") else { return };
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(Value::Object(source)) = spec.get_mut(key) {
            source.entry("apiGroup").or_insert(Value::Null);
        }
    }
    let own = |reference: &Value| reference.get("namespace").is_none_or(Value::is_null);
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(reference)) if own(&reference) => {
            spec.insert("dataSource".to_owned(), reference);
        }
        _ => {}
    }
}

fn labels_from_template(object: &mut Value) {
    let labels = json::at(object, &["spec", "template", "metadata", "labels"]).cloned();
    let Some(labels) = labels else { return };
    for path in [&["spec", "selector"][..], &["metadata", "labels"]] {
        if json::at(object, path).is_none() {
            json::set(object, path, labels.clone());
        }
    }
}

/// A job without labels has those of its pods.
fn job(object: &mut Value) {
    if json::at(object, &["spec", "manualSelector"]).is_none() {
        json::set(object, &["spec", "manualSelector"], false.into());
    }
    let own = json::at(object, &["metadata", "labels"]).and_then(Value::as_object);
    let labels = json::at(object, &["spec", "template", "metadata", "labels"]).cloned();
    if let (true, Some(labels)) = (own.is_none_or(Map::is_empty), labels) {
        json::set(object, &["metadata", "labels"], labels);
    }
}

/// Templates of claims say what they are.
fn claim_templates(object: &mut Value) {
    let Some(Value::Array(templates)) = object.pointer_mut("/spec/volumeClaimTemplates") else { return };
    for template in templates {
        for (key, value) in [("apiVersion", "v1"), ("kind", "PersistentVolumeClaim")] {
            if json::text(template, &[key]).is_empty() {
                template[key] = value.into();
            }
        }
        json::set(template, &["status", "phase"], "Pending".into());
    }
}

/// Keeps a field and the list that took its place alike: the field is the list's first, and decides where they differ.
fn first_of_all(object: &mut Value, one: [&str; 2], all: &str, item: fn(Value) -> Value) {
    let list = [one[0], all];
    let first = json::list(object, &list).first().cloned();
    match json::at(object, &one).cloned().filter(|value| value != "") {
        Some(value) if first != Some(item(value.clone())) => json::set(object, &list, json!([item(value)])),
        Some(_) => {}
        None => {
            let plain = first.map(|first| first.get("ip").cloned().unwrap_or(first));
            if let Some(plain) = plain {
                json::set(object, &one, plain);
            }
        }
    }
}

fn pod(object: &mut Value) {
    first_of_all(object, ["status", "podIP"], "podIPs", |ip| json!({"ip": ip}));
    let Some(Value::Object(spec)) = object.get_mut("spec") else { return };
    spec.entry("enableServiceLinks").or_insert(true.into());
    for key in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = spec.get_mut(key) else { continue };
        for container in containers {
            let limits = json::at(container, &["resources", "limits"]).and_then(Value::as_object).cloned();
            for (name, amount) in limits.into_iter().flatten() {
                if json::at(container, &["resources", "requests", &name]).is_none() {
                    json::set(container, &["resources", "requests", &name], amount);
                }
            }
        }
    }
}

fn node(object: &mut Value) {
    let capacity = json::at(object, &["status", "capacity"]).cloned();
    first_of_all(object, ["spec", "podCIDR"], "podCIDRs", |range| range);
    if let (Some(capacity), None) = (capacity, json::at(object, &["status", "allocatable"])) {
        json::set(object, &["status", "allocatable"], capacity);
    }
}

fn definition(object: &mut Value) {
    let kind = json::text(object, &["spec", "names", "kind"]).to_owned();
    if !kind.is_empty() {
        for (key, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
            if json::text(object, &["spec", "names", key]).is_empty() {
                json::set(object, &["spec", "names", key], value.into());
            }
        }
    }
    if json::at(object, &["spec", "conversion"]).is_none() {
        json::set(object, &["spec", "conversion"], json!({"strategy": "None"}));
    }
    let service = ["spec", "conversion", "webhook", "clientConfig", "service"];
    let named = json::at(object, &service).is_some_and(Value::is_object);
    let port = [&service[..], &["port"]].concat();
    if named && json::at(object, &port).is_none() {
        json::set(object, &port, 443.into());
    }
}

/// Returns the quality of service that a pod's resources come to.
pub(crate) fn qos(pod: &Value) -> &'static str {
    let containers =
        json::list(pod, &["spec", "containers"]).iter().chain(json::list(pod, &["spec", "initContainers"]));
    let (mut any, mut all) = (false, true);
    // What a pod asks for as a whole stands for its containers.
    let whole = pod["spec"]["resources"].is_object();
    let of_pod = std::iter::once(&pod["spec"]).filter(|_| whole);
    for container in containers.filter(|_| !whole).chain(of_pod) {
        for name in ["cpu", "memory"] {
            let amount = |key: &str| json::text(container, &["resources", key, name]).to_owned();
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= !request.is_empty() || !limit.is_empty();
            all &= !limit.is_empty() && (request.is_empty() || request == limit);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Gives a job the selector and the labels by which it finds its pods.
pub(crate) fn job_labels(object: &mut Value) {
    if json::at(object, &["spec", "manualSelector"]).is_some_and(|manual| *manual == true) {
        return;
    }
    let (uid, name) = (meta::uid(object).to_owned(), meta::name(object).to_owned());
    for (key, value) in [
        ("controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        json::set(object, &["spec", "template", "metadata", "labels", key], value.as_str().into());
    }
    if !json::at(object, &["spec", "selector"]).is_some_and(Value::is_object) {
        json::set(object, &["spec", "selector"], json!({}));
    }
    json::set(object, &["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"], uid.into());
}
