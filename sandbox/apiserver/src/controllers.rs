//! Controllers that go with the API itself: garbage collection, the end of namespaces, default accounts, aggregated
//! roles, quotas, disruption budgets, what is behind services, claims and volumes, CronJobs, admission policies. They
//! look when something changed and act on what is there, so that a missed change costs nothing.

mod accounts;
mod budgets;
mod claims;
mod crons;
mod endpoints;
mod garbage;
mod namespaces;
mod notes;
mod owners;
mod policies;
pub(crate) mod quotas;
mod roles;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lattice_protocol::task::{self, Kind};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::auth::User;
use crate::core::Core;
use crate::kinds::Resource;
use crate::options::{DeleteOptions, Propagation, WriteOptions};
use crate::rest::{Write, create, delete};
use crate::store::{Change, Miss};

/// Changes that are taken from one kind's history at a time.
const BATCH_MAX: usize = 256;
/// Longest wait for a time to come; the clock may be set meanwhile.
const NAP_MAX: Duration = Duration::from_mins(1);
/// The field manager of what controllers write.
const MANAGER: &str = "kube-controller-manager";

/// Starts the controllers; they end with the server.
pub(crate) fn start(core: &Arc<Core>, stop: CancellationToken) {
    let core = Arc::downgrade(core);
    task::spawn("apiserver.controllers", Kind::Service, async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = run(core) => {}
        }
    });
}

async fn run(core: Weak<Core>) {
    let Some(mut changed) = core.upgrade().map(|core| core.store.subscribe_all()) else { return };
    let mut feed = Feed::default();
    let mut garbage = garbage::Collector::default();
    let mut ending = namespaces::Ending::default();
    loop {
        changed.borrow_and_update();
        let due = {
            let Some(core) = core.upgrade() else { return };
            let news = feed.next(&core);
            garbage.look(&core, &news).await;
            if news
                .iter()
                .any(|news| matches!(&*news.resource.storage, "namespaces" | "serviceaccounts" | "configmaps"))
            {
                accounts::look(&core);
            }
            if news.iter().any(|news| news.resource.plural == "clusterroles") {
                roles::look(&core);
            }
            let ends = ending.look(&core, &news).await;
            budgets::look(&core, &news);
            quotas::look(&core, &news);
            endpoints::look(&core, &news).await;
            claims::look(&core, &news);
            policies::look(&core, &news);
            let now = core.config.clock.now();
            let due = crons::look(&core).await.into_iter().chain(ends).min();
            due.map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default())
        };
        let alarm = async {
            match due {
                Some(wait) => tokio::time::sleep(wait.min(NAP_MAX)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = changed.changed() => {
                if ended.is_err() {
                    return;
                }
            }
            () = alarm => {}
        }
    }
}

/// One kind's news since the last look.
pub(crate) struct News {
    pub(crate) resource: Arc<Resource>,
    pub(crate) changes: Vec<Arc<Change>>,
    /// History was too short; everything of the kind is to be looked at.
    pub(crate) everything: bool,
}

/// Follows all kinds.
#[derive(Debug, Default)]
struct Feed {
    seen: HashMap<Arc<str>, u64>,
    revision: u64,
}

impl Feed {
    fn next(&mut self, core: &Core) -> Vec<News> {
        let kinds = core.registry.now();
        let target = core.store.revision();
        let mut out = Vec::new();
        let mut done: HashSet<&Arc<str>> = HashSet::new();
        for resource in kinds.all() {
            if !done.insert(&resource.storage) {
                continue;
            }
            let first = !self.seen.contains_key(&resource.storage);
            let seen = self.seen.entry(Arc::clone(&resource.storage)).or_insert(target);
            if first {
                out.push(News { resource: Arc::clone(resource), changes: Vec::new(), everything: true });
                continue;
            }
            loop {
                match core.store.changes(&resource.storage, *seen, BATCH_MAX) {
                    Ok(changes) => {
                        *seen = changes.up_to;
                        let more = changes.found.len() == BATCH_MAX;
                        if !changes.found.is_empty() {
                            let changes = changes.found;
                            out.push(News { resource: Arc::clone(resource), changes, everything: false });
                        }
                        if !more {
                            break;
                        }
                    }
                    Err(Miss::TooOld(_) | Miss::Exists | Miss::Changed) => {
                        *seen = core.store.revision();
                        out.push(News { resource: Arc::clone(resource), changes: Vec::new(), everything: true });
                        break;
                    }
                }
            }
        }
        self.revision = target;
        out
    }
}

/// Says whether there is news of one of these kinds.
fn concerns(news: &[News], plurals: &[&str]) -> bool {
    news.iter().any(|news| !news.resource.is_custom() && plurals.contains(&news.resource.plural.as_str()))
}

/// Creates an object in a controller's name. A name that is taken is well.
pub(crate) async fn make(core: &Core, resource: &Arc<Resource>, namespace: &str, object: Value) {
    let user = User::admin();
    let write = Write {
        resource,
        namespace,
        name: "",
        subresource: "",
        options: WriteOptions { manager: MANAGER.to_owned(), ..WriteOptions::default() },
        user: &user,
    };
    if let Err(status) = create::object(core, &write, object, true).await
        && status.code != 409
    {
        tracing::debug!(kind = %resource.kind, namespace, reason = %status.message, "controller could not create");
    }
}

/// Deletes an object in a controller's name. What is gone already is well.
pub(crate) async fn remove(
    core: &Core,
    resource: &Arc<Resource>,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    propagation: Option<Propagation>,
) {
    let user = User::admin();
    let write = Write {
        resource,
        namespace,
        name,
        subresource: "",
        options: WriteOptions { manager: MANAGER.to_owned(), ..WriteOptions::default() },
        user: &user,
    };
    let options = DeleteOptions { propagation, uid: uid.map(String::from), ..DeleteOptions::default() };
    if let Err(status) = delete::one(core, &write, &options).await
        && !matches!(status.code, 404 | 409)
    {
        tracing::debug!(kind = %resource.kind, name, reason = %status.message, "controller could not delete");
    }
}

/// Stores a changed object in a controller's name; answers whether nobody came first.
pub(crate) fn store(core: &Core, resource: &Resource, stored: &crate::store::Stored, mut new: Value) -> bool {
    owners::changed(core, resource, &stored.value(), &mut new);
    match core.store.replace(&resource.storage, stored, new) {
        Ok(stored) => {
            core.after_write(resource, &stored);
            true
        }
        Err(_) => false,
    }
}
