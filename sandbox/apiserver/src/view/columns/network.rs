//! The columns of services and of what leads to them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NONE, SHOWN_MAX, few, labels, or};
use crate::json;

pub(super) const SERVICES: &[Column] = &[
    Column("Type", "string", 0, |o, _| json::text(o, &["spec", "type"]).into()),
    Column("Cluster-IP", "string", 0, |o, _| or(json::text(o, &["spec", "clusterIP"]), NONE)),
    Column("External-IP", "string", 0, external_ip),
    Column("Port(s)", "string", 0, ports),
    AGE,
    Column("Selector", "string", 1, |o, _| labels(json::at(o, &["spec", "selector"]))),
];

fn external_ip(object: &Value, _: Timestamp) -> Value {
    let own = json::list(object, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).map(String::from);
    let shown: Vec<String> = match json::text(object, &["spec", "type"]) {
        "LoadBalancer" => balancers(object).into_iter().chain(own).collect(),
        "ExternalName" => return json::text(object, &["spec", "externalName"]).into(),
        _ => own.collect(),
    };
    let instead = if object["spec"]["type"] == "LoadBalancer" { "<pending>" } else { NONE };
    or(&shown.join(","), instead)
}

/// Lists the addresses, else the names, of an object's load balancers in order.
fn balancers(object: &Value) -> BTreeSet<String> {
    let one = |ingress: &Value| match (json::text(ingress, &["ip"]), json::text(ingress, &["hostname"])) {
        ("", name) => name.to_owned(),
        (ip, _) => ip.to_owned(),
    };
    let all = json::list(object, &["status", "loadBalancer", "ingress"]).iter().map(one);
    all.filter(|shown| !shown.is_empty()).collect()
}

fn ports(object: &Value, _: Timestamp) -> Value {
    let shown: Vec<String> = json::list(object, &["spec", "ports"])
        .iter()
        .map(|port| {
            let node = port.get("nodePort").and_then(Value::as_i64).map(|node| format!(":{node}")).unwrap_or_default();
            format!("{}{node}/{}", port["port"], json::text(port, &["protocol"]))
        })
        .collect();
    or(&shown.join(","), NONE)
}

pub(super) const ENDPOINTS: &[Column] = &[Column("Endpoints", "string", 0, endpoints), AGE];

fn endpoints(object: &Value, _: Timestamp) -> Value {
    let mut shown = Vec::new();
    for subset in json::list(object, &["subsets"]) {
        let ips = || json::list(subset, &["addresses"]).iter().map(|address| json::text(address, &["ip"]).to_owned());
        let ports = json::list(subset, &["ports"]);
        if ports.is_empty() {
            shown.extend(ips());
        }
        for port in ports {
            let joined = |ip: String| {
                let port = &port["port"];
                if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
            };
            shown.extend(ips().map(joined));
        }
    }
    match json::list(object, &["subsets"]) {
        [] => NONE.into(),
        _ => few(&shown, SHOWN_MAX).into(),
    }
}

pub(super) const INGRESSES: &[Column] = &[
    Column("Class", "string", 0, |o, _| or(json::text(o, &["spec", "ingressClassName"]), NONE)),
    Column("Hosts", "string", 0, hosts),
    Column("Address", "string", 0, |o, _| balancers(o).into_iter().collect::<Vec<_>>().join(",").into()),
    Column("Ports", "string", 0, |o, _| {
        if json::list(o, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" }.into()
    }),
    AGE,
];

/// Lists the hosts of the first rules, and how many rules come after them.
fn hosts(object: &Value, _: Timestamp) -> Value {
    let rules = json::list(object, &["spec", "rules"]);
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == SHOWN_MAX;
        let host = json::text(rule, &["host"]);
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.as_slice(), more) {
        ([], _) => "*".into(),
        (shown, false) => shown.join(",").into(),
        (shown, true) => format!("{} + {} more...", shown.join(","), rules.len() - SHOWN_MAX).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let now = Timestamp::UNIX_EPOCH;
        let rules: Vec<Value> = ["a", "b", "c", "d", "e"].iter().map(|host| json!({"host": host})).collect();
        assert_eq!(hosts(&json!({"spec": {"rules": rules}}), now), "a,b,c + 2 more...");
        let ips: Vec<Value> = (1..=5).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
        let object = json!({"subsets": [{"addresses": ips, "ports": [{"port": 80}]}]});
        assert_eq!(endpoints(&object, now), "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
    }

    #[test]
    fn addresses_of_a_service_are_shown_whatever_its_type() {
        let now = Timestamp::UNIX_EPOCH;
        let service = |kind: &str| {
            json!({"spec": {"type": kind, "externalIPs": ["1.2.3.4"]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb"}]}}})
        };
        assert_eq!(external_ip(&service("ClusterIP"), now), "1.2.3.4");
        assert_eq!(external_ip(&service("LoadBalancer"), now), "lb,1.2.3.4");
    }
}
