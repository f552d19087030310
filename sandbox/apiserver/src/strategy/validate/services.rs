//! Services.

use serde_json::Value;

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
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        if ports.len() > 1 && json::text(port, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        }
        let number = port["port"].as_i64().unwrap_or(0);
        if !(1..=65535).contains(&number) {
            let detail = "must be between 1 and 65535, inclusive";
            out.push(FieldError::invalid(format!("{at}.port"), &Value::from(number), detail));
        }
        let node = port["nodePort"].as_i64().unwrap_or(0);
        if node != 0 && !(30_000..=32_767).contains(&node) {
            let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
            out.push(FieldError::invalid(format!("{at}.nodePort"), &Value::from(node), detail));
        }
        let protocol = json::text(port, &["protocol"]);
        let known = ["SCTP", "TCP", "UDP"];
        if !known.contains(&protocol) {
            out.push(FieldError::not_supported(format!("{at}.protocol"), &Value::from(protocol), &known));
        }
    }
    if kind == "ExternalName" {
        let name = json::text(object, &["spec", "externalName"]);
        let errors = crate::names::subdomain(name.trim_end_matches('.')).into_iter();
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
            let new = ip(object);
            out.push(FieldError::invalid_text("spec.clusterIPs[0]", &new, "may not change once set"));
        }
    }
    out
}
