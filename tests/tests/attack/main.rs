//! Attacks on identity, against the built manager over an embedded parent API: each is refused with a typed error.
//!
//! `LATTICE_ATTACKS=all` adds what takes longer: Events and conditions on a cluster's own object, built agents beside the
//! manager, wrong clocks, floods, a whole life in the sandbox with a search for secrets in all that was written.

mod agent;
mod clocks;
mod enrolment;
mod flood;
mod handshake;
mod holding;
mod liar;
mod parsers;
mod rig;
mod rotation;
mod story;
