//! Services.

use serde_json::{Value, json};

use super::numbers;
use crate::field::FieldError;
use crate::json;

pub(super) fn service(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    let ports = json::list(object, &["spec", "ports"]);
    let kind = json::text(object, &["spec", "type"]);
    let headless = json::text(object, &["spec", "clusterIP"]) == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        out.push(FieldError::required("spec.ports", ""));
    }
    let mut seen: Vec<(&Value, i64)> = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        one_port(port, &at, ports.len() > 1, &mut named, &mut out);
        let number = port["port"].as_i64().unwrap_or(0);
        let protocol = &port["protocol"];
        if seen.contains(&(protocol, number)) {
            let shown = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0,
                "NodePort": 0});
            out.push(FieldError::duplicate(at, &shown));
        }
        seen.push((protocol, number));
    }
    let affinity = json::text(object, &["spec", "sessionAffinity"]);
    if !matches!(affinity, "ClientIP" | "None") {
        let known = ["ClientIP", "None"];
        out.push(FieldError::not_supported("spec.sessionAffinity", &Value::from(affinity), &known));
    }
    let timeout = json::at(object, &["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
    if let Some(timeout) = timeout.filter(|timeout| !(1..=86_400).contains(&timeout.as_i64().unwrap_or(0))) {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        out.push(FieldError::invalid(field, timeout, "must be greater than 0 and less than 86400"));
    }
    for (index, family) in json::list(object, &["spec", "ipFamilies"]).iter().enumerate() {
        let known = ["IPv4", "IPv6"];
        if !known.iter().any(|known| family == known) {
            out.push(FieldError::not_supported(format!("spec.ipFamilies[{index}]"), family, &known));
        }
    }
    let ip = json::text(object, &["spec", "clusterIP"]);
    if !matches!(ip, "" | "None") && ip.parse::<std::net::IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        out.push(FieldError::invalid_text("spec.clusterIPs[0]", ip, detail));
    }
    if let (None, Ok(std::net::IpAddr::V4(address))) = (old, ip.parse())
        && !crate::services::has(address)
    {
        let detail = format!("failed to allocate IP {ip}: the provided network does not match the current range");
        out.push(FieldError::invalid("spec.clusterIPs", &json!([ip]), detail));
    }
    if headless && kind == "LoadBalancer" {
        out.push(FieldError::invalid_text(
            "spec.clusterIPs[0]",
            ip,
            "may not be set to 'None' for LoadBalancer services",
        ));
    }
    if headless && kind == "NodePort" {
        out.push(FieldError::invalid_text("spec.clusterIPs[0]", ip, "may not be set to 'None' for NodePort services"));
    }
    for (key, value) in json::at(object, &["spec", "selector"]).and_then(Value::as_object).into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let errors = crate::names::qualified(key).into_iter().map(|error| (key.as_str(), error));
        let errors = errors.chain(crate::names::label_value(text).into_iter().map(|error| (text, error)));
        out.extend(errors.map(|(bad, error)| FieldError::invalid_text("spec.selector", bad, error)));
    }
    traffic(object, kind, &mut out);
    for key in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        let policy = json::text(object, &["spec", key]);
        if !matches!(policy, "" | "Cluster" | "Local") {
            let known = ["Cluster", "Local"];
            out.push(FieldError::not_supported(format!("spec.{key}"), &Value::from(policy), &known));
        }
    }
    others(object, kind, &mut out);
    if kind == "ExternalName" {
        if !json::text(object, &["spec", "clusterIP"]).is_empty() {
            out.push(FieldError::forbidden("spec.clusterIPs", "may not be set for ExternalName services"));
        }
        let name = json::text(object, &["spec", "externalName"]);
        if name.is_empty() {
            out.push(FieldError::required("spec.externalName", ""));
        }
        let errors = if name.is_empty() { Vec::new() } else { crate::names::subdomain(name.trim_end_matches('.')) };
        let errors = errors.into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text("spec.externalName", name, error)));
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !kinds.contains(&kind) {
        out.push(FieldError::not_supported("spec.type", &Value::from(kind), &kinds));
    }
    if let Some(old) = old {
        let ip = |object: &Value| json::text(object, &["spec", "clusterIP"]).to_owned();
        let was_external = json::text(old, &["spec", "type"]) == "ExternalName" || kind == "ExternalName";
        if !was_external && !ip(old).is_empty() && ip(old) != ip(object) {
            let new = json!([ip(object)]);
            out.push(FieldError::invalid("spec.clusterIPs[0]", &new, "may not change once set"));
        }
    }
    out
}

