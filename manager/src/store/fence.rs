//! The fence: whether this process may change the world right now.
//!
//! Assumes: clocks of two managers may differ, their rates hardly. A holder that cannot renew stops to write at its
//! renew deadline, five seconds before any other manager may take the Lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Error;

/// Asked before each write.
#[derive(Clone, Debug)]
pub struct Fence(Arc<State>);

/// The writing end of a [`Fence`]: held by the election.
#[derive(Debug)]
pub struct FenceKeeper(Arc<State>);

#[derive(Debug)]
struct State {
    origin: Instant,
    /// Milliseconds after `origin` until which writes are allowed; 0 is never.
    until_ms: AtomicU64,
}

impl Fence {
    /// Makes a closed fence and its keeper.
    pub fn closed() -> (FenceKeeper, Self) {
        let state = Arc::new(State { origin: Instant::now(), until_ms: AtomicU64::new(0) });
        (FenceKeeper(state.clone()), Self(state))
    }

    /// Makes a fence that is always open, for a process that needs no Lease.
    pub fn open() -> Self {
        Self(Arc::new(State { origin: Instant::now(), until_ms: AtomicU64::new(u64::MAX) }))
    }

    /// Fails unless the Lease is held.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub fn check(&self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { Err(Error::NotLeader) }
    }

    /// Whether the Lease is held.
    pub fn is_open(&self) -> bool {
        millis(self.0.origin.elapsed()) < self.0.until_ms.load(Ordering::Acquire)
    }
}

impl FenceKeeper {
    /// Allows writes until `deadline`.
    pub fn open_until(&self, deadline: Instant) {
        let until = millis(deadline.saturating_duration_since(self.0.origin));
        self.0.until_ms.store(until, Ordering::Release);
    }

    /// Forbids writes at once.
    pub fn close(&self) {
        self.0.until_ms.store(0, Ordering::Release);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_stops_renewing_is_fenced_at_its_deadline() {
        let (keeper, fence) = Fence::closed();
        assert!(!fence.is_open());
        keeper.open_until(Instant::now() + Duration::from_secs(10));
        assert!(fence.is_open());
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert!(fence.is_open());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!fence.is_open());
    }
}
