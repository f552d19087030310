//! What a pod asks of its host: users, names, resolvers, sharing.

use regex::Regex;
use serde_json::Value;

use crate::field::FieldError;
use crate::json;
use crate::names;

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// The greatest number of a user or group.
const ID_MAX: i64 = i32::MAX as i64;

/// Servers of names that a pod may have.
const SERVERS_MAX: usize = 3;
const SYSCTL_MAX: usize = 253;
const SEARCH: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
                      must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                      '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";

type Rule = fn(&str) -> Vec<String>;

/// Checks a text that may be missing.
fn text(spec: &Value, key: &str, path: &str, rule: Rule, out: &mut Vec<FieldError>) {
    let text = json::text(spec, &[key]);
    if !text.is_empty() {
        out.extend(rule(text).into_iter().map(|error| FieldError::invalid_text(format!("{path}.{key}"), text, error)));
    }
}

/// Checks the number of a user or group.
fn id(holder: &Value, key: &str, at: &str, out: &mut Vec<FieldError>) {
    if let Some(value) = holder.get(key).filter(|id| id.as_i64().is_some_and(|id| !(0..=ID_MAX).contains(&id))) {
        let detail = format!("must be between 0 and {ID_MAX}, inclusive");
        out.push(FieldError::invalid(format!("{at}.{key}"), value, detail));
    }
}

/// Checks an address.
pub(in crate::strategy::validate) fn address(text: &str, at: impl Into<String>, out: &mut Vec<FieldError>) {
    if text.parse::<std::net::IpAddr>().is_err() {
        out.push(FieldError::invalid_text(at, text, IP));
    }
}

/// Checks what the spec of a pod says about its host.
pub(super) fn check(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    security(spec, path, out);
    text(spec, "hostname", path, names::label, out);
    text(spec, "subdomain", path, names::label, out);
    text(spec, "schedulerName", path, names::qualified, out);
    for (index, gate) in json::list(spec, &["readinessGates"]).iter().enumerate() {
        let kind = json::text(gate, &["conditionType"]);
        let at = format!("{path}.readinessGates[{index}].conditionType");
        out.extend(names::qualified(kind).into_iter().map(|error| FieldError::invalid_text(at.clone(), kind, error)));
    }
    for (index, alias) in json::list(spec, &["hostAliases"]).iter().enumerate() {
        let at = format!("{path}.hostAliases[{index}]");
        address(json::text(alias, &["ip"]), format!("{at}.ip"), out);
        for (place, name) in json::list(alias, &["hostnames"]).iter().filter_map(Value::as_str).enumerate() {
            let at = format!("{at}.hostnames[{place}]");
            let errors = names::subdomain(name).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text(at.clone(), name, error)));
        }
    }
    resolver(spec, path, out);
    let os = json::text(spec, &["os", "name"]);
    if spec.get("os").is_some_and(Value::is_object) && !matches!(os, "linux" | "windows") {
        out.push(FieldError::not_supported(format!("{path}.os"), &Value::from(os), &["linux", "windows"]));
    }
    if spec["hostNetwork"] == true {
        ports(spec, path, out);
    }
}

fn security(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    let at = format!("{path}.securityContext");
    if let Some(context) = spec.get("securityContext").filter(|context| context.is_object()) {
        for key in ["fsGroup", "runAsGroup", "runAsUser"] {
            id(context, key, &at, out);
        }
        for (index, group) in json::list(context, &["supplementalGroups"]).iter().enumerate() {
            if group.as_i64().is_some_and(|group| !(0..=ID_MAX).contains(&group)) {
                let detail = format!("must be between 0 and {ID_MAX}, inclusive");
                out.push(FieldError::invalid(format!("{at}.supplementalGroups[{index}]"), group, detail));
            }
        }
        profile(context, &at, out);
        let known = Regex::new(r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$").ok();
        for (index, sysctl) in json::list(context, &["sysctls"]).iter().enumerate() {
            let (name, at) = (json::text(sysctl, &["name"]), format!("{at}.sysctls[{index}].name"));
            let fits = name.len() <= SYSCTL_MAX && known.as_ref().is_none_or(|known| known.is_match(name));
            if name.is_empty() {
                out.push(FieldError::required(at, ""));
            } else if !fits {
                let pattern = known.as_ref().map(Regex::as_str).unwrap_or_default();
                let detail = format!("must have at most {SYSCTL_MAX} characters and match regex {pattern}");
                out.push(FieldError::invalid_text(at, name, detail));
            }
        }
    }
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        out.push(FieldError::invalid(format!("{at}.shareProcessNamespace"), &Value::from(true), detail));
    }
}

