//! How many handshakes run at once: in all, and of one source. The rest waits its turn without costing a handshake.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes at once. Each costs about 0.4 ms of CPU and, when the other side is silent, five seconds of a place.
const HANDSHAKES_MAX: usize = 256;
/// Handshakes at once of one source address: half of the places stay for everybody else.
const HANDSHAKES_PER_SOURCE: usize = 128;
/// Attempts that wait for a place. More are refused at once.
const WAITING_MAX: usize = 4096;
/// With this many attempts on their way, a new source must first prove that it has its address (QUIC Retry).
const PROVE_ADDRESS_FROM: usize = 64;

/// The places.
#[derive(Debug)]
pub(super) struct Admission {
    waiting: Arc<Semaphore>,
    running: Arc<Semaphore>,
    sources: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    of_one_source: usize,
}

/// A place among those that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    _place: OwnedSemaphorePermit,
}

/// A place among those that shake hands.
#[derive(Debug)]
pub(super) struct Running {
    _waiting: Waiting,
    _source: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// A place that was free at once.
#[derive(Debug)]
pub(super) struct Place {
    _source: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(HANDSHAKES_MAX, HANDSHAKES_PER_SOURCE)
    }
}

impl Admission {
    /// So many places, and so many of one source.
    pub(super) fn new(places: usize, of_one_source: usize) -> Self {
        let [waiting, running] = [WAITING_MAX, places].map(|count| Arc::new(Semaphore::new(count)));
        Self { waiting, running, sources: Mutex::default(), of_one_source }
    }

    /// Takes a place of `source`, if one is free now.
    pub(super) fn at_once(&self, source: IpAddr) -> Option<Place> {
        let source = self.source(source.to_canonical()).try_acquire_owned().ok()?;
        let place = Arc::clone(&self.running).try_acquire_owned().ok()?;
        Some(Place { _source: source, _place: place })
    }

    /// Tells whether so much is going on that sources must prove their address.
    pub(super) fn is_crowded(&self) -> bool {
        WAITING_MAX - self.waiting.available_permits() >= PROVE_ADDRESS_FROM
    }

    /// Takes a place to wait in; none when all are taken.
    pub(super) fn enter(&self) -> Option<Waiting> {
        Arc::clone(&self.waiting).try_acquire_owned().ok().map(|place| Waiting { _place: place })
    }

    /// Waits for the turn of `source`.
    ///
    /// # Cancel safety
    /// Dropped, it takes no place.
    pub(super) async fn turn(&self, waiting: Waiting, source: IpAddr) -> Option<Running> {
        let of_source = self.source(source);
        let source = of_source.acquire_owned().await.ok()?;
        let place = Arc::clone(&self.running).acquire_owned().await.ok()?;
        Some(Running { _waiting: waiting, _source: source, _place: place })
    }

    fn source(&self, source: IpAddr) -> Arc<Semaphore> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= WAITING_MAX {
            // Whoever waits or runs holds a clone.
            sources
                .retain(|_, places| Arc::strong_count(places) > 1 || places.available_permits() < self.of_one_source);
        }
        Arc::clone(sources.entry(source).or_insert_with(|| Arc::new(Semaphore::new(self.of_one_source))))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_source_leaves_room_for_the_others() {
        let admission = Admission::default();
        let (greedy, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut running = Vec::new();
        for _ in 0..HANDSHAKES_PER_SOURCE {
            running.push(admission.turn(admission.enter().unwrap(), greedy).await.unwrap());
        }
        // The runtime makes a task that never waits wait in the end; here only places may.
        let turn =
            |source| tokio::task::unconstrained(admission.turn(admission.enter().unwrap(), source)).now_or_never();
        assert!(turn(greedy).is_none(), "the greedy source waits");
        assert!(turn(other).is_some(), "another one does not");
        running.pop();
        assert!(turn(greedy).is_some(), "a freed place is taken");
    }

    #[test]
    fn one_source_cannot_take_every_place_of_a_port() {
        let admission = Admission::new(4, 2);
        let (greedy, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut taken: Vec<_> = std::iter::from_fn(|| admission.at_once(greedy)).collect();
        assert_eq!(taken.len(), 2);
        let others: Vec<_> = std::iter::from_fn(|| admission.at_once(other)).collect();
        assert_eq!(others.len(), 2, "the other half is for others");
        taken.pop();
        assert!(admission.at_once(greedy).is_some(), "a freed place is taken again");
    }

    #[test]
    fn no_more_wait_than_there_is_room() {
        let admission = Admission::default();
        let waiting: Vec<_> = std::iter::from_fn(|| admission.enter()).take(WAITING_MAX + 1).collect();
        assert_eq!(waiting.len(), WAITING_MAX);
        assert!(admission.is_crowded() && admission.enter().is_none());
        drop(waiting);
        assert!(!admission.is_crowded() && admission.enter().is_some());
    }
}
