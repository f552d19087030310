//! Whether a policy or webhook is about a request.

use serde_json::Value;

use super::Operation;
use crate::core::Core;
use crate::json;
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

/// Tells whether one rule matches.
fn one(rule: &Value, write: &Write<'_>, operation: Operation) -> bool {
    let resource = write.resource;
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
    lists(rule, "apiGroups", &resource.group)
        && lists(rule, "apiVersions", &resource.version)
        && lists(rule, "operations", operation.name())
        && resources
        && scope
        && (names.is_empty() || names.iter().any(|name| name == write.name))
}

/// Tells whether any rule of a list matches.
pub(super) fn any(rules: &[Value], write: &Write<'_>, operation: Operation) -> bool {
    rules.iter().any(|rule| one(rule, write, operation))
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

/// Tells whether the match constraints of a policy or binding hold.
pub(super) fn constraints(
    core: &Core,
    holder: &Value,
    write: &Write<'_>,
    operation: Operation,
    old: Option<&Value>,
    new: Option<&Value>,
) -> bool {
    let rules = json::list(holder, &["resourceRules"]);
    (rules.is_empty() || any(rules, write, operation))
        && !any(json::list(holder, &["excludeResourceRules"]), write, operation)
        && selects(core, holder, write, old, new)
}
