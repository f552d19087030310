//! Whether a policy or webhook is about a request.

use std::sync::Arc;

use serde_json::Value;

use super::Operation;
use super::policies::Request;
use crate::core::Core;
use crate::json;
use crate::kinds::Resource;
use crate::meta;
use crate::rest::Write;
use crate::selector::LabelSelector;

impl Operation {
    /// Names the operation as rules do.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

fn lists(rule: &Value, key: &str, wanted: &str) -> bool {
    json::list(rule, &[key]).iter().any(|known| known == "*" || known == wanted)
}

/// Tells whether one rule matches a version of the kind.
fn one(rule: &Value, request: &Request<'_>, resource: &Resource) -> bool {
    let Request { write, operation, old, new, .. } = request;
    let full = match write.subresource {
        "" => resource.plural.clone(),
        sub => format!("{}/{sub}", resource.plural),
    };
    let resources = json::list(rule, &["resources"]).iter().filter_map(Value::as_str).any(|known| {
        known == full
            || known == "*/*"
            || (known == "*" && write.subresource.is_empty())
            || known.strip_suffix("/*").is_some_and(|plural| plural == resource.plural)
            || known.strip_prefix("*/").is_some_and(|sub| !sub.is_empty() && sub == write.subresource)
    });
    let scope = match json::text(rule, &["scope"]) {
        "Namespaced" => resource.namespaced,
        "Cluster" => !resource.namespaced,
        _ => true,
    };
    let names = json::list(rule, &["resourceNames"]);
    // The path of a create names no object.
    let own = new.or(*old).map(meta::name).filter(|_| write.name.is_empty()).unwrap_or(write.name);
    lists(rule, "apiGroups", &resource.group)
        && lists(rule, "apiVersions", &resource.version)
        && lists(rule, "operations", operation.name())
        && resources
        && scope
        && (names.is_empty() || names.iter().any(|name| name == own))
}

fn any(rules: &[Value], request: &Request<'_>, resource: &Resource) -> bool {
    rules.iter().any(|rule| one(rule, request, resource))
}

/// Finds the version of the kind that any rule of a list matches: the request's own, or another one where `holder` does
/// not insist on an exact match.
pub(super) fn form(request: &Request<'_>, rules: &[Value], holder: &Value) -> Option<Arc<Resource>> {
    let Request { core, write, .. } = request;
    if any(rules, request, write.resource) {
        return Some(Arc::clone(write.resource));
    }
    if json::text(holder, &["matchPolicy"]) == "Exact" {
        return None;
    }
    let kinds = core.registry.now();
    let same = |other: &&Arc<Resource>| other.storage == write.resource.storage && any(rules, request, other);
    kinds.all().find(same).map(Arc::clone)
}

/// Tells whether the namespace and the object are selected.
pub(super) fn selects(
    core: &Core,
    holder: &Value,
    write: &Write<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> bool {
    let of = |key: &str| LabelSelector::of_object(holder.get(key).unwrap_or(&Value::Null));
    let namespaces = of("namespaceSelector");
    if !namespaces.is_empty() {
        let namespace = if write.resource.namespaced {
            core.builtin("namespaces", "", write.namespace)
        } else if write.resource.is("", "Namespace") {
            new.or(old).cloned()
        } else {
            None
        };
        // What is in no namespace is not kept out by a selector of namespaces.
        if namespace.is_some_and(|namespace| !namespaces.matches(&namespace)) {
            return false;
        }
    }
    let objects = of("objectSelector");
    objects.is_empty() || [old, new].into_iter().flatten().any(|object| objects.matches(object))
}

/// Finds the version of the kind for which the match constraints of a policy or binding hold.
pub(super) fn constraints(request: &Request<'_>, holder: &Value) -> Option<Arc<Resource>> {
    let Request { core, write, old, new, .. } = request;
    let rules = json::list(holder, &["resourceRules"]);
    let form = if rules.is_empty() { Some(Arc::clone(write.resource)) } else { form(request, rules, holder) };
    let excluded = any(json::list(holder, &["excludeResourceRules"]), request, write.resource);
    form.filter(|_| !excluded && selects(core, holder, write, *old, *new))
}
