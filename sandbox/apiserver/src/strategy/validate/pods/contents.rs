//! What is in a pod: sources of variables, what is done around a container, files of volumes, names of resources.

use serde_json::Value;

use crate::field::FieldError;
use crate::json;

/// Resources that a container may ask for under a name without a domain.
const STANDARD: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// Checks that variables come from somewhere.
pub(super) fn env_from(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    for (index, source) in json::list(container, &["envFrom"]).iter().enumerate() {
        let prefix = json::text(source, &["prefix"]);
        if prefix.contains('=') || !prefix.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            out.push(FieldError::invalid_text(format!("{at}.envFrom[{index}].prefix"), prefix, super::VARIABLE));
        }
        if !["configMapRef", "secretRef"].iter().any(|key| source.get(key).is_some_and(Value::is_object)) {
            let detail = "must specify one of: `configMapRef` or `secretRef`";
            out.push(FieldError::invalid_text(format!("{at}.envFrom"), "", detail));
        }
    }
}

/// Checks what is done after a container's start and before its end.
pub(super) fn lifecycle(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    for key in ["postStart", "preStop"] {
        let Some(handler) = json::at(container, &["lifecycle", key]).filter(|handler| handler.is_object()) else {
            continue;
        };
        let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
        let mut set = kinds.iter().filter(|kind| handler.get(**kind).is_some_and(Value::is_object));
        if set.next().is_none() {
            out.push(FieldError::required(format!("{at}.lifecycle.{key}"), "must specify a handler type"));
        }
        let detail = "may not specify more than 1 handler type";
        out.extend(set.map(|kind| FieldError::forbidden(format!("{at}.lifecycle.{key}.{kind}"), detail)));
    }
}

/// What runs once before the others is not probed.
pub(super) fn of_init(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    if json::text(container, &["restartPolicy"]) == "Always" {
        return;
    }
    let set = |key: &&str| container.get(*key).is_some_and(Value::is_object);
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"].into_iter().filter(|key| set(key)) {
        let detail = "may not be set for init containers without restartPolicy=Always";
        out.push(FieldError::forbidden(format!("{at}.{key}"), detail));
    }
}

/// What looks into a pod is neither probed nor limited, and looks at a container that is there.
pub(super) fn of_ephemeral(spec: &Value, container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let keys = ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "resizePolicy"];
    let set = |key: &&str| match container.get(*key) {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        _ => false,
    };
    for key in keys.into_iter().filter(set) {
        out.push(FieldError::forbidden(format!("{at}.{key}"), "cannot be set for an Ephemeral Container"));
    }
    let target = json::text(container, &["targetContainerName"]);
    let mut all = ["containers", "initContainers"].into_iter().flat_map(|key| json::list(spec, &[key]));
    if !target.is_empty() && !all.any(|other| other["name"] == target) {
        out.push(FieldError::not_found(format!("{at}.targetContainerName"), &Value::from(target)));
    }
}

/// Checks the name of a resource.
pub(super) fn resource(name: &str, at: &str, out: &mut Vec<FieldError>) {
    if name.contains('/') || STANDARD.contains(&name) || name.starts_with("hugepages-") {
        return;
    }
    for detail in ["must be a standard resource type or fully qualified", "must be a standard resource for containers"]
    {
        out.push(FieldError::invalid_text(at, name, detail));
    }
}

/// Amounts of a container that a variable or a file may tell, beside those of large pages.
const AMOUNTS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks what names an amount of a container.
pub(super) fn amount(reference: &Value, at: &str, out: &mut Vec<FieldError>) {
    let name = json::text(reference, &["resource"]);
    let pages = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if name.is_empty() {
        out.push(FieldError::required(format!("{at}.resource"), ""));
    } else if !pages && !AMOUNTS.contains(&name) {
        out.push(FieldError::not_supported(format!("{at}.resource"), &Value::from(name), &AMOUNTS));
    }
}

