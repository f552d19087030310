//! The wall clock, in one place: only times that people or other machines read come from here.
//!
//! Durations and deadlines use `tokio::time`, which tests can pause.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// What is added to the system's clock, milliseconds: a correction by a better clock.
static CORRECTION_MS: AtomicI64 = AtomicI64::new(0);
/// By how much the system's clock is taken to be wrong, milliseconds. Only tests set it.
static SIMULATED_MS: AtomicI64 = AtomicI64::new(0);

/// Tells the wall-clock time. Decisions take it as a value, so that tests choose it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    let system = Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
    let moved = CORRECTION_MS.load(Ordering::Relaxed).saturating_add(SIMULATED_MS.load(Ordering::Relaxed));
    system.saturating_add(SignedDuration::from_millis(moved)).unwrap_or(system)
}

/// Corrects the clock of this process by `by`, in place of any earlier correction.
pub fn correct(by: SignedDuration) {
    CORRECTION_MS.store(milliseconds(by), Ordering::Relaxed);
}

/// The present correction.
pub fn correction() -> SignedDuration {
    SignedDuration::from_millis(CORRECTION_MS.load(Ordering::Relaxed))
}

/// Pretends that the system's clock is wrong by `by`. Only tests and the sandbox do.
pub fn simulate(by: SignedDuration) {
    SIMULATED_MS.store(milliseconds(by), Ordering::Relaxed);
}

fn milliseconds(by: SignedDuration) -> i64 {
    i64::try_from(by.as_millis()).unwrap_or(if by.is_negative() { i64::MIN } else { i64::MAX })
}

/// Cuts a time to whole seconds, as Kubernetes' `metav1.Time` carries it.
pub fn to_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
