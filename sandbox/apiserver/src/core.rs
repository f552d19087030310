//! What all requests share: objects, kinds, keys, clock.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::auth::bound::Bound;
use crate::auth::tokens::Tokens;
use crate::config::Config;
use crate::error::Error;
use crate::kinds::{self, Registry, Resource};
use crate::metrics::Metrics;
use crate::names;
use crate::status::{Result, Status};
use crate::store::{Key, Store, Stored};
use crate::{bootstrap, time};

/// The server without its transport.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) tokens: Tokens,
    pub(crate) bound: Bound,
    pub(crate) metrics: Metrics,
    pub(crate) impersonating: crate::auth::impersonation::Modes,
    /// Held while definitions and the kinds that are served are brought up to date.
    pub(crate) defining: Mutex<Vec<crate::crd::Served>>,
    pub(crate) faults: crate::faults::Faults,
    pub(crate) kubelets: crate::kubelets::Kubelets,
    /// The certificate of the server's authority, PEM.
    pub(crate) ca: String,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    /// Opens storage and makes the objects that every cluster begins with.
    pub(crate) fn open(config: Config, ca: String) -> std::result::Result<Arc<Self>, Error> {
        let store = Store::open(config.state.as_deref(), config.history)?;
        for resource in kinds::builtins() {
            store.add_kind(&resource.storage);
        }
        let tokens = Tokens::load_or_new(config.state.as_deref())?;
        let core = Arc::new(Self {
            config,
            store,
            registry: Registry::default(),
            tokens,
            bound: Bound::default(),
            metrics: Metrics::default(),
            impersonating: crate::auth::impersonation::Modes::default(),
            defining: Mutex::default(),
            faults: crate::faults::Faults::default(),
            kubelets: crate::kubelets::Kubelets::default(),
            ca,
        });
        bootstrap::make(&core);
        core.definitions_changed();
        Ok(core)
    }

    /// Tells the time as objects carry it.
    pub(crate) fn now(&self) -> String {
        time::seconds(self.config.clock.now())
    }

    /// Returns an object as it is stored.
    pub(crate) fn stored(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<Stored>> {
        let namespace = if resource.namespaced { namespace } else { "" };
        let why = names::path_segment(name);
        if !why.is_empty() {
            return Err(Status::bad_request(format!("Name parameter invalid: {name:?}: {}", why.join(";"))));
        }
        self.store
            .get(&resource.storage, &Key::new(namespace, name))
            .ok_or_else(|| Status::not_found(&resource.target(), name))
    }

    /// Returns an object of a built-in kind, for the server's own use.
    pub(crate) fn builtin(&self, storage: &str, namespace: &str, name: &str) -> Option<Value> {
        self.store.get(storage, &Key::new(namespace, name)).map(|stored| stored.value())
    }

    /// Returns all objects of a built-in kind in a namespace (all, when it is empty).
    pub(crate) fn builtin_list(&self, storage: &str, namespace: &str) -> Vec<Value> {
        self.store.list(storage, namespace).1.iter().map(|stored| stored.value()).collect()
    }
}
