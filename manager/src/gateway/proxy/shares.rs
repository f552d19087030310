//! Fair shares of something scarce. While there is plenty everybody takes what they need; from half on nobody takes more
//! than an equal part, one part being left for whoever comes next, and the last eighth is for those who have few: one user,
//! or one cluster, cannot keep the others out.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which part of the places is kept for those who have few, and which part of all are few.
const KEPT: usize = 8;
const FEW: usize = 96;

/// Places, and who has how many. The map holds only who has one: it is as long as there are places at most.
#[derive(Debug)]
pub(in crate::gateway) struct Shares<K> {
    places: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    total: usize,
    by: HashMap<K, usize>,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Share<K: Hash + Eq> {
    shares: Arc<Shares<K>>,
    key: K,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    pub(in crate::gateway) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places, taken: Mutex::new(Taken { total: 0, by: HashMap::new() }) })
    }

    /// Takes a place for `key`; none when there is none, or when `key` has its equal part already and places are scarce.
    pub(in crate::gateway) fn take(self: &Arc<Self>, key: &K) -> Option<Share<K>> {
        let mut taken = self.lock();
        let own = taken.by.get(key).copied().unwrap_or(0);
        let others = taken.by.len() - usize::from(own > 0);
        let scarce = taken.total * 2 >= self.places;
        let part = (self.places / (others + 2)).max(1);
        let last = taken.total + (self.places / KEPT) >= self.places;
        let few = (self.places / FEW).max(1);
        if taken.total >= self.places || (scarce && own >= part) || (last && own >= few) {
            return None;
        }
        taken.total += 1;
        *taken.by.entry(key.clone()).or_default() += 1;
        Some(Share { shares: Arc::clone(self), key: key.clone() })
    }
}

impl<K> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        taken.total -= 1;
        if let Some(own) = taken.by.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                taken.by.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plenty_is_for_whoever_asks_and_scarcity_is_shared() {
        let shares = Shares::new(96);
        let take = |who| shares.take(&who);
        let all = |who| std::iter::from_fn(|| take(who)).take(200).collect::<Vec<_>>();
        let greedy = all("greedy");
        assert_eq!(greedy.len(), 48, "alone it gets what leaves the next one as much");
        let other = all("other");
        assert_eq!(other.len(), 32, "the next one a third");
        let third = all("third");
        assert_eq!(third.len(), 4, "and so on, up to what is kept");
        let few: Vec<_> =
            (0..12).map(|who| take(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"][who])).collect();
        assert!(few.iter().all(Option::is_some), "whoever has none finds one");
        assert!(take("m").is_none(), "until none is left");
        assert!(take("a").is_none());
        drop(greedy);
        assert!(take("m").is_some(), "a place that was given back is there for others");
        drop((other, third, few));
        assert!(shares.lock().by.is_empty(), "nobody is remembered who has nothing");
    }

    proptest! {
        #[test]
        fn nobody_without_a_place_is_kept_out_by_one_who_has_many(
            asks in prop::collection::vec((0_u8..4, prop::bool::ANY), 1..200),
        ) {
            let shares = Shares::new(12);
            let mut held: Vec<(u8, Share<u8>)> = Vec::new();
            for (who, takes) in asks {
                if !takes {
                    if let Some(at) = held.iter().position(|(owner, _)| *owner == who) {
                        held.swap_remove(at);
                    }
                    continue;
                }
                let own = held.iter().filter(|(owner, _)| *owner == who).count();
                match shares.take(&who) {
                    Some(share) => held.push((who, share)),
                    None => prop_assert!(held.len() == 12 || own >= 1, "{who} has {own} of {}", held.len()),
                }
                prop_assert!(held.len() <= 12);
            }
        }
    }
}
