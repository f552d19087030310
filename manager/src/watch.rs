//! Shared informers, one watch per kind, to "look" messages per cluster; and the Lease.
//!
//! **Invariant.** Nothing here decides or writes objects: an informer fills the cache and marks clusters, the election
//! opens and closes the fence.

mod attention;
mod crds;
mod credentials;
mod election;
mod informer;
mod sinks;

pub use attention::Attention;
pub use election::{Election, LEASE_DURATION, Leadership};
pub use informer::Informers;
