//! Which pods are behind each service: an Endpoints object and an EndpointSlice for each that selects pods.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{News, concerns, make, remove, store};
use crate::core::Core;
use crate::json;
use crate::kinds::Resource;
use crate::meta;
use crate::selector::LabelSelector;
use crate::store::Key;

const SLICES: &str = "discovery.k8s.io/endpointslices";
const SERVICE: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A pod behind a service.
struct Backend {
    ip: String,
    ready: bool,
    serving: bool,
    terminating: bool,
    node: Value,
    target: Value,
    ports: Vec<Value>,
}

/// Brings what is behind services up to date.
pub(crate) async fn look(core: &Core, news: &[News]) {
    if !concerns(news, &["services", "pods", "endpoints", "endpointslices"]) {
        return;
    }
    let kinds = core.registry.now();
    let (endpoints, slices) =
        (kinds.find("", "v1", "endpoints"), kinds.find("discovery.k8s.io", "v1", "endpointslices"));
    let (Some(endpoints), Some(slices)) = (endpoints, slices) else { return };
    let services = core.builtin_list("services", "");
    for service in &services {
        let selects =
            json::at(service, &["spec", "selector"]).and_then(Value::as_object).is_some_and(|s| !s.is_empty());
        if selects && service["spec"]["type"] != "ExternalName" && !meta::is_deleting(service) {
            let backends = backends(core, service);
            put_endpoints(core, &endpoints, service, &backends).await;
            put_slice(core, &slices, service, &backends).await;
        }
    }
    for stored in core.store.list("endpoints", "").1 {
        let object = stored.value();
        let ours = json::text(&object, &["metadata", "labels", MANAGED.0]) == MANAGED.1;
        let there = |service: &Value| {
            meta::namespace(service) == &*stored.key.namespace && meta::name(service) == &*stored.key.name
        };
        if ours && !services.iter().any(there) {
            remove(core, &endpoints, &stored.key.namespace, &stored.key.name, None, None).await;
        }
    }
}

const MANAGED: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const SLICE_MANAGED: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");

fn backends(core: &Core, service: &Value) -> Vec<Backend> {
    let namespace = meta::namespace(service);
    let selector = LabelSelector::of_object(&json!({"matchLabels": service["spec"]["selector"]}));
    let early = service["spec"]["publishNotReadyAddresses"] == true;
    let mut out = Vec::new();
    for pod in core.builtin_list("pods", namespace) {
        let ip = json::text(&pod, &["status", "podIP"]);
        let ended = matches!(json::text(&pod, &["status", "phase"]), "Succeeded" | "Failed");
        if ip.is_empty() || ended || !selector.matches(&pod) {
            continue;
        }
        let serving = json::list(&pod, &["status", "conditions"])
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let terminating = meta::is_deleting(&pod);
        out.push(Backend {
            ip: ip.to_owned(),
            ready: early || (serving && !terminating),
            serving: serving || early,
            terminating,
            node: pod["spec"]["nodeName"].clone(),
            target: json!({"kind": "Pod", "namespace": namespace, "name": meta::name(&pod), "uid": meta::uid(&pod)}),
            ports: ports(service, &pod),
        });
    }
    out.sort_by(|a, b| a.ip.cmp(&b.ip));
    out
}

/// The ports of a service as a pod has them; one that names none of the pod's ports is left out.
fn ports(service: &Value, pod: &Value) -> Vec<Value> {
    let number = |port: &Value| {
        let target = &port["targetPort"];
        let Some(name) = target.as_str() else { return target.as_i64() };
        let containers = json::list(pod, &["spec", "containers"]).iter();
        let mut all = containers.flat_map(|container| json::list(container, &["ports"]));
        let named = all.find(|own| own["name"] == name && own["protocol"] == port["protocol"]);
        named.and_then(|own| own["containerPort"].as_i64())
    };
    let one = |port: &Value| {
        let mut out = json!({"port": number(port)?, "protocol": port["protocol"]});
        for key in ["name", "appProtocol"] {
            if let Some(value) = port.get(key) {
                out[key] = value.clone();
            }
        }
        Some(out)
    };
    json::list(service, &["spec", "ports"]).iter().filter_map(one).collect()
}

fn labels(service: &Value, own: (&str, &str)) -> Map<String, Value> {
    let mut out = json::at(service, &["metadata", "labels"]).and_then(Value::as_object).cloned().unwrap_or_default();
    out.insert(own.0.to_owned(), own.1.into());
    if service["spec"]["clusterIP"] == "None" {
        out.insert(HEADLESS.to_owned(), "".into());
    }
    out
}

