//! How long to wait before trying again: full jitter, so that many who failed together do not come back together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Where shares are drawn from: chance, or a seed that a test can print. Clones draw from the same.
#[derive(Clone, Debug, Default)]
pub struct Draws(Option<Arc<Mutex<StdRng>>>);

impl Draws {
    /// Draws the same shares for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Some(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))))
    }

    /// A share from 0 to 1.
    pub fn share(&self) -> f64 {
        match &self.0 {
            Some(seeded) => seeded.lock().unwrap_or_else(PoisonError::into_inner).random(),
            None => rand::random(),
        }
    }
}

/// Grows with each failure, and starts anew after [`Backoff::reset`].
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    draws: Draws,
}

impl Backoff {
    /// Waits at most `first` after the first failure, doubling up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, draws: Draws::default() }
    }

    /// Draws its shares from `draws`.
    pub fn drawing(self, draws: &Draws) -> Self {
        Self { draws: draws.clone(), ..self }
    }

    /// The wait after one more failure: a random share of the ceiling, `share` from 0 to 1.
    pub fn next_at(&mut self, share: f64) -> Duration {
        let ceiling = self.first.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(share.clamp(0.0, 1.0))
    }

    /// The wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let share = self.draws.share();
        self.next_at(share)
    }

    /// Failures since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures: the other side has proved that it lives.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ceilings_double_up_to_the_longest_and_start_anew_after_a_reset() {
        let mut backoff = Backoff::new(SECOND, 30 * SECOND);
        let ceilings: Vec<_> = (0..7).map(|_| backoff.next_at(1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next_at(0.5), SECOND / 2);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_longest(failures in 0_u32..200, share in 0.0_f64..1.0) {
            let mut backoff = Backoff::new(SECOND, 30 * SECOND);
            for _ in 0..failures {
                backoff.next_at(1.0);
            }
            prop_assert!(backoff.next_at(share) <= 30 * SECOND);
        }
    }
}
