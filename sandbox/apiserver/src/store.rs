//! Storage: one revision for everything, objects as bytes, and a bounded history per kind.
//!
//! Guarantees: revisions grow with every write; a write that names the revision it saw fails when another came first;
//! a watch from any kept revision sees every change after it, in order. Nothing here knows schemas.

mod log;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use crate::config::History;
use crate::error::Error;
use crate::json;
use log::Log;

/// Where an object is: its namespace (empty for cluster-scoped ones) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl Key {
    /// The text by which objects are ordered.
    fn text(&self) -> impl Iterator<Item = u8> + '_ {
        self.namespace.bytes().chain(std::iter::once(b'/')).chain(self.name.bytes())
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text().cmp(other.text())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// An object at one revision.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) bytes: Bytes,
}

impl Stored {
    /// Reads the object.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Added,
    Modified,
    Deleted,
}

/// One entry of history.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) event: Event,
    /// The object after the change; of a deleted one its last state at the deletion's revision.
    pub(crate) object: Arc<Stored>,
    pub(crate) old: Option<Arc<Stored>>,
}

/// A write that came too late, or a revision that history no longer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The object exists already.
    Exists,
    /// Another write came first, or the object is gone.
    Changed,
    /// The revision is older than history; its oldest is told.
    TooOld(u64),
}

#[derive(Debug)]
struct KindStore {
    objects: BTreeMap<Key, Arc<Stored>>,
    history: VecDeque<Arc<Change>>,
    history_bytes: usize,
    /// Changes up to this revision are not in history.
    floor: u64,
    /// The kind is gone; watchers read what is left and end.
    closed: bool,
    changed: watch::Sender<u64>,
}

impl KindStore {
    fn new(floor: u64) -> Self {
        let (changed, _) = watch::channel(floor);
        Self { objects: BTreeMap::new(), history: VecDeque::new(), history_bytes: 0, floor, closed: false, changed }
    }

    fn record(&mut self, change: Change, limits: History) {
        let revision = change.revision;
        self.history_bytes += change.object.bytes.len();
        self.history.push_back(Arc::new(change));
        while self.history.len() > limits.events_max || self.history_bytes > limits.bytes_max {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.object.bytes.len();
            self.floor = oldest.revision;
        }
        self.changed.send_replace(revision);
    }
}

#[derive(Debug)]
struct Inner {
    revision: u64,
    kinds: HashMap<Arc<str>, KindStore>,
    log: Option<Log>,
}

/// All objects of a server.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    limits: History,
    changed: watch::Sender<u64>,
}

