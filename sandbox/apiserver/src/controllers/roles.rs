//! Aggregated roles: their rules are those of the roles that they select.

use serde_json::Value;

use crate::core::Core;
use crate::json;
use crate::meta;
use crate::selector::LabelSelector;

const STORAGE: &str = "rbac.authorization.k8s.io/clusterroles";

/// Brings aggregated roles up to date.
pub(crate) fn look(core: &Core) {
    let roles = core.builtin_list(STORAGE, "");
    for stored in core.store.list(STORAGE, "").1 {
        let role = stored.value();
        let selectors = json::list(&role, &["aggregationRule", "clusterRoleSelectors"]);
        if selectors.is_empty() {
            continue;
        }
        let mut rules: Vec<Value> = Vec::new();
        for selector in selectors.iter().map(LabelSelector::of_object) {
            for other in roles.iter().filter(|other| meta::name(other) != meta::name(&role) && selector.matches(other))
            {
                for rule in json::list(other, &["rules"]) {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
        if json::list(&role, &["rules"]) != rules {
            let mut new = role.clone();
            new["rules"] = Value::Array(rules);
            let _ = core.store.replace(STORAGE, &stored, new);
        }
    }
}