async fn put_endpoints(core: &Core, resource: &Arc<Resource>, service: &Value, backends: &[Backend]) {
    let mut subsets: Vec<(Vec<Value>, Vec<Value>, Vec<Value>)> = Vec::new();
    for backend in backends {
        if backend.terminating && !backend.ready {
            continue;
        }
        let address = json!({"ip": backend.ip, "nodeName": backend.node, "targetRef": backend.target});
        let place = subsets.iter().position(|subset| subset.2 == backend.ports).unwrap_or_else(|| {
            subsets.push((Vec::new(), Vec::new(), backend.ports.clone()));
            subsets.len() - 1
        });
        let subset = &mut subsets[place];
        if backend.ready { subset.0.push(address) } else { subset.1.push(address) }
    }
    let one = |(ready, others, ports): (Vec<Value>, Vec<Value>, Vec<Value>)| {
        let mut out = json!({});
        for (key, list) in [("addresses", ready), ("notReadyAddresses", others), ("ports", ports)] {
            if !list.is_empty() {
                out[key] = Value::Array(list);
            }
        }
        out
    };
    let subsets: Vec<Value> = subsets.into_iter().map(one).collect();
    let namespace = meta::namespace(service);
    let labels = Value::Object(labels(service, MANAGED));
    let key = Key::new(namespace, meta::name(service));
    let Some(stored) = core.store.get("endpoints", &key) else {
        let object = json!({
            "kind": "Endpoints", "apiVersion": "v1",
            "metadata": {
                "name": meta::name(service), "namespace": namespace, "labels": labels,
                "annotations": {TRIGGERED: service["metadata"]["creationTimestamp"]},
            },
        });
        let mut object = object;
        if !subsets.is_empty() {
            object["subsets"] = Value::Array(subsets);
        }
        make(core, resource, namespace, object).await;
        return;
    };
    let mut object = stored.value();
    if json::list(&object, &["subsets"]) == subsets && object["metadata"]["labels"] == labels {
        return;
    }
    object["metadata"]["labels"] = labels;
    json::set(&mut object, &["metadata", "annotations", TRIGGERED], core.now().into());
    if subsets.is_empty() {
        json::remove(&mut object, &["subsets"]);
    } else {
        object["subsets"] = Value::Array(subsets);
    }
    store(core, resource, &stored, object);
}

async fn put_slice(core: &Core, resource: &Arc<Resource>, service: &Value, backends: &[Backend]) {
    let namespace = meta::namespace(service);
    let name = meta::name(service);
    let ports = backends.first().map(|backend| backend.ports.clone()).unwrap_or_default();
    let named = |mut port: Value| {
        if port.get("name").is_none() {
            port["name"] = "".into();
        }
        port
    };
    let ports: Vec<Value> = ports.into_iter().map(named).collect();
    let one = |backend: &Backend| {
        json!({
            "addresses": [backend.ip],
            "conditions": {"ready": backend.ready, "serving": backend.serving, "terminating": backend.terminating},
            "nodeName": backend.node, "targetRef": backend.target,
        })
    };
    let endpoints: Vec<Value> = backends.iter().map(one).collect();
    let mut labels = labels(service, SLICE_MANAGED);
    labels.insert(SERVICE.to_owned(), name.into());
    let labels = Value::Object(labels);
    let list = |items: Vec<Value>| if items.is_empty() { Value::Null } else { Value::Array(items) };
    let owned = |object: &Value| {
        json::text(object, &["metadata", "labels", SERVICE]) == name
            && json::text(object, &["metadata", "labels", SLICE_MANAGED.0]) == SLICE_MANAGED.1
    };
    let known = core.store.list(SLICES, namespace).1.into_iter().find(|stored| owned(&stored.value()));
    let Some(stored) = known else {
        let object = json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {
                "generateName": format!("{name}-"), "namespace": namespace, "labels": labels,
                "annotations": {TRIGGERED: service["metadata"]["creationTimestamp"]},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": name, "uid": meta::uid(service),
                    "controller": true, "blockOwnerDeletion": true}],
            },
            "addressType": "IPv4", "endpoints": list(endpoints), "ports": list(ports),
        });
        make(core, resource, namespace, object).await;
        return;
    };
    let mut object = stored.value();
    if json::list(&object, &["endpoints"]) == endpoints
        && json::list(&object, &["ports"]) == ports
        && object["metadata"]["labels"] == labels
    {
        return;
    }
    object["metadata"]["labels"] = labels;
    object["endpoints"] = list(endpoints);
    object["ports"] = list(ports);
    json::set(&mut object, &["metadata", "annotations", TRIGGERED], core.now().into());
    store(core, resource, &stored, object);
}
