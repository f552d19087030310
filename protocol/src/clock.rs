//! The wall clock, in one place: only times that people or other machines read come from here.
//!
//! Durations and deadlines use `tokio::time`, which tests can pause.

use jiff::Timestamp;

/// Tells the wall-clock time. Decisions take it as a value, so that tests choose it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Cuts a time to whole seconds, as Kubernetes' `metav1.Time` carries it.
pub fn to_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
