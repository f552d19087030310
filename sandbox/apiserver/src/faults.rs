//! Faults on purpose, for tests.

/// The faults that are set.
#[derive(Debug, Default)]
pub(crate) struct Faults;