/// Says why nobody outside could reach an address.
fn special(ip: &std::net::IpAddr) -> Option<String> {
    let local = match ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    Some(if ip.is_unspecified() {
        format!("may not be unspecified ({ip})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else {
        return None;
    })
}

/// Checks what only services of some types may have.
fn traffic(object: &Value, kind: &str, out: &mut Vec<FieldError>) {
    for (index, ip) in json::list(object, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).enumerate() {
        let at = format!("spec.externalIPs[{index}]");
        match ip.parse() {
            Ok(parsed) => out.extend(special(&parsed).map(|why| FieldError::invalid_text(at, ip, why))),
            Err(_) => super::pods::host::address(ip, at, out),
        }
    }
    let open = matches!(kind, "NodePort" | "LoadBalancer");
    let external = json::text(object, &["spec", "externalTrafficPolicy"]);
    if !open && !external.is_empty() && json::list(object, &["spec", "externalIPs"]).is_empty() {
        let detail = "may only be set for externally-accessible services";
        out.push(FieldError::invalid_text("spec.externalTrafficPolicy", external, detail));
    }
    if kind == "ClusterIP" {
        for (index, port) in json::list(object, &["spec", "ports"]).iter().enumerate() {
            if port["nodePort"].as_i64().unwrap_or(0) != 0 {
                let detail = "may not be used when `type` is 'ClusterIP'";
                out.push(FieldError::forbidden(format!("spec.ports[{index}].nodePort"), detail));
            }
        }
    }
    balancer(object, kind, out);
    let headless = json::text(object, &["spec", "clusterIP"]) == "None";
    let policy = json::text(object, &["spec", "ipFamilyPolicy"]);
    let selects = json::at(object, &["spec", "selector"]).and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    for (index, family) in json::list(object, &["spec", "ipFamilies"]).iter().enumerate() {
        if family == "IPv6" && kind != "ExternalName" && (selects || !headless) {
            out.push(FieldError::invalid(
                format!("spec.ipFamilies[{index}]"),
                family,
                "not configured on this cluster",
            ));
        }
    }
    if policy == "RequireDualStack" && !headless {
        let detail = "this cluster is not configured for dual-stack services";
        out.push(FieldError::invalid_text("spec.ipFamilyPolicy", policy, detail));
    }
}

/// Checks families, checks of health, and where traffic goes.
fn others(object: &Value, kind: &str, out: &mut Vec<FieldError>) {
    let words: [(&str, &[&str]); 2] = [
        ("ipFamilyPolicy", &["PreferDualStack", "RequireDualStack", "SingleStack"]),
        ("trafficDistribution", &["PreferClose", "PreferSameZone", "PreferSameNode"]),
    ];
    for (key, known) in words {
        let word = json::text(object, &["spec", key]);
        if !word.is_empty() && !known.contains(&word) {
            out.push(FieldError::not_supported(format!("spec.{key}"), &Value::from(word), known));
        }
    }
    let local = json::text(object, &["spec", "externalTrafficPolicy"]) == "Local";
    let port = json::at(object, &["spec", "healthCheckNodePort"]).filter(|port| port.as_i64().is_some_and(|p| p != 0));
    if let Some(port) = port.filter(|_| !(local && kind == "LoadBalancer")) {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        out.push(FieldError::invalid("spec.healthCheckNodePort", port, detail));
    }
    let ports = json::list(object, &["spec", "ports"]);
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let word = json::text(port, &["appProtocol"]);
        let errors = if word.is_empty() { Vec::new() } else { crate::names::qualified(word) };
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(format!("{at}.appProtocol"), word, error)));
        let taken = |other: &Value| other["nodePort"] == port["nodePort"] && other["protocol"] == port["protocol"];
        if port["nodePort"].as_i64().is_some_and(|node| node != 0) && ports[..index].iter().any(taken) {
            let detail = "provided port is already allocated";
            out.push(FieldError::invalid(format!("{at}.nodePort"), &port["nodePort"], detail));
        }
    }
}

