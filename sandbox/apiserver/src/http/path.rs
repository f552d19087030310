//! What a path asks for.

use crate::auth::rbac::Attributes;
use crate::options::{Query, decode};

/// A path of a resource, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource (of proxies).
    pub(crate) rest: String,
    /// The old form `/watch/`.
    pub(crate) watch: bool,
}

/// A request, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) target: Option<Target>,
    /// The one name that a list or watch selects; rights to single objects count for it.
    selected: String,
    /// The node whose pods a list or watch selects.
    node: String,
}

impl Asked {
    /// Takes a request apart.
    pub(crate) fn of(method: &http::Method, path: &str, query: &Query) -> Self {
        let segments: Vec<String> =
            decode(path, false).split('/').filter(|segment| !segment.is_empty()).map(String::from).collect();
        // A path with nothing between two slashes leads nowhere.
        let target = if path.contains("//") { None } else { target(&segments) };
        let verb = match &target {
            Some(target) => verb(method, target, query),
            None => method.as_str().to_lowercase(),
        };
        let selected = if matches!(verb.as_str(), "list" | "watch" | "deletecollection") {
            query.get("fieldSelector").split(',').find_map(|term| term.strip_prefix("metadata.name="))
        } else {
            None
        };
        let selected = selected.map(|name| name.trim_start_matches('=').to_owned()).unwrap_or_default();
        let node = query.get("fieldSelector").split(',').find_map(|term| term.strip_prefix("spec.nodeName="));
        let node = node.unwrap_or_default().to_owned();
        Self { verb, path: path.to_owned(), target, selected, node }
    }

    /// Returns what access control decides about.
    pub(crate) fn attributes(&self) -> Attributes {
        match &self.target {
            Some(target) => Attributes {
                verb: self.verb.clone(),
                group: target.group.clone(),
                resource: target.resource.clone(),
                subresource: target.subresource.clone(),
                namespace: target.namespace.clone(),
                name: if target.name.is_empty() { self.selected.clone() } else { target.name.clone() },
                path: String::new(),
                node: self.node.clone(),
            },
            None => Attributes { verb: self.verb.clone(), path: self.path.clone(), ..Attributes::default() },
        }
    }
}

fn verb(method: &http::Method, target: &Target, query: &Query) -> String {
    let one = !target.name.is_empty();
    match method.as_str() {
        "GET" | "HEAD" if target.watch || (!one && query.is_on("watch")) => "watch",
        "GET" | "HEAD" if one => "get",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if one => "delete",
        "DELETE" => "deletecollection",
        _ => return method.as_str().to_lowercase(),
    }
    .to_owned()
}

fn target(segments: &[String]) -> Option<Target> {
    let mut out = Target::default();
    let rest = match segments.first()?.as_str() {
        "api" => {
            out.version.clone_from(segments.get(1)?);
            &segments[2..]
        }
        "apis" => {
            out.group.clone_from(segments.get(1)?);
            out.version.clone_from(segments.get(2)?);
            &segments[3..]
        }
        _ => return None,
    };
    let rest = match rest.first()?.as_str() {
        "watch" => {
            out.watch = true;
            &rest[1..]
        }
        _ => rest,
    };
    // A namespace is a resource itself, with what is in it below its name.
    let scoped = rest.first()? == "namespaces"
        && rest.len() > 2
        && !(rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize"));
    let rest = if scoped {
        out.namespace.clone_from(&rest[1]);
        &rest[2..]
    } else {
        if rest.first()? == "namespaces" && out.group.is_empty() {
            out.namespace = rest.get(1).cloned().unwrap_or_default();
        }
        rest
    };
    out.resource.clone_from(rest.first()?);
    out.name = rest.get(1).cloned().unwrap_or_default();
    out.subresource = rest.get(2).cloned().unwrap_or_default();
    out.rest = rest.get(3..).unwrap_or_default().join("/");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn asks(method: &str, path: &str, verb: &str, namespace: &str, resource: &str, name: &str, sub: &str) {
        let asked = Asked::of(&method.parse().unwrap(), path, &Query::default());
        let target = asked.target.unwrap();
        assert_eq!(
            (
                asked.verb.as_str(),
                target.namespace.as_str(),
                target.resource.as_str(),
                target.name.as_str(),
                target.subresource.as_str()
            ),
            (verb, namespace, resource, name, sub)
        );
    }

    #[test]
    fn paths_name_namespace_resource_and_object() {
        asks("GET", "/api/v1/namespaces/a/pods/p/log", "get", "a", "pods", "p", "log");
        asks("GET", "/api/v1/namespaces/a", "get", "a", "namespaces", "a", "");
        asks("PUT", "/api/v1/namespaces/a/finalize", "update", "a", "namespaces", "a", "finalize");
        asks("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection", "a", "deployments", "", "");
        asks("GET", "/api/v1/watch/namespaces/a/pods", "watch", "a", "pods", "", "");
    }
}