fn profile(context: &Value, at: &str, out: &mut Vec<FieldError>) {
    let Some(profile) = context.get("seccompProfile").filter(|profile| profile.is_object()) else { return };
    let at = format!("{at}.seccompProfile");
    let file = json::text(profile, &["localhostProfile"]);
    match json::text(profile, &["type"]) {
        "" => out.push(FieldError::required(format!("{at}.type"), "type is required when seccompProfile is set")),
        "Localhost" if file.is_empty() => {
            let detail = "must be set when seccomp type is Localhost";
            out.push(FieldError::required(format!("{at}.localhostProfile"), detail));
        }
        "RuntimeDefault" | "Unconfined" if !file.is_empty() => {
            let detail = "can only be set when seccomp type is Localhost";
            out.push(FieldError::invalid_text(format!("{at}.localhostProfile"), file, detail));
        }
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        other => {
            let known = ["Localhost", "RuntimeDefault", "Unconfined"];
            out.push(FieldError::not_supported(format!("{at}.type"), &Value::from(other), &known));
        }
    }
}

/// Checks the security of one container.
pub(super) fn container(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let Some(context) = container.get("securityContext").filter(|context| context.is_object()) else { return };
    let at = format!("{at}.securityContext");
    id(context, "runAsGroup", &at, out);
    id(context, "runAsUser", &at, out);
    let mount = json::text(context, &["procMount"]);
    let known = ["Default", "Unmasked"];
    if !mount.is_empty() && !known.contains(&mount) {
        out.push(FieldError::not_supported(format!("{at}.procMount"), &Value::from(mount), &known));
    }
    profile(context, &at, out);
    if context["allowPrivilegeEscalation"] == false {
        let added = json::list(context, &["capabilities", "add"]);
        if context["privileged"] == true {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            out.push(FieldError::invalid(at.clone(), &declared(context), detail));
        }
        if added.iter().any(|name| name == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            out.push(FieldError::invalid(at, context, detail));
        }
    }
}

fn resolver(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    let servers = json::list(spec, &["dnsConfig", "nameservers"]);
    let at = format!("{path}.dnsConfig");
    if json::text(spec, &["dnsPolicy"]) == "None" {
        if spec.get("dnsConfig").is_none_or(Value::is_null) {
            out.push(FieldError::required(at, "must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            out.push(FieldError::required(format!("{at}.nameservers"), detail));
            return;
        }
    }
    if servers.len() > SERVERS_MAX {
        let detail = format!("must not have more than {SERVERS_MAX} nameservers");
        out.push(FieldError::invalid(format!("{at}.nameservers"), &Value::Array(servers.to_vec()), detail));
    }
    for (index, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        address(server, format!("{at}.nameservers[{index}]"), out);
    }
    for (index, domain) in json::list(spec, &["dnsConfig", "searches"]).iter().filter_map(Value::as_str).enumerate() {
        // Names of services may begin with an underscore.
        if domain != "." && !names::is_subdomain(&domain.trim_end_matches('.').replace('_', "a")) {
            out.push(FieldError::invalid_text(format!("{at}.searches[{index}]"), domain, SEARCH));
        }
    }
    for (index, option) in json::list(spec, &["dnsConfig", "options"]).iter().enumerate() {
        if json::text(option, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{at}.options[{index}]"), "must not be empty"));
        }
    }
}

/// On the network of the host the ports of containers are its own.
fn ports(spec: &Value, path: &str, out: &mut Vec<FieldError>) {
    for key in ["initContainers", "containers"] {
        for (index, container) in json::list(spec, &[key]).iter().enumerate() {
            for (place, port) in json::list(container, &["ports"]).iter().enumerate() {
                if port["hostPort"] != port["containerPort"] {
                    let field = format!("{path}.{key}[{index}].ports[{place}].hostPort");
                    let detail = "must match `containerPort` when `hostNetwork` is true";
                    out.push(FieldError::invalid(field, &port["hostPort"], detail));
                }
            }
        }
    }
}

/// Shows a security context with all its fields as they are declared.
fn declared(context: &Value) -> Value {
    const FIELDS: [&str; 12] = [
        "Capabilities",
        "Privileged",
        "SELinuxOptions",
        "WindowsOptions",
        "RunAsUser",
        "RunAsGroup",
        "RunAsNonRoot",
        "ReadOnlyRootFilesystem",
        "AllowPrivilegeEscalation",
        "ProcMount",
        "SeccompProfile",
        "AppArmorProfile",
    ];
    let sent = |field: &str| {
        let same = |(key, value): (&String, &Value)| key.eq_ignore_ascii_case(field).then(|| value.clone());
        context.as_object().into_iter().flatten().find_map(same).unwrap_or_default()
    };
    FIELDS.iter().map(|field| ((*field).to_owned(), sent(field))).collect::<serde_json::Map<_, _>>().into()
}