impl Store {
    /// Makes a store, with what the state folder holds.
    pub(crate) fn open(state: Option<&Path>, limits: History) -> Result<Self, Error> {
        let mut inner = Inner { revision: 1, kinds: HashMap::new(), log: None };
        if let Some(folder) = state {
            log::load(folder, &mut |entry| restore(&mut inner, entry))?;
            let revision = inner.revision;
            inner.kinds.values_mut().for_each(|kind| kind.floor = revision);
            inner.log = Some(Log::rewrite(folder, live(&inner.kinds), revision)?);
        }
        let (changed, _) = watch::channel(inner.revision);
        Ok(Self { inner: Mutex::new(inner), limits, changed })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the latest revision.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Tells of every write to any kind.
    pub(crate) fn subscribe_all(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Makes room for a kind; its history begins now. Does nothing where it is known.
    pub(crate) fn add_kind(&self, kind: &Arc<str>) {
        let mut inner = self.lock();
        let revision = inner.revision;
        let store = inner.kinds.entry(Arc::clone(kind)).or_insert_with(|| KindStore::new(revision));
        if store.closed {
            *store = KindStore::new(revision);
        }
    }

    /// Closes a kind: its watchers see what is left of its history and end.
    pub(crate) fn drop_kind(&self, kind: &str) {
        let mut inner = self.lock();
        let revision = inner.revision;
        if let Some(store) = inner.kinds.get_mut(kind) {
            store.closed = true;
            store.objects.clear();
            store.changed.send_replace(revision);
        }
    }

    /// Returns an object.
    pub(crate) fn get(&self, kind: &str, key: &Key) -> Option<Arc<Stored>> {
        self.lock().kinds.get(kind)?.objects.get(key).cloned()
    }

    /// Returns all objects of a kind, of one namespace or of all, with the revision at which they are so.
    pub(crate) fn list(&self, kind: &str, namespace: &str) -> (u64, Vec<Arc<Stored>>) {
        let inner = self.lock();
        let objects = inner.kinds.get(kind).map(|store| select(&store.objects, namespace)).unwrap_or_default();
        (inner.revision, objects)
    }

    /// Returns all objects of a kind as they were at a revision.
    pub(crate) fn list_at(&self, kind: &str, namespace: &str, revision: u64) -> Result<Vec<Arc<Stored>>, Miss> {
        let inner = self.lock();
        let Some(store) = inner.kinds.get(kind) else { return Ok(Vec::new()) };
        if revision < store.floor {
            return Err(Miss::TooOld(store.floor));
        }
        let mut objects = store.objects.clone();
        for change in store.history.iter().rev().take_while(|change| change.revision > revision) {
            match &change.old {
                Some(old) => objects.insert(change.object.key.clone(), Arc::clone(old)),
                None => objects.remove(&change.object.key),
            };
        }
        Ok(select(&objects, namespace))
    }

    /// Stores a new object.
    pub(crate) fn create(&self, kind: &str, key: Key, value: Value) -> Result<Arc<Stored>, Miss> {
        let mut inner = self.lock();
        let next = inner.revision + 1;
        let store = inner.kinds.get_mut(kind).ok_or(Miss::Changed)?;
        if store.objects.contains_key(&key) {
            return Err(Miss::Exists);
        }
        let stored = Arc::new(Stored { revision: next, bytes: encode(value, next), key: key.clone() });
        store.objects.insert(key, Arc::clone(&stored));
        let change = Change { revision: next, event: Event::Added, object: Arc::clone(&stored), old: None };
        store.record(change, self.limits);
        self.wrote(inner, next, kind, &stored, false);
        Ok(stored)
    }

    /// Replaces an object that is still at a revision.
    pub(crate) fn replace(&self, kind: &str, seen: &Stored, value: Value) -> Result<Arc<Stored>, Miss> {
        let mut inner = self.lock();
        let next = inner.revision + 1;
        let store = inner.kinds.get_mut(kind).ok_or(Miss::Changed)?;
        let old = store.objects.get(&seen.key).filter(|old| old.revision == seen.revision).ok_or(Miss::Changed)?;
        let old = Arc::clone(old);
        let stored = Arc::new(Stored { revision: next, bytes: encode(value, next), key: seen.key.clone() });
        store.objects.insert(seen.key.clone(), Arc::clone(&stored));
        let change = Change { revision: next, event: Event::Modified, object: Arc::clone(&stored), old: Some(old) };
        store.record(change, self.limits);
        self.wrote(inner, next, kind, &stored, false);
        Ok(stored)
    }

    /// Removes an object that is still at a revision; `last` is its state as watchers see it.
    pub(crate) fn remove(&self, kind: &str, seen: &Stored, last: Value) -> Result<Arc<Stored>, Miss> {
        let mut inner = self.lock();
        let next = inner.revision + 1;
        let store = inner.kinds.get_mut(kind).ok_or(Miss::Changed)?;
        let old = store.objects.get(&seen.key).filter(|old| old.revision == seen.revision).ok_or(Miss::Changed)?;
        let old = Arc::clone(old);
        store.objects.remove(&seen.key);
        let stored = Arc::new(Stored { revision: next, bytes: encode(last, next), key: seen.key.clone() });
        let change = Change { revision: next, event: Event::Deleted, object: Arc::clone(&stored), old: Some(old) };
        store.record(change, self.limits);
        self.wrote(inner, next, kind, &stored, true);
        Ok(stored)
    }

    fn wrote(&self, mut inner: MutexGuard<'_, Inner>, revision: u64, kind: &str, stored: &Stored, gone: bool) {
        inner.revision = revision;
        let Inner { kinds, log, .. } = &mut *inner;
        if let Some(log) = log {
            log.append(kind, stored, gone);
            if log.wants_rewrite() {
                log.renew(live(kinds), revision);
            }
        }
        drop(inner);
        self.changed.send_replace(revision);
    }

    /// Returns the revision of a kind's last change.
    pub(crate) fn changed_at(&self, kind: &str) -> u64 {
        self.lock().kinds.get(kind).map_or(0, |store| *store.changed.borrow())
    }

    /// Follows a kind's changes.
    pub(crate) fn subscribe(&self, kind: &str) -> Option<watch::Receiver<u64>> {
        Some(self.lock().kinds.get(kind)?.changed.subscribe())
    }

    /// Returns changes after a revision, `max` at most.
    pub(crate) fn changes(&self, kind: &str, after: u64, max: usize) -> Result<Changes, Miss> {
        let inner = self.lock();
        let Some(store) = inner.kinds.get(kind) else {
            return Ok(Changes { found: Vec::new(), up_to: inner.revision, closed: true });
        };
        if after < store.floor {
            return Err(Miss::TooOld(store.floor));
        }
        let start = store.history.partition_point(|change| change.revision <= after);
        let found: Vec<_> = store.history.iter().skip(start).take(max).cloned().collect();
        let up_to = match found.last() {
            Some(last) if found.len() == max => last.revision,
            _ => inner.revision,
        };
        Ok(Changes { up_to: up_to.max(after), closed: store.closed && found.is_empty(), found })
    }
}

/// A part of history.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) found: Vec<Arc<Change>>,
    /// Up to this revision these are all.
    pub(crate) up_to: u64,
    /// The kind is gone and nothing more will come.
    pub(crate) closed: bool,
}

/// Everything that is there, with its kind.
fn live(kinds: &HashMap<Arc<str>, KindStore>) -> impl Iterator<Item = (&Arc<str>, &Stored)> {
    kinds.iter().flat_map(|(kind, store)| store.objects.values().map(move |stored| (kind, &**stored)))
}

fn select(objects: &BTreeMap<Key, Arc<Stored>>, namespace: &str) -> Vec<Arc<Stored>> {
    if namespace.is_empty() {
        return objects.values().cloned().collect();
    }
    let start = Key::new(namespace, "");
    objects.range(start..).take_while(|(key, _)| &*key.namespace == namespace).map(|(_, o)| Arc::clone(o)).collect()
}

/// Writes an object at its revision, `kind` and `apiVersion` first.
fn encode(mut value: Value, revision: u64) -> Bytes {
    json::set(&mut value, &["metadata", "resourceVersion"], revision.to_string().into());
    Bytes::from(serde_json::to_vec(&value).unwrap_or_default())
}

fn restore(inner: &mut Inner, entry: log::Entry) {
    inner.revision = inner.revision.max(entry.revision);
    if entry.kind.is_empty() {
        return;
    }
    let kind: Arc<str> = entry.kind.into();
    let store = inner.kinds.entry(kind).or_insert_with(|| KindStore::new(0));
    match entry.bytes {
        Some(bytes) => {
            let stored = Stored { revision: entry.revision, key: entry.key.clone(), bytes };
            store.objects.insert(entry.key, Arc::new(stored));
        }
        None => {
            store.objects.remove(&entry.key);
        }
    }
}

#[cfg(test)]
mod tests;
