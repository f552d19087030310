//! Addresses of services: handed out from a range, kept while the service lives.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::core::Core;
use crate::field::FieldError;
use crate::json;

/// Services get addresses of `10.96.0.0/16`; the first is the API's own.
const PREFIX: &str = "10.96";
/// Node ports, as the real server hands them out.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// Says whether an address is one of those that are given to services.
pub(crate) fn has(address: std::net::Ipv4Addr) -> bool {
    address.to_string().strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('.'))
}

/// Gives a service what it has not yet: an address, families, node ports.
pub(crate) fn allocate(core: &Core, old: Option<&Value>, object: &mut Value) {
    let kind = json::text(object, &["spec", "type"]).to_owned();
    if let Some(old) = old {
        released(old, object);
    }
    if kind == "ExternalName" {
        return;
    }
    if let Some(old) = old.filter(|old| json::text(old, &["spec", "type"]) != "ExternalName") {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
            if json::at(object, &["spec", key]).is_none() {
                json::carry(old, object, &["spec", key]);
            }
        }
    }
    let others = core.builtin_list("services", "");
    if json::text(object, &["spec", "clusterIP"]).is_empty() {
        let taken: HashSet<&str> = others.iter().map(|other| json::text(other, &["spec", "clusterIP"])).collect();
        let free =
            (2u32..65_000).map(|n| format!("{PREFIX}.{}.{}", n / 256, n % 256)).find(|ip| !taken.contains(ip.as_str()));
        json::set(object, &["spec", "clusterIP"], free.unwrap_or_default().into());
    }
    let ip = json::text(object, &["spec", "clusterIP"]).to_owned();
    let selects = json::at(object, &["spec", "selector"]).and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    let mut default = |key: &str, value: Value| {
        if json::at(object, &["spec", key]).is_none() {
            json::set(object, &["spec", key], value);
        }
    };
    default("clusterIPs", json!([ip]));
    // Nobody knows the families of what is behind a service without addresses and selector.
    if ip == "None" && !selects {
        default("ipFamilies", json!(["IPv4", "IPv6"]));
        default("ipFamilyPolicy", "RequireDualStack".into());
    }
    default("ipFamilies", json!(["IPv4"]));
    default("ipFamilyPolicy", "SingleStack".into());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        node_ports(old, &others, object);
    }
    if kind == "LoadBalancer" {
        health_port(&others, object);
    }
}

/// Gives a service whose nodes answer for themselves a port at which they say so.
fn health_port(others: &[Value], object: &mut Value) {
    let local = json::text(object, &["spec", "externalTrafficPolicy"]) == "Local";
    let set = json::at(object, &["spec", "healthCheckNodePort"]).and_then(Value::as_i64).is_some_and(|port| port != 0);
    if !local || set {
        return;
    }
    let ports = |service: &Value| -> Vec<i64> {
        let list = json::list(service, &["spec", "ports"]).iter().filter_map(|port| port["nodePort"].as_i64());
        list.chain(json::at(service, &["spec", "healthCheckNodePort"]).and_then(Value::as_i64)).collect()
    };
    let taken: HashSet<i64> = others.iter().chain([&*object]).flat_map(ports).collect();
    if let Some(free) = NODE_PORTS.map(i64::from).find(|node| !taken.contains(node)) {
        json::set(object, &["spec", "healthCheckNodePort"], free.into());
    }
}

