//! Kinds that need little checking: budgets, ingresses, claims, classes, leases, slices.

use serde_json::Value;

use super::{autoscalers, endpoints, labels, network, numbers, scaling, storage, volumes};
use crate::field::{FieldError, internal};
use crate::json;
use crate::kinds::Resource;
use crate::names;

/// The greatest priority that is not the system's own.
const PRIORITY_MAX: i64 = 1_000_000_000;

pub(super) fn check(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    match resource.plural.as_str() {
        "poddisruptionbudgets" => budget(object, &mut out),
        "horizontalpodautoscalers" => autoscalers::check(object, &mut out),
        "persistentvolumes" => volumes::volume(object, old, &mut out),
        "endpoints" => endpoints::subsets(object, &mut out),
        "limitranges" => scaling::limits(object, &mut out),
        "resourcequotas" => scaling::quota(object, old, &mut out),
        "certificatesigningrequests" => request(object, &mut out),
        "podtemplates" => {
            let spec = json::at(object, &["template", "spec"]).unwrap_or(&Value::Null);
            out.extend(super::pods::spec(spec, "template.spec"));
        }
        "ingresses" => network::ingress(object, old, &mut out),
        "ingressclasses" => network::class(object, old, &mut out),
        "persistentvolumeclaims" => volumes::claim(object, old, &mut out),
        "leases" => lease(object, &mut out),
        "networkpolicies" => network::policy(object, &mut out),
        "storageclasses" => storage::class(object, old, &mut out),
        "apiservices" => service_of_api(object, &mut out),
        "csinodes" => storage::node(object, &mut out),
        "csidrivers" => storage::driver(object, old, &mut out),
        "volumeattachments" => storage::attachment(object, old, &mut out),
        "priorityclasses" => priority_class(object, old, &mut out),
        "runtimeclasses" => {
            let handler = json::text(object, &["handler"]);
            if handler.is_empty() {
                out.push(FieldError::required("handler", ""));
                return out;
            }
            let errors = names::label(handler).into_iter();
            out.extend(errors.map(|error| FieldError::invalid_text("handler", handler, error)));
            fixed(object, old, "handler", &mut out);
        }
        "endpointslices" => {
            endpoints::slice(object, old, &mut out);
            fixed(object, old, "addressType", &mut out);
        }
        _ => {}
    }
    out
}

/// Checks what holds a namespace.
pub(super) fn namespace(object: &Value, finalizing: bool) -> Vec<FieldError> {
    let mut out = Vec::new();
    for (index, finalizer) in json::list(object, &["spec", "finalizers"]).iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        let field = if finalizing { format!("spec.finalizers[{index}]") } else { "spec.finalizers".to_owned() };
        let errors = names::qualified(name);
        let plain = errors.is_empty() && !name.contains('/') && !crate::meta::FINALIZERS.contains(&name);
        out.extend(errors.into_iter().map(|error| FieldError::invalid_text(field.clone(), name, error)));
        if plain {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            out.push(FieldError::invalid_text(field, name, detail));
        }
    }
    out
}

/// Checks a path that begins with a domain.
pub(super) fn prefixed(text: &str, at: &str, out: &mut Vec<FieldError>) {
    if text.is_empty() {
        out.push(FieldError::required(at, ""));
        return;
    }
    let Some((host, path)) = text.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty()) else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        out.push(FieldError::invalid_text(at, text, detail));
        return;
    };
    out.extend(names::subdomain(host).into_iter().map(|error| FieldError::invalid_text(at, host, error)));
    let known = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.chars().all(known) {
        let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        out.push(FieldError::invalid_text(at, path, detail));
    }
}

/// Refuses a change of a field.
pub(super) fn fixed(object: &Value, old: Option<&Value>, field: &str, out: &mut Vec<FieldError>) {
    if let Some(old) = old
        && !json::same(&old[field], &object[field])
    {
        out.push(FieldError::invalid(field, &object[field], "field is immutable"));
    }
}

