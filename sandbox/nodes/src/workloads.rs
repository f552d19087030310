//! The workload controllers, as decisions: objects in, operations out, no I/O.

pub(crate) mod claim;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod job;
pub(crate) mod replica_set;
pub(crate) mod revision;
pub(crate) mod stateful_set;
mod template;

/// Most pods that one look at one object creates or deletes; the next look does the rest.
/// Too high: one huge workload holds up the others. Too low: many looks.
pub(crate) const BURST_MAX: usize = 100;
