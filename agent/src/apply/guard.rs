//! Watches everything that was applied, by its label and by metadata only, and wakes the component whose object changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::DynamicObject;
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use lattice_protocol::task::{self, Kind as TaskKind};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::object::{self, APPLIED_BY, Key};
use crate::backoff::Backoff;
use crate::observe;

/// Seconds after which a watch is renewed.
const RENEW_AFTER_SECONDS: u32 = 290;

/// Objects per page of a list.
const PAGE: u32 = 200;

/// Waits between tries of a watch whose kind is gone or whose server is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Keys of one component's objects that somebody may have changed. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspects(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<BTreeSet<Key>>,
    added: Notify,
}

impl Suspects {
    pub(super) fn add(&self, keys: impl IntoIterator<Item = Key>) {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        self.0.added.notify_one();
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut self.0.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is one.
    ///
    /// # Cancel safety
    /// Takes nothing.
    pub(super) async fn any(&self) {
        while self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.0.added.notified().await;
        }
    }
}

/// Who wants to hear about which objects, and what was last seen of them. Clones share it.
#[derive(Clone)]
pub(super) struct Guard {
    client: kube::Client,
    api: observe::Api,
    stop: CancellationToken,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    components: BTreeMap<String, (BTreeSet<Key>, Suspects)>,
    watches: HashMap<GroupVersionKind, tokio::task::AbortHandle>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    pub(super) fn new(client: kube::Client, api: observe::Api, stop: CancellationToken) -> Self {
        Self { client, api, stop, state: Arc::default() }
    }

    /// Tells `suspects` from now on about changes of exactly these objects of a component. Every one of them is suspect
    /// once: now, or when the first list of its kind has come.
    pub(super) fn watch(&self, component: &str, keys: BTreeSet<Key>, suspects: &Suspects) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What happened before we listened to a watch that runs already is lost: these are looked at now.
        suspects.add(keys.iter().filter(|key| state.watches.contains_key(&key.gvk())).cloned());
        for gvk in keys.iter().map(Key::gvk) {
            state.watches.entry(gvk).or_insert_with_key(|gvk| self.start(gvk.clone()));
        }
        state.components.insert(component.to_owned(), (keys, suspects.clone()));
        Self::stop_unwanted(&mut state);
    }

    /// Tells nothing about a component any more.
    pub(super) fn forget(&self, component: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.components.remove(component);
        Self::stop_unwanted(&mut state);
    }

    fn stop_unwanted(state: &mut State) {
        let State { components, watches } = state;
        watches.retain(|gvk, watch| {
            let wanted = components.values().any(|(keys, _)| keys.iter().any(|key| key.gvk() == *gvk));
            if !wanted {
                watch.abort();
            }
            wanted
        });
    }

    fn start(&self, gvk: GroupVersionKind) -> tokio::task::AbortHandle {
        let (guard, stop) = (self.clone(), self.stop.clone());
        let run = async move {
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            loop {
                if let Ok(Some((resource, _))) = guard.api.resolve(&gvk).await {
                    let objects = Api::<PartialObjectMeta<DynamicObject>>::all_with(guard.client.clone(), &resource);
                    guard.follow(objects, &gvk, &mut backoff).await;
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        };
        let cancelled = async move {
            stop.run_until_cancelled(run).await;
        };
        task::spawn("apply.guard", TaskKind::Service, cancelled).abort_handle()
    }

    /// Follows one kind; returns when the watch failed and should be made anew.
    async fn follow(
        &self,
        objects: Api<PartialObjectMeta<DynamicObject>>,
        gvk: &GroupVersionKind,
        backoff: &mut Backoff,
    ) {
        let label = format!("{}={}", APPLIED_BY.0, APPLIED_BY.1);
        let config = watcher::Config::default().labels(&label).page_size(PAGE).timeout(RENEW_AFTER_SECONDS);
        let mut events = watcher::watcher(objects, config).boxed();
        let mut seen: HashMap<Key, String> = HashMap::new();
        let mut listed: HashMap<Key, String> = HashMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => drop(listed.insert(key_of(gvk, &object), stamp(&object))),
                Ok(Event::InitDone) => {
                    let next = std::mem::take(&mut listed);
                    self.compare(gvk, &seen, &next);
                    seen = next;
                    backoff.reset();
                }
                Ok(Event::Apply(object)) => {
                    let (key, stamp) = (key_of(gvk, &object), stamp(&object));
                    if seen.get(&key) != Some(&stamp) {
                        seen.insert(key.clone(), stamp);
                        self.suspect(|wanted| wanted.is_same_object(&key));
                    }
                }
                Ok(Event::Delete(object)) => {
                    let key = key_of(gvk, &object);
                    seen.remove(&key);
                    self.suspect(|wanted| wanted.is_same_object(&key));
                }
                Err(error) => {
                    tracing::debug!(kind = %gvk.kind, error = %error, "watch interrupted");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// After a whole list: whatever differs from what was seen, or is not there, is suspect.
    fn compare(&self, gvk: &GroupVersionKind, seen: &HashMap<Key, String>, next: &HashMap<Key, String>) {
        self.suspect(|wanted| {
            wanted.gvk() == *gvk && (!next.contains_key(wanted) || next.get(wanted) != seen.get(wanted))
        });
    }

    fn suspect(&self, is: impl Fn(&Key) -> bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (keys, suspects) in state.components.values() {
            let found: Vec<_> = keys.iter().filter(|key| is(key)).cloned().collect();
            if !found.is_empty() {
                suspects.add(found);
            }
        }
    }
}

fn key_of(gvk: &GroupVersionKind, object: &PartialObjectMeta<DynamicObject>) -> Key {
    Key {
        group: gvk.group.clone(),
        version: gvk.version.clone(),
        kind: gvk.kind.clone(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

/// Changes when the object changed in a way that can matter: with a generation, status writes do not.
fn stamp(object: &PartialObjectMeta<DynamicObject>) -> String {
    let metadata = &object.metadata;
    let Some(generation) = metadata.generation else {
        return metadata.resource_version.clone().unwrap_or_default();
    };
    let words = serde_json::json!([metadata.uid, metadata.labels, metadata.annotations, metadata.owner_references]);
    format!("{generation}/{}", object::hash(&words))
}