/// Says which of a service's address and ports another one has already.
pub(crate) fn taken(core: &Core, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let one = |port: &Value| Some((port["protocol"].clone(), port["nodePort"].as_i64().filter(|node| *node != 0)?));
    let ports = |service: &Value| -> Vec<(Value, i64)> {
        json::list(service, &["spec", "ports"]).iter().filter_map(one).collect()
    };
    let ip = json::text(object, &["spec", "clusterIP"]);
    let changed = old.is_none_or(|old| json::text(old, &["spec", "clusterIP"]) != ip) && ip.starts_with(PREFIX);
    let kept = old.map(ports).unwrap_or_default();
    // Most changes ask for nothing new: then nobody else need be looked at.
    if !changed && ports(object).iter().all(|port| kept.contains(port)) {
        return Vec::new();
    }
    let own = |other: &&Value| other["metadata"]["uid"] != object["metadata"]["uid"];
    let all = core.builtin_list("services", "");
    let others: Vec<&Value> = all.iter().filter(own).collect();
    if changed && others.iter().any(|other| json::text(other, &["spec", "clusterIP"]) == ip) {
        let detail = format!("failed to allocate IP {ip}: provided IP is already allocated");
        return vec![FieldError::invalid("spec.clusterIPs", &object["spec"]["clusterIPs"], detail)];
    }
    let used: HashSet<(Value, i64)> = others.into_iter().flat_map(ports).collect();
    let mut out = Vec::new();
    for (index, port) in json::list(object, &["spec", "ports"]).iter().enumerate() {
        if one(port).is_some_and(|port| !kept.contains(&port) && used.contains(&port)) {
            let field = format!("spec.ports[{index}].nodePort");
            out.push(FieldError::invalid(field, &port["nodePort"], "provided port is already allocated"));
        }
    }
    out
}

/// Takes away what a service had as one of another type, where the request does not change it itself.
fn released(old: &Value, object: &mut Value) {
    let kind = |service: &Value| json::text(service, &["spec", "type"]).to_owned();
    let (was, is) = (kind(old), kind(object));
    let drop = |object: &mut Value, key: &str| {
        if json::at(old, &["spec", key]) == json::at(object, &["spec", key]) {
            json::remove(object, &["spec", key]);
        }
    };
    let open = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if was != "ExternalName" && is == "ExternalName" {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop(object, key);
        }
    }
    if was == "ExternalName" && is != "ExternalName" {
        drop(object, "externalName");
    }
    if open(&was) && !open(&is) {
        drop(object, "externalTrafficPolicy");
        drop(object, "healthCheckNodePort");
        let known: Vec<Value> =
            json::list(old, &["spec", "ports"]).iter().map(|port| port["nodePort"].clone()).collect();
        if let Some(Value::Array(ports)) = object.pointer_mut("/spec/ports") {
            for port in ports.iter_mut().filter_map(Value::as_object_mut) {
                if port.get("nodePort").is_some_and(|node| known.contains(node)) {
                    port.shift_remove("nodePort");
                }
            }
        }
    }
    if was == "LoadBalancer" && is != "LoadBalancer" {
        drop(object, "allocateLoadBalancerNodePorts");
        drop(object, "loadBalancerClass");
    }
}

fn node_ports(old: Option<&Value>, others: &[Value], object: &mut Value) {
    if json::at(object, &["spec", "allocateLoadBalancerNodePorts"]).is_some_and(|set| *set == false) {
        return;
    }
    let ports = |service: &Value| -> Vec<(i64, i64)> {
        let list = json::list(service, &["spec", "ports"]);
        list.iter().filter_map(|p| Some((p["port"].as_i64()?, p["nodePort"].as_i64()?))).collect()
    };
    let mut taken: HashSet<i64> = others.iter().flat_map(ports).map(|(_, node)| node).collect();
    let known = old.map(ports).unwrap_or_default();
    let Some(Value::Array(list)) = object.pointer_mut("/spec/ports") else { return };
    for port in list.iter_mut().filter(|port| port.get("nodePort").is_none()) {
        let number = port["port"].as_i64().unwrap_or(0);
        let kept = known.iter().find(|(port, _)| *port == number).map(|(_, node)| *node);
        let free = || NODE_PORTS.map(i64::from).find(|node| !taken.contains(node));
        if let Some(node) = kept.or_else(free) {
            taken.insert(node);
            port["nodePort"] = node.into();
        }
    }
}
