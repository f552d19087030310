//! The environment and the words of a container, with every reference resolved.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

use super::prepare::{Contents, Source};
use crate::meta;

/// What is on every container's path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a pod runs, for references to its own fields.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) node: String,
    pub(super) host_ip: String,
    pub(super) pod_ip: String,
}

/// Resolves the environment; references that are optional and absent are left out.
pub(super) fn resolve(pod: &Pod, container: &Container, place: &Place, contents: &Contents) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> =
        vec![("PATH".to_owned(), PATH.to_owned()), ("HOSTNAME".to_owned(), host_name(pod, place))];
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let secret = from.secret_ref.as_ref().and_then(|source| contents.of(Source::Secret, &source.name));
        let map = from.config_map_ref.as_ref().and_then(|source| contents.of(Source::ConfigMap, &source.name));
        for (key, value) in secret.or(map).into_iter().flatten() {
            set(&mut env, format!("{prefix}{key}"), text(value));
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => from_source(pod, container, place, contents, source),
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &env)),
        };
        if let Some(value) = value {
            set(&mut env, variable.name.clone(), value);
        }
    }
    env
}

/// The container's command and arguments, with `$(VAR)` expanded.
pub(super) fn words(container: &Container, env: &[(String, String)]) -> Vec<String> {
    let words = container.command.iter().flatten().chain(container.args.iter().flatten());
    words.map(|word| expand(word, env)).collect()
}

/// Expands `$(VAR)`; an unknown name stays as written, and `$$` stands for `$`.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&rest[at..at + name.len() + 3]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

fn from_source(
    pod: &Pod,
    container: &Container,
    place: &Place,
    contents: &Contents,
    source: &EnvVarSource,
) -> Option<String> {
    if let Some(field) = &source.field_ref {
        return field_of(pod, place, &field.field_path);
    }
    if let Some(field) = &source.resource_field_ref {
        return Some(resource_of(pod, field.container_name.as_deref().unwrap_or(&container.name), &field.resource));
    }
    let (kind, name, key) = match (&source.secret_key_ref, &source.config_map_key_ref) {
        (Some(secret), _) => (Source::Secret, &secret.name, &secret.key),
        (None, Some(map)) => (Source::ConfigMap, &map.name, &map.key),
        (None, None) => return None,
    };
    contents.of(kind, name)?.get(key).map(|value| text(value))
}

/// A field of the pod, as the downward API names it.
pub(super) fn field_of(pod: &Pod, place: &Place, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(meta.labels.as_ref())),
        "metadata.annotations" => Some(lines(meta.annotations.as_ref())),
        "spec.nodeName" => Some(place.node.clone()),
        "spec.serviceAccountName" => {
            Some(spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".to_owned()))
        }
        "status.hostIP" | "status.hostIPs" => Some(place.host_ip.clone()),
        "status.podIP" | "status.podIPs" => Some(place.pod_ip.clone()),
        other => {
            let (map, key) = other.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => meta.labels.as_ref(),
                "metadata.annotations" => meta.annotations.as_ref(),
                _ => None,
            };
            Some(map.and_then(|map| map.get(key)).cloned().unwrap_or_default())
        }
    }
}

fn resource_of(pod: &Pod, container: &str, resource: &str) -> String {
    let spec = pod.spec.as_ref();
    let container = spec.and_then(|spec| spec.containers.iter().find(|one| one.name == container));
    let resources = container.and_then(|one| one.resources.as_ref());
    let quantity = resources.and_then(|resources| {
        let (list, name) = resource.split_once('.')?;
        let list = if list == "limits" { &resources.limits } else { &resources.requests };
        list.as_ref()?.get(name)
    });
    quantity.map_or_else(|| "0".to_owned(), |quantity| quantity.0.clone())
}

fn host_name(pod: &Pod, place: &Place) -> String {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return place.node.clone();
    }
    let named = spec.and_then(|spec| spec.hostname.clone());
    named.unwrap_or_else(|| meta::name(&pod.metadata).to_owned())
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    env.retain(|(known, _)| *known != name);
    env.push((name, value));
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_expand_known_names_only() {
        let env = vec![("A".to_owned(), "x".to_owned())];
        for (word, expected) in
            [("$(A)-$(A)", "x-x"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$(A", "$(A")]
        {
            assert_eq!(expand(word, &env), expected, "{word}");
        }
    }

    #[test]
    fn fields_are_those_of_the_downward_api() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".to_owned());
        pod.metadata.labels = Some([("a/b".to_owned(), "c".to_owned())].into());
        let place = Place { node: "n1".to_owned(), host_ip: "127.0.0.2".to_owned(), pod_ip: "10.244.0.2".to_owned() };
        for (path, expected) in [
            ("metadata.name", Some("p")),
            ("metadata.labels['a/b']", Some("c")),
            ("metadata.labels['x']", Some("")),
            ("spec.nodeName", Some("n1")),
            ("status.hostIP", Some("127.0.0.2")),
            ("spec.serviceAccountName", Some("default")),
            ("spec.nonsense", None),
        ] {
            assert_eq!(field_of(&pod, &place, path).as_deref(), expected, "{path}");
        }
    }
}