/// What may be at the path of a host.
const HOST_KINDS: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks a path of the host.
pub(in crate::strategy::validate) fn host_path(host: &Value, at: &str, out: &mut Vec<FieldError>) {
    let path = json::text(host, &["path"]);
    if path.is_empty() {
        out.push(FieldError::required(format!("{at}.path"), ""));
        return;
    }
    if path.split('/').any(|step| step == "..") {
        out.push(FieldError::invalid_text(format!("{at}.path"), path, "must not contain '..'"));
    }
    let kind = json::text(host, &["type"]);
    if !HOST_KINDS.contains(&kind) {
        out.push(FieldError::not_supported(format!("{at}.type"), &Value::from(kind), &HOST_KINDS));
    }
}

/// What is counted comes in whole pieces.
pub(super) fn whole(name: &str, amount: &Value, at: &str, out: &mut Vec<FieldError>) {
    let nanos = amount.as_str().and_then(crate::quantity::nanos).unwrap_or(0);
    if name.contains('/') && nanos % 1_000_000_000 != 0 {
        out.push(FieldError::invalid(at, amount, "must be an integer"));
    }
}

/// Checks a path below a volume's root.
pub(super) fn below(path: &str, at: &str, out: &mut Vec<FieldError>) {
    if path.starts_with('/') {
        out.push(FieldError::invalid_text(at, path, "must be a relative path"));
    }
    if path.split('/').any(|step| step == "..") {
        out.push(FieldError::invalid_text(at, path, "must not contain '..'"));
    }
}

/// Checks which keys become files.
fn items(holder: &Value, at: &str, out: &mut Vec<FieldError>) {
    for (index, item) in json::list(holder, &["items"]).iter().enumerate() {
        for key in ["key", "path"] {
            let (text, at) = (json::text(item, &[key]), format!("{at}.items[{index}].{key}"));
            match text {
                "" => out.push(FieldError::required(at, "")),
                path if key == "path" => below(path, &at, out),
                _ => {}
            }
        }
    }
}

/// Checks one of the sources that a volume is put together of.
fn projected(source: &Value, at: &str, out: &mut Vec<FieldError>) {
    for kind in ["secret", "configMap"] {
        let Some(own) = source.get(kind).filter(|own| own.is_object()) else { continue };
        if json::text(own, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{at}.{kind}.name"), ""));
        }
        items(own, &format!("{at}.{kind}"), out);
    }
    let Some(token) = source.get("serviceAccountToken").filter(|token| token.is_object()) else { return };
    let lifetime = token.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
    let bound = match lifetime {
        ..600 => Some("may not specify a duration less than 10 minutes"),
        4_294_967_297.. => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    let field = format!("{at}.serviceAccountToken.expirationSeconds");
    out.extend(bound.map(|detail| FieldError::invalid(field, &Value::from(lifetime), detail)));
}

/// Checks what a volume of some kind says of itself.
pub(super) fn volume(volume: &Value, at: &str, out: &mut Vec<FieldError>) {
    if json::text(volume, &["emptyDir", "sizeLimit"]).starts_with('-') {
        let detail = "SizeLimit field must be a valid resource quantity";
        out.push(FieldError::forbidden(format!("{at}.emptyDir.sizeLimit"), detail));
    }
    for kind in ["secret", "configMap"] {
        items(&volume[kind], &format!("{at}.{kind}"), out);
    }
    for (index, source) in json::list(volume, &["projected", "sources"]).iter().enumerate() {
        projected(source, &format!("{at}.projected.sources[{index}]"), out);
    }
    if let Some(host) = volume.get("hostPath").filter(|host| host.is_object()) {
        host_path(host, &format!("{at}.hostPath"), out);
    }
    if let Some(nfs) = volume.get("nfs").filter(|nfs| nfs.is_object()) {
        if json::text(nfs, &["server"]).is_empty() {
            out.push(FieldError::required(format!("{at}.nfs.server"), ""));
        }
        match json::text(nfs, &["path"]) {
            "" => out.push(FieldError::required(format!("{at}.nfs.path"), "")),
            path if !path.starts_with('/') => {
                out.push(FieldError::invalid_text(format!("{at}.nfs.path"), path, "must be an absolute path"));
            }
            _ => {}
        }
    }
}
