//! The work queue: each key once, one worker per key, and not more often than a minimum interval.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A queue of keys to look at.
///
/// - **Guarantee**: a key that is added while it is worked on is worked on again.
/// - **Bound**: it holds each key at most once.
pub(crate) struct Queue<K> {
    interval: fn(&K, Duration) -> Duration,
    unit: Duration,
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    due: BTreeSet<(Instant, K)>,
    when: HashMap<K, Instant>,
    busy: HashSet<K>,
    again: BTreeMap<K, Instant>,
    last: HashMap<K, Instant>,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// Makes a queue that hands a key out at most once per `interval(key, unit)`.
    pub(crate) fn new(unit: Duration, interval: fn(&K, Duration) -> Duration) -> Self {
        let state = State {
            due: BTreeSet::new(),
            when: HashMap::new(),
            busy: HashSet::new(),
            again: BTreeMap::new(),
            last: HashMap::new(),
        };
        Self { interval, unit, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Adds a key, to be handed out after `delay` or when its interval is over, whichever is later.
    pub(crate) fn add(&self, key: K, delay: Duration) {
        let now = Instant::now();
        let mut state = self.lock();
        let at = match state.last.get(&key) {
            // A moment's wait lets what belongs together arrive together.
            Some(last) => (now + delay.max(self.unit / 2)).max(*last + (self.interval)(&key, self.unit)),
            None => now + delay,
        };
        if state.busy.contains(&key) {
            let slot = state.again.entry(key).or_insert(at);
            *slot = (*slot).min(at);
            return;
        }
        state.schedule(key, at);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the next key that is due. Each one must be given back with [`Queue::done`].
    pub(crate) async fn next(&self) -> K {
        loop {
            let notified = self.changed.notified();
            let wait = {
                let mut state = self.lock();
                let now = Instant::now();
                match state.due.first().cloned() {
                    Some((at, key)) if at <= now => {
                        state.due.remove(&(at, key.clone()));
                        state.when.remove(&key);
                        state.busy.insert(key.clone());
                        state.last.insert(key.clone(), now);
                        if !state.due.is_empty() {
                            self.changed.notify_one();
                        }
                        return key;
                    }
                    Some((at, _)) => Some(at),
                    None => None,
                }
            };
            match wait {
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = notified => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => notified.await,
            }
        }
    }

    /// Ends the work on a key; `forget` when its object is gone.
    pub(crate) fn done(&self, key: &K, forget: bool) {
        let mut state = self.lock();
        state.busy.remove(key);
        let again = state.again.remove(key);
        if forget && again.is_none() {
            state.last.remove(key);
        }
        if let Some(at) = again {
            let earliest = state.last.get(key).map_or(at, |last| *last + (self.interval)(key, self.unit));
            state.schedule(key.clone(), at.max(earliest));
        }
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn schedule(&mut self, key: K, at: Instant) {
        match self.when.get(&key) {
            Some(old) if *old <= at => return,
            Some(old) => {
                let old = *old;
                self.due.remove(&(old, key.clone()));
            }
            None => {}
        }
        self.when.insert(key.clone(), at);
        self.due.insert((at, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_for_its_interval_and_is_held_once() {
        let queue = Queue::new(Duration::from_secs(1), |_, unit| unit);
        queue.add("a", Duration::ZERO);
        queue.add("a", Duration::ZERO);
        let start = Instant::now();
        assert_eq!(queue.next().await, "a");
        queue.add("a", Duration::ZERO);
        queue.done(&"a", false);
        assert_eq!(queue.next().await, "a");
        assert!(start.elapsed() >= Duration::from_secs(1));
        queue.done(&"a", false);
        let none = tokio::time::timeout(Duration::from_mins(1), queue.next()).await;
        assert!(none.is_err(), "it was added twice and handed out twice");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_times_counts() {
        let queue = Queue::new(Duration::ZERO, |_, unit| unit);
        queue.add("a", Duration::from_secs(50));
        queue.add("a", Duration::from_secs(5));
        let start = Instant::now();
        queue.next().await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
