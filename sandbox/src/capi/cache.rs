//! What the controllers know of the API: fed by watches, and by the answers to their own writes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::api::DynamicObject;

use super::kind::Kind;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// Objects by key. An older version of an object never replaces a newer one, so that a controller sees its own writes
/// at once and is not taken back by a late watch event.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    objects: Mutex<BTreeMap<Key, Arc<DynamicObject>>>,
    /// When each life of an object was seen first: creation timestamps have whole seconds only.
    seen: Mutex<BTreeMap<Key, (Option<String>, Timestamp)>>,
    /// Lives that have ended, last ones last: the answer to a write may come after the news of the end.
    ended: Mutex<VecDeque<String>>,
}

/// Ended lives that are remembered. Too few: an object that is gone comes back as a ghost.
const ENDED_MAX: usize = 1024;

impl Cache {
    /// Reads one object.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        self.lock().get(&Key::new(kind, namespace, name)).cloned()
    }

    /// Lists a kind in a namespace, by name.
    pub(crate) fn list(&self, kind: Kind, namespace: &str) -> Vec<Arc<DynamicObject>> {
        let objects = self.lock();
        objects
            .range(Key::new(kind, namespace, "")..)
            .take_while(|(key, _)| key.kind == kind && key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// Lists the keys of a kind.
    pub(crate) fn keys(&self, kind: Kind) -> Vec<Key> {
        let objects = self.lock();
        objects
            .range(Key::new(kind, "", "")..)
            .take_while(|(key, _)| key.kind == kind)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Takes in a version of an object; returns the one before when this one is newer.
    pub(crate) fn put(&self, key: Key, object: DynamicObject) -> Taken {
        let mut objects = self.lock();
        if objects.get(&key).is_some_and(|old| version(old) >= version(&object) && same_life(old, &object)) {
            return Taken::Stale;
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.iter().rev().any(|uid| Some(uid) == object.metadata.uid.as_ref()) {
            return Taken::Stale;
        }
        drop(ended);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&key).is_none_or(|(uid, _)| *uid != object.metadata.uid) {
            seen.insert(key.clone(), (object.metadata.uid.clone(), lattice_protocol::clock::now()));
        }
        drop(seen);
        let object = Arc::new(object);
        let before = objects.insert(key, Arc::clone(&object));
        Taken::New { before, object }
    }

    /// Forgets an object, unless a newer life of its name is known. Returns what was known.
    pub(crate) fn remove(&self, key: &Key, last: Option<&DynamicObject>) -> Option<Arc<DynamicObject>> {
        let mut objects = self.lock();
        let newer = objects.get(key).zip(last).is_some_and(|(known, last)| !same_life(known, last));
        if let Some(uid) = last.and_then(|last| last.metadata.uid.clone()) {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.len() == ENDED_MAX {
                ended.pop_front();
            }
            ended.push_back(uid);
        }
        if newer {
            return None;
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        objects.remove(key)
    }

    /// When an object was seen first.
    pub(crate) fn seen(&self, key: &Key) -> Option<Timestamp> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(|(_, at)| *at)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<DynamicObject>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a version.
#[derive(Debug)]
pub(crate) enum Taken {
    /// As new or newer was known already.
    Stale,
    /// It is the newest.
    New { before: Option<Arc<DynamicObject>>, object: Arc<DynamicObject> },
}

fn same_life(a: &DynamicObject, b: &DynamicObject) -> bool {
    a.metadata.uid == b.metadata.uid
}

/// Versions are opaque by contract; in practice, and since Kubernetes 1.35 by contract too, they are growing numbers.
fn version(object: &DynamicObject) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(uid: &str, version: &str) -> DynamicObject {
        let mut object = DynamicObject::new("a", &Kind::Machine.resource()).within("ns");
        object.metadata.uid = Some(uid.to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    #[test]
    fn an_older_version_does_not_replace_a_newer_one() {
        let cache = Cache::default();
        let key = Key::new(Kind::Machine, "ns", "a");
        assert!(matches!(cache.put(key.clone(), object("u", "10")), Taken::New { .. }));
        assert!(matches!(cache.put(key.clone(), object("u", "9")), Taken::Stale));
        assert!(
            matches!(cache.put(key.clone(), object("v", "8")), Taken::New { .. }),
            "another life is another object"
        );
        assert!(cache.remove(&key, Some(&object("u", "11"))).is_none(), "the end of the earlier life is old news");
        assert!(cache.remove(&key, Some(&object("v", "11"))).is_some());
        assert!(matches!(cache.put(key, object("v", "10")), Taken::Stale), "what has ended does not come back");
    }
}
