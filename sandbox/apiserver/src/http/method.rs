//! Which methods a path takes.

use super::path::Target;
use crate::kinds::Resource;
use crate::status::{Result, Status};

/// Says that the subresources of a custom resource do not take a verb.
fn unsupported(resource: &Resource, verb: &str) -> Status {
    let target = resource.target();
    let text = format!("{verb} is not supported on resources of kind {:?}", target.qualified());
    Status::new(405, "MethodNotAllowed", text).about(&target)
}

/// Checks that a path takes a method: built-in kinds say 405, custom ones that there is no such page.
pub(crate) fn check(method: &str, resource: &Resource, target: &Target) -> Result<()> {
    let custom = resource.is_custom();
    let one = !target.name.is_empty();
    if target.namespace.is_empty() == resource.namespaced && !target.watch {
        let lists_all = resource.namespaced && !one && method == "GET";
        // Such a path is none at all, except that of all objects, which takes only a list.
        if resource.namespaced && one && !custom {
            return Err(Status::no_resource());
        }
        if resource.namespaced && !lists_all {
            return Err(if custom { Status::page_not_found() } else { Status::method_not_allowed() });
        }
        // The path of a namespace names it as what it is in, too.
        let own = resource.is("", "Namespace") && target.name == target.namespace;
        if !resource.namespaced && !own {
            return Err(if custom { Status::page_not_found() } else { Status::no_resource() });
        }
    }
    // Below a subresource there is nothing, except what is reached through one.
    let deeper = !target.rest.is_empty() && target.subresource != "proxy";
    // What is not kept has no names.
    let nameless = one && target.subresource.is_empty() && resource.verbs_are_only("create");
    if !custom && (deeper || nameless) {
        return Err(Status::no_resource());
    }
    if !target.subresource.is_empty() {
        let Some(sub) = resource.subresource(&target.subresource) else {
            return Err(if custom {
                Status::not_found(&resource.target(), &target.name)
            } else {
                Status::no_resource()
            });
        };
        let verb = match method {
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        };
        if !sub.verbs.iter().any(|known| known == verb) {
            return Err(if custom { unsupported(resource, verb) } else { Status::method_not_allowed() });
        }
        return Ok(());
    }
    let verb = match (method, one) {
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", false) => "create",
        // Custom resources are created below any name: the body's counts.
        ("POST", true) if custom => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        ("PUT" | "PATCH", false) if custom => return Err(Status::bad_request("name must be provided")),
        _ => "",
    };
    if verb.is_empty() && custom {
        return Err(unsupported(resource, verb));
    }
    if verb.is_empty() || !resource.allows(verb) {
        return Err(Status::method_not_allowed());
    }
    Ok(())
}
