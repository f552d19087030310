//! A work queue: each key at most once in the queue, never twice at work, with timers.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;

use tokio::time::Instant;

/// Keys that somebody should look at, now or later.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    /// Keys at work; `true` means that they must be looked at again afterwards.
    busy: HashMap<K, bool>,
    timers: BTreeMap<(Instant, u64), K>,
    timer_of: HashMap<K, (Instant, u64)>,
    serial: u64,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    pub(crate) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            busy: HashMap::new(),
            timers: BTreeMap::new(),
            timer_of: HashMap::new(),
            serial: 0,
        }
    }

    /// Asks for a look at `key`; one that is at work is looked at again afterwards.
    pub(crate) fn add(&mut self, key: K) {
        if let Some(again) = self.busy.get_mut(&key) {
            *again = true;
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Asks for a look at `key` at a time; of two times the earlier counts.
    pub(crate) fn add_at(&mut self, key: K, at: Instant) {
        if let Some(old) = self.timer_of.get(&key) {
            if old.0 <= at {
                return;
            }
            self.timers.remove(old);
        }
        self.serial += 1;
        self.timers.insert((at, self.serial), key.clone());
        self.timer_of.insert(key, (at, self.serial));
    }

    /// Takes the next key to work at; its timer is forgotten, since this look replaces it.
    pub(crate) fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        if let Some(timer) = self.timer_of.remove(&key) {
            self.timers.remove(&timer);
        }
        self.busy.insert(key.clone(), false);
        Some(key)
    }

    /// Says that the work at `key` ended.
    pub(crate) fn done(&mut self, key: &K) {
        if self.busy.remove(key) == Some(true) {
            self.add(key.clone());
        }
    }

    /// Moves keys whose time has come into the queue.
    pub(crate) fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.timer_of.remove(&key);
            self.add(key);
        }
    }

    /// Tells when the next timer is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_added_twice_is_taken_once() {
        let mut queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.take(), Some("a"));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn a_key_at_work_is_taken_again_only_afterwards() {
        let mut queue = Queue::new();
        queue.add("a");
        queue.take();
        queue.add("a");
        assert_eq!(queue.take(), None);
        queue.done(&"a");
        assert_eq!(queue.take(), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn the_earlier_of_two_timers_counts_and_a_look_forgets_it() {
        let mut queue = Queue::new();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        queue.add_at("a", after(5));
        queue.add_at("a", after(3));
        queue.add_at("a", after(9));
        assert_eq!(queue.next_due(), Some(after(3)));
        queue.promote(after(2));
        assert_eq!(queue.take(), None);
        queue.promote(after(3));
        assert_eq!(queue.take(), Some("a"));
        queue.done(&"a");
        queue.add_at("a", after(5));
        queue.add("a");
        queue.take();
        assert_eq!(queue.next_due(), None);
    }
}