fn budget(object: &Value, out: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let at = |key: &str| spec.get(key).filter(|value| !value.is_null());
    if at("minAvailable").is_some() && at("maxUnavailable").is_some() {
        let shown = internal::of("PodDisruptionBudgetSpec", spec);
        out.push(FieldError::invalid("spec", &shown, "minAvailable and maxUnavailable cannot be both set"));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        let field = format!("spec.{key}");
        numbers::count_or_percent(at(key), &field, out);
        numbers::at_most_all(at(key), &field, out);
    }
    let policy = json::text(spec, &["unhealthyPodEvictionPolicy"]);
    if !matches!(policy, "" | "AlwaysAllow" | "IfHealthyBudget") {
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        out.push(FieldError::not_supported("spec.unhealthyPodEvictionPolicy", &Value::from(policy), &known));
    }
    out.extend(at("selector").map(|found| labels::selector(found, "spec.selector")).unwrap_or_default());
}

/// Checks counts that a budget's status tells.
pub(super) fn budget_status(object: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    let keys = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    super::workloads::not_negative(object, &["status"], &keys, &mut out);
    out
}

fn lease(object: &Value, out: &mut Vec<FieldError>) {
    for (key, least, detail) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if let Some(value) = json::at(object, &["spec", key]).filter(|value| value.as_i64() < Some(least)) {
            out.push(FieldError::invalid(format!("spec.{key}"), value, detail));
        }
    }
}

/// Checks a request for a certificate.
fn request(object: &Value, out: &mut Vec<FieldError>) {
    use base64::Engine as _;
    let text = json::text(object, &["spec", "request"]);
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    if !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE REQUEST-----") {
        let detail = "PEM block type must be CERTIFICATE REQUEST";
        let shown = if text.is_empty() { Value::Null } else { Value::from(text) };
        out.push(FieldError::invalid("spec.request", &shown, detail));
    }
    usages(object, out);
    let signer = json::text(object, &["spec", "signerName"]);
    if signer.is_empty() {
        out.push(FieldError::required("spec.signerName", ""));
    } else if !signer.split_once('/').is_some_and(|(domain, path)| domain.contains('.') && !path.is_empty()) {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        out.push(FieldError::invalid_text("spec.signerName", signer, detail));
    }
}

/// Checks where a group and version of the API are served.
fn service_of_api(object: &Value, out: &mut Vec<FieldError>) {
    let text = |key: &str| json::text(object, &["spec", key]);
    let (name, wanted) = (crate::meta::name(object), format!("{}.{}", text("version"), text("group")));
    if name != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        out.push(FieldError::invalid_text("metadata.name", name, detail));
    }
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = json::at(object, &["spec", key]).and_then(Value::as_i64).unwrap_or(0);
        if !(1..=most).contains(&number) {
            let detail = format!("must be positive and less than {most}");
            out.push(FieldError::invalid(format!("spec.{key}"), &number.into(), detail));
        }
    }
}

/// What a certificate may be for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Seconds for which a certificate is asked at least.
const CERTIFICATE_SECONDS_MIN: i64 = 600;

fn usages(object: &Value, out: &mut Vec<FieldError>) {
    let usages = json::list(object, &["spec", "usages"]);
    if usages.is_empty() {
        out.push(FieldError::required("spec.usages", ""));
    }
    for (index, usage) in usages.iter().enumerate() {
        let at = format!("spec.usages[{index}]");
        if !USAGES.iter().any(|known| usage == known) {
            out.push(FieldError::not_supported(at.clone(), usage, &USAGES));
        }
        if usages[..index].contains(usage) {
            out.push(FieldError::duplicate(at, usage));
        }
    }
    let seconds = json::at(object, &["spec", "expirationSeconds"]);
    if let Some(seconds) = seconds.filter(|seconds| seconds.as_i64() < Some(CERTIFICATE_SECONDS_MIN)) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        out.push(FieldError::invalid("spec.expirationSeconds", seconds, detail));
    }
}

fn priority_class(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let known = ["PreemptLowerPriority", "Never"];
    let policy = json::text(object, &["preemptionPolicy"]);
    if !policy.is_empty() && !known.contains(&policy) {
        out.push(FieldError::not_supported("preemptionPolicy", &Value::from(policy), &known));
    }
    let Some(old) = old else {
        if crate::meta::name(object).starts_with("system-") {
            let name = crate::meta::name(object);
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known \
                 system priority class"
            );
            out.push(FieldError::forbidden("metadata.name", detail));
        } else if object["value"].as_i64() > Some(PRIORITY_MAX) {
            let detail = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
            out.push(FieldError::forbidden("value", detail));
        }
        return;
    };
    if old["value"].as_i64().unwrap_or(0) != object["value"].as_i64().unwrap_or(0) {
        out.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    fixed(object, Some(old), "preemptionPolicy", out);
}
