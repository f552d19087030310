//! How long simulated things take.

use std::time::Duration;

/// Longest wait between two tries of anything.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_mins(5);

/// What speed 0 leaves of a backoff: none at all would turn a crash loop into a busy loop.
const BACKOFF_AT_ONCE: f64 = 0.01;

/// Turns the delays of real life into simulated ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    speed: f64,
}

impl Pace {
    /// Takes a factor; 0, and what is no positive number, means at once.
    pub(crate) fn new(speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 { speed } else { 0.0 };
        Self { speed }
    }

    /// Scales an ordinary delay.
    pub(crate) fn delay(self, real: Duration) -> Duration {
        if self.speed == 0.0 { Duration::ZERO } else { real.div_f64(self.speed) }
    }

    /// Scales a delay and spreads it by up to a third either way; the same seed gives the same delay.
    pub(crate) fn spread(self, real: Duration, seed: &[&str]) -> Duration {
        let share = f64::from(fnv32(seed) % 1000) / 1000.0;
        self.delay(real.mul_f64(0.67 + 0.66 * share))
    }

    /// Gives the wait after the `failures`th failure in a row (1 is the first): `first`, doubling,
    /// up to [`BACKOFF_MAX`], scaled.
    pub(crate) fn backoff(self, first: Duration, failures: u32) -> Duration {
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let real = doubled.min(BACKOFF_MAX);
        if self.speed == 0.0 { real.mul_f64(BACKOFF_AT_ONCE) } else { real.div_f64(self.speed) }
    }
}

const FNV_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// The 32-bit FNV-1a hash of texts.
pub(crate) fn fnv32(parts: &[&str]) -> u32 {
    let mut hash = Fnv32::new();
    for part in parts {
        hash.add(part.as_bytes());
    }
    hash.value()
}

/// The same hash, of what is written to it bit by bit.
#[derive(Debug)]
pub(crate) struct Fnv32(u32);

impl Fnv32 {
    pub(crate) fn new() -> Self {
        Self(FNV_BASIS)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME));
    }

    pub(crate) fn value(&self) -> u32 {
        self.0
    }
}

impl std::fmt::Write for Fnv32 {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

/// The older variant, FNV-1, which multiplies first.
pub(crate) fn fnv32_old(bytes: &[u8]) -> u32 {
    bytes.iter().fold(FNV_BASIS, |hash, byte| hash.wrapping_mul(FNV_PRIME) ^ u32::from(*byte))
}

/// 64 hexadecimal digits that stand for the parts, as digests and ids look.
pub(crate) fn hex64(parts: &[&str]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for salt in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let word = fnv32(&[&[salt], parts].concat());
        // Writing into a String does not fail.
        let _ = write!(text, "{word:08x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_divides_and_zero_means_at_once() {
        let second = Duration::from_secs(1);
        assert_eq!(Pace::new(20.0).delay(second), Duration::from_millis(50));
        assert_eq!(Pace::new(0.0).delay(second), Duration::ZERO);
        assert_eq!(Pace::new(f64::NAN).delay(second), Duration::ZERO);
    }

    #[test]
    fn backoff_doubles_up_to_its_bound_and_never_vanishes() {
        let first = Duration::from_secs(10);
        let waits = |speed| [1, 2, 6, 60].map(|n| Pace::new(speed).backoff(first, n).as_millis());
        assert_eq!(waits(1.0), [10_000, 20_000, 300_000, 300_000]);
        assert_eq!(waits(0.0), [100, 200, 3000, 3000]);
    }

    #[test]
    fn a_seed_always_gives_the_same_delay() {
        let pace = Pace::new(1.0);
        let delay = pace.spread(Duration::from_secs(3), &["a", "b"]);
        assert_eq!(delay, pace.spread(Duration::from_secs(3), &["a", "b"]));
        assert!(delay >= Duration::from_secs(2) && delay <= Duration::from_secs(4));
    }
}
