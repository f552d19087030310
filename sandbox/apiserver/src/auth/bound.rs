//! Cluster roles and who they are bound to, read once and kept until one of them changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::core::Core;
use crate::json;

const ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
const BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";

/// What was read last.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    last: Mutex<Option<Arc<Snapshot>>>,
}

/// Cluster roles and their bindings between two changes.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Revisions of the last changes of bindings and roles.
    at: (u64, u64),
    pub(crate) bindings: Vec<Value>,
    /// Rules by the role's name, of roles that somebody asked for.
    rules: Mutex<HashMap<String, Option<Arc<[Value]>>>>,
}

impl Bound {
    /// Returns roles and bindings as they are now.
    pub(crate) fn now(&self, core: &Core) -> Arc<Snapshot> {
        let at = (core.store.changed_at(BINDINGS), core.store.changed_at(ROLES));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(last) if last.at == at => Arc::clone(last),
            _ => {
                let bindings = core.builtin_list(BINDINGS, "");
                let now = Arc::new(Snapshot { at, bindings, rules: Mutex::default() });
                *last = Some(Arc::clone(&now));
                now
            }
        }
    }
}

impl Snapshot {
    /// Returns the rules of a cluster role, if it is there.
    pub(crate) fn rules(&self, core: &Core, role: &str) -> Option<Arc<[Value]>> {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = known.get(role) {
            return rules.clone();
        }
        let rules = core.builtin(ROLES, "", role).map(|role| json::list(&role, &["rules"]).into());
        known.insert(role.to_owned(), rules.clone());
        rules
    }
}