/// Checks what only a balanced service may have.
fn balancer(object: &Value, kind: &str, out: &mut Vec<FieldError>) {
    for (index, range) in json::list(object, &["spec", "loadBalancerSourceRanges"]).iter().enumerate() {
        let text = range.as_str().unwrap_or_default();
        if crate::schema::formats::check("cidr", text.trim()) != Some(true) {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            out.push(FieldError::invalid_text(format!("spec.LoadBalancerSourceRanges[{index}]"), text, detail));
        }
    }
    if kind == "LoadBalancer" {
        let class = json::text(object, &["spec", "loadBalancerClass"]);
        let errors = if class.is_empty() { Vec::new() } else { crate::names::qualified(class) };
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text("spec.loadBalancerClass", class, error)));
        return;
    }
    let detail = "may only be used when `type` is 'LoadBalancer'";
    if !json::list(object, &["spec", "loadBalancerSourceRanges"]).is_empty() {
        out.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", detail));
    }
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if json::at(object, &["spec", key]).is_some_and(|value| !value.is_null()) {
            out.push(FieldError::forbidden(format!("spec.{key}"), detail));
        }
    }
}

/// Checks the status of a service.
pub(super) fn status(object: &Value) -> Vec<FieldError> {
    let balanced = json::text(object, &["spec", "type"]) == "LoadBalancer";
    if balanced || json::list(object, &["status", "loadBalancer", "ingress"]).is_empty() {
        return Vec::new();
    }
    let detail = "may only be used when `spec.type` is 'LoadBalancer'";
    vec![FieldError::forbidden("status.loadBalancer.ingress", detail)]
}

fn one_port<'a>(port: &'a Value, at: &str, many: bool, named: &mut Vec<&'a str>, out: &mut Vec<FieldError>) {
    let name = json::text(port, &["name"]);
    if name.is_empty() {
        if many {
            out.push(FieldError::required(format!("{at}.name"), ""));
        }
    } else {
        let errors = crate::names::label(name).into_iter();
        out.extend(errors.map(|error| FieldError::invalid_text(format!("{at}.name"), name, error)));
        if named.contains(&name) {
            out.push(FieldError::duplicate(format!("{at}.name"), &Value::from(name)));
        }
        named.push(name);
    }
    numbers::port(port["port"].as_i64().unwrap_or(0), format!("{at}.port"), out);
    let protocol = json::text(port, &["protocol"]);
    let known = ["SCTP", "TCP", "UDP"];
    if !known.contains(&protocol) {
        out.push(FieldError::not_supported(format!("{at}.protocol"), &Value::from(protocol), &known));
    }
    match &port["targetPort"] {
        Value::Number(number) => {
            numbers::port(number.as_i64().unwrap_or(0), format!("{at}.targetPort"), out);
        }
        Value::String(text) => numbers::port_name(text, &format!("{at}.targetPort"), out),
        _ => {}
    }
    let node = port["nodePort"].as_i64().unwrap_or(0);
    if node != 0 && !(30_000..=32_767).contains(&node) {
        let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
        out.push(FieldError::invalid(format!("{at}.nodePort"), &Value::from(node), detail));
    }
}
